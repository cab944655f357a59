package integration

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/testenv"
	"github.com/multicoord/multicoord/testenv/fault"
	"github.com/multicoord/multicoord/testenv/workload"
)

// withTTL gives the primaries' rights a longer life, so that a test on a busy machine has time to act within it.
func withTTL(ttl time.Duration) func(*cluster.Spec) {
	return func(s *cluster.Spec) { s.Failover.TTL = cluster.Duration(ttl) }
}

func TestUpTakesOverServersThatStillRun(t *testing.T) {
	env := testenv.New(t)
	c := env.Cluster(testenv.ClusterOptions{Standbys: 1, Workers: []int{0}, Edit: withTTL(20 * time.Second)})
	c.Up()
	nodes := []string{"coordinator-1", "coordinator-2", "worker-1-1"}
	before := map[string]int{}
	for _, n := range nodes {
		before[n] = c.Postmaster(n)
	}
	session := c.ConnectNode("coordinator-1")
	testenv.Exec(env, session, "CREATE TABLE taken_over AS SELECT 1 AS x")

	c.Kill()
	c.Up()
	for _, n := range nodes {
		require.Equal(t, before[n], c.Postmaster(n), "%s runs on", n)
	}
	require.Equal(t, 1, testenv.Scan[int](env, session, "SELECT x FROM taken_over"), "a session of before goes on")
	c.Stop()
}

func TestPrimariesStopWhenNobodyRenewsTheirRight(t *testing.T) {
	env := testenv.New(t)
	c := env.Cluster(testenv.ClusterOptions{Standbys: 1, Workers: []int{0}, Edit: withTTL(3 * time.Second)})
	c.Up()
	env.Psql(c.Connstr(), "-c", "CREATE TABLE kept AS SELECT 7 AS x")
	primary, standby := c.Postmaster("coordinator-1"), c.Postmaster("coordinator-2")
	worker := c.Postmaster("worker-1-1")

	c.Kill()
	env.Until(5*time.Second, "the primaries end before their right does", func() error {
		if fault.Alive(primary) || fault.Alive(worker) {
			return errors.New("a primary still runs")
		}
		return nil
	})
	require.True(t, fault.Alive(standby), "a standby has no deadline")

	c.Up()
	require.Equal(t, "7", env.Psql(c.Connstr(), "-c", "SELECT x FROM kept"))
	require.Equal(t, standby, c.Postmaster("coordinator-2"))
	c.Stop()
}

func TestAcknowledgedWritesLiveThroughKillsOfEveryProcess(t *testing.T) {
	env := testenv.New(t)
	c := env.Cluster(testenv.ClusterOptions{Standbys: 1, Workers: []int{0}})
	c.Up()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	connstr := c.Connstr()
	w, err := workload.Start(ctx, workload.Config{Connstr: connstr, Workers: 4})
	require.NoError(t, err)
	defer w.Stop()
	require.NoError(t, w.Await(ctx, 200))
	for _, kill := range []struct {
		what string
		do   func()
	}{
		{"the server of the primary", func() { fault.Kill(t, c.Postmaster("coordinator-1")) }},
		{"the guard of the primary", func() { fault.Kill(t, c.Guard("coordinator-1")) }},
		{"the server of the standby", func() { fault.Kill(t, c.Postmaster("coordinator-2")) }},
		{"the orchestrator", func() { c.Kill(); c.Start() }},
		{"everything", func() {
			c.Kill()
			for _, p := range env.Processes() {
				fault.Kill(t, p.PID)
			}
			c.Start()
		}},
	} {
		kill.do()
		require.NoError(t, w.Await(ctx, 200), "after a kill of %s", kill.what)
		c.WaitReady()
		t.Logf("longest gap between two acknowledged writes after a kill of %s and before: %s", kill.what, w.Gap().Round(time.Millisecond))
	}
	w.Stop()
	require.NoError(t, w.Check(ctx, c.Connstr("--direct")))
	c.Stop()
}

func TestUpFindsTheClusterOfItsFolderByItself(t *testing.T) {
	env := testenv.New(t)
	c := env.Cluster(testenv.ClusterOptions{Name: "named-otherwise"})
	c.Up()
	c.Stop()
	c.Detach() // without -f and --cluster
	c.Down()
}

func TestAnOrdinaryUserRunsAClusterWithServersOfTheirOwn(t *testing.T) {
	env := testenv.New(t)
	user := env.ServerCredential() // nil unless the tests run as root: then they are that user already
	c := env.Cluster(testenv.ClusterOptions{Standbys: 1, Workers: []int{0}, As: user})
	c.Detach("-f", c.SpecFile)
	require.Equal(t, "1", env.Psql(c.Connstr("--show-password"), "-c", "SELECT 1"))
	c.Down()
}
