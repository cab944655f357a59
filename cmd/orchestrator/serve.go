package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/multicoord/multicoord/orchestrator/store"
)

func newServeCommand(a *app) *cobra.Command {
	var metrics string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run a member of the control plane",
		Long: `Runs a member of the control plane. Any number may run; one leads, and decides what the
agents do. Nothing in the data path waits for it.`,
		Example: "  orchestrator serve --etcd http://etcd1:2379,http://etcd2:2379,http://etcd3:2379",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			l, err := listenMetrics(ctx, metrics)
			if err != nil {
				return err
			}
			h, err := a.awaitCluster(ctx, false)
			if err != nil {
				return err
			}
			defer h.Close()
			m := newProcessMetrics()
			roles := []role{a.controlRole(h.Store, m)}
			if l != nil {
				roles = append(roles, a.metricsRole(l, m.registry, m.ready))
			}
			return runRoles(ctx, a.log, roles...)
		},
	}
	addMetricsFlag(c.Flags(), &metrics, "127.0.0.1:9631")
	return c
}

// retryEvery is the rest between two attempts to reach a store that is not there yet.
const retryEvery = time.Second

// awaitCluster opens the cluster's state, and waits while nobody answers, and, if asked to, until there is a spec. What
// waiting cannot mend is an error at once.
func (a *app) awaitCluster(ctx context.Context, needSpec bool) (*handle, error) {
	said := ""
	t := time.NewTicker(retryEvery)
	defer t.Stop()
	for {
		h, err := a.openCluster(ctx)
		if err == nil {
			if _, err = h.Spec(); err == nil || !needSpec {
				return h, nil
			}
			h.Close()
		} else if ctx.Err() != nil || !errors.Is(err, store.ErrUnavailable) || len(a.global.Etcd) == 0 {
			return nil, err
		}
		if err.Error() != said {
			said = err.Error()
			a.log.Warn("waiting", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("ended while waiting: %w", err)
		case <-t.C:
		}
	}
}
