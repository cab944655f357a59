package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multicoord/multicoord/failover"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// The keeper's times: how long it rests between two looks at a server that is well, and at one that is about to
// change; how often LSNs alone are worth a write to the agreed state; how long a stop may take before it
// escalates; and the bound of a single look.
const (
	restWell     = 500 * time.Millisecond
	restChanging = 50 * time.Millisecond
	restEnded    = 10 * time.Millisecond
	publishEvery = time.Second
	stopWithin   = 60 * time.Second
	lookWithin   = 5 * time.Second
	steadyAfter  = 30 * time.Second
)

// order is what a keeper works from: the view that Plan sees and what the steps need besides.
type order struct {
	view          View
	settings      Settings
	group         int
	ttl           time.Duration
	specRevision  int64
	groupRevision int64
	host          cluster.Host
	// silent: another agent reports under this node's name.
	silent bool
}

// same tells whether two orders lead to the same steps; positions that move all the time are left out.
func (o order) same(p order) bool {
	still := func(o order) order {
		if o.view.Primary != nil {
			n := *o.view.Primary
			n.LSN, n.Received, n.LagMS, n.Retained, n.At = 0, 0, nil, nil, time.Time{}
			o.view.Primary = &n
		}
		return o
	}
	return reflect.DeepEqual(still(o), still(p))
}

// keeper keeps one node.
type keeper struct {
	log     *slog.Logger
	name    string
	server  Server
	right   *right
	publish func(ctx context.Context, st cluster.NodeStatus) error
	removed func() // called once the node's directory is gone

	mu    sync.Mutex
	order order
	fresh bool // the order has changed since the last look
	wake  chan struct{}
	// latest is what the last look has shown, for Statuses.
	latest atomic.Pointer[cluster.NodeStatus]

	// What the loop alone knows.
	applied     *Settings // the settings on disk, as far as this agent wrote them
	appliedRev  int64
	prepared    uint64 // the term under which the roles were made
	database    string // that was made then
	configured  bool   // there is a configuration, perhaps an old one
	wasRunning  int    // the pid seen running last, 0 when none
	runningFrom time.Time
	restarts    int
	// crash is about the server's ends that nobody asked for, step about steps that failed: a server that runs well says
	// nothing about its settings, and the other way round.
	crash, step *trouble
	stepKind    Kind // of the step in trouble
	lag         lagRing
	sent        cluster.NodeStatus
	sentAt      time.Time
	lastStep    Step
}

func newKeeper(log *slog.Logger, name string, s Server, r *right, publish func(context.Context, cluster.NodeStatus) error) *keeper {
	return &keeper{
		log: log.With("node", name), name: name, server: s, right: r, publish: publish,
		crash: newTrouble(), step: newTrouble(), wake: make(chan struct{}, 1),
	}
}

// follow gives the keeper new orders and wakes it when they make a difference.
func (k *keeper) follow(o order) {
	k.mu.Lock()
	changed := !o.same(k.order)
	k.order = o
	k.fresh = k.fresh || changed
	k.mu.Unlock()
	if changed {
		k.nudge()
	}
}

func (k *keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *keeper) orders() order {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.order
}

// takeOrders gives the orders and tells whether they are new. What failed under the old ones is tried again at once.
func (k *keeper) takeOrders() order {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fresh {
		k.fresh = false
		k.step.over()
	}
	return k.order
}

// run keeps the node until ctx ends. It leaves the server as it is: stopping is a separate decision (stop).
func (k *keeper) run(ctx context.Context) {
	defer k.server.SQL.Close()
	for ctx.Err() == nil {
		o := k.takeOrders()
		seen, running := k.look(ctx, o)
		step := Plan(o.view, seen)
		if step != k.lastStep && step.Kind != Keep {
			k.log.Info("step", "step", step.Kind, "reason", step.Reason)
		}
		k.lastStep = step
		if step.Kind == Keep {
			k.step.over()
		}
		k.report(ctx, o, seen, running, step)
		if step.Kind.acts() {
			err := k.do(ctx, o, step)
			if err == nil && step.Kind == Remove {
				k.removed()
				return
			}
			if err == nil {
				continue
			}
		}
		k.rest(ctx, step, seen, running)
	}
}

// rest waits until there is a reason to look again.
func (k *keeper) rest(ctx context.Context, step Step, seen Seen, running Running) {
	now := time.Now()
	d := restWell
	switch {
	case step.Kind.acts() && k.step.resting(now) != "":
		d = k.step.until.Sub(now)
	case seen.BackingOff != "":
		d = min(d, max(k.crash.until.Sub(now), k.step.until.Sub(now), restChanging))
	case step.Kind == Wait && seen.Running && !seen.Ready:
		d = restChanging
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-k.wake:
	case <-running.Ended:
		// Should it not be gone after all, this keeps the loop from spinning.
		t.Reset(restEnded)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	case <-t.C:
	}
}

// look finds out what is on the host. What can't be found out is left at its zero value, which Plan treats as
// the worse case.
func (k *keeper) look(ctx context.Context, o order) (Seen, Running) {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	now := time.Now()
	r := k.right.current()
	s := Seen{Held: r.Term != 0, HeldTerm: r.Term, Prepared: r.Term != 0 && k.prepared == r.Term && k.database == o.settings.Database}
	disk, err := k.server.Data.Inspect(ctx)
	if err != nil {
		disk.Foreign = "the directory cannot be read: " + err.Error()
	}
	s.Disk = disk
	k.configured = disk.Configured
	running, err := k.server.Process.Running(ctx)
	if err != nil {
		s.Unknown = "it is not known whether the server runs: " + err.Error()
	} else {
		s.Running = running.Alive
		k.noteProcess(running, now)
	}
	s.Configured = k.applied != nil && reflect.DeepEqual(*k.applied, o.settings)
	if s.Configured {
		k.appliedRev = o.specRevision // a newer spec that changes nothing here has been applied as well
	}
	if running.Alive {
		obs, err := k.server.SQL.Observe(ctx)
		if err == nil {
			s.Ready, s.Server = true, obs
		}
	}
	s.BackingOff = k.step.resting(now)
	if !s.Running && s.BackingOff == "" {
		s.BackingOff = k.crash.resting(now)
	}
	return s, running
}

// noteProcess counts deaths that nobody asked for, and forgets old ones once the server has run for a while.
func (k *keeper) noteProcess(r Running, now time.Time) {
	switch {
	case r.Alive && r.PID != k.wasRunning:
		k.wasRunning, k.runningFrom = r.PID, now
	case !r.Alive && k.wasRunning != 0:
		k.wasRunning = 0
		k.restarts++
		reason := r.LastExit
		if reason == "" {
			reason = "the server ended"
		}
		k.crash.failed(reason, now)
		k.log.Warn("server ended", "reason", reason, "restarts", k.restarts)
	case r.Alive && now.Sub(k.runningFrom) > steadyAfter:
		k.crash.over()
	}
}

// do carries out one step.
func (k *keeper) do(ctx context.Context, o order, step Step) error {
	began := time.Now()
	err := k.act(ctx, o, step)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		again := k.step.reason != err.Error()
		k.step.failed(err.Error(), time.Now())
		k.stepKind = step.Kind
		if again {
			k.log.Warn("step failed; it is tried again", "step", step.Kind, "err", err)
		}
		return err
	}
	if step.Kind == k.stepKind {
		k.step.over()
	}
	if step.Kind != EnsureSlots {
		k.log.Info("done", "step", step.Kind, "took", time.Since(began).Round(time.Millisecond))
	}
	return nil
}

func (k *keeper) act(ctx context.Context, o order, step Step) error {
	switch step.Kind {
	case Acquire:
		return k.right.acquire(ctx, o.view.Group.Term, o.groupRevision)
	case Release:
		return k.right.release(ctx)
	case InitDB:
		k.reportBusy(ctx, o, "initdb")
		return k.server.Data.InitDB(ctx)
	case BaseBackup:
		k.reportBusy(ctx, o, "base backup "+step.Reason)
		return k.server.Data.BaseBackup(ctx, *o.settings.Upstream)
	case Start:
		return k.start(ctx, o)
	case Configure:
		changed, err := k.configure(ctx, o)
		if err != nil || !changed {
			return err
		}
		return k.server.Process.Reload(ctx)
	case Prepare:
		if err := k.server.SQL.Prepare(ctx, o.settings.Database); err != nil {
			return err
		}
		k.prepared, k.database = o.view.Group.Term, o.settings.Database
		return nil
	case EnsureSlots:
		return k.server.SQL.EnsureSlots(ctx, o.view.Peers)
	case StopServer:
		return k.stop(ctx, step.Reason)
	case Remove:
		return k.server.Data.Remove(ctx)
	}
	return fmt.Errorf("step %q is unknown", step.Kind)
}

// start starts the server. Settings that PostgreSQL refuses do not keep it down: it starts with those that it had, and
// the refusal is reported.
func (k *keeper) start(ctx context.Context, o order) error {
	if _, err := k.configure(ctx, o); err != nil {
		if !errors.Is(err, ErrRefused) || !k.configured {
			return err
		}
		k.log.Warn("starting with the old configuration", "err", err)
		k.applied = nil
	}
	if o.settings.Role != cluster.Primary {
		return k.server.Process.Start(ctx, failover.Right{})
	}
	if err := k.server.Process.Start(ctx, k.right.current()); err != nil {
		return err
	}
	k.right.repeat(ctx) // it may have been renewed while there was no guard to tell
	return nil
}

func (k *keeper) configure(ctx context.Context, o order) (bool, error) {
	changed, err := k.server.Data.Configure(ctx, o.settings)
	if err != nil {
		return false, err
	}
	s := o.settings
	k.applied, k.appliedRev = &s, o.specRevision
	return changed, nil
}

// stop ends the server in the fast mode; the adapter escalates.
func (k *keeper) stop(ctx context.Context, reason string) error {
	k.wasRunning = 0 // asked for: not a crash
	if err := k.server.Process.Stop(ctx, StopFast, stopWithin); err != nil {
		return fmt.Errorf("stop (%s): %w", reason, err)
	}
	return nil
}
