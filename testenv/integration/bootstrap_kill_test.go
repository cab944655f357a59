package integration

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/testenv"
	"github.com/multicoord/multicoord/testenv/fault"
)

// victim is what is killed at a point of the bootstrap.
type victim func(t *testing.T, c *testenv.Cluster)

func killUp(_ *testing.T, c *testenv.Cluster) { c.Kill() }

func killServer(node string) victim {
	return func(t *testing.T, c *testenv.Cluster) { t.Helper(); fault.Kill(t, c.Postmaster(node)) }
}

func killGuard(node string) victim {
	return func(t *testing.T, c *testenv.Cluster) { t.Helper(); fault.Kill(t, c.Guard(node)) }
}

func killAll(t *testing.T, c *testenv.Cluster) {
	t.Helper()
	c.Kill()
	for _, p := range c.Env.Processes() {
		fault.Kill(t, p.PID)
	}
}

// Any process may be killed at any moment of the bootstrap: then `up`, and everything is there.
func TestBootstrapGoesOnAfterAKillAt(t *testing.T) {
	exists := func(pattern string) func(*testenv.Cluster) error {
		return func(c *testenv.Cluster) error {
			found, err := filepath.Glob(filepath.Join(c.DataDir, pattern))
			if err == nil && len(found) == 0 {
				err = fmt.Errorf("no %s", pattern)
			}
			return err
		}
	}
	// A server's pid is written before the server listens: wait for its second half too.
	serving := func(node string) func(*testenv.Cluster) error {
		return exists("nodes/" + node + "/data/postmaster.pid")
	}
	listening := func(c *testenv.Cluster) error {
		conn, err := net.Dial("tcp", c.Spec.Router.Listen)
		if err == nil {
			conn.Close()
		}
		return err
	}
	for _, tt := range []struct {
		point string
		when  func(*testenv.Cluster) error
		kill  victim
	}{
		{"the folder is taken", exists("lock"), killUp},
		{"etcd is being made", exists("etcd"), killUp},
		{"the key is there", exists("cluster.key"), killUp},
		{"the spec is stored", exists("multicoord.json"), killUp},
		{"a node has its marker", exists("nodes/*/marker.json"), killUp},
		{"initdb is under way", exists("nodes/coordinator-1/data.partial"), killAll},
		{"a data directory is complete", exists("nodes/coordinator-1/data"), killUp},
		{"the primary is starting, server", serving("coordinator-1"), killServer("coordinator-1")},
		{"the primary is starting, guard", serving("coordinator-1"), killGuard("coordinator-1")},
		{"the primary is starting, orchestrator", serving("coordinator-1"), killUp},
		{"the base backup is under way", exists("nodes/coordinator-2/data.partial"), killUp},
		{"the base backup is under way, its source", exists("nodes/coordinator-2/data.partial"), killServer("coordinator-1")},
		{"the standby is starting", serving("coordinator-2"), killServer("coordinator-2")},
		{"the router listens", listening, killAll},
	} {
		t.Run(tt.point, func(t *testing.T) {
			t.Parallel()
			env := testenv.New(t)
			c := env.Cluster(testenv.ClusterOptions{Standbys: 1, Workers: []int{0}})
			c.Start()
			env.Await(time.Minute, tt.point, func() error {
				if !c.Process().Running() {
					return errors.New("`orchestrator up` has ended: " + c.Process().Tail(10))
				}
				return tt.when(c)
			})
			tt.kill(t, c)
			if !c.Process().Running() {
				c.Start()
			}
			c.WaitReady()
			require.Len(t, c.Topology().Nodes(), 3)
			env.Psql(c.Connstr(), "-c", "CREATE TABLE there AS SELECT 1 AS x")
			env.Until(10*time.Second, "the standby has the table", func() error {
				return c.Env.TryPsql(c.Connstr("--read-only"), "SELECT x FROM there")
			})
			c.Stop()
		})
	}
}
