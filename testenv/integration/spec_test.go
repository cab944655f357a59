package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/testenv"
	"github.com/multicoord/multicoord/testenv/fault"
)

// Changes of the spec of a running cluster.
func TestSpecChanges(t *testing.T) {
	env := testenv.New(t)
	c := env.Cluster(testenv.ClusterOptions{Standbys: 1, Workers: []int{0}})
	c.Detach("-f", c.SpecFile)
	env.Psql(c.Connstr(), "-c", "CREATE TABLE kept AS SELECT 1 AS x")
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, c *testenv.Cluster)
	}{
		{"a setting that can be reloaded is", reloads},
		{"a setting that needs a restart is reported and applied by one", restarts},
		{"a standby is added and removed", addsAndRemovesStandby},
		{"Shardman's words work as well", shardmansWords},
		{"the primary cannot be removed", keepsPrimary},
		{"what is managed or wrong is refused and nothing changes", refusesChanges},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, c.In(t)) })
	}
	require.Equal(t, "1", env.Psql(c.Connstr(), "-c", "SELECT x FROM kept"))
	c.Down()
}

// setting waits until a node's setting has a value.
func setting(c *testenv.Cluster, node, name, want string) {
	c.Env.TB.Helper()
	conn := c.ConnectNode(node)
	c.Env.Until(20*time.Second, fmt.Sprintf("%s of %s is %s", name, node, want), func() error {
		if got := testenv.Scan[string](c.Env, conn, "SELECT current_setting($1)", name); got != want {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}

func reloads(t *testing.T, c *testenv.Cluster) {
	nodes := []string{"coordinator-1", "coordinator-2", "worker-1-1"}
	before := map[string]int{}
	for _, n := range nodes {
		before[n] = c.Postmaster(n)
	}
	c.Must("config", "set", "postgresql.parameters.work_mem=7MB", "--wait", "30s")
	for _, n := range nodes {
		setting(c, n, "work_mem", "7MB")
		require.Equal(t, before[n], c.Postmaster(n), "%s was not restarted", n)
	}
	c.Must("config", "set", "postgresql.parameters.work_mem=")
	for _, n := range nodes {
		setting(c, n, "work_mem", "4MB")
	}
}

func restarts(t *testing.T, c *testenv.Cluster) {
	nodes := []string{"coordinator-1", "coordinator-2", "worker-1-1"}
	old := testenv.Scan[string](c.Env, c.ConnectNode("coordinator-1"), "SHOW max_connections")
	require.NotEqual(t, "173", old)
	change := func(from, to string, reported ...string) {
		c.Must("config", "set", "postgresql.parameters.max_connections="+to)
		pending(c, reported...)
		r := c.Orchestrator("status")
		require.Zero(t, r.Code, "a pending restart is a warning, no error: %s", r)
		setting(c, "coordinator-1", "max_connections", from)
		c.Down()
		c.Detach()
	}
	change(old, "173", nodes...)
	for _, n := range nodes {
		setting(c, n, "max_connections", "173")
	}
	change("173", "61", "coordinator-1", "worker-1-1")
	setting(c, "coordinator-1", "max_connections", "61")
	setting(c, "worker-1-1", "max_connections", "61")
	// A standby must not have less than its primary had: it follows with the restart after the one in which it has
	// replayed the primary's change.
	c.Down()
	c.Detach()
	setting(c, "coordinator-2", "max_connections", "61")
}

// pending waits until the status names a pending restart of the nodes.
func pending(c *testenv.Cluster, nodes ...string) {
	c.Env.TB.Helper()
	c.Env.Until(20*time.Second, "the restart is reported as pending", func() error {
		findings := c.Status()
		for _, n := range nodes {
			if !slices.ContainsFunc(findings, func(f testenv.Finding) bool {
				return f.Level == "Warning" && f.Node == n && strings.Contains(f.Message, "max_connections") && f.Remedy != ""
			}) {
				return fmt.Errorf("nothing about %s in %+v", n, findings)
			}
		}
		return nil
	})
}

func addsAndRemovesStandby(t *testing.T, c *testenv.Cluster) {
	c.Must("group", "add-standby", "0", "--wait", "20s")
	c.WaitReady()
	g := c.Topology().Group(0)
	require.Len(t, g.Nodes, 3)
	added := g.Nodes[2]
	require.Equal(t, cluster.Standby, added.Role)
	conn := c.ConnectNode(added.Name)
	require.Equal(t, 1, testenv.Scan[int](c.Env, conn, "SELECT x FROM kept"))
	pid := c.Postmaster(added.Name)

	c.Must("group", "rm-standby", "0", "-n", added.Name)
	c.Until("the standby is gone", func(topology testenv.Topology) error {
		if n := topology.Node(added.Name); n.Name != "" {
			return fmt.Errorf("%+v is still there", n)
		}
		return nil
	})
	require.False(t, fault.Alive(pid))
	require.NoDirExists(t, c.NodeDir(added.Name))
	primary := c.ConnectNode("coordinator-1")
	c.Env.Until(20*time.Second, "its slot is dropped", func() error {
		if n := testenv.Scan[int](c.Env, primary, "SELECT count(*) FROM pg_replication_slots"); n != 1 {
			return fmt.Errorf("%d slots", n)
		}
		return nil
	})
}

func shardmansWords(t *testing.T, c *testenv.Cluster) {
	c.Must("shard", "--shard", "1", "add", "-n", "local")
	c.WaitReady()
	g := c.Topology().Group(1)
	require.Len(t, g.Nodes, 2)
	require.Equal(t, cluster.Standby, g.Nodes[1].Role)
	c.Must("shard", "--shard", "1", "rm", "-n", g.Nodes[1].Name)
	c.Until("the standby is gone", func(topology testenv.Topology) error {
		if n := len(topology.Group(1).Nodes); n != 1 {
			return fmt.Errorf("group 1 has %d nodes", n)
		}
		return nil
	})
}

func keepsPrimary(t *testing.T, c *testenv.Cluster) {
	r := c.Orchestrator("group", "rm-standby", "0", "-n", "coordinator-1")
	require.Equal(t, 1, r.Code, r)
	require.Contains(t, r.Stderr, "primary")
	require.True(t, slices.ContainsFunc(c.Topology().Nodes(), func(n testenv.Node) bool { return n.Name == "coordinator-1" && n.InSpec }))
}

func refusesChanges(t *testing.T, c *testenv.Cluster) {
	before := c.Must("config", "show")
	for change, message := range map[string]string{
		"postgresql.parameters.port=1":                   "port",
		"postgresql.parameters.wal_level=minimal":        "wal_level",
		"router.max_client_conn=0x":                      "max_client_conn",
		"router.no_such_key=1":                           "no_such_key",
		"name=other":                                     "name",
		"groups=[]":                                      "groups",
		"postgresql.hba=[host all all 0.0.0.0/0 trust]":  "trust",
		"postgresql.parameters.listen_addresses=0.0.0.0": "listen_addresses",
	} {
		r := c.Orchestrator("config", "set", change)
		require.NotZero(t, r.Code, r)
		require.Contains(t, r.Stderr, message, r)
	}
	require.Equal(t, before, c.Must("config", "show"))
}
