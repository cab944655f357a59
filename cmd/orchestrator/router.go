package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
)

type routerOptions struct {
	listen, admin, monitor string
	metrics                string
}

func newRouterCommand(a *app) *cobra.Command {
	var o routerOptions
	c := &cobra.Command{
		Use:   "router",
		Short: "Run a router: one address for all clients",
		Long: `Runs a router, which speaks the PostgreSQL protocol with clients: writes go to the primary
coordinator, reads to the standby coordinators that are fresh enough. Any number may run.`,
		Example: `  orchestrator router --etcd http://etcd1:2379 --key-file /etc/multicoord/cluster.key
  orchestrator router --listen 0.0.0.0:6432`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runRouter(cmd.Context(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.listen, "listen", "", "address of the clients' port (default: router.listen of the spec)")
	f.StringVar(&o.admin, "admin", "", `address of the admin console, or "off" (default: router.admin of the spec)`)
	f.StringVar(&o.monitor, "monitor", "", `loopback address of the plain-text monitor, or "off" (default: router.monitor of the spec)`)
	addMetricsFlag(f, &o.metrics, "127.0.0.1:9633")
	return c
}

func (a *app) runRouter(ctx context.Context, o routerOptions) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	metrics, err := listenMetrics(ctx, o.metrics)
	if err != nil {
		return err
	}
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
	settings := spec.Router
	for _, f := range []struct {
		flag string
		to   *string
	}{{o.listen, &settings.Listen}, {o.admin, &settings.Admin}, {o.monitor, &settings.Monitor}} {
		if f.flag != "" {
			*f.to = f.flag
		}
	}
	l, err := listenRouter(ctx, settings)
	if err != nil {
		return err
	}
	defer l.close()
	reg := prometheus.NewRegistry()
	router, ready, err := a.routerRole(h.Store, secrets, l, reg)
	if err != nil {
		return err
	}
	roles := []role{router}
	if metrics != nil {
		roles = append(roles, a.metricsRole(metrics, reg, ready))
	}
	return runRoles(ctx, a.log, roles...)
}
