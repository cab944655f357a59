package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

type agentOptions struct {
	name    string
	metrics string
	onExit  choice
	servers serverOptions
}

func newAgentCommand(a *app) *cobra.Command {
	o := agentOptions{onExit: choice{"stop", []string{"stop", "leave"}}}
	c := &cobra.Command{
		Use:   "agent --name HOST",
		Short: "Keep the PostgreSQL servers of a host",
		Long: `Keeps the PostgreSQL servers that the spec places on a host. One agent runs on each host.

When it ends it stops its servers. With --on-exit leave they run on, and an agent that is
started again before the primaries' right has run out (failover.ttl) takes them over: that is
how the agent is upgraded. An agent that was killed leaves them running, too.`,
		Example: "  orchestrator agent --name host1 --etcd http://etcd1:2379 --key-file /etc/multicoord/cluster.key",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.runAgent(cmd.Context(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.name, "name", "", "the host's name in the spec (default: this machine's host name)")
	choiceVar(c, f, &o.onExit, "on-exit", "", "what happens to the servers when the agent ends")
	addMetricsFlag(f, &o.metrics, "127.0.0.1:9632")
	addServerFlags(f, &o.servers)
	return c
}

func (a *app) runAgent(ctx context.Context, o agentOptions) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if o.name == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find this machine's host name (or give --name): %w", err)
		}
		o.name = name
	}
	if _, err := cluster.ParseHost(o.name); err != nil || strings.Contains(o.name, "=") {
		return usagef("--name %q: a host's name is 1 to 63 of a-z, 0-9, '-' and '.', as in the spec", o.name)
	}
	l, err := listenMetrics(ctx, o.metrics)
	if err != nil {
		return err
	}
	dir, err := a.dataDir()
	if err != nil {
		return err
	}
	if err := a.makeDataDir(dir); err != nil {
		return err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer lock.release()
	h, err := a.awaitCluster(ctx, true)
	if err != nil {
		return err
	}
	defer h.Close()
	spec, err := h.Spec()
	if err != nil {
		return err
	}
	secrets, err := h.Secrets()
	if err != nil {
		return err
	}
	w, err := a.serversHere(ctx, o.servers, spec.PostgreSQL.Version)
	if err != nil {
		return err
	}
	if _, ok := spec.HostOf(o.name); !ok {
		a.log.Warn("the spec does not list this host; the agent waits until it does", "host", o.name, "remedy", "orchestrator nodes add -n "+o.name)
	}
	if err := writePassfile(dir, secrets); err != nil {
		return err
	}
	m := newProcessMetrics()
	roles := []role{a.agentRole(h.Store, o.name, w.of(spec, secrets), o.onExit.value == "leave", m)}
	if l != nil {
		roles = append(roles, a.metricsRole(l, m.registry, m.ready))
	}
	err = runRoles(ctx, a.log, roles...)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
