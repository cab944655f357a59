package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/testenv"
	"github.com/multicoord/multicoord/testenv/fault"
	"github.com/multicoord/multicoord/testenv/workload"
)

func address(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// The roles as processes of their own, as on many hosts: three agents, two members of the control plane, a router,
// and an etcd with TLS and passwords.
func TestThreeHostsWithAnExternalEtcd(t *testing.T) {
	env := testenv.New(t)
	etcd := env.Etcd(testenv.EtcdOptions{TLS: true, Auth: true})
	h := env.Hosts(testenv.HostsOptions{Etcd: etcd, Hosts: []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"}, Edit: func(s *cluster.Spec) {
		one := 1
		s.Groups = append(s.Groups, cluster.Group{ID: 1, Standbys: &one})
	}})
	// The agents may be there before the spec is, and wait for it.
	agents := map[string]*testenv.Process{}
	for _, host := range h.Spec.Hosts {
		agents[host.Name] = h.Agent(host.Name)
	}
	serve := []*testenv.Process{h.Serve(), h.Serve()}
	router := h.Router()
	h.Init()
	h.WaitReady()

	topology := h.Topology()
	addresses := map[string]bool{}
	for _, n := range topology.Group(0).Nodes {
		addresses[n.Address] = true
	}
	require.Len(t, addresses, 3, "each coordinator is on a host of its own")
	require.Len(t, topology.Routers, 1)

	again := h.Orchestrator("init", "-f", h.SpecFile)
	require.Equal(t, 1, again.Code, "a cluster is never overwritten: %s", again)
	twin := h.Agent("host1")
	require.NotZero(t, twin.Wait(30*time.Second), "a second agent for one host is refused")

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	w, err := workload.Start(ctx, workload.Config{Connstr: h.Connstr(), Workers: 2})
	require.NoError(t, err)
	defer w.Stop()
	require.NoError(t, w.Await(ctx, 50))

	// Steps, not subtests: what one of them starts lives on in the next.
	step := func(rule string, do func()) {
		t.Log(rule)
		do()
	}
	step("the control plane goes on when one member is killed", func() {
		serve[0].Kill()
		h.Must("config", "set", "postgresql.parameters.work_mem=9MB", "--wait", "60s")
	})
	step("an agent that is killed and started again takes its servers over", func() {
		primary := topology.Group(0).Nodes[0]
		for _, n := range topology.Group(0).Nodes {
			if n.Name == topology.Group(0).Primary {
				primary = n
			}
		}
		pid := h.Postmaster(primary.Host, primary.Name)
		agents[primary.Host].Kill()
		agents[primary.Host] = h.Agent(primary.Host)
		require.NoError(t, w.Await(ctx, 50))
		h.WaitReady()
		require.Equal(t, pid, h.Postmaster(primary.Host, primary.Name))
	})
	step("a router that is killed and started again serves again", func() {
		router.Kill()
		router = h.Router()
		require.NoError(t, w.Await(ctx, 50))
	})
	step("a host that is brought in gets a group", func() {
		host4 := "host4=127.0.0.5"
		h.Must("nodes", "add", "-n", host4, "--base-port", strconv.Itoa(h.Spec.Hosts[0].BasePort))
		agents["host4"] = h.Agent("host4")
		h.WaitReady()
		require.Len(t, h.Topology().Group(2).Nodes, 1)
	})
	w.Stop()
	require.NoError(t, w.Check(ctx, h.Connstr("--direct")))

	for _, a := range agents {
		require.Zero(t, a.Stop(30*time.Second), a.Tail(20))
	}
	require.Zero(t, router.Stop(30*time.Second), router.Tail(20))
	require.Zero(t, serve[1].Stop(30*time.Second), serve[1].Tail(20))
}

// Shardman's placement: each host runs the primary of one worker group and a standby of its neighbour's.
func TestCrossPlacementOnTwoHosts(t *testing.T) {
	env := testenv.New(t)
	h := env.Hosts(testenv.HostsOptions{Etcd: env.Etcd(testenv.EtcdOptions{}), Hosts: []string{"127.0.0.2", "127.0.0.3"}, Edit: func(s *cluster.Spec) {
		one := 1
		s.Placement = cluster.Placement{Policy: cluster.Cross, Repfactor: &one}
		s.Groups = nil
	}})
	h.Init()
	processes := []*testenv.Process{h.Router(), h.Agent("host1"), h.Agent("host2"), h.Serve()}
	h.WaitReady()
	topology := h.Topology()
	primaries := map[string]string{}
	for _, g := range topology.Groups {
		if g.ID == cluster.CoordinatorGroup {
			continue
		}
		require.Len(t, g.Nodes, 2)
		require.NotEqual(t, g.Nodes[0].Host, g.Nodes[1].Host)
		primaries[topology.Node(g.Primary).Host] = g.Primary
	}
	require.Len(t, primaries, 2, "each host has the primary of one worker group: %+v", topology)
	for _, p := range processes {
		require.Zero(t, p.Stop(30*time.Second), p.Tail(20))
	}
}

// kill -9 of each process during the bootstrap of a cluster on several hosts, etcd included; whoever watches over
// the processes starts them again.
func TestBootstrapOfHostsGoesOnAfterKills(t *testing.T) {
	env := testenv.New(t)
	etcd := env.Etcd(testenv.EtcdOptions{})
	h := env.Hosts(testenv.HostsOptions{Etcd: etcd, Hosts: []string{"127.0.0.2", "127.0.0.3"}})
	serve, router := h.Serve(), h.Router()
	agents := map[string]*testenv.Process{"host1": h.Agent("host1"), "host2": h.Agent("host2")}
	h.Init()
	phases := func() error {
		for _, g := range h.Topology().Groups {
			if g.Phase == "" {
				return errors.New("no group is being made yet")
			}
		}
		return nil
	}
	env.Await(30*time.Second, "the leader has decided", phases)
	serve.Kill()
	etcd.Restart(0)
	serve = h.Serve()
	env.Await(time.Minute, "the primary's agent is at work", func() error {
		if n := h.Topology().Nodes()[0]; n.State == "unknown" {
			return fmt.Errorf("%+v", n)
		}
		return nil
	})
	agents["host1"].Kill()
	agents["host1"] = h.Agent("host1")
	env.Await(time.Minute, "the standby's agent is at work", func() error {
		if n := h.Topology().Nodes()[1]; n.State != cluster.NodeCreating && n.State != cluster.NodeStarting && n.State != cluster.NodeRunning {
			return fmt.Errorf("%+v", n)
		}
		return nil
	})
	agents["host2"].Kill()
	etcd.Restart(0)
	router.Kill()
	agents["host2"], router = h.Agent("host2"), h.Router()
	h.WaitReady()
	env.Psql(h.Connstr(), "-c", "CREATE TABLE there AS SELECT 1 AS x")
	for _, p := range []*testenv.Process{agents["host1"], agents["host2"], router, serve} {
		require.Zero(t, p.Stop(30*time.Second), p.Tail(20))
	}
}

func TestAFrozenAgentLosesItsPrimaryInTime(t *testing.T) {
	env := testenv.New(t)
	etcd := env.Etcd(testenv.EtcdOptions{})
	h := env.Hosts(testenv.HostsOptions{Etcd: etcd, Hosts: []string{"127.0.0.2"}, Edit: func(s *cluster.Spec) {
		s.Failover.TTL = cluster.Duration(3 * time.Second)
	}})
	serve, router, agent := h.Serve(), h.Router(), h.Agent("host1")
	h.Init()
	h.WaitReady()
	pid := h.Postmaster("host1", "coordinator-1")
	agent.Signal(syscall.SIGSTOP)
	env.Until(5*time.Second, "the guard stops the primary", func() error {
		if fault.Alive(pid) {
			return errors.New("it still runs")
		}
		return nil
	})
	agent.Signal(syscall.SIGCONT)
	h.WaitReady()
	require.NotEqual(t, pid, h.Postmaster("host1", "coordinator-1"))
	for _, p := range []*testenv.Process{agent, router, serve} {
		require.Zero(t, p.Stop(30*time.Second), p.Tail(20))
	}
}

// The login at etcd is lost when etcd restarts: everybody has to log in again, with an etcd of any version.
func TestAnEtcdWithPasswordsIsFoundAgainAfterARestart(t *testing.T) {
	env := testenv.New(t)
	etcd := env.Etcd(testenv.EtcdOptions{Auth: true})
	h := env.Hosts(testenv.HostsOptions{Etcd: etcd, Hosts: []string{"127.0.0.2"}})
	serve, router, agent := h.Serve(), h.Router(), h.Agent("host1")
	h.Init()
	h.WaitReady()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w, err := workload.Start(ctx, workload.Config{Connstr: h.Connstr(), Workers: 2})
	require.NoError(t, err)
	defer w.Stop()
	for range 2 {
		// Longer than the right to be primary: without a renewal nothing would be acknowledged at its end.
		require.NoError(t, w.Await(ctx, 50))
		etcd.Restart(0)
		etcd.WaitReady()
		h.Must("config", "set", "failover.ttl=4s", "--wait", "30s")
		h.Must("config", "set", "failover.ttl=5s", "--wait", "30s")
	}
	w.Stop()
	require.NoError(t, w.Check(ctx, h.Connstr("--direct")))
	for _, p := range []*testenv.Process{agent, router, serve} {
		require.Zero(t, p.Stop(30*time.Second), p.Tail(20))
	}
}
