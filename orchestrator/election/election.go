package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store"
)

// Option changes a Campaign.
type Option func(*campaign)

// WithLog makes the campaign report what happens: elected, lost, resigned, store away.
func WithLog(log *slog.Logger) Option { return func(c *campaign) { c.log = log } }

// Causes of the end of lead's ctx; see context.Cause.
var (
	// ErrWindow: the lease could not be renewed in time.
	ErrWindow = errors.New("leadership could not be renewed in time")
	// ErrLost: the lease or the key is gone.
	ErrLost = errors.New("leadership lost")

	errReturned = errors.New("lead has returned")
)

// Campaign waits until it becomes the leader under the given id (unique among the candidates), runs lead, and
// begins anew when leadership is lost. The key "leader" lives for ttl (at least 1 s) without renewal.
//
// It returns nil when ctx has ended, or what lead has returned while it was leading, after lead has returned and,
// if etcd could be reached, after resigning. See the package comment for what each failure does.
func Campaign(ctx context.Context, s store.Store, id string, ttl time.Duration, lead func(ctx context.Context, l Leadership) error, opts ...Option) error {
	c := &campaign{s: s, id: id, ttl: ttl, lead: lead, log: slog.New(slog.DiscardHandler)}
	for _, o := range opts {
		o(c)
	}
	for ctx.Err() == nil {
		t, won := c.wait(ctx)
		if !won {
			break
		}
		again, err := c.rule(ctx, t)
		if !again {
			return err
		}
		if err != nil {
			c.log.Warn("leader stops and stands again", "id", id, "err", err)
			pause(ctx, c.ttl/3)
		}
	}
	return nil
}

type campaign struct {
	s    store.Store
	id   string
	ttl  time.Duration
	lead func(ctx context.Context, l Leadership) error
	log  *slog.Logger
}

// tenure is a won election.
type tenure struct {
	lease    store.Lease
	revision int64     // the key's creation
	began    time.Time // when the call began that made or renewed the lease
}

// until is when the holder stops to rely on the lease as it was made.
func (t tenure) until() time.Time { return t.began.Add(trust(t.lease.TTL())) }

// trust is the part of a lease's life in which its holder relies on it.
func trust(ttl time.Duration) time.Duration {
	return ttl - min(max(ttl/10, 100*time.Millisecond), time.Second)
}

// wait returns when the election is won, or false when ctx has ended.
func (c *campaign) wait(ctx context.Context) (tenure, bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	states := c.s.Watch(ctx)
	vacant, down := false, false
	for {
		var retry <-chan time.Time
		if vacant {
			retry = time.After(c.ttl / 3)
		}
		select {
		case <-ctx.Done():
			return tenure{}, false
		case st, ok := <-states:
			if !ok {
				<-ctx.Done()
				return tenure{}, false
			}
			vacant = st.Items[state.Leader].Created == 0
		case <-retry:
		}
		if !vacant {
			continue
		}
		t, err := c.claim(ctx)
		switch {
		case err == nil:
			return t, true
		case errors.Is(err, store.ErrConflict):
			vacant = false // another was quicker; the watch tells when the key goes
		case ctx.Err() == nil && !down:
			down = true
			c.log.Warn("cannot stand for election; trying again", "id", c.id, "err", err)
		}
	}
}

func (c *campaign) claim(ctx context.Context) (tenure, error) {
	call, cancel := context.WithTimeout(ctx, c.ttl)
	defer cancel()
	t := tenure{began: time.Now()}
	var err error
	if t.lease, err = c.s.Lease(call, c.ttl); err != nil {
		return t, fmt.Errorf("claim leadership: %w", err)
	}
	put, err := state.PutLeader(cluster.LeaderStatus{ID: c.id, At: time.Now().UTC()}, t.lease.ID())
	if err == nil {
		t.revision, err = c.s.Commit(call, store.Tx{
			If:  []store.Compare{{Key: state.Leader, Kind: store.Created, Revision: 0}},
			Put: []store.Put{put},
		})
	}
	if err != nil {
		// The commit may have been carried out all the same; without its lease the key goes.
		c.revoke(ctx, t.lease)
		return t, fmt.Errorf("claim leadership: %w", err)
	}
	if time.Until(t.until()) <= 0 {
		c.revoke(ctx, t.lease)
		return t, fmt.Errorf("claim leadership: the answer took %s: %w", time.Since(t.began), store.ErrUnavailable)
	}
	return t, nil
}

// revoke ends the lease as well as it can, even when ctx has ended.
func (c *campaign) revoke(ctx context.Context, l store.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(c.ttl, 2*time.Second))
	defer cancel()
	if err := l.Revoke(ctx); err != nil {
		c.log.Debug("lease of the leadership not revoked; it runs out by itself", "id", c.id, "err", err)
	}
}

// rule runs lead until it returns. It tells whether the campaign goes on, and lead's error if it matters.
func (c *campaign) rule(ctx context.Context, t tenure) (again bool, err error) {
	leadCtx, end := context.WithCancelCause(ctx)
	defer end(nil)
	// The timer ends lead's ctx by itself: a call that hangs cannot hold it up.
	window := time.AfterFunc(time.Until(t.until()), func() { end(ErrWindow) })
	defer window.Stop()
	l := Leadership{s: c.s, id: c.id, revision: t.revision, ctx: leadCtx, end: end}
	c.log.Info("elected leader", "id", c.id, "revision", t.revision)
	done := make(chan error, 1)
	go func() {
		err := c.lead(leadCtx, l)
		end(errReturned)
		done <- err
	}()
	c.renew(leadCtx, t, window, end)
	err = <-done
	c.revoke(ctx, t.lease)

	cause := context.Cause(leadCtx)
	switch {
	case ctx.Err() != nil:
		c.log.Info("leader resigned", "id", c.id)
		return false, nil
	case errors.Is(cause, errReturned):
		c.log.Info("leader resigned", "id", c.id, "err", err)
		return ofStore(err), err
	}
	c.log.Warn("leadership lost", "id", c.id, "err", cause)
	return true, nil
}

func ofStore(err error) bool {
	return errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrLeaseLost) || errors.Is(err, store.ErrUnavailable)
}

// renew keeps the lease alive until ctx ends; it moves the end of the trust window, and ends ctx when the lease is gone.
func (c *campaign) renew(ctx context.Context, t tenure, window *time.Timer, end context.CancelCauseFunc) {
	ttl := t.lease.TTL()
	wait := time.Until(t.began.Add(ttl / 3))
	for pause(ctx, wait) {
		began := time.Now()
		call, cancel := context.WithTimeout(ctx, ttl/3)
		err := t.lease.Renew(call)
		cancel()
		switch {
		case err == nil:
			if !window.Stop() {
				return // it was over before the answer came
			}
			window.Reset(time.Until(began.Add(trust(ttl))))
			wait = time.Until(began.Add(ttl / 3))
		case errors.Is(err, store.ErrLeaseLost):
			end(fmt.Errorf("%w: %w", ErrLost, err))
			return
		default:
			wait = ttl / 10
		}
	}
}

// pause waits for d, or less if ctx ends: then it returns false.
func pause(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
