package testenv

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// ClusterOptions says what a cluster of one machine, run by `orchestrator up`, looks like.
type ClusterOptions struct {
	// Name is the cluster's (default "main", as that of a cluster without a file); several in one Env need
	// different ones.
	Name string
	// Standbys is the number of standby coordinators, Workers the number of standbys of each worker group.
	Standbys int
	Workers  []int
	// Edit changes the spec before it is written to the file.
	Edit func(*cluster.Spec)
	// Env is added to the environment of all commands.
	Env []string
	// As is the user who runs the commands, nil for the test's own. The data folder is that user's.
	As *syscall.Credential
}

// Cluster is a cluster that `orchestrator up` runs in a folder of the Env. Nothing is started by making one.
type Cluster struct {
	Commands
	// Spec is what the file holds: short, on ports that are reserved for this test.
	Spec     cluster.Spec
	SpecFile string
	DataDir  string
	// Metrics is the address of the process's metrics.
	Metrics string

	up *Process
}

// DefaultCluster is the shape that `up` has without a file.
func DefaultCluster() ClusterOptions { return ClusterOptions{Standbys: 2, Workers: []int{0, 0}} }

// portsPerHost are reserved for a host's servers, with room for standbys that are added.
const portsPerHost = 12

// Cluster prepares a cluster: ports, folder, spec.
func (e *Env) Cluster(o ClusterOptions) *Cluster {
	e.TB.Helper()
	if o.Name == "" {
		o.Name = "main"
	}
	listen, base := e.Block(4), e.Block(portsPerHost)
	address := func(i int) string { return "127.0.0.1:" + strconv.Itoa(listen+i) }
	spec := cluster.Spec{
		Name:      o.Name,
		Hosts:     []cluster.Host{{Name: "local", Address: "127.0.0.1", BasePort: base}},
		Placement: cluster.Placement{Policy: cluster.Manual},
		Groups:    []cluster.Group{{ID: cluster.CoordinatorGroup, Standbys: &o.Standbys}},
		Router:    cluster.Router{Listen: address(0), Admin: address(1), Monitor: address(2)},
	}
	for i, standbys := range o.Workers {
		spec.Groups = append(spec.Groups, cluster.Group{ID: i + 1, Standbys: &standbys})
	}
	if o.Edit != nil {
		o.Edit(&spec)
	}
	c := &Cluster{
		Spec: spec, SpecFile: e.WriteSpec(o.Name+".yaml", spec), DataDir: e.Path(o.Name), Metrics: address(3),
	}
	c.Commands = Commands{Env: e, as: o.As, binary: e.Binary(), environ: append([]string{
		"ORCHESTRATOR_DATA_DIR=" + c.DataDir, "ORCHESTRATOR_METRICS=" + c.Metrics, "ORCHESTRATOR_PG_BIN=" + e.PGBin(),
	}, o.Env...)}
	if o.As != nil {
		e.Mkdir(o.Name, 0o711, o.As)
		c.binary = e.copyBinary() // the module may lie where that user cannot go
	}
	// Servers outlive a killed `up` on purpose; what a test leaves in that state is stopped in order.
	e.TB.Cleanup(func() {
		if len(e.Processes()) > 0 {
			if r := c.Orchestrator("down"); r.Code != 0 {
				e.TB.Logf("stop what is left: %s", r)
			}
		}
	})
	return c
}

// WriteSpec writes a spec into the Env's folder, as JSON, which is YAML.
func (e *Env) WriteSpec(name string, spec cluster.Spec) string {
	e.TB.Helper()
	b, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		e.TB.Fatal(err)
	}
	return e.WriteFile(name, string(b)+"\n", 0o644)
}

// In is the cluster for a subtest, see Env.In.
func (c *Cluster) In(tb testing.TB) *Cluster {
	sub := *c
	sub.Env = c.Env.In(tb)
	return &sub
}

// Start starts `orchestrator up -f` in the foreground of a process of its own, and does not wait.
func (c *Cluster) Start(args ...string) *Process {
	c.Env.TB.Helper()
	cmd := c.command(append([]string{"up", "-f", c.SpecFile}, args...)...)
	cmd.StopSignal = syscall.SIGINT // Ctrl-C
	c.up = c.Env.Start(cmd)
	return c.up
}

// readyWithin is how long a cluster may take: a bound for tests on busy machines, not the promise of the product.
const readyWithin = 90 * time.Second

// Up starts the cluster and waits until every node of the spec runs and the router answers. It tells how long
// that took.
func (c *Cluster) Up(args ...string) time.Duration {
	c.Env.TB.Helper()
	began := time.Now()
	c.Start(args...)
	c.WaitReady()
	return time.Since(began)
}

// Down runs `orchestrator down` and requires that it ends well and leaves nothing running.
func (c *Cluster) Down() Result {
	c.Env.TB.Helper()
	r := c.Orchestrator("down")
	if r.Code != 0 {
		c.Env.TB.Fatal(r)
	}
	if left := c.Env.Processes(); len(left) > 0 {
		c.Env.TB.Fatalf("`orchestrator down` has left %v", left)
	}
	return r
}

// Detach runs `orchestrator up --detach` and waits for the cluster as WaitReady does.
func (c *Cluster) Detach(args ...string) Result {
	c.Env.TB.Helper()
	c.up = nil
	r := c.Orchestrator(append([]string{"up", "--detach"}, args...)...)
	if r.Code != 0 {
		c.Env.TB.Fatal(r)
	}
	c.WaitReady()
	return r
}

// Process is the process of `up` that was started last in the foreground; nil for a detached one.
func (c *Cluster) Process() *Process { return c.up }

// WaitReady waits until every node runs in its role, each standby streams, and the router answers.
func (c *Cluster) WaitReady() {
	c.Env.TB.Helper()
	if err := poll(readyWithin, 100*time.Millisecond, c.ready); err != nil {
		if c.up != nil && !c.up.Running() {
			c.Env.TB.Fatalf("`orchestrator up` has ended with exit code %d:\n%s", c.up.Wait(time.Second), c.up.Tail(40))
		}
		c.Env.TB.Fatalf("the cluster is not ready within %s: %v", readyWithin, err)
	}
}

func (c *Cluster) ready() error {
	if c.up != nil && !c.up.Running() {
		return hopeless{errors.New("`orchestrator up` has ended")}
	}
	// Until it says so itself, an interrupt is one of an unfinished start, which is a failure.
	if c.up != nil && !strings.Contains(c.up.Output(), "is up:") {
		return errors.New("`orchestrator up` does not say that the cluster is up")
	}
	return c.Ready()
}

// Kill sends SIGKILL to the process of `up` alone: its servers run on.
func (c *Cluster) Kill() {
	c.Env.TB.Helper()
	c.up.Kill()
}

// Stop ends `up` as Ctrl-C does and requires that it ends well and leaves nothing running.
func (c *Cluster) Stop() time.Duration {
	c.Env.TB.Helper()
	began := time.Now()
	if code := c.up.Stop(commandWithin); code != 0 {
		c.Env.TB.Fatalf("`orchestrator up` ended with exit code %d:\n%s", code, c.up.Tail(40))
	}
	if left := c.Env.Processes(); len(left) > 0 {
		c.Env.TB.Fatalf("`orchestrator up` has ended and left %v", left)
	}
	return time.Since(began)
}

// NodeDir is a node's folder.
func (c *Cluster) NodeDir(node string) string { return filepath.Join(c.DataDir, "nodes", node) }

// Postmaster is the pid of a node's server.
func (c *Cluster) Postmaster(node string) int {
	c.Env.TB.Helper()
	// PostgreSQL makes its pid file first and writes it then: an empty one is about to be filled.
	var pid int
	c.Env.Await(10*time.Second, "the pid of "+node, func() error {
		var err error
		pid, err = postmaster(c.NodeDir(node))
		if errors.Is(err, os.ErrNotExist) {
			return hopeless{err}
		}
		return err
	})
	return pid
}

func postmaster(nodeDir string) (int, error) {
	b, err := os.ReadFile(filepath.Join(nodeDir, "data", "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(b), "\n")
	return strconv.Atoi(strings.TrimSpace(first))
}

// Guard is the pid of a node's guard: the parent of its server.
func (c *Cluster) Guard(node string) int {
	c.Env.TB.Helper()
	f, ok := Stat(c.Postmaster(node))
	if !ok || f.PPID <= 1 {
		c.Env.TB.Fatalf("the server of %s has no guard: %v", node, f)
	}
	return f.PPID
}
