package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/multicoord/multicoord/failover"
	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/store"
)

// Grants gives the right to be primary. A grant is acquired only if the group's state still has the revision that the
// decision was read from and nobody else holds it; one that the same node's agent left behind under the same term
// is adopted.
type Grants interface {
	Acquire(ctx context.Context, g cluster.Grant, groupRevision int64, ttl time.Duration) (Grant, error)
}

// Grant is a held right. Renew extends it to its whole TTL, counted from a moment after the call began. TTL is what the
// store has granted: deadlines are counted with it and not with the spec's, which may have changed since.
type Grant interface {
	TTL() time.Duration
	Renew(ctx context.Context) error
	Release(ctx context.Context) error
}

// right holds and renews one node's grant and passes every new deadline on to the server's guard.
type right struct {
	log *slog.Logger
	// life bounds the renewals: they outlive the keeper, because a server that is being stopped still needs its right.
	life   context.Context
	grants Grants
	clock  func() failover.Instant
	node   cluster.Grant // with the term of the held grant, if any
	// extend tells the guard, if there is one; fence ends the server's life as a primary at once.
	extend func(ctx context.Context, r failover.Right) error
	fence  func(ctx context.Context, why string)
	nudge  func()

	mu   sync.Mutex
	ttl  time.Duration
	held Grant
	cur  failover.Right
	// renewing ends the renewals of the held grant; done says that they have ended.
	renewing context.CancelFunc
	done     chan struct{}
}

// current gives the right if it is held and its deadline is not over; the zero value otherwise.
func (r *right) current() failover.Right {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held == nil || r.clock() >= r.cur.Deadline {
		return failover.Right{}
	}
	return r.cur
}

// setTTL changes the life of the next grant that is acquired.
func (r *right) setTTL(ttl time.Duration) {
	r.mu.Lock()
	r.ttl = ttl
	r.mu.Unlock()
}

// acquire gets the grant of a term, or goes on with the held one. The renewals run until release, or until the
// agent's life ends.
func (r *right) acquire(ctx context.Context, term uint64, groupRevision int64) error {
	r.mu.Lock()
	held, cur, ttl := r.held, r.cur, r.ttl
	r.mu.Unlock()
	if held != nil {
		if cur.Term == term && r.renew(ctx, held) == nil {
			return nil
		}
		r.drop()
	}
	g := r.node
	g.Term = term
	began := r.clock()
	held, err := r.grants.Acquire(ctx, g, groupRevision, ttl)
	if err != nil {
		return fmt.Errorf("acquire the grant of group %d under term %d: %w", g.Group, term, err)
	}
	// What was acquired may be an adopted lease with little left: only a renewal tells from when it counts.
	renewCtx, cancel := context.WithTimeout(ctx, held.TTL()/3)
	err = held.Renew(renewCtx)
	cancel()
	if err != nil {
		return fmt.Errorf("renew the grant of group %d under term %d: %w", g.Group, term, err)
	}
	r.hold(held, failover.Right{Term: term, Deadline: deadline(began, held)})
	return nil
}

// deadline is when a primary must begin to die if a renewal that began at an instant was the last.
func deadline(began failover.Instant, g Grant) failover.Instant {
	return failover.Deadline(began, g.TTL(), failover.Margin(g.TTL()))
}

func (r *right) hold(g Grant, right failover.Right) {
	ctx, cancel := context.WithCancel(r.life)
	done := make(chan struct{})
	r.mu.Lock()
	r.held, r.cur, r.renewing, r.done = g, right, cancel, done
	r.mu.Unlock()
	r.tell(ctx, right)
	go func() {
		defer close(done)
		var both sync.WaitGroup
		both.Go(func() { r.keep(ctx, g) })
		both.Go(func() { r.watch(ctx, g) })
		both.Wait()
	}()
}

// watch fences when the right has run out by this host's clock. The guard does so by itself; this is for the case that
// the guard is hung.
func (r *right) watch(ctx context.Context, g Grant) {
	for {
		r.mu.Lock()
		held, left := r.held, (r.cur.Deadline - r.clock())
		r.mu.Unlock()
		if held != g {
			return
		}
		if left <= 0 {
			r.log.Warn("the right to be primary has run out", "group", r.node.Group)
			r.fence(ctx, "the right to be primary has run out")
			r.nudge()
			return
		}
		t := time.NewTimer(time.Duration(left))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// keep renews until ctx ends or the grant is lost.
func (r *right) keep(ctx context.Context, g Grant) {
	ttl := g.TTL()
	t := time.NewTimer(failover.RenewEvery(ttl))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		next := failover.RenewEvery(ttl)
		err := r.renew(ctx, g)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return
		case errors.Is(err, store.ErrLeaseLost):
			r.log.Warn("grant lost", "group", r.node.Group, "err", err)
			// Before it is forgotten: the keeper cannot acquire it anew, and start a server, while this fences.
			r.fence(ctx, "the grant was lost")
			r.forget(g)
			r.nudge()
			return
		default:
			r.log.Warn("grant not renewed", "group", r.node.Group, "left", time.Duration(r.left()).Round(time.Millisecond), "err", err)
			next = ttl / 10
		}
		t.Reset(next)
	}
}

func (r *right) renew(ctx context.Context, g Grant) error {
	began := r.clock()
	attempt, cancel := context.WithTimeout(ctx, g.TTL()/3)
	defer cancel()
	if err := g.Renew(attempt); err != nil {
		return err
	}
	r.mu.Lock()
	if r.held != g || r.clock() >= r.cur.Deadline {
		r.mu.Unlock()
		return store.ErrLeaseLost // it may live in the store, but here it has run out, and the server was stopped
	}
	r.cur.Deadline = max(r.cur.Deadline, deadline(began, g))
	right := r.cur
	r.mu.Unlock()
	r.tell(ctx, right)
	return nil
}

// tell passes the deadline on, again and again until it was heard or the next renewal is due. A guard that does not hear
// it will stop its server in time, which is the safe side.
func (r *right) tell(ctx context.Context, right failover.Right) {
	until := r.clock().Add(failover.RenewEvery(grantLife(right, r.clock())))
	for {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		err := r.extend(attempt, right)
		cancel()
		if err == nil || ctx.Err() != nil {
			return
		}
		r.log.Warn("the guard was not told the new deadline", "err", err)
		if r.clock() >= until {
			return
		}
		t := time.NewTimer(tellAgain)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

// tellAgain is the rest between two attempts to tell a guard.
const tellAgain = 100 * time.Millisecond

// grantLife is what is left of a right.
func grantLife(right failover.Right, now failover.Instant) time.Duration {
	return max(right.Deadline.Sub(now), 0)
}

// repeat tells the present right again, if there is one.
func (r *right) repeat(ctx context.Context) {
	if right := r.current(); right.Term != 0 {
		r.tell(ctx, right)
	}
}

func (r *right) left() failover.Instant {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cur.Deadline - r.clock()
}

func (r *right) forget(g Grant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held == g {
		r.held, r.cur = nil, failover.Right{}
	}
}

// drop forgets the held grant and ends its renewals, without giving it back.
func (r *right) drop() Grant {
	r.mu.Lock()
	g, cancel, done := r.held, r.renewing, r.done
	r.held, r.cur, r.renewing, r.done = nil, failover.Right{}, nil, nil
	r.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
	return g
}

// release gives the grant back, so that another may have it at once. The server must have ended before.
func (r *right) release(ctx context.Context) error {
	g := r.drop()
	if g == nil {
		return nil
	}
	if err := g.Release(ctx); err != nil {
		return fmt.Errorf("release the grant of group %d: %w", r.node.Group, err)
	}
	return nil
}
