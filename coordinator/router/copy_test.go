package router_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

func TestCopy(t *testing.T) {
	f := serve(t)
	r := f.raw()
	r.query("drop table if exists copied; create table copied (id int primary key, v text)")
	data := func(s string) *pgproto3.CopyData { return &pgproto3.CopyData{Data: []byte(s)} }
	done := &pgproto3.CopyDone{}

	t.Run("out ends with CopyDone", func(t *testing.T) {
		require.Equal(t, []string{"H", "d:1", "d:2", "c", "C:COPY 2", "ZI"}, r.query("copy (select generate_series(1,2)) to stdout"))
	})
	t.Run("in", func(t *testing.T) {
		r.send(&pgproto3.Query{String: "copy copied from stdin"})
		require.Equal(t, "G", r.next())
		r.send(data("1\ta\n2\tb\n"), data("3\tc\n"), done)
		require.Equal(t, []string{"C:COPY 3", "ZI"}, r.until(1))
	})
	t.Run("two in one string", func(t *testing.T) {
		r.send(&pgproto3.Query{String: "copy copied from stdin; copy copied from stdin; select count(*) from copied"})
		require.Equal(t, "G", r.next())
		r.send(data("4\td\n"), done)
		require.Equal(t, []string{"C:COPY 1", "G"}, []string{r.next(), r.next()})
		r.send(data("5\te\n"), done)
		require.Equal(t, []string{"C:COPY 1", "D:5", "C:SELECT 1", "ZI"}, without(r.until(1), "T"))
	})
	t.Run("the server's error arrives while the client still sends", func(t *testing.T) {
		r.send(&pgproto3.Query{String: "copy copied from stdin"})
		require.Equal(t, "G", r.next())
		r.send(data("nonsense\tx\n"))
		require.Equal(t, []string{"E:22P02", "ZI"}, r.until(1))
		r.send(data("6\tf\n"), done) // too late: ignored, as PostgreSQL does
		require.Equal(t, []string{"D:5", "C:SELECT 1", "ZI"}, r.query("select count(*) from copied"))
	})
	t.Run("the client gives up", func(t *testing.T) {
		r.send(&pgproto3.Query{String: "copy copied from stdin"})
		require.Equal(t, "G", r.next())
		r.send(data("7\tg\n"), &pgproto3.CopyFail{Message: "no"})
		require.Equal(t, []string{"E:57014", "ZI"}, r.until(1))
	})
	t.Run("in, extended", func(t *testing.T) {
		for range 2 {
			r.send(parse("", "copy copied from stdin"), bind("", ""), execute("", 0), syncMsg)
			require.Equal(t, []string{"1", "2", "G"}, []string{r.next(), r.next(), r.next()})
			r.send(data("nonsense\n"), done, syncMsg)
			require.Equal(t, []string{"E:22P02", "ZI"}, r.until(1))
		}
		r.send(parse("", "copy copied from stdin"), bind("", ""), execute("", 0), syncMsg)
		require.Equal(t, []string{"1", "2", "G"}, []string{r.next(), r.next(), r.next()})
		r.send(data("8\th\n"), done, syncMsg)
		require.Equal(t, []string{"C:COPY 1", "ZI"}, r.until(1))
		require.Equal(t, []string{"D:6", "C:SELECT 1", "ZI"}, r.query("select count(*) from copied"))
	})
	t.Run("a client that vanishes within COPY stores nothing", func(t *testing.T) {
		gone := f.raw()
		gone.send(&pgproto3.Query{String: "copy copied from stdin"})
		require.Equal(t, "G", gone.next())
		gone.send(data("100\tz\n"))
		require.NoError(t, gone.conn.Close())
		d := f.direct(f.primary, "app")
		eventually(t, func() error {
			var n int
			if err := d.QueryRow(ctx(t), "select count(*) from pg_stat_activity where query like 'copy copied%' and state <> 'idle'").Scan(&n); err != nil {
				return err
			}
			if n > 0 {
				return fmt.Errorf("%d COPY are still running", n)
			}
			return nil
		})
		require.Equal(t, []string{"D:0", "C:SELECT 1", "ZI"}, r.query("select count(*) from copied where id = 100"))
	})
	t.Run("pgx copies many rows", func(t *testing.T) {
		c := f.client()
		n, err := c.CopyFrom(ctx(t), pgx.Identifier{"copied"}, []string{"id", "v"}, pgx.CopyFromSlice(50_000, func(i int) ([]any, error) {
			return []any{1000 + i, strings.Repeat("v", 100)}, nil
		}))
		require.NoError(t, err)
		require.EqualValues(t, 50_000, n)
		_, err = c.CopyFrom(ctx(t), pgx.Identifier{"copied"}, []string{"id", "v"}, pgx.CopyFromSlice(100_000, func(i int) ([]any, error) {
			return []any{1000 + i, strings.Repeat("v", 100)}, nil
		}))
		require.Equal(t, "23505", code(err))
		var total int
		require.NoError(t, c.QueryRow(ctx(t), "select count(*) from copied").Scan(&total))
		require.Equal(t, 50_006, total)
	})
}
