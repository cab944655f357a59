package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/testenv"
)

func TestWrongUsageEndsWithExitCode2AndTouchesNothing(t *testing.T) {
	env := testenv.New(t)
	c := env.Cluster(testenv.DefaultCluster())
	for _, args := range [][]string{
		{"no-such-command"},
		{"up", "--no-such-flag"},
		{"up", "an-argument"},
		{"up", "--timeout", "soon"},
		{"up", "--cluster", "Not A Name"},
		{"up", "--cluster", "other", "-f", c.SpecFile},
		{"up", "--log-level", "loud"},
		{"down", "--yes"},
		{"down", "--etcd", "http://127.0.0.1:1"},
		{"status", "-o", "xml"},
		{"status", "--etcd", "ftp://somewhere"},
		{"topology", "too", "many"},
		{"init"},
		{"init", "-f", c.SpecFile},
		{"agent", "--name", "Not_A_Host!", "--etcd", "http://127.0.0.1:1"},
		{"config", "set"},
		{"config", "set", "no-equals-sign"},
		{"config", "validate"},
		{"logs"},
		{"group", "add-standby"},
		{"connstr", "--group", "1"},
	} {
		r := c.Orchestrator(args...)
		require.Equal(t, 2, r.Code, r)
		require.NotEmpty(t, r.Stderr, args)
		require.Empty(t, r.Stdout, args)
	}
	require.NoDirExists(t, c.DataDir)
	require.Empty(t, env.Processes())
}

func TestACommandOnNoClusterSaysHowToStartOne(t *testing.T) {
	env := testenv.New(t)
	c := env.Cluster(testenv.DefaultCluster())
	for _, args := range [][]string{{"status"}, {"topology"}, {"connstr"}, {"psql", "-c", "SELECT 1"}, {"config", "show"}, {"logs", "coordinator-1"}} {
		r := c.Orchestrator(args...)
		require.Equal(t, 1, r.Code, r)
		require.Contains(t, r.Stderr, "orchestrator up", r)
	}
	down := c.Orchestrator("down")
	require.Zero(t, down.Code, down)
	require.NoDirExists(t, c.DataDir)
}

func TestAWrongSpecIsRefusedWithItsLineBeforeAnythingIsTouched(t *testing.T) {
	env := testenv.New(t)
	c := env.Cluster(testenv.DefaultCluster())
	file := env.WriteFile("wrong.yaml", "name: test\nhosts: [{name: local, address: 127.0.0.1}]\ngroups:\n  - id: 0\n    standbies: 2\n", 0o600)
	for _, args := range [][]string{{"up", "-f", file}, {"config", "validate", file}} {
		r := c.Orchestrator(args...)
		require.Equal(t, 1, r.Code, r)
		require.Contains(t, r.Stdout+r.Stderr, "wrong.yaml:5", r)
		require.Contains(t, r.Stdout+r.Stderr, "standbies", r)
	}
	require.NoDirExists(t, c.DataDir)
}

// untilNothingRuns waits for the end of a process that has reported its failure to the one that started it.
func untilNothingRuns(env *testenv.Env) {
	env.TB.Helper()
	env.Until(5*time.Second, "nothing runs on", func() error {
		if left := env.Processes(); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

// What stands in the way is named, and nothing is touched.
func TestUpRefuses(t *testing.T) {
	t.Run("a port that somebody else has", func(t *testing.T) {
		env := testenv.New(t)
		c := env.Cluster(testenv.ClusterOptions{Standbys: 1, Workers: []int{0}})
		for _, taken := range []string{address("127.0.0.1", c.Spec.Hosts[0].BasePort+1), c.Spec.Router.Listen, c.Spec.Router.Admin, c.Metrics} {
			l, err := net.Listen("tcp", taken)
			require.NoError(t, err)
			r := c.Orchestrator("up", "-f", c.SpecFile, "--detach")
			require.NoError(t, l.Close())
			require.Equal(t, 1, r.Code, r)
			_, port, err := net.SplitHostPort(taken)
			require.NoError(t, err)
			require.Contains(t, r.Stderr, port)
			require.Contains(t, r.Stderr, "integration", "the program that has it is named")
			require.NoDirExists(t, filepath.Join(c.DataDir, "nodes"))
			untilNothingRuns(env)
		}
	})
	t.Run("a data folder that holds something else", func(t *testing.T) {
		env := testenv.New(t)
		c := env.Cluster(testenv.ClusterOptions{})
		precious := env.WriteFile("main/precious", "do not touch", 0o600)
		r := c.Orchestrator("up", "-f", c.SpecFile, "--detach")
		require.Equal(t, 1, r.Code, r)
		require.Contains(t, r.Stderr, c.DataDir)
		require.Contains(t, r.Stderr, "precious")
		entries, err := os.ReadDir(c.DataDir)
		require.NoError(t, err)
		require.Len(t, entries, 1)
		require.FileExists(t, precious)
	})
	t.Run("a node's folder of another cluster", func(t *testing.T) {
		env := testenv.New(t)
		other := env.Cluster(testenv.ClusterOptions{Name: "other"})
		other.Up()
		other.Stop()
		c := env.Cluster(testenv.ClusterOptions{})
		c.Up()
		c.Stop()
		// The other cluster's data where ours should be.
		require.NoError(t, os.Rename(c.NodeDir("coordinator-1"), c.NodeDir("coordinator-1")+".away"))
		require.NoError(t, os.Rename(other.NodeDir("coordinator-1"), c.NodeDir("coordinator-1")))
		r := c.Orchestrator("up", "--detach")
		require.Equal(t, 1, r.Code, r)
		require.Contains(t, r.Stderr, "coordinator-1")
		require.Contains(t, r.Stderr, `"other"`)
		untilNothingRuns(env)
		require.FileExists(t, filepath.Join(c.NodeDir("coordinator-1"), "data", "PG_VERSION"))
	})
	t.Run("programs that are not there, and lists where it looked", func(t *testing.T) {
		env := testenv.New(t)
		c := env.Cluster(testenv.ClusterOptions{})
		r := c.Orchestrator("up", "-f", c.SpecFile, "--detach", "--pg-bin", env.Mkdir("empty", 0o755, nil))
		require.Equal(t, 1, r.Code, r)
		require.Contains(t, r.Stderr, env.Path("empty"))
	})
	t.Run("a version that the host does not have", func(t *testing.T) {
		env := testenv.New(t)
		c := env.Cluster(testenv.ClusterOptions{Edit: func(s *cluster.Spec) { s.PostgreSQL.Version = 18 }})
		r := c.Orchestrator("up", "-f", c.SpecFile, "--detach")
		if r.Code == 0 {
			// This machine has it: then the version has to be what was asked for.
			require.Equal(t, "18", env.Psql(c.Connstr(), "-c", "SELECT current_setting('server_version_num')::int / 10000"))
			return
		}
		require.Equal(t, 1, r.Code, r)
		require.Contains(t, r.Stderr, "18")
	})
	t.Run("a user that does not exist", func(t *testing.T) {
		if os.Geteuid() != 0 {
			return // only root can switch users
		}
		env := testenv.New(t)
		c := env.Cluster(testenv.ClusterOptions{})
		r := c.Orchestrator("up", "-f", c.SpecFile, "--detach", "--os-user", "nobody-of-that-name")
		require.Equal(t, 1, r.Code, r)
		require.Contains(t, r.Stderr, "nobody-of-that-name")
		require.Contains(t, r.Stderr, "--os-user")
	})
}
