package router

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/multicoord/multicoord/coordinator/pool"
	"github.com/multicoord/multicoord/coordinator/route"
	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/sql"
)

// sampler asks each coordinator for its role and position, on connections of its own, and publishes what follows from
// it. One goroutine owns the tracker; one per coordinator asks.
type sampler struct {
	r        *Router
	samples  chan route.Sample
	wakes    atomic.Pointer[[]chan struct{}] // of the probes
	hastened atomic.Int64                    // when it was last asked to hurry, in ns since started
	database atomic.Pointer[string]
}

// breather is the least time between two samples of a server, however much somebody would like one.
const breather = 10 * time.Millisecond

func newSampler(r *Router) *sampler {
	s := &sampler{r: r, samples: make(chan route.Sample, 16)}
	db := "postgres"
	s.database.Store(&db)
	return s
}

// ownDatabase is where the router's own connections go.
func (r *Router) ownDatabase() string { return *r.sampler.database.Load() }

// hasten asks for samples before their time: somebody reads from the primary only because it is not known yet how far
// the standbys are.
func (p *sampler) hasten() {
	now := int64(time.Since(p.r.started))
	last := p.hastened.Load()
	if now-last < int64(breather) || !p.hastened.CompareAndSwap(last, now) {
		return
	}
	if wakes := p.wakes.Load(); wakes != nil {
		for _, w := range *wakes {
			select {
			case w <- struct{}{}:
			default:
			}
		}
	}
}

// probe is the goroutine that asks one coordinator.
type probe struct {
	member route.Member
	wake   chan struct{}
	stop   context.CancelFunc
	heard  time.Time // when the server has last answered, be it with an error
}

// silence is how long a server may leave all questions of the router unanswered, new connections included, before what is
// under way on it is given up: reads are run again elsewhere, anything else fails. It is longer than a checkpoint or a busy
// machine keeps a server from answering, and than the table needs to leave the server out.
const silence = 5 * time.Second

// listened notes whether the server has answered, and gives its connections up while it keeps silent.
func (p *sampler) listened(pr *probe, err error) {
	var said *pgconn.PgError
	if err == nil || errors.As(err, &said) {
		pr.heard = time.Now()
		return
	}
	if time.Since(pr.heard) > silence {
		p.r.pools.Expire(pr.member.Name)
	}
}

func (p *sampler) run(ctx context.Context) error {
	tracker := route.NewTracker(p.r.view.Load().settings.Reads)
	probes := make(map[string]*probe)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	interval := p.r.view.Load().settings.Reads.Check.D()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	topologies := p.r.cfg.Topologies
	for {
		select {
		case <-ctx.Done():
			return nil
		case t, ok := <-topologies:
			if !ok {
				topologies = nil
				continue
			}
			p.topology(ctx, t, tracker, probes, &wg)
			if i := p.r.view.Load().settings.Reads.Check.D(); i != interval {
				interval = i
				tick.Reset(i)
			}
		case s := <-p.samples:
			tracker.Observe(s)
		case <-tick.C:
		}
		table := tracker.Table(time.Now())
		p.r.logChanges(p.r.view.Load().table, table)
		p.r.swap(func(v *view) { v.table = table })
	}
}

// topology takes over what was agreed: members, settings, limits.
func (p *sampler) topology(ctx context.Context, t Topology, tracker *route.Tracker, probes map[string]*probe, wg *sync.WaitGroup) {
	r := p.r
	settings := defaults(t.Settings)
	tracker.Policy(settings.Reads)
	tracker.Members(t.Members, time.Now())
	r.swap(func(v *view) { v.settings = settings })
	r.pools.SetLimits(limitsOf(settings))
	if t.Database != "" {
		p.database.Store(&t.Database)
	}
	nodes := make([]pool.Node, len(t.Members))
	want := make(map[string]route.Member, len(t.Members))
	for i, m := range t.Members {
		nodes[i] = pool.Node{Name: m.Name, Address: m.Address, Primary: m.Role == cluster.Primary}
		want[m.Name] = m
	}
	r.pools.SetNodes(nodes)
	for name, pr := range probes {
		if m, ok := want[name]; !ok || m.Address != pr.member.Address {
			pr.stop()
			delete(probes, name)
		}
	}
	for name, m := range want {
		if probes[name] != nil {
			continue
		}
		pctx, stop := context.WithCancel(ctx)
		pr := &probe{member: m, wake: make(chan struct{}, 1), stop: stop}
		probes[name] = pr
		wg.Add(1)
		go func() {
			defer wg.Done()
			p.ask(pctx, pr)
		}()
	}
	wakes := make([]chan struct{}, 0, len(probes))
	for _, pr := range probes {
		wakes = append(wakes, pr.wake)
	}
	p.wakes.Store(&wakes)
}

// ask samples one coordinator until ctx ends.
func (p *sampler) ask(ctx context.Context, pr *probe) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			cctx, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer stop()
			_ = conn.Close(cctx)
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	pr.heard = time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pr.wake:
		case <-timer.C:
		}
		interval := p.r.view.Load().settings.Reads.Check.D()
		var s route.Sample
		var err error
		conn, s, err = p.sample(ctx, conn, pr.member, max(interval, time.Second))
		p.listened(pr, err)
		select {
		case p.samples <- s:
		case <-ctx.Done():
			return
		}
		timer.Reset(max(interval-time.Since(s.Began), breather))
		rest := time.NewTimer(breather)
		select {
		case <-ctx.Done():
			rest.Stop()
			return
		case <-rest.C:
		}
	}
}

// sample asks once. A connection that has failed is not kept.
func (p *sampler) sample(ctx context.Context, conn *pgx.Conn, m route.Member, timeout time.Duration) (*pgx.Conn, route.Sample, error) {
	s := route.Sample{Node: m.Name, Began: time.Now()}
	failed := func(err error) (*pgx.Conn, route.Sample, error) {
		s.At, s.Err = time.Now(), err.Error()
		return nil, s, err
	}
	if conn == nil {
		c, err := p.r.ownConnection(ctx, m.Address, p.r.ownDatabase(), timeout)
		if err != nil {
			return failed(err)
		}
		conn = c
		s.Began = time.Now()
	}
	qctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	var recovering bool
	var timeline int32
	var lsn, flushed string
	err := conn.QueryRow(qctx, sql.RouterSample).Scan(&recovering, &s.SystemID, &timeline, &lsn, &flushed, &s.Receiving)
	if err == nil {
		s.LSN, err = cluster.ParseLSN(lsn)
	}
	if err == nil {
		s.Flushed, err = cluster.ParseLSN(flushed)
	}
	if err != nil {
		_ = conn.Close(qctx)
		return failed(err)
	}
	s.At, s.Timeline, s.Role = time.Now(), uint32(timeline), cluster.Primary
	if recovering {
		s.Role = cluster.Standby
	}
	return conn, s, nil
}

// logChanges tells when a server comes in or goes out.
func (r *Router) logChanges(old, now *route.Table) {
	switch {
	case old.Primary == nil && now.Primary != nil:
		r.log.Info("there is a primary", "node", now.Primary.Name, "term", now.Term)
	case old.Primary != nil && now.Primary == nil:
		r.log.Warn("there is no primary; statements that need it wait", "reason", now.PrimaryReason)
	case old.Primary != nil && old.Primary.Name != now.Primary.Name:
		r.log.Info("another server is primary", "node", now.Primary.Name, "was", old.Primary.Name, "term", now.Term)
	}
	was := make(map[string]bool, len(old.Standbys))
	for i := range old.Standbys {
		was[old.Standbys[i].Name] = old.Standbys[i].Eligible
	}
	for i := range now.Standbys {
		s := &now.Standbys[i]
		switch {
		case s.Eligible && !was[s.Name]:
			r.log.Info("a standby serves reads", "node", s.Name, "lag_bytes", s.LagBytes)
		case !s.Eligible && was[s.Name]:
			r.log.Warn("a standby serves no reads", "node", s.Name, "reason", s.Reason)
		}
	}
}
