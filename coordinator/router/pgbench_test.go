package router_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/multicoord/multicoord/coordinator/router"
)

func (f *fixture) pgbench(args ...string) string {
	f.t.Helper()
	host, port, _ := net.SplitHostPort(f.addr)
	c := command("/usr/bin/pgbench", append([]string{"-h", host, "-p", port, "-U", "app"}, append(args, "app")...)...)
	c.Env = append(c.Env, "PGPASSWORD="+appPassword)
	out, err := c.CombinedOutput()
	require.NoError(f.t, err, "%s", out)
	return string(out)
}

func TestPgbench(t *testing.T) {
	f := serve(t)
	f.pgbench("-i", "-s", "1", "-q")
	for _, mode := range []string{"simple", "extended", "prepared"} {
		for _, script := range [][]string{{"-S"}, {}} {
			out := f.pgbench(append([]string{"-n", "-M", mode, "-c", "8", "-t", "200"}, script...)...)
			require.Contains(t, out, "number of failed transactions: 0 ", out)
			require.Contains(t, out, "1600/1600", out)
		}
	}
	out := f.pgbench("-n", "-S", "-C", "-c", "8", "-t", "20") // a connection per transaction
	require.Contains(t, out, "160/160", out)
	var balanced bool
	require.NoError(t, f.direct(f.primary, "app").QueryRow(ctx(t),
		"select sum(abalance) = (select sum(bbalance) from pgbench_branches) from pgbench_accounts").Scan(&balanced))
	require.True(t, balanced)
	totals := f.r.Stats().Totals
	require.Positive(t, totals.Standby)
	require.Positive(t, totals.Primary)
}

func TestPsql(t *testing.T) {
	f := serve(t)
	script := filepath.Join(f.dir, "script.sql")
	require.NoError(t, os.WriteFile(script, []byte(`
create table psql_t (a int primary key, b text);
insert into psql_t select g, 'row ' || g from generate_series(1, 10000) g;
\d psql_t
select count(*) from psql_t where a < 8;
\set FETCH_COUNT 100
select sum(a) from (select a from psql_t) q;
select 'bound' where $1 = 1 \bind 1 \g
\echo done
drop table psql_t;
`), 0o644))
	out, err := f.psql("-v", "ON_ERROR_STOP=0", "-f", script)
	require.NoError(t, err, out)
	require.Contains(t, out, "50005000")
	require.Contains(t, out, "\n7\n")
	require.Contains(t, out, "done")
	out, err = f.psql("-c", "\\l", "-c", "\\dt", "-c", "select 1")
	require.NoError(t, err, out)
}

func TestMetricsAndStats(t *testing.T) {
	f := serve(t)
	r := f.raw()
	r.query("select 1")
	r.query("begin")
	s := f.r.Stats()
	require.Len(t, s.Clients, 1)
	require.Equal(t, "coord-1", s.Clients[0].Node)
	require.EqualValues(t, 2, s.Totals.Queries)
	require.EqualValues(t, 1, s.Totals.Standby)
	require.EqualValues(t, 1, s.Totals.Primary)
	require.NotEmpty(t, s.Pools)
	require.Equal(t, []string{f.addr}, s.Listen)
	r.query("commit")
}

func TestNothingIsLeftBehind(t *testing.T) {
	_ = shared(t)
	ignore := goleak.IgnoreCurrent()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	topologies := make(chan router.Topology, 1)
	registry := prometheus.NewRegistry()
	r := router.New(router.Config{Listeners: []net.Listener{l}, Password: routerPassword, Topologies: topologies, Registerer: registry})
	c, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(c) }()
	topologies <- router.Topology{Members: shared(t).members(), Settings: testSettings()}
	eventually(t, func() error { return r.Ready() })
	for range 10 {
		x := rawTo(t, l.Addr().String())
		x.query("select 1")
		x.query("create temp table leak (a int)")
		x.send(parse("", "select 1"), flushMsg)
		_ = x.conn.Close()
	}
	families, err := registry.Gather()
	require.NoError(t, err)
	require.NotEmpty(t, families)
	cancel()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("the router does not stop")
	}
	goleak.VerifyNone(t, ignore)
}
