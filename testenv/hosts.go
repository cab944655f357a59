package testenv

import (
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// HostsOptions says what a cluster of several hosts looks like, each role in a process of its own.
type HostsOptions struct {
	Name string
	Etcd *Etcd
	// Hosts are loopback addresses; host i is called "host<i+1>".
	Hosts []string
	// Edit places the groups; without it group 0 has a node on each host and there are no workers.
	Edit func(*cluster.Spec)
}

// Hosts is a cluster of several hosts on loopback addresses of this machine. Nothing is started by making one.
type Hosts struct {
	Commands
	Etcd     *Etcd
	Spec     cluster.Spec
	SpecFile string
	KeyFile  string

	pgBin string
}

// Hosts prepares a cluster of several hosts.
func (e *Env) Hosts(o HostsOptions) *Hosts {
	e.TB.Helper()
	if o.Name == "" {
		o.Name = "test"
	}
	listen, base := e.Block(3), e.Block(portsPerHost)
	address := func(i int) string { return net.JoinHostPort(o.Hosts[0], strconv.Itoa(listen+i)) }
	standbys := len(o.Hosts) - 1
	spec := cluster.Spec{
		Name: o.Name, Placement: cluster.Placement{Policy: cluster.Manual},
		Groups: []cluster.Group{{ID: cluster.CoordinatorGroup, Standbys: &standbys}},
		// The monitor is for loopback addresses; all of ours are.
		Router: cluster.Router{Listen: address(0), Admin: address(1), Monitor: address(2)},
	}
	for i, a := range o.Hosts {
		spec.Hosts = append(spec.Hosts, cluster.Host{Name: "host" + strconv.Itoa(i+1), Address: a, BasePort: base})
	}
	if o.Edit != nil {
		o.Edit(&spec)
	}
	h := &Hosts{
		Etcd: o.Etcd, Spec: spec, SpecFile: e.WriteSpec(o.Name+".yaml", spec), KeyFile: e.Path(o.Name + ".key"), pgBin: e.PGBin(),
	}
	h.Commands = Commands{Env: e, binary: e.Binary(), environ: append(o.Etcd.environ(),
		"ORCHESTRATOR_CLUSTER="+o.Name, "ORCHESTRATOR_KEY_FILE="+h.KeyFile, "ORCHESTRATOR_DATA_DIR="+e.Path("operator"),
		"ORCHESTRATOR_METRICS=off", "ORCHESTRATOR_PG_BIN="+h.pgBin)}
	return h
}

// In is the cluster for a subtest, see Env.In.
func (h *Hosts) In(tb testing.TB) *Hosts {
	sub := *h
	sub.Env = h.Env.In(tb)
	return &sub
}

// environ is what the orchestrator's commands need to reach this etcd.
func (d *Etcd) environ() []string {
	env := []string{"ORCHESTRATOR_ETCD=" + strings.Join(d.Endpoints, ",")}
	if d.CA != "" {
		env = append(env, "ORCHESTRATOR_ETCD_CA="+d.CA, "ORCHESTRATOR_ETCD_CERT="+d.Cert, "ORCHESTRATOR_ETCD_KEY="+d.Key)
	}
	if d.User != "" {
		env = append(env, "ORCHESTRATOR_ETCD_USER="+d.User,
			"ORCHESTRATOR_ETCD_PASSWORD_FILE="+d.env.WriteFile("etcd.password", d.Password+"\n", 0o600))
	}
	return env
}

// Init stores the spec.
func (h *Hosts) Init() {
	h.Env.TB.Helper()
	h.Must("init", "-f", h.SpecFile)
}

// Serve starts a member of the control plane.
func (h *Hosts) Serve() *Process {
	h.Env.TB.Helper()
	return h.start("serve", nil)
}

// Agent starts the agent of a host, with a data folder of the host's own.
func (h *Hosts) Agent(host string, args ...string) *Process {
	h.Env.TB.Helper()
	return h.start("agent", []string{"ORCHESTRATOR_DATA_DIR=" + h.DataDir(host)}, append([]string{"--name", host}, args...)...)
}

// Router starts a router.
func (h *Hosts) Router(args ...string) *Process {
	h.Env.TB.Helper()
	return h.start("router", nil, args...)
}

func (h *Hosts) start(role string, env []string, args ...string) *Process {
	h.Env.TB.Helper()
	c := h.command(append([]string{role}, args...)...)
	c.Env = append(append([]string{}, c.Env...), env...)
	if role == "agent" {
		c.Name += "-" + args[1]
	}
	return h.Env.Start(c)
}

// DataDir is a host's data folder.
func (h *Hosts) DataDir(host string) string { return h.Env.Path(host) }

// NodeDir is a node's folder on a host.
func (h *Hosts) NodeDir(host, node string) string {
	return filepath.Join(h.DataDir(host), "nodes", node)
}

// Postmaster is the pid of a node's server.
func (h *Hosts) Postmaster(host, node string) int {
	h.Env.TB.Helper()
	pid, err := postmaster(h.NodeDir(host, node))
	if err != nil {
		h.Env.TB.Fatal(err)
	}
	return pid
}

// WaitReady waits until every node runs in its role, each standby streams, and the router answers.
func (h *Hosts) WaitReady() {
	h.Env.TB.Helper()
	if err := poll(readyWithin, 100*time.Millisecond, h.Ready); err != nil {
		h.Env.TB.Fatalf("the cluster is not ready within %s: %v", readyWithin, err)
	}
}
