package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/multicoord/multicoord/coordinator/console"
	"github.com/multicoord/multicoord/coordinator/route"
	"github.com/multicoord/multicoord/coordinator/router"
	"github.com/multicoord/multicoord/coordinator/wire"
	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/secret"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store"
)

// routerListeners are a router's addresses, taken before it runs.
type routerListeners struct {
	clients, admin, monitor net.Listener
	tls                     *tls.Config
}

func (l routerListeners) close() {
	for _, ln := range []net.Listener{l.clients, l.admin, l.monitor} {
		if ln != nil {
			_ = ln.Close() // it may be closed already
		}
	}
}

// listenRouter takes the addresses of the spec and reads its certificate.
func listenRouter(ctx context.Context, s cluster.Router) (l routerListeners, err error) {
	defer func() {
		if err != nil {
			l.close()
			l = routerListeners{}
		}
	}()
	if s.TLSCert != "" {
		cert, err := tls.LoadX509KeyPair(s.TLSCert, s.TLSKey)
		if err != nil {
			return l, fmt.Errorf("read the router's certificate (router.tls_cert, router.tls_key): %w", err)
		}
		l.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
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

// routerPart is a router with its console and its monitor.
type routerPart struct {
	a         *app
	id        string
	listeners routerListeners
	router    *router.Router
	snapshot  atomic.Pointer[cluster.Snapshot]
	verifier  wire.Verifier
	reload    chan chan struct{}
}

// routerRole makes a router. ready tells what keeps it from serving.
func (a *app) routerRole(st store.Store, s secret.Secrets, l routerListeners, reg prometheus.Registerer) (role, func() error, error) {
	// The console is the superuser's alone: it needs no server to know who that is.
	v, err := wire.NewVerifier(s.Superuser, 4096)
	if err != nil {
		return role{}, nil, fmt.Errorf("make the console's verifier: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	topologies := make(chan router.Topology)
	p := &routerPart{
		a: a, listeners: l, verifier: v, id: host + "-" + strconv.Itoa(portOf(l.clients)), reload: make(chan chan struct{}),
		router: router.New(router.Config{
			Log: a.log.With("part", "router"), Listeners: []net.Listener{l.clients}, User: secret.RouterRole, Password: s.Router,
			Topologies: topologies, Registerer: reg, TLS: l.tls,
		}),
	}
	return role{"router", func(ctx context.Context) error { return p.run(ctx, st, topologies) }}, p.router.Ready, nil
}

func portOf(l net.Listener) int {
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

// run serves until ctx ends.
func (p *routerPart) run(ctx context.Context, st store.Store, topologies chan<- router.Topology) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.router.Run(ctx) })
	g.Go(func() error { return p.follow(ctx, st, topologies) })
	g.Go(func() error { return p.announce(ctx, st) })
	if p.listeners.admin != nil {
		g.Go(func() error {
			return console.Serve(ctx, p.listeners.admin, console.Config{
				Log: p.a.log.With("part", "console"), Source: p, Version: p.a.version, TLS: p.listeners.tls, Reload: p.doReload,
				Verifier: func(user string) (wire.Verifier, bool) { return p.verifier, user == secret.SuperuserRole },
			})
		})
	}
	if p.listeners.monitor != nil {
		g.Go(func() error {
			return console.ServeMonitor(ctx, p.listeners.monitor, console.MonitorConfig{Log: p.a.log.With("part", "monitor"), Source: p})
		})
	}
	return g.Wait()
}

// follow hands every agreed state on to the router.
func (p *routerPart) follow(ctx context.Context, st store.Store, topologies chan<- router.Topology) error {
	snaps := state.Watch(ctx, st, p.a.log)
	var last router.Topology
	for {
		var loaded chan struct{}
		select {
		case <-ctx.Done():
			return nil
		case snap, ok := <-snaps:
			if !ok {
				return nil
			}
			p.snapshot.Store(&snap)
		case loaded = <-p.reload:
			if v, err := state.Load(ctx, st); err == nil {
				p.snapshot.Store(&v.Snapshot)
			}
		}
		snap := p.snapshot.Load()
		if snap != nil && snap.Spec != nil {
			if t := routerTopology(*snap); !sameTopology(t, last) || loaded != nil {
				select {
				case topologies <- t:
					last = t
				case <-ctx.Done():
					return nil
				}
			}
		}
		if loaded != nil {
			close(loaded)
		}
	}
}

// doReload reads the agreed state again and hands it to the router.
func (p *routerPart) doReload(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case p.reload <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// routerTopology is what a router needs of the agreed state.
func routerTopology(snap cluster.Snapshot) router.Topology {
	t := router.Topology{Settings: snap.Spec.Router, Database: "postgres"}
	g, _ := snap.Spec.GroupOf(cluster.CoordinatorGroup)
	agreed := snap.Groups[cluster.CoordinatorGroup]
	for _, n := range g.Nodes {
		h, _ := snap.Spec.HostOf(n.Host)
		m := route.Member{Name: n.Name, Address: net.JoinHostPort(h.Address, strconv.Itoa(n.Port)), Role: cluster.Standby, Term: agreed.Term}
		if n.Name == agreed.Primary {
			m.Role = cluster.Primary
		}
		t.Members = append(t.Members, m)
	}
	return t
}

func sameTopology(a, b router.Topology) bool {
	return slices.Equal(a.Members, b.Members) && reflect.DeepEqual(a.Settings, b.Settings) && a.Database == b.Database
}

// announce keeps the router's presence in the agreed state. The router serves on without it.
func (p *routerPart) announce(ctx context.Context, st store.Store) error {
	status := cluster.RouterStatus{ID: p.id, Listen: p.listeners.clients.Addr().String(), Version: p.a.version, PID: os.Getpid(), Machine: machine(), At: time.Now()}
	if p.listeners.admin != nil {
		status.Admin = p.listeners.admin.Addr().String()
	}
	value, err := state.Encode(status)
	if err != nil {
		return err
	}
	for {
		ss, err := p.a.openSession(ctx, st, state.Router(p.id), value)
		if err == nil {
			<-ctx.Done()
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if err := ss.Close(closing); err != nil {
				p.a.log.Debug("presence not withdrawn; it runs out by itself", "err", err)
			}
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		p.a.log.Warn("the router is not listed among the routers", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(presenceTTL):
		}
	}
}

// Snapshot implements console.Source.
func (p *routerPart) Snapshot() cluster.Snapshot {
	if s := p.snapshot.Load(); s != nil {
		return *s
	}
	return cluster.Snapshot{}
}

// Router implements console.Source.
func (p *routerPart) Router() console.View {
	v := viewOf(p.id, p.router.Stats())
	v.Route = func(ctx context.Context, sql string) ([]console.Routed, error) {
		routed, err := p.router.Explain(ctx, sql)
		out := make([]console.Routed, len(routed))
		for i, r := range routed {
			out[i] = console.Routed(r)
		}
		return out, err
	}
	return v
}
