package agent

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/multicoord/multicoord/failover"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// The keeper's times: how long it rests between two looks at a server that is well, and at one that is about to
// change; how often LSNs alone are worth a write to the agreed state; how long a stop may take before it
// escalates; and the bound of a single look.
const (
	restWell     = 500 * time.Millisecond
	restChanging = 50 * time.Millisecond
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
}

// same tells whether two orders lead to the same steps; positions that move all the time are left out.
func (o order) same(p order) bool {
	still := func(o order) order {
		if o.view.Primary != nil {
			n := *o.view.Primary
			n.LSN, n.Received, n.LagMS, n.At = 0, 0, nil, time.Time{}
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
	wake  chan struct{}
	// latest is what the last look has shown, for Statuses.
	latest atomic.Pointer[cluster.NodeStatus]

	// What the loop alone knows.
	applied     *Settings // the settings on disk, as far as this agent wrote them
	appliedRev  int64
	prepared    uint64 // the term under which the roles were made
	wasRunning  int    // the pid seen running last, 0 when none
	runningFrom time.Time
	restarts    int
	failure     string
	retryAt     time.Time
	pause       *backoff.ExponentialBackOff
	lag         lagRing
	sent        cluster.NodeStatus
	sentAt      time.Time
	lastStep    Step
}

func newKeeper(log *slog.Logger, name string, s Server, r *right, publish func(context.Context, cluster.NodeStatus) error) *keeper {
	p := backoff.NewExponentialBackOff()
	p.InitialInterval, p.MaxInterval, p.Multiplier, p.RandomizationFactor = 200*time.Millisecond, 15*time.Second, 2, 0.1
	return &keeper{log: log.With("node", name), name: name, server: s, right: r, publish: publish, pause: p, wake: make(chan struct{}, 1)}
}

// follow gives the keeper new orders and wakes it when they make a difference.
func (k *keeper) follow(o order) {
	k.mu.Lock()
	changed := !o.same(k.order)
	k.order = o
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

// run keeps the node until ctx ends. It leaves the server as it is: stopping is a separate decision (stop).
func (k *keeper) run(ctx context.Context) {
	defer k.server.SQL.Close()
	for ctx.Err() == nil {
		o := k.orders()
		seen, running := k.look(ctx, o)
		step := Plan(o.view, seen)
		if step != k.lastStep && step.Kind != Keep {
			k.log.Info("step", "step", step.Kind, "reason", step.Reason)
		}
		k.lastStep = step
		k.report(ctx, o, seen, running, step)
		if step.Kind == Remove {
			if err := k.do(ctx, o, step); err == nil {
				k.removed()
				return
			}
		}
		rest := restChanging
		switch step.Kind {
		case Keep, Refuse:
			rest = restWell
		case Wait:
			if !seen.Running {
				rest = restWell
			}
		case Remove:
			rest = restWell
		default:
			if err := k.do(ctx, o, step); err == nil {
				continue
			}
			rest = time.Until(k.retryAt)
		}
		t := time.NewTimer(rest)
		select {
		case <-ctx.Done():
		case <-k.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// look finds out what is on the host. What can't be found out is left at its zero value, which Plan treats as
// the worse case.
func (k *keeper) look(ctx context.Context, o order) (Seen, Running) {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	now := time.Now()
	r := k.right.current()
	s := Seen{Held: r.Term != 0, HeldTerm: r.Term, Prepared: r.Term != 0 && k.prepared == r.Term}
	disk, err := k.server.Data.Inspect(ctx)
	if err != nil {
		disk.Foreign = "the directory cannot be read: " + err.Error()
	}
	s.Disk = disk
	running, err := k.server.Process.Running(ctx)
	if err != nil {
		k.log.Warn("guard does not answer", "err", err)
	}
	s.Running = running.Alive
	k.noteProcess(running, now)
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
	if k.failure != "" && now.Before(k.retryAt) {
		s.BackingOff = k.failure
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
		k.failed(fmt.Errorf("%s", reason), now)
		k.log.Warn("server ended", "reason", reason, "restarts", k.restarts)
	case r.Alive && k.failure != "" && now.Sub(k.runningFrom) > steadyAfter:
		k.failure = ""
		k.pause.Reset()
	}
}

func (k *keeper) failed(err error, now time.Time) {
	k.failure = err.Error()
	k.retryAt = now.Add(k.pause.NextBackOff())
}

// do carries out one step.
func (k *keeper) do(ctx context.Context, o order, step Step) error {
	began := time.Now()
	err := k.act(ctx, o, step)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		k.failed(err, time.Now())
		k.log.Warn("step", "step", step.Kind, "err", err, "again_in", time.Until(k.retryAt).Round(time.Millisecond))
		return err
	}
	switch step.Kind {
	case InitDB, BaseBackup, Prepare, Configure:
		k.failure = ""
		k.pause.Reset()
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
		if _, err := k.configure(ctx, o); err != nil {
			return err
		}
		r := failover.Right{}
		if o.settings.Role == cluster.Primary {
			r = k.right.current()
		}
		return k.server.Process.Start(ctx, r)
	case Configure:
		changed, err := k.configure(ctx, o)
		if err != nil || !changed {
			return err
		}
		return k.server.Process.Reload(ctx)
	case Prepare:
		if err := k.server.SQL.Prepare(ctx); err != nil {
			return err
		}
		k.prepared = o.view.Group.Term
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
