package router_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

func TestMultiStatementStrings(t *testing.T) {
	f := serve(t)
	r := f.raw()
	r.query("DROP TABLE IF EXISTS multi; CREATE TABLE multi (id int PRIMARY KEY)")

	t.Run("begin, insert and commit in one Query are stored", func(t *testing.T) {
		require.Equal(t, []string{"C:BEGIN", "C:INSERT 0 1", "C:COMMIT", "ZI"}, r.query("begin; insert into multi values (1); commit"))
		require.Equal(t, []string{"D:1", "C:SELECT 1", "ZI"}, r.query("/* route: primary */ select count(*) from multi"))
	})
	t.Run("an error ends the string and undoes what came before it", func(t *testing.T) {
		require.Equal(t, []string{"C:INSERT 0 1", "E:23505", "ZI"},
			r.query("insert into multi values (2); insert into multi values (1); insert into multi values (3)"))
		require.Equal(t, []string{"D:1", "C:SELECT 1", "ZI"}, r.query("select count(*) from multi"))
	})
	t.Run("all results of several reads arrive", func(t *testing.T) {
		require.Equal(t, []string{"D:1", "C:SELECT 1", "D:2", "C:SELECT 1", "E:42703", "ZI"}, r.query("select 1; select 2; select nope; select 3"))
	})
	t.Run("a transaction left open is held", func(t *testing.T) {
		require.Equal(t, []string{"C:BEGIN", "C:INSERT 0 1", "ZT"}, r.query("begin; insert into multi values (7)"))
		require.Equal(t, []string{"E:22012", "ZE"}, r.query("select 1/0"))
		require.Equal(t, []string{"E:25P02", "ZE"}, r.query("select 1"))
		require.Equal(t, []string{"C:ROLLBACK", "ZI"}, r.query("commit"))
	})
	t.Run("an empty string and a syntax error are the server's to answer", func(t *testing.T) {
		require.Equal(t, []string{"I", "ZI"}, r.query(""))
		require.Equal(t, []string{"I", "ZI"}, r.query(" ; -- nothing\n"))
		require.Equal(t, []string{"E:42601", "ZI"}, r.query("selec 1"))
	})
	t.Run("an error inside BEGIN leaves the block failed", func(t *testing.T) {
		require.Equal(t, []string{"C:BEGIN", "E:42703", "ZE"}, r.query("begin; select nope; commit"))
		require.Equal(t, []string{"C:ROLLBACK", "ZI"}, r.query("rollback"))
	})
}

func TestWhatPeersRefuse(t *testing.T) {
	f := serve(t)
	r := f.raw()
	for _, q := range []string{
		"begin", "savepoint a", "select 1/0", "rollback to a", "release a",
		"declare c cursor for select generate_series(1,3)", "fetch 2 from c", "close c", "commit",
		"do $$ begin perform 1; end $$", "begin", "lock table pg_class in access share mode", "commit",
		"begin isolation level serializable", "select 1", "commit",
		"prepare transaction 'none'", "values (1)", "table pg_namespace", "explain select 1", "show all",
		"vacuum", "create table refused (a int); insert into refused values (1)", "truncate refused", "drop table refused",
	} {
		got := r.query(q)
		last := got[len(got)-2]
		switch q {
		case "select 1/0":
			require.Equal(t, "E:22012", last, q)
		default:
			if strings.HasPrefix(last, "E:") && q != "prepare transaction 'none'" {
				t.Errorf("%s: %v", q, got)
			}
		}
	}
}

func TestExecuteWithARowLimitInATransaction(t *testing.T) {
	f := serve(t)
	r := f.raw()
	r.query("begin")
	r.send(parse("", "select generate_series(1,5)"), bind("p", ""), execute("p", 2), syncMsg)
	require.Equal(t, []string{"1", "2", "D:1", "D:2", "s", "ZT"}, r.until(1))
	r.send(execute("p", 2), syncMsg)
	require.Equal(t, []string{"D:3", "D:4", "s", "ZT"}, r.until(1))
	r.send(execute("p", 0), &pgproto3.Close{ObjectType: 'P', Name: "p"}, syncMsg)
	require.Equal(t, []string{"D:5", "C:SELECT 1", "3", "ZT"}, r.until(1))
	require.Equal(t, []string{"C:COMMIT", "ZI"}, r.query("commit"))
}

func TestFlushIsAnsweredBeforeSync(t *testing.T) {
	f := serve(t)
	r := f.raw()
	for range 2 { // the second time the statement is known already
		r.send(parse("flushed", "select $1::int + 1"), &pgproto3.Describe{ObjectType: 'S', Name: "flushed"}, flushMsg)
		require.Equal(t, []string{"1", "t", "T"}, []string{r.next(), r.next(), r.next()})
		r.send(bind("", "flushed", "41"), execute("", 0), flushMsg)
		require.Equal(t, []string{"2", "D:42", "C:SELECT 1"}, []string{r.next(), r.next(), r.next()})
		r.send(parse("local", "show multicoord.consistency"), bind("", "local"), execute("", 0), flushMsg)
		require.Equal(t, []string{"1", "2", "D:session", "C:SHOW"}, []string{r.next(), r.next(), r.next(), r.next()})
		r.send(&pgproto3.Close{ObjectType: 'S', Name: "flushed"}, &pgproto3.Close{ObjectType: 'S', Name: "local"}, flushMsg)
		require.Equal(t, []string{"3", "3"}, []string{r.next(), r.next()})
		r.send(syncMsg)
		require.Equal(t, []string{"ZI"}, r.until(1))
	}
	// An error before Sync: what follows is not executed.
	r.send(parse("", "select 1/(g-1) from generate_series(1,1) g"), bind("", ""), execute("", 0), flushMsg)
	require.Equal(t, []string{"1", "2", "E:22012"}, []string{r.next(), r.next(), r.next()})
	r.send(parse("x", "select 1"), bind("", "x"), execute("", 0), flushMsg, syncMsg)
	require.Equal(t, []string{"ZI"}, r.until(1))
	r.send(bind("", "x"), execute("", 0), syncMsg)
	require.Equal(t, []string{"E:26000", "ZI"}, r.until(1))
	r.send(flushMsg, flushMsg, syncMsg)
	require.Equal(t, []string{"ZI"}, r.until(1))
}

func TestNothingIsExecutedBetweenAnErrorAndSync(t *testing.T) {
	f := serve(t)
	r := f.raw()
	r.query("drop table if exists skipped; create table skipped (id int)")
	r.send(parse("", "select 1/(g-1) from generate_series(1,1) g"), bind("", ""), execute("", 0),
		parse("s1", "insert into skipped values (1)"), bind("", "s1"), execute("", 0), syncMsg,
		parse("", "insert into skipped values (2)"), bind("", ""), execute("", 0), syncMsg)
	require.Equal(t, []string{"1", "2", "E:22012", "ZI", "1", "2", "C:INSERT 0 1", "ZI"}, r.until(2))
	require.Equal(t, []string{"D:2", "C:SELECT 1", "ZI"}, r.query("select * from skipped"))
	r.send(bind("", "s1"), execute("", 0), syncMsg) // its Parse was skipped
	require.Equal(t, []string{"E:26000", "ZI"}, r.until(1))
	r.send(parse("s1", "select 5"), bind("", "s1"), execute("", 0), syncMsg)
	require.Equal(t, []string{"1", "2", "D:5", "C:SELECT 1", "ZI"}, r.until(1))
	// An error of the router's own counts too.
	r.send(parse("", "set multicoord.consistency = 'never'"), bind("", ""), execute("", 0),
		parse("", "insert into skipped values (3)"), bind("", ""), execute("", 0), syncMsg)
	require.Equal(t, []string{"1", "2", "E:22023", "ZI"}, r.until(1))
	require.Equal(t, []string{"D:1", "C:SELECT 1", "ZI"}, r.query("select count(*) from skipped"))
}

func TestNoticesParametersAndNotifications(t *testing.T) {
	f := serve(t)
	r := f.raw()
	require.Equal(t, []string{"N:hello", "C:DO", "ZI"}, r.query("do $$ begin raise notice 'hello'; end $$"))
	require.Equal(t, []string{"C:SET", "S:application_name=me", "ZI"}, r.query("set application_name = 'me'"))
	require.Equal(t, []string{"C:LISTEN", "ZI"}, r.query("listen ch"))
	require.Equal(t, []string{"C:NOTIFY", "A:ch=text", "ZI"}, r.query("notify ch, 'text'"))
	other := f.raw()
	other.query("notify ch, 'from another'")
	require.Equal(t, "A:ch=from another", r.next(), "it comes while the session is idle")
	require.Equal(t, []string{"D:1", "C:SELECT 1", "ZI"}, r.query("select 1"))
	for range 3 {
		other.query("notify ch, 'again'")
		require.Equal(t, "A:ch=again", r.next())
	}
	r.query("discard all")
	other.query("notify ch, 'nobody'")
	require.Equal(t, []string{"D:1", "C:SELECT 1", "ZI"}, r.query("select 1"))
}

func TestStartUp(t *testing.T) {
	f := serve(t)
	startup := func(version uint32, params ...string) []byte {
		body := binary.BigEndian.AppendUint32(nil, version)
		for _, p := range params {
			body = append(append(body, p...), 0)
		}
		body = append(body, 0)
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)
	}
	dial := func() net.Conn {
		c, err := net.Dial("tcp", f.addr)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		require.NoError(t, c.SetDeadline(time.Now().Add(5*time.Second)))
		return c
	}
	head := func(c net.Conn) byte {
		var b [1]byte
		_, err := io.ReadFull(c, b[:])
		require.NoError(t, err)
		return b[0]
	}
	t.Run("a packet in two pieces", func(t *testing.T) {
		c := dial()
		p := startup(3<<16, "user", "app", "database", "app")
		_, err := c.Write(p[:7])
		require.NoError(t, err)
		_, err = c.Write(p[7:])
		require.NoError(t, err)
		require.EqualValues(t, 'R', head(c))
	})
	t.Run("protocol 3.2 and options of _pq_", func(t *testing.T) {
		c := dial()
		_, err := c.Write(startup(3<<16|2, "user", "app", "database", "app"))
		require.NoError(t, err)
		require.EqualValues(t, 'R', head(c))
		c = dial()
		_, err = c.Write(startup(3<<16, "user", "app", "_pq_.something", "1"))
		require.NoError(t, err)
		require.EqualValues(t, 'v', head(c))
	})
	t.Run("a claimed length reserves nothing", func(t *testing.T) {
		c := dial()
		_, err := c.Write([]byte{0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0})
		require.NoError(t, err)
		require.EqualValues(t, 'E', head(c))
	})
	t.Run("options and parameters reach the server", func(t *testing.T) {
		r := f.raw("options", "-c statement_timeout=1234 --search-path=pg_catalog,\\ public -cwork_mem=5MB", "application_name", "opt", "TimeZone", "Asia/Tokyo")
		require.Equal(t, "D:1234ms", r.query("show statement_timeout")[0])
		require.Equal(t, "D:pg_catalog, public", r.query("show search_path")[0])
		require.Equal(t, "D:5MB", r.query("show work_mem")[0])
		require.Equal(t, "D:opt", r.query("show application_name")[0])
		require.Equal(t, "D:Asia/Tokyo", r.query("show timezone")[0])
		r.query("reset all")
		require.Contains(t, r.query("show statement_timeout"), "D:1234ms", "RESET goes back to what the client started with")
		r.query("set work_mem = '6MB'")
		r.query("discard all")
		require.Contains(t, r.query("show work_mem"), "D:5MB")
		plain := f.raw()
		require.Equal(t, "D:0", plain.query("show statement_timeout")[0], "nothing leaks to another client")
	})
	t.Run("errors come as the server says them", func(t *testing.T) {
		for _, c := range []struct{ user, password, db, more, code string }{
			{"app", appPassword, "nowhere", "", "3D000"},
			{"app", "wrong", "app", "", "28P01"},
			{"nobody", "wrong", "app", "", "28P01"},
			{"app", appPassword, "app", "datestyle=nonsense", "22023"},
			{"app", appPassword, "app", "options='-c nonsense=1'", "42704"},
			{"app", appPassword, "app", "options='-c multicoord.consistency=never'", "22023"},
			{"app", appPassword, "app", "replication=database", "0A000"},
			{"multicoord_router", "wrong", "app", "", "28P01"},
		} {
			_, err := connect(ctx(t), f.addr, c.user, c.password, c.db, c.more)
			require.Equal(t, c.code, code(err), "%+v: %v", c, err)
		}
	})
}

// cancel sends a CancelRequest with a client's key.
func (f *fixture) cancel(r *raw) {
	f.t.Helper()
	c, err := net.Dial("tcp", f.addr)
	require.NoError(f.t, err)
	defer c.Close()
	b := binary.BigEndian.AppendUint32(nil, uint32(12+len(r.key)))
	b = binary.BigEndian.AppendUint32(b, 1234<<16|5678)
	b = binary.BigEndian.AppendUint32(b, r.pid)
	_, err = c.Write(append(b, r.key...))
	require.NoError(f.t, err)
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(f.t, err, io.EOF)
}

func TestCancel(t *testing.T) {
	f := serve(t)
	r, other := f.raw(), f.raw()
	running := func() {
		d := f.direct(f.standby, "postgres")
		eventually(t, func() error {
			var n int
			if err := d.QueryRow(ctx(t), "select count(*) from pg_stat_activity where query like 'select pg_sleep(30)%' and state = 'active'").Scan(&n); err != nil || n == 0 {
				return errors.New("not yet running")
			}
			return nil
		})
	}
	r.send(&pgproto3.Query{String: "select pg_sleep(30)"})
	running()
	wrong := append([]byte(nil), r.key...)
	wrong[0] ^= 1
	f.cancel(&raw{pid: r.pid, key: wrong})
	f.cancel(other)
	require.NoError(t, r.conn.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
	_, err := r.conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "neither a wrong secret nor another session's key cancels it")
	f.cancel(r)
	require.Equal(t, []string{"E:57014", "ZI"}, without(r.until(1), "T"))
	require.Equal(t, []string{"D:1", "C:SELECT 1", "ZI"}, other.query("select 1"))
}

func TestPipelinesDoNotBlock(t *testing.T) {
	f := serve(t)
	r := f.raw()
	r.query("drop table if exists piped; create table piped (id int, v text)")
	big := strings.Repeat("x", 20_000)
	const n = 400
	done := make(chan struct{})
	go func() { // the client writes 8 MB while 8 MB come back
		defer close(done)
		for i := range n {
			r.fe.SendParse(parse("", "insert into piped values (1, $1) returning v"))
			r.fe.SendBind(bind("", "", big))
			r.fe.SendExecute(execute("", 0))
			if i%7 == 6 {
				r.fe.SendSync(syncMsg)
			}
			_ = r.fe.Flush()
		}
		r.fe.SendSync(syncMsg)
		_ = r.fe.Flush()
	}()
	got := r.until(n/7 + 1)
	<-done
	rows := 0
	for _, m := range got {
		require.NotEqual(t, byte('E'), m[0], m)
		if m[0] == 'D' {
			rows++
		}
	}
	require.Equal(t, n, rows)
	// One batch far beyond what is collected.
	for range n {
		r.fe.SendParse(parse("", "select $1::text"))
		r.fe.SendBind(bind("", "", big))
		r.fe.SendExecute(execute("", 0))
	}
	r.fe.SendSync(syncMsg)
	flushed := make(chan error, 1)
	go func() { flushed <- r.fe.Flush() }()
	require.Len(t, r.until(1), 4*n+1)
	require.NoError(t, <-flushed)
	// Many small queries in one write.
	for range 100 {
		r.fe.SendQuery(&pgproto3.Query{String: "select 1"})
	}
	require.NoError(t, r.fe.Flush())
	require.Len(t, r.until(100), 400)
}

func TestLargeValues(t *testing.T) {
	f := serve(t)
	c := f.client()
	big := strings.Repeat("0123456789abcdef", 1<<20)
	var got string
	require.NoError(t, c.QueryRow(ctx(t), "select $1::text", big).Scan(&got))
	require.Len(t, got, len(big))
	require.Equal(t, big[:100], got[:100])
	var n int
	require.NoError(t, c.QueryRow(ctx(t), "select length($1::text)", big).Scan(&n))
	require.Equal(t, len(big), n)
	rows, err := c.Query(ctx(t), "select repeat('y', 100000) from generate_series(1, 200)")
	require.NoError(t, err)
	n = 0
	for rows.Next() {
		n++
	}
	require.NoError(t, rows.Err())
	require.Equal(t, 200, n)
}

func TestFunctionCall(t *testing.T) {
	f := serve(t)
	r := f.raw()
	// 2100 is nothing to rely on; int4pl has had OID 177 since the beginning.
	r.send(&pgproto3.FunctionCall{Function: 177, Arguments: [][]byte{[]byte("40"), []byte("2")}})
	require.Equal(t, []string{"V:42", "ZI"}, r.until(1))
}
