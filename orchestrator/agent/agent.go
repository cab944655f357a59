package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/multicoord/multicoord/failover"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// Presence publishes reports in the name of this agent, on its lease. It fails while another process has taken the
// agent's place.
type Presence interface {
	// Agent tells from which revision of the spec the agent works, and what it could not take from it.
	Agent(ctx context.Context, specRevision int64, problem string) error
	Node(ctx context.Context, st cluster.NodeStatus) error
	Forget(ctx context.Context, node string) error
}

// Place is one node's place on this host, for which a Server is made.
type Place struct {
	Node    cluster.Node
	Group   int
	Host    string
	Address string
}

// Config wires an agent.
type Config struct {
	Log *slog.Logger
	// Host is the name of this agent's host in the spec.
	Host string
	// Snapshots brings the agreed state, newest only; closed when there will be no more.
	Snapshots <-chan cluster.Snapshot
	Presence  Presence
	Grants    Grants
	// Servers makes the server of a place; it touches nothing, and what it watches it watches until life ends. Left lists the places of this agent's host whose
	// directories exist.
	Servers func(life context.Context, p Place) (Server, error)
	Left    func() ([]Place, error)
	// Machine names this boot of this machine, DataDir the folder in which the servers' folders are: a grant that was left
	// behind is adopted only where both are the same.
	Machine, DataDir string
	// Clock is the clock of the guards.
	Clock func() failover.Instant
	// Leave keeps the servers running when the agent ends; otherwise they are stopped.
	Leave bool
}

// Agent keeps the servers of one host.
type Agent struct {
	cfg     Config
	mu      sync.Mutex
	keepers map[string]*kept
	ready   bool
	swept   bool   // places that were left behind have keepers
	said    saying // what was published last; Run's alone
}

type kept struct {
	*keeper
	primary bool // the last order was to be primary
	cancel  context.CancelFunc
	done    chan struct{}
}

// New makes an agent; Run does the work.
func New(cfg Config) *Agent {
	cfg.Log = cfg.Log.With("host", cfg.Host)
	return &Agent{cfg: cfg, keepers: make(map[string]*kept)}
}

// Ready says what keeps the agent from doing its work; nil when it has seen a spec.
func (a *Agent) Ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ready {
		return errors.New("the cluster's spec has not been seen yet")
	}
	return nil
}

// Statuses gives what each keeper saw last, in no order, with the time that its right to be primary has left (zero for
// none).
func (a *Agent) Statuses() []Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []Status
	for _, k := range a.keepers {
		if st := k.latest.Load(); st != nil {
			s := Status{NodeStatus: *st}
			if r := k.right.current(); r.Term != 0 {
				s.RightLeft = r.Deadline.Sub(a.cfg.Clock())
			}
			all = append(all, s)
		}
	}
	return all
}

// Status is a node's status on its own host.
type Status struct {
	cluster.NodeStatus
	// RightLeft is the time until the guard would stop the server as a primary; zero without a right.
	RightLeft time.Duration
}

// Run keeps the servers until ctx ends; then it stops them (primaries first, so that their standbys receive all of the
// log) and gives the grants back, unless Config.Leave says otherwise.
func (a *Agent) Run(ctx context.Context) error {
	// The keepers' life is their own: the servers are stopped in order after ctx has ended.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	for {
		select {
		case <-ctx.Done():
			return a.close(life)
		case snap, ok := <-a.cfg.Snapshots:
			if !ok {
				return a.close(life)
			}
			if snap.Spec == nil {
				continue
			}
			problem := ""
			if err := a.take(life, snap); err != nil {
				problem = err.Error()
			}
			a.say(ctx, snap.SpecRevision, problem)
		}
	}
}

// say publishes what the agent works from, when that has changed.
func (a *Agent) say(ctx context.Context, revision int64, problem string) {
	if a.said == (saying{revision, problem}) {
		return
	}
	if problem != "" && problem != a.said.problem {
		a.cfg.Log.Warn("orders not taken", "err", problem)
	}
	ctx, cancel := context.WithTimeout(ctx, publishEvery)
	defer cancel()
	if err := a.cfg.Presence.Agent(ctx, revision, problem); err != nil {
		a.cfg.Log.Debug("status not published", "err", err)
		return
	}
	a.said = saying{revision, problem}
}

type saying struct {
	revision int64
	problem  string
}

// take gives each keeper its orders, and makes keepers for nodes that are new here or were left behind.
func (a *Agent) take(life context.Context, snap cluster.Snapshot) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	placed := map[string]bool{}
	for _, g := range snap.Spec.Groups {
		for _, n := range g.Nodes {
			if n.Host != a.cfg.Host {
				continue
			}
			placed[n.Name] = true
			errs = append(errs, a.order(life, orderFor(snap, g, n)))
		}
	}
	for name, k := range a.keepers {
		if !placed[name] {
			k.follow(goneOrder(snap, k.orders()))
		}
	}
	if !a.swept {
		left, err := a.cfg.Left()
		errs = append(errs, err)
		a.swept = err == nil
		for _, p := range left {
			if !placed[p.Node.Name] && (p.Host == a.cfg.Host || p.Host == "" && !listed(snap, p.Node.Name)) {
				errs = append(errs, a.order(life, goneOrder(snap, leftOrder(snap, p))))
			}
		}
	}
	a.ready = true
	return errors.Join(errs...)
}

// order passes o on to its node's keeper, which it makes if there is none.
func (a *Agent) order(life context.Context, o order) error {
	name := o.view.Node.Name
	k, ok := a.keepers[name]
	if !ok {
		group := o.group
		srv, err := a.cfg.Servers(life, Place{Node: o.view.Node, Group: group, Host: a.cfg.Host, Address: o.host.Address})
		if err != nil {
			return fmt.Errorf("node %s: %w", name, err)
		}
		k = a.keep(life, name, group, srv)
	}
	k.right.setTTL(o.ttl)
	k.primary = o.settings.Role == cluster.Primary
	k.follow(o)
	return nil
}

// keep starts a keeper.
func (a *Agent) keep(life context.Context, name string, group int, srv Server) *kept {
	ctx, cancel := context.WithCancel(life)
	r := &right{
		log: a.cfg.Log.With("node", name), life: life, grants: a.cfg.Grants, clock: a.cfg.Clock,
		node:   cluster.Grant{Group: group, Node: name, Host: a.cfg.Host, Machine: a.cfg.Machine, DataDir: a.cfg.DataDir},
		extend: srv.Process.Extend,
	}
	k := &kept{keeper: newKeeper(a.cfg.Log, name, srv, r, a.cfg.Presence.Node), cancel: cancel, done: make(chan struct{})}
	r.nudge = k.nudge
	r.fence = func(ctx context.Context, why string) {
		if err := srv.Process.Stop(ctx, StopImmediate, stopWithin); err != nil {
			k.log.Error("server not stopped; its guard stops it at the deadline", "reason", why, "err", err)
		}
	}
	k.removed = func() {
		if !k.orders().silent {
			if err := a.cfg.Presence.Forget(ctx, name); err != nil {
				k.log.Warn("report of a removed node not withdrawn", "err", err)
			}
		}
		a.mu.Lock()
		delete(a.keepers, name)
		a.mu.Unlock()
	}
	a.keepers[name] = k
	go func() {
		defer close(k.done)
		k.run(ctx)
	}()
	return k
}

// close ends the keepers and, unless told to leave them, the servers.
func (a *Agent) close(life context.Context) error {
	a.mu.Lock()
	all := make([]*kept, 0, len(a.keepers))
	for _, k := range a.keepers {
		all = append(all, k)
	}
	a.mu.Unlock()
	for _, k := range all {
		k.cancel()
	}
	for _, k := range all {
		<-k.done
	}
	if a.cfg.Leave {
		for _, k := range all {
			k.right.drop()
		}
		return nil
	}
	primaries := slices.DeleteFunc(slices.Clone(all), func(k *kept) bool { return !k.primary })
	standbys := slices.DeleteFunc(all, func(k *kept) bool { return k.primary })
	return errors.Join(stopAll(life, primaries), stopAll(life, standbys))
}

// stopAll stops servers side by side, and gives their grants back once they are gone.
func stopAll(ctx context.Context, ks []*kept) error {
	ctx, cancel := context.WithTimeout(ctx, stopWithin+10*time.Second)
	defer cancel()
	var g errgroup.Group
	for _, k := range ks {
		g.Go(func() error {
			began := time.Now()
			if err := k.stop(ctx, "the agent ends"); err != nil {
				return fmt.Errorf("node %s: %w", k.name, err)
			}
			k.log.Info("stopped", "took", time.Since(began).Round(time.Millisecond))
			if err := k.right.release(ctx); err != nil {
				k.log.Warn("grant not given back; it runs out by itself", "err", err)
			}
			return nil
		})
	}
	return g.Wait()
}

// orderFor derives a node's orders from the agreed state.
func orderFor(snap cluster.Snapshot, g cluster.Group, n cluster.Node) order {
	host, _ := snap.Spec.HostOf(n.Host)
	o := order{
		view: View{Node: n, Placed: true}, group: g.ID, host: host, ttl: snap.Spec.Failover.TTL.D(),
		specRevision: snap.SpecRevision, groupRevision: snap.GroupRevision[g.ID],
		settings: Settings{Role: cluster.Standby, Parameters: snap.Spec.PostgreSQL.Parameters, HBA: snap.Spec.PostgreSQL.HBA, Standbys: len(g.Nodes) - 1, Database: snap.Spec.PostgreSQL.Database},
	}
	for _, m := range g.Nodes {
		if m.Name != n.Name {
			o.view.Peers = append(o.view.Peers, m.Name)
		}
	}
	state, ok := snap.Groups[g.ID]
	if !ok {
		return o
	}
	o.view.Group = &state
	if p, ok := snap.Nodes[state.Primary]; ok {
		o.view.Primary = &p
	}
	if state.Primary == n.Name {
		o.settings.Role = cluster.Primary
		return o
	}
	if p, _, ok := snap.Spec.NodeOf(state.Primary); ok {
		h, _ := snap.Spec.HostOf(p.Host)
		o.settings.Upstream = &Upstream{Node: p.Name, Address: h.Address, Port: p.Port, Slot: n.Name}
	}
	return o
}

// goneOrder turns orders into those of a node that the spec does not list.
func goneOrder(snap cluster.Snapshot, o order) order {
	o.view.Placed = false
	// Its name may have a new place: what is reported under it is then the other's to say.
	o.silent = listed(snap, o.view.Node.Name)
	if g, ok := snap.Groups[o.group]; ok {
		o.view.Group = &g
	}
	return o
}

func listed(snap cluster.Snapshot, node string) bool {
	_, _, ok := snap.Spec.NodeOf(node)
	return ok
}

// leftOrder describes a node whose directory was found, but which the spec does not list.
func leftOrder(snap cluster.Snapshot, p Place) order {
	return order{view: View{Node: p.Node}, group: p.Group, host: cluster.Host{Address: p.Address}, ttl: snap.Spec.Failover.TTL.D()}
}
