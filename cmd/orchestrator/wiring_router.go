package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/secret"
	"github.com/multicoord/multicoord/orchestrator/store"
)

// routerListeners are a router's addresses, taken before it runs.
type routerListeners struct {
	clients, admin, monitor net.Listener
}

func (l routerListeners) close() {
	for _, ln := range []net.Listener{l.clients, l.admin, l.monitor} {
		if ln != nil {
			_ = ln.Close() // it may be closed already
		}
	}
}

// listenRouter takes the addresses of the spec.
func listenRouter(ctx context.Context, s cluster.Router) (l routerListeners, err error) {
	defer func() {
		if err != nil {
			l.close()
			l = routerListeners{}
		}
	}()
	for _, p := range []struct {
		to               *net.Listener
		what, key, value string
	}{
		{&l.clients, "the router", "listen", s.Listen},
		{&l.admin, "the admin console", "admin", s.Admin},
		{&l.monitor, "the monitor", "monitor", s.Monitor},
	} {
		if p.value == cluster.Off {
			continue
		}
		*p.to, err = listen(ctx, p.what, p.value, fmt.Sprintf("change router.%s in the spec", p.key))
		if err != nil {
			return l, err
		}
	}
	if l.clients == nil {
		return l, errors.New("router.listen is off: a router needs an address")
	}
	return l, nil
}

func (a *app) routerRole(st store.Store, s secret.Secrets, l routerListeners, reg prometheus.Registerer) (role, func() error) {
	return role{"router", func(ctx context.Context) error { <-ctx.Done(); return nil }}, func() error { return nil }
}
