package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/multicoord/multicoord/orchestrator/store"
)

// TakenError means that another process lives under the key.
type TakenError struct {
	Key   string
	Value []byte
	lease int64
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s is held by another process%s; stop that one first, or start this one under another name (if it has died, its hold ends by itself within seconds)",
		e.Key, owner(e.Value))
}

// owner describes who wrote a value, from the fields that agents and routers report.
func owner(value []byte) string {
	var who struct {
		Host   string `json:"host"`
		PID    int    `json:"pid"`
		ID     string `json:"id"`
		Listen string `json:"listen"`
	}
	if json.Unmarshal(value, &who) != nil {
		return ""
	}
	var parts []string
	if who.PID != 0 {
		parts = append(parts, fmt.Sprintf("pid %d", who.PID))
	}
	if who.Host != "" {
		parts = append(parts, fmt.Sprintf("host %q", who.Host))
	}
	if who.ID != "" {
		parts = append(parts, fmt.Sprintf("id %q", who.ID))
	}
	if who.Listen != "" {
		parts = append(parts, "listening on "+who.Listen)
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// holding is one stretch of time in which the key is ours.
type holding struct {
	lease   store.Lease
	created int64
	began   time.Time // when the call began that made or renewed the lease
}

// acquire makes the key if it is absent or its owner is dead; *TakenError otherwise.
func (ss *Session) acquire(ctx context.Context) (holding, error) {
	st, err := ss.s.Load(ctx)
	if err != nil {
		return holding{}, err
	}
	if it, ok := st.Items[ss.cfg.Key]; ok {
		if ss.cfg.Dead == nil || !ss.cfg.Dead(it.Value) {
			return holding{}, &TakenError{Key: ss.cfg.Key, Value: it.Value, lease: it.Lease}
		}
		// A deletion of its own: our key must have a creation of its own, which is what fences the dead one's writes.
		_, err := ss.s.Commit(ctx, store.Tx{
			If:     []store.Compare{{Key: ss.cfg.Key, Kind: store.Modified, Revision: it.Modified}},
			Delete: []string{ss.cfg.Key},
		})
		if err != nil {
			return holding{}, fmt.Errorf("take over from a dead process%s: %w", owner(it.Value), err)
		}
	}
	h := holding{began: time.Now()}
	if h.lease, err = ss.s.Lease(ctx, ss.cfg.TTL); err != nil {
		return holding{}, err
	}
	ss.mu.Lock()
	value := ss.value
	ss.mu.Unlock()
	h.created, err = ss.s.Commit(ctx, store.Tx{
		If:  []store.Compare{{Key: ss.cfg.Key, Kind: store.Created, Revision: 0}},
		Put: []store.Put{{Key: ss.cfg.Key, Value: value, Lease: h.lease.ID()}},
	})
	if err == nil {
		return h, nil
	}
	// The commit may have been carried out all the same; without its lease the key goes.
	ss.revoke(ctx, h.lease)
	if errors.Is(err, store.ErrConflict) {
		return holding{}, &TakenError{Key: ss.cfg.Key}
	}
	return holding{}, err
}

func (ss *Session) revoke(ctx context.Context, l store.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(l.TTL(), 2*time.Second))
	defer cancel()
	if err := l.Revoke(ctx); err != nil {
		ss.cfg.Log.Debug("lease of the session not revoked; it runs out by itself", "key", ss.cfg.Key, "err", err)
	}
}

// outwait tries again whenever the key goes, until the other must have lost it if it had died.
func (ss *Session) outwait(ctx context.Context, taken *TakenError) (holding, error) {
	ttl := store.WholeSeconds(ss.cfg.TTL)
	if taken.lease != 0 {
		if l, err := ss.s.Attach(ctx, taken.lease); err == nil {
			ttl = l.TTL()
		}
	}
	ss.cfg.Log.Info("waiting for the lease of an earlier process to run out", "key", ss.cfg.Key, "owner", strings.TrimSpace(owner(taken.Value)), "at_most", ttl+graceAfterTTL)
	bounded, cancel := context.WithTimeoutCause(ctx, ttl+graceAfterTTL, taken)
	defer cancel()
	h, err := ss.retake(bounded)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		return holding{}, taken
	}
	return h, err
}

// retake acquires the key as soon as it is free; it errs only when ctx has ended.
func (ss *Session) retake(ctx context.Context) (holding, error) {
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	states := ss.s.Watch(watch)
	said := ""
	for {
		var free bool
		select {
		case <-ctx.Done():
			return holding{}, ctx.Err()
		case st, ok := <-states:
			if !ok {
				<-ctx.Done()
				return holding{}, ctx.Err()
			}
			it, taken := st.Items[ss.cfg.Key]
			free = !taken || (ss.cfg.Dead != nil && ss.cfg.Dead(it.Value))
			if !free {
				ss.lost(&TakenError{Key: ss.cfg.Key, Value: it.Value})
			}
		case <-time.After(ss.cfg.TTL / 3):
			free = true // acquire looks for itself
		}
		if !free {
			continue
		}
		h, err := ss.acquire(ctx)
		if err == nil {
			return h, nil
		}
		if ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			ss.cfg.Log.Warn("session not held; trying again", "key", ss.cfg.Key, "err", err)
		}
		ss.lost(err)
	}
}

// lost notes why the session is not held, if it has been opened.
func (ss *Session) lost(err error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.cancel == nil || (!ss.status.Held && ss.status.Err != nil && ss.status.Err.Error() == err.Error()) {
		return
	}
	ss.status = Status{Err: err}
	ss.changes.Send(ss.status)
}

// keep renews the holding, and takes the key again when it was lost, until ctx ends.
func (ss *Session) keep(ctx context.Context, h holding) {
	for {
		err := ss.hold(ctx, h)
		if ctx.Err() != nil {
			return
		}
		ss.cfg.Log.Warn("session lost", "key", ss.cfg.Key, "err", err)
		ss.lost(err)
		ss.revoke(ctx, h.lease)
		if h, err = ss.retake(ctx); err != nil {
			return // ctx has ended
		}
		ss.cfg.Log.Info("session held again", "key", ss.cfg.Key)
		ss.held(h)
	}
}

// hold renews until the holding is lost.
func (ss *Session) hold(ctx context.Context, h holding) error {
	ttl := h.lease.TTL()
	began, wait := h.began, ttl/3
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ss.verify:
			if err := ss.check(ctx, h); err != nil {
				return err
			}
			continue
		case <-time.After(wait):
		}
		now := time.Now()
		call, cancel := context.WithTimeout(ctx, ttl/3)
		err := h.lease.Renew(call)
		cancel()
		switch {
		case err == nil:
			began, wait = now, ttl/3
			if !ss.Status().Held {
				ss.cfg.Log.Info("session renewed again", "key", ss.cfg.Key)
				ss.held(h)
			}
		case errors.Is(err, store.ErrLeaseLost):
			return err
		default:
			wait = ttl / 10
			if time.Since(began) > ttl {
				// The lease may live on if etcd is away altogether; renewals go on and will tell.
				ss.lost(fmt.Errorf("not renewed for %s: %w", ttl, err))
			}
		}
	}
}

// check asks the store whether the key is still ours.
func (ss *Session) check(ctx context.Context, h holding) error {
	st, err := ss.s.Load(ctx)
	if err != nil {
		return nil //nolint:nilerr // not known; the next renewal or commit asks again
	}
	it, ok := st.Items[ss.cfg.Key]
	switch {
	case !ok:
		return fmt.Errorf("the key was deleted: %w", store.ErrLeaseLost)
	case it.Created != h.created:
		return &TakenError{Key: ss.cfg.Key, Value: it.Value}
	}
	return nil
}
