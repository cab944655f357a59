package router_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnIdleSessionHearsThatItsServerConnectionIsLost(t *testing.T) {
	f := serve(t)
	ended := func(r *raw, pid string) {
		t.Helper()
		f.exec("select pg_terminate_backend(" + pid[2:] + ")")
		require.Equal(t, "E:57P01", r.next())
		_, err := r.fe.Receive()
		require.Error(t, err, "and the connection is closed")
	}
	listens := f.raw()
	listens.query("listen ch")
	ended(listens, listens.query("select pg_backend_pid()")[0])
	keeps := f.raw()
	keeps.query("create temp table mine (id int)")
	ended(keeps, keeps.query("select pg_backend_pid()")[0])
	// Within a transaction the next statement is told, as ever.
	within := f.raw()
	within.query("create temp table mine (id int)")
	pid := within.query("select pg_backend_pid()")[0]
	within.query("begin")
	f.exec("select pg_terminate_backend(" + pid[2:] + ")")
	require.Contains(t, []string{"E:57P01", "E:08006"}, last(within.query("select 1")))
}

func TestATemporarySearchPathAtStartUpKeepsTheConnection(t *testing.T) {
	f := serve(t, one)
	a := f.raw("options", "-c search_path=pg_temp")
	require.Equal(t, "C:CREATE TABLE", last(a.query("create table plain (id int)")))
	require.Equal(t, []string{"D:0", "C:SELECT 1", "ZI"}, a.query("select count(*) from plain"))
	require.Equal(t, "C:DISCARD ALL", last(a.query("discard all")))
	require.Equal(t, "C:CREATE TABLE", last(a.query("create table plain (id int)")))
	require.Equal(t, "D:0", a.query("select count(*) from plain")[0])
	require.NoError(t, a.conn.Close())
	require.Equal(t, "E:42P01", last(f.raw().query("select * from pg_temp.plain")))
}
