package integration

import (
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/testenv"
)

// The times that a user is promised on two cores, after the build.
const (
	firstUpWithin = 20 * time.Second
	nextUpWithin  = 6 * time.Second
)

func TestOneCommandBringsUpAWholeCluster(t *testing.T) {
	env := testenv.New(t)
	c := env.Cluster(testenv.DefaultCluster())
	env.Binary() // the promised time begins after the build

	r := c.Orchestrator("up", "--detach", "-f", c.SpecFile)
	require.Zero(t, r.Code, r)
	require.Less(t, r.Took, firstUpWithin, r)
	t.Logf("ready after %s", r.Took)
	require.Contains(t, r.Stdout, "is up", "the user is told how to go on")

	topology := c.Topology()
	roles := map[string]cluster.Role{}
	for _, n := range topology.Nodes() {
		require.Equal(t, cluster.NodeRunning, n.State, n)
		roles[n.Name] = n.Role
	}
	require.Equal(t, map[string]cluster.Role{
		"coordinator-1": cluster.Primary, "coordinator-2": cluster.Standby, "coordinator-3": cluster.Standby,
		"worker-1-1": cluster.Primary, "worker-2-1": cluster.Primary,
	}, roles)
	status := c.Orchestrator("status")
	require.Zero(t, status.Code, status)

	t.Run("psql works through the router", func(t *testing.T) {
		c, env := c.In(t), env.In(t)
		require.Equal(t, "1\n", c.Must("psql", "-X", "-A", "-t", "-c", "SELECT 1"))
		require.Equal(t, "2", env.Psql(c.Connstr(), "-c", "SELECT 2"))
		require.Equal(t, "f", env.Psql(c.Connstr("--direct"), "-c", "SELECT pg_is_in_recovery()"))
	})
	t.Run("servers have checksums and logical WAL, standbys send feedback", func(t *testing.T) {
		c, env := c.In(t), env.In(t)
		conn := c.ConnectNode("coordinator-2")
		for setting, want := range map[string]string{"data_checksums": "on", "wal_level": "logical", "hot_standby_feedback": "on"} {
			require.Equal(t, want, testenv.Scan[string](env, conn, "SELECT current_setting($1)", setting), setting)
		}
	})
	t.Run("nobody is trusted and nothing is readable by others", func(t *testing.T) { checkSecrecy(t, c.In(t)) })
	t.Run("every command prints its data in each form", func(t *testing.T) { checkCommands(t, c.In(t)) })
	t.Run("metrics, health and readiness are served", func(t *testing.T) { checkMetrics(t, c.In(t)) })
	t.Run("another up reports the running cluster and changes nothing", func(t *testing.T) {
		c := c.In(t)
		before := c.Postmaster("coordinator-1")
		again := c.Orchestrator("up", "--detach", "-f", c.SpecFile)
		require.Zero(t, again.Code, again)
		require.Equal(t, before, c.Postmaster("coordinator-1"))
		require.Less(t, again.Took, nextUpWithin)
	})
	t.Run("down keeps the data and up brings them back", func(t *testing.T) {
		c, env := c.In(t), env.In(t)
		env.Psql(c.Connstr(), "-c", "CREATE TABLE kept AS SELECT 42 AS answer")
		c.Down()
		c.Down() // harmless on a stopped cluster
		up := c.Detach()
		require.Less(t, up.Took, nextUpWithin, up)
		t.Logf("ready again after %s", up.Took)
		require.Equal(t, "42", env.Psql(c.Connstr(), "-c", "SELECT answer FROM kept"))
	})
	t.Run("destroy asks, and then leaves nothing", func(t *testing.T) {
		c, env := c.In(t), env.In(t)
		refused := c.Orchestrator("down", "--destroy")
		require.Equal(t, 2, refused.Code, refused)
		require.Contains(t, refused.Stderr, "--yes")
		require.NotEmpty(t, env.Processes(), "nothing was stopped without the confirmation")
		done := c.Orchestrator("down", "--destroy", "--yes")
		require.Zero(t, done.Code, done)
		require.Empty(t, env.Processes())
		require.NoDirExists(t, c.DataDir)
	})
}

func checkCommands(t *testing.T, c *testenv.Cluster) {
	t.Helper()
	for _, command := range [][]string{{"status"}, {"topology"}, {"config", "show"}, {"group", "list"}, {"nodes", "list"}, {"connstr"}, {"history"}, {"version"}} {
		require.NotEmpty(t, c.Must(command...), command)
		var v any
		out := c.Must(append(command, "-o", "json")...)
		require.NoError(t, json.Unmarshal([]byte(out), &v), "%s: %s", command, out)
		out = c.Must(append(command, "-o", "yaml")...)
		require.NoError(t, yaml.Unmarshal([]byte(out), &v), "%s: %s", command, out)
	}
	require.Contains(t, c.Must("logs", "coordinator-1"), "database system is ready")
	spec := c.Env.WriteFile("generated.yaml", c.Must("config", "generate"), 0o600)
	c.Must("config", "validate", spec)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		require.Contains(t, c.Must("completion", shell), "orchestrator")
	}
}

func checkMetrics(t *testing.T, c *testenv.Cluster) {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	for path, want := range map[string]string{"/healthz": "", "/readyz": "", "/metrics": "# TYPE"} {
		resp, err := client.Get("http://" + c.Metrics + path)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		require.Contains(t, string(body), want, path)
	}
}

// checkSecrecy looks at every file of a running cluster and at every process's arguments.
func checkSecrecy(t *testing.T, c *testenv.Cluster) {
	t.Helper()
	config, err := pgx.ParseConfig(c.Connstr())
	require.NoError(t, err)
	require.NotEmpty(t, config.Password)
	err = filepath.WalkDir(c.DataDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		if d.Type().IsRegular() && st.Mode().Perm()&0o077 != 0 {
			// A folder on the way that others cannot enter protects it as well.
			require.True(t, protectedAbove(t, c.DataDir, path), "%s has mode %s", path, st.Mode())
		}
		if filepath.Base(path) == "pg_hba.conf" {
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			for line := range strings.Lines(string(b)) {
				if fields := strings.Fields(line); len(fields) > 0 && !strings.HasPrefix(fields[0], "#") {
					require.NotContains(t, fields, "trust", "%s: %s", path, line)
				}
			}
		}
		if strings.HasSuffix(path, ".log") {
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NotContains(t, string(b), config.Password, path)
		}
		return nil
	})
	require.NoError(t, err)
	for _, p := range c.Env.Processes() {
		require.NotContains(t, p.Command, config.Password)
	}
}

// protectedAbove tells whether a folder between root and path keeps everybody but its owner out.
func protectedAbove(t *testing.T, root, path string) bool {
	t.Helper()
	for dir := filepath.Dir(path); strings.HasPrefix(dir, root); dir = filepath.Dir(dir) {
		st, err := os.Stat(dir)
		require.NoError(t, err)
		if st.Mode().Perm()&0o077 == 0 {
			return true
		}
	}
	return false
}
