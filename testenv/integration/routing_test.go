package integration

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/testenv"
	"github.com/multicoord/multicoord/testenv/workload"
)

// One cluster serves all tests of this file: they look at how statements are routed and leave the cluster as it was.
func TestRouter(t *testing.T) {
	env := testenv.New(t)
	c := env.Cluster(testenv.DefaultCluster())
	c.Up()
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, c *testenv.Cluster)
	}{
		{"reads go to standbys and writes to the primary", readsAndWrites},
		{"the walk-through of the reference works", walkThrough},
		{"pgbench runs in all modes without an error", pgbench},
		{"a standby with paused replay leaves the rotation and comes back", pausedReplay},
		{"a session reads its own writes while replay is delayed", ownWrites},
		{"the monitor speaks pgrouter's format", monitor},
		{"the console answers psql", console},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, c.In(t)) })
	}
	c.Stop()
}

// ports of the coordinators, the primary's first.
func coordinatorPorts(c *testenv.Cluster) (primary int, standbys []int) {
	g := c.Topology().Group(0)
	for _, n := range g.Nodes {
		if n.Name == g.Primary {
			primary = n.Port
		} else {
			standbys = append(standbys, n.Port)
		}
	}
	return primary, standbys
}

// servers counts which ports answer n reads on the connection.
func servers(c *testenv.Cluster, conn *pgx.Conn, n int) map[int]int {
	seen := map[int]int{}
	for range n {
		seen[testenv.Scan[int](c.Env, conn, "SELECT inet_server_port()")]++
	}
	return seen
}

// untilServed waits until the reads of a fresh session are answered by exactly the given ports.
func untilServed(c *testenv.Cluster, what string, ports ...int) {
	conn := c.Connect()
	c.Env.Until(20*time.Second, what, func() error {
		seen := servers(c, conn, 20)
		for _, p := range ports {
			if seen[p] == 0 || len(seen) != len(ports) {
				return fmt.Errorf("reads are answered by %v, not by %v", seen, ports)
			}
		}
		return nil
	})
}

func readsAndWrites(t *testing.T, c *testenv.Cluster) {
	primary, standbys := coordinatorPorts(c)
	untilServed(c, "both standbys serve reads", standbys...)

	conn := c.Connect()
	testenv.Exec(c.Env, conn, "CREATE TABLE routed (port int)")
	require.Equal(t, primary, testenv.Scan[int](c.Env, conn, "INSERT INTO routed VALUES (inet_server_port()) RETURNING port"))

	t.Run("a transaction stays on one server", func(t *testing.T) {
		ctx := t.Context()
		tx, err := conn.Begin(ctx)
		require.NoError(t, err)
		defer func() { _ = tx.Rollback(context.Background()) }()
		for range 5 {
			var port int
			require.NoError(t, tx.QueryRow(ctx, "SELECT inet_server_port()").Scan(&port))
			require.Equal(t, primary, port, "a transaction that may write is on the primary")
		}
		require.NoError(t, tx.Rollback(ctx))

		tx, err = conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
		require.NoError(t, err)
		seen := map[int]bool{}
		for range 5 {
			var port int
			require.NoError(t, tx.QueryRow(ctx, "SELECT inet_server_port()").Scan(&port))
			seen[port] = true
		}
		require.Len(t, seen, 1)
		require.NoError(t, tx.Commit(ctx))
	})
	t.Run("what surely is no read goes to the primary", func(t *testing.T) {
		for _, sql := range []string{
			"SELECT inet_server_port() FROM routed FOR UPDATE",
			"WITH x AS (INSERT INTO routed VALUES (0) RETURNING 1) SELECT inet_server_port() FROM x",
			"SELECT inet_server_port() FROM (SELECT pg_advisory_xact_lock(1)) x",
		} {
			require.Equal(t, primary, testenv.Scan[int](c.Env, conn, sql), sql)
		}
	})
	t.Run("errors come through as they are", func(t *testing.T) {
		_, err := conn.Exec(t.Context(), "SELECT 1/0")
		require.ErrorContains(t, err, "22012")
		_, err = conn.Exec(t.Context(), "SELEC 1", pgx.QueryExecModeSimpleProtocol)
		require.ErrorContains(t, err, "42601")
		require.Equal(t, 1, testenv.Scan[int](c.Env, conn, "SELECT 1"))
	})
	t.Run("a wrong password is refused", func(t *testing.T) {
		config, err := pgx.ParseConfig(c.Connstr())
		require.NoError(t, err)
		config.Password = "not " + config.Password
		_, err = pgx.ConnectConfig(t.Context(), config)
		require.ErrorContains(t, err, "28P01")
	})
}

// walkThrough is references/citus-multi-coordinator.txt with one address instead of one for each coordinator.
func walkThrough(t *testing.T, c *testenv.Cluster) {
	_, standbys := coordinatorPorts(c)
	router := c.Connstr()
	c.Env.Psql(router, "-c", "CREATE TABLE sample (id int primary key, data int)")
	require.Equal(t, "10000", c.Env.Psql(router,
		"-c", "INSERT INTO sample SELECT GENERATE_SERIES(1, 10000), GENERATE_SERIES(1, 10000)",
		"-c", "SELECT count(*) FROM sample"), "in one session, the write is seen")
	const rows = "SELECT id, data FROM sample WHERE id < 8 ORDER BY id"
	want := "1|1\n2|2\n3|3\n4|4\n5|5\n6|6\n7|7"
	c.Env.Until(10*time.Second, "the rows are read on a standby coordinator", func() error {
		out := c.Env.Psql(router, "-c", "SELECT inet_server_port()", "-c", rows)
		port, got, _ := strings.Cut(out, "\n")
		if got != want {
			return fmt.Errorf("got %q", got)
		}
		for _, s := range standbys {
			if port == strconv.Itoa(s) {
				return nil
			}
		}
		return fmt.Errorf("answered by port %s, not by one of %v", port, standbys)
	})
	require.Equal(t, want, c.Env.Psql(c.Connstr("--read-only"), "-c", rows))
	c.Env.Psql(router, "-c", "UPDATE sample SET data = data*2 WHERE id < 4")
	require.Equal(t, "2\n4\n6\n4", c.Env.Psql(c.Connstr("--direct"), "-c", "SELECT data FROM sample WHERE id < 5 ORDER BY id"))
}

func pgbench(t *testing.T, c *testenv.Cluster) {
	router := c.Connstr()
	c.Env.Pgbench(2*time.Minute, router, "-i", "-s", "10", "-q")
	for _, mode := range []string{"simple", "extended", "prepared"} {
		for _, script := range []string{"select-only", "tpcb-like"} {
			out := c.Env.Pgbench(time.Minute, router, "-n", "-M", mode, "-b", script, "-c", "8", "-j", "2", "-T", "3")
			require.Regexp(t, `number of failed transactions: 0 `, out, "%s %s", mode, script)
			require.NotContains(t, out, "processed: 0", "%s %s", mode, script)
		}
	}
	// What TPC-B keeps in three places has to agree.
	require.Equal(t, "t", c.Env.Psql(c.Connstr("--direct"), "-c",
		`SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)
		    AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(tbalance) FROM pgbench_tellers)`))
}

func pausedReplay(t *testing.T, c *testenv.Cluster) {
	_, standbys := coordinatorPorts(c)
	untilServed(c, "both standbys serve reads", standbys...)
	paused := c.ConnectNode("coordinator-2")
	left := c.Topology().Node("coordinator-3").Port
	testenv.Exec(c.Env, paused, "SELECT pg_wal_replay_pause()")
	writer := c.ConnectNode("coordinator-1")
	testenv.Exec(c.Env, writer, "CREATE TABLE ahead AS SELECT generate_series(1, 200000) AS n")

	untilServed(c, "the standby that does not replay serves no reads", left)
	console := c.Env.Psql(consoleConnstr(c), "-c", "SHOW LAG")
	require.Contains(t, console, "coordinator-2")

	testenv.Exec(c.Env, paused, "SELECT pg_wal_replay_resume()")
	untilServed(c, "it serves reads again once it has caught up", standbys...)
}

func ownWrites(t *testing.T, c *testenv.Cluster) {
	// Each standby applies commits a while after they were made, on the primary's clock.
	for _, node := range []string{"coordinator-2", "coordinator-3"} {
		conn := c.ConnectNode(node)
		testenv.Exec(c.Env, conn, "ALTER SYSTEM SET recovery_min_apply_delay = '150ms'")
		testenv.Exec(c.Env, conn, "SELECT pg_reload_conf()")
		defer func() {
			testenv.Exec(c.Env, conn, "ALTER SYSTEM RESET recovery_min_apply_delay")
			testenv.Exec(c.Env, conn, "SELECT pg_reload_conf()")
		}()
	}
	primary, _ := coordinatorPorts(c)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for _, mode := range []struct {
		pairs int
		mode  pgx.QueryExecMode
	}{{6000, pgx.QueryExecModeCacheStatement}, {2000, pgx.QueryExecModeSimpleProtocol}, {2000, pgx.QueryExecModeExec}} {
		report, err := workload.Pairs(ctx, workload.PairsConfig{
			Connstr: c.Connstr(), Sessions: 8, Pairs: mode.pairs, Follow: 100, Mode: mode.mode,
		})
		require.NoError(t, err)
		require.Equal(t, mode.pairs, report.Pairs)
		require.Zero(t, report.Misses, "%+v", report)
		require.Equal(t, map[int]int{primary: mode.pairs}, report.Writes)
		require.Positive(t, report.Followed, "standbys served none of the reads: %+v", report)
		t.Logf("%s: %d pairs, reads by port %v", mode.mode, report.Pairs, report.Reads)
	}
}

// monitor checks references/pgrouter.txt's format to the letter.
func monitor(t *testing.T, c *testenv.Cluster) {
	conn, err := net.Dial("tcp", c.Spec.Router.Monitor)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	var text strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		text.Write(buf[:n])
		if err != nil {
			break
		}
	}
	lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
	require.Len(t, lines, 4+3, text.String())
	for i, want := range []string{`^backends 3/3$`, `^workers \d+$`, `^clients \d+$`, `^connections \d+$`} {
		require.Regexp(t, want, lines[i])
	}
	masters := 0
	for _, line := range lines[4:] {
		require.Regexp(t, `^127\.0\.0\.1:\d+ (master OK 0|slave OK \d+)$`, line)
		if strings.Contains(line, " master ") {
			masters++
		}
	}
	require.Equal(t, 1, masters)
}

// consoleConnstr is the admin console's address for the user of the cluster's own connection string.
func consoleConnstr(c *testenv.Cluster) string {
	config, err := pgx.ParseConfig(c.Connstr())
	if err != nil {
		c.Env.TB.Fatal(err)
	}
	return fmt.Sprintf("postgres://%s:%s@%s/multicoord?sslmode=disable", config.User, config.Password, c.Spec.Router.Admin)
}

func console(t *testing.T, c *testenv.Cluster) {
	c.Connect() // a client to show
	for _, what := range []string{"NODES", "GROUPS", "SERVERS", "LAG", "POOLS", "CLIENTS", "ROUTERS", "CONFIG", "VERSION", "HELP"} {
		require.NotEmpty(t, c.Env.Psql(consoleConnstr(c), "-c", "SHOW "+what), what)
	}
	c.Env.Psql(consoleConnstr(c), "-c", "RELOAD")
	require.Error(t, c.Env.TryPsql(consoleConnstr(c), "SHOW nonsense"))
	require.Error(t, c.Env.TryPsql(strings.Replace(consoleConnstr(c), "@", "x@", 1), "SHOW VERSION"), "a wrong password is refused")
}
