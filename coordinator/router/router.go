package router

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/multicoord/multicoord/coordinator/pool"
	"github.com/multicoord/multicoord/coordinator/route"
	"github.com/multicoord/multicoord/coordinator/statement"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// Config says what a router works with. Log, Listeners, Password and Topologies must be set.
type Config struct {
	Log *slog.Logger
	// Listeners accept the clients; Run closes them.
	Listeners []net.Listener
	// User (default multicoord_router) and Password are the router's own login on the coordinators: for verifiers,
	// samples and the volatility of functions, never for clients.
	User, Password string
	// Topologies brings what the control plane has agreed; the first one is needed before anything can be served.
	Topologies <-chan Topology
	// Registerer takes the router's metrics; nil for none.
	Registerer prometheus.Registerer
	// TLS accepts encrypted clients; nil declines them. ServerTLS is used towards the coordinators.
	TLS, ServerTLS *tls.Config
	// Grace is how long running transactions may go on after the end of Run's context (default 10 s).
	Grace time.Duration
	// CacheBytes bounds the cache of analysed texts (default 32 MiB).
	CacheBytes int
}

// Topology is what the control plane has agreed about the coordinators.
type Topology struct {
	Members  []route.Member
	Settings cluster.Router
	// Database is the one that the router's own connections use (default postgres).
	Database string
}

// view is what a statement's route depends on. It is immutable and swapped whole.
type view struct {
	table    *route.Table
	settings cluster.Router
	// changed is closed when another view takes its place.
	changed chan struct{}
}

// Router routes. New makes one, Run runs it once.
type Router struct {
	cfg       Config
	log       *slog.Logger
	view      atomic.Pointer[view]
	viewMu    sync.Mutex
	pools     *pool.Pools
	cache     *statement.Cache
	library   *library
	catalogs  *catalogs
	roles     *roles
	welcomes  *welcomes
	sampler   *sampler
	metrics   metrics
	inFlight  func(string) int
	scratches sync.Pool
	mock      [32]byte // what verifiers of unknown users are made from

	// ctx is for work on behalf of sessions; it outlives Run's during the drain.
	ctx      context.Context
	sessions sessions
	draining atomic.Bool
	hurry    atomic.Bool // the grace period is over
	diverted atomic.Int64
	started  time.Time
}

// New makes a router. It does not listen or connect before Run.
func New(cfg Config) *Router {
	if cfg.User == "" {
		cfg.User = "multicoord_router"
	}
	if cfg.Grace <= 0 {
		cfg.Grace = 10 * time.Second
	}
	if cfg.CacheBytes <= 0 {
		cfg.CacheBytes = 32 << 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Router{cfg: cfg, log: cfg.Log, cache: statement.NewCache(cfg.CacheBytes), library: newLibrary(), started: time.Now()}
	r.metrics.init()
	r.pools = pool.New(pool.Config{Log: cfg.Log, TLS: cfg.ServerTLS, Waited: r.metrics.waited, Stale: r.stale}, limitsOf(cluster.Router{}))
	r.inFlight = r.pools.InFlight
	r.scratches.New = func() any { return new(scratch) }
	r.sampler = newSampler(r)
	r.catalogs = newCatalogs(r)
	r.roles = newRoles(r)
	r.welcomes = newWelcomes()
	r.sessions.m, r.sessions.users = make(map[uint32]*session), make(map[string]int)
	r.sessions.early = make(map[net.Conn]struct{})
	_, _ = rand.Read(r.mock[:])
	r.view.Store(&view{
		table: &route.Table{PrimaryReason: "the router has not heard of any coordinator yet"}, settings: defaults(cluster.Router{}),
		changed: make(chan struct{}),
	})
	return r
}

// defaults fills in what a settings document left out, with the values that the spec documents.
func defaults(s cluster.Router) cluster.Router {
	if s.MaxClients <= 0 {
		s.MaxClients = 1000
	}
	if s.PoolSize <= 0 {
		s.PoolSize = 20
	}
	if s.ServerIdle <= 0 {
		s.ServerIdle = cluster.Duration(10 * time.Minute)
	}
	if s.WaitTimeout <= 0 {
		s.WaitTimeout = cluster.Duration(30 * time.Second)
	}
	if s.Reads.Consistency == "" {
		s.Reads.Consistency = cluster.Session
	}
	if s.Reads.Fallback == "" {
		s.Reads.Fallback = cluster.FallbackPrimary
	}
	if s.Reads.Check <= 0 {
		s.Reads.Check = cluster.Duration(200 * time.Millisecond)
	}
	if s.Reads.PrimaryShare <= 0 {
		s.Reads.PrimaryShare = 100
	}
	return s
}

func limitsOf(s cluster.Router) pool.Limits {
	s = defaults(s)
	return pool.Limits{Size: s.PoolSize, Idle: s.ServerIdle.D()}
}

// swap replaces the view and wakes up who waits for a change.
func (r *Router) swap(f func(v *view)) {
	r.viewMu.Lock()
	defer r.viewMu.Unlock()
	old := r.view.Load()
	next := *old
	next.changed = make(chan struct{})
	f(&next)
	r.view.Store(&next)
	close(old.changed)
}

// Run serves clients until ctx ends; then it drains: it stops accepting, idle clients are told goodbye (57P01), and
// running transactions get the grace period.
func (r *Router) Run(ctx context.Context) error {
	if r.cfg.Registerer != nil {
		c := &collector{r: r}
		if err := r.cfg.Registerer.Register(c); err != nil {
			return fmt.Errorf("register the router's metrics: %w", err)
		}
		defer r.cfg.Registerer.Unregister(c)
	}
	own, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	r.ctx = own
	var background errgroup.Group
	for _, run := range []func(context.Context) error{r.pools.Run, r.sampler.run, r.catalogs.run, r.watchClients} {
		background.Go(func() error { return run(own) })
	}
	err := r.accept(ctx)
	r.drain(stop)
	stop()
	r.roles.close()
	return errors.Join(err, background.Wait())
}

// accept serves until ctx ends or a listener breaks.
func (r *Router) accept(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range r.cfg.Listeners {
		stop := context.AfterFunc(ctx, func() { _ = l.Close() })
		g.Go(func() error {
			defer stop()
			defer func() { _ = l.Close() }()
			return r.listen(ctx, l)
		})
	}
	g.Go(func() error {
		<-ctx.Done()
		return nil
	})
	return g.Wait()
}

func (r *Router) listen(ctx context.Context, l net.Listener) error {
	pause := 5 * time.Millisecond
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("listen on %s: %w", l.Addr(), err)
		case err != nil: // out of descriptors, mostly: others will be closed
			r.log.Warn("a client could not be accepted", "listen", l.Addr().String(), "err", err)
			t := time.NewTimer(pause)
			select {
			case <-ctx.Done():
			case <-t.C:
			}
			t.Stop()
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		r.sessions.wg.Add(1)
		go func() {
			defer r.sessions.wg.Done()
			r.client(conn)
		}()
	}
}

// After the grace period servers have hurryTime to take note of the cancels; then the connections to them are given up,
// so that a server that hangs cannot keep the router from ending. Every cutEvery this is done again, for what a session
// had just begun.
const (
	hurryTime = 3 * time.Second
	cutEvery  = 100 * time.Millisecond
)

// drain ends all sessions: the idle ones at once, the others when their transaction is over or the grace period is.
// giveUp ends what is done on behalf of sessions (look-ups, new connections).
func (r *Router) drain(giveUp func()) {
	r.draining.Store(true)
	r.sessions.each(func(s *session) { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.sessions.wg.Wait()
	}()
	t := time.NewTimer(r.cfg.Grace)
	defer t.Stop()
	select {
	case <-done:
		return
	case <-t.C:
	}
	r.hurry.Store(true)
	n := 0
	var leaving sync.WaitGroup
	r.sessions.each(func(s *session) {
		n++
		leaving.Go(s.leave)
	})
	r.log.Warn("transactions were still running at the end of the grace period; they were cancelled", "clients", n)
	t.Reset(hurryTime)
	select {
	case <-done:
	case <-t.C:
		giveUp()
		r.sessions.shutDoor()
		r.cutAll(done)
	}
	leaving.Wait()
}

func (r *Router) cutAll(done <-chan struct{}) {
	tick := time.NewTicker(cutEvery)
	defer tick.Stop()
	for {
		r.sessions.each((*session).cut)
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}

// Ready tells why the router cannot serve writes or reads; nil when it can.
func (r *Router) Ready() error {
	t := r.view.Load().table
	if t.Primary != nil {
		return nil
	}
	for i := range t.Standbys {
		if t.Standbys[i].Eligible {
			return nil
		}
	}
	return fmt.Errorf("no coordinator can serve statements: %s", t.PrimaryReason)
}
