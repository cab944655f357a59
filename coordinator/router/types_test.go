package router_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

const (
	int8OID   = 20
	float8OID = 701
)

// described prepares a statement and gives the types that the server says its parameters have.
func (r *raw) described(name, sql string) []uint32 {
	r.t.Helper()
	r.send(parse(name, sql), &pgproto3.Describe{ObjectType: 'S', Name: name}, syncMsg)
	var types []uint32
	for {
		m, err := r.fe.Receive()
		require.NoError(r.t, err)
		switch m := m.(type) {
		case *pgproto3.ParameterDescription:
			types = append([]uint32(nil), m.ParameterOIDs...)
		case *pgproto3.ErrorResponse:
			require.Fail(r.t, m.Message)
		case *pgproto3.ReadyForQuery:
			return types
		}
	}
}

func binaryFloat(name string, v float64) *pgproto3.Bind {
	return &pgproto3.Bind{
		PreparedStatement: name, ParameterFormatCodes: []int16{1},
		Parameters: [][]byte{binary.BigEndian.AppendUint64(nil, math.Float64bits(v))},
	}
}

// What a client was told of a statement's parameters holds on every connection.
func TestParametersHaveTheTypesThatTheClientWasTold(t *testing.T) {
	for _, name := range []string{"ins", ""} {
		f := serve(t, func(s *cluster.Router) { s.PoolSize = 2 })
		d := f.direct(f.primary, "app")
		old, holder, fresh := f.raw(), f.raw(), f.raw()
		old.query("drop table if exists mig; create table mig (x int8)")
		require.Equal(t, []uint32{int8OID}, old.described(name, "insert into mig values ($1)"))
		_, err := d.Exec(ctx(t), "alter table mig alter x type float8")
		require.NoError(t, err)
		holder.query("begin")
		holder.query("select 1")
		require.Equal(t, []uint32{float8OID}, fresh.described(name, "insert into mig values ($1)"))
		holder.query("rollback")
		fresh.send(binaryFloat(name, 1.5), execute("", 0), syncMsg)
		require.Equal(t, "C:INSERT 0 1", last(fresh.until(1)))
		old.send(&pgproto3.Bind{
			PreparedStatement: name, ParameterFormatCodes: []int16{1},
			Parameters: [][]byte{binary.BigEndian.AppendUint64(nil, 3)},
		}, execute("", 0), syncMsg)
		require.Equal(t, "C:INSERT 0 1", last(old.until(1)))
		require.Equal(t, []string{"D:1.5", "D:3", "C:SELECT 2", "ZI"}, fresh.query("select x from mig order by x"))
		f.stop()
	}
}

// Statements of the same text are shared only where the text means the same.
func TestStatementsAreSharedOnlyWhereTheyMeanTheSame(t *testing.T) {
	f := serve(t, one)
	a, b := f.raw(), f.raw()
	for _, q := range []string{
		"drop schema if exists ten_a, ten_b cascade", "create schema ten_a", "create schema ten_b",
		"create table ten_a.t (x int8)", "create table ten_b.t (x float8)",
	} {
		a.query(q)
	}
	a.query("set search_path = ten_a")
	b.query("set search_path = ten_b")
	require.Equal(t, []uint32{int8OID}, a.described("i", "insert into t values ($1)"))
	require.Equal(t, []uint32{float8OID}, b.described("i", "insert into t values ($1)"))
	t.Run("set for a transaction", func(t *testing.T) {
		c := f.raw()
		c.query("begin")
		c.query("set local search_path = ten_a")
		require.Equal(t, []uint32{int8OID}, c.described("x", "insert into t values ($1) -- local"))
		c.query("commit")
		c.query("begin")
		c.query("set local search_path = ten_b")
		require.Equal(t, []uint32{float8OID}, c.described("y", "insert into t values ($1) -- local"))
		c.query("commit")
	})
	t.Run("before and after a change of the table", func(t *testing.T) {
		c := f.raw()
		c.query("set search_path = ten_a")
		require.Equal(t, []uint32{int8OID}, c.described("x", "insert into ten_a.t values ($1)"))
		c.query("begin")
		c.query("alter table t alter x type float8")
		c.query("commit")
		require.Equal(t, []uint32{float8OID}, c.described("y", "insert into ten_a.t values ($1)"))
	})
}

// A lock of the session is its own however the statement that took it has ended.
func TestSessionLocksPinHoweverTheStatementEnds(t *testing.T) {
	f := serve(t)
	for name, take := range map[string]func(*raw){
		"the statement failed": func(r *raw) {
			r.query("select 1 / (pg_advisory_lock(77)::text = 'x')::int")
		},
		"the portal was suspended": func(r *raw) {
			r.send(parse("", "select pg_advisory_lock(78), g from generate_series(1, 3) g"), bind("", ""), execute("", 1), syncMsg)
			require.Equal(t, "s", last(r.until(1)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := f.raw()
			take(r)
			r.query("select 1")
			require.Contains(t, r.query("show multicoord.route")[0], "pinned")
		})
	}
}
