package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/multicoord/multicoord/orchestrator/store"
)

// Config describes a session.
type Config struct {
	// Key is the presence ("agents/h1"), Value what others see there.
	Key   string
	Value []byte
	// TTL is how long the key outlives the process (at least 1 s).
	TTL time.Duration
	Log *slog.Logger
	// Dead tells from the value of the key that its owner has surely died (its process on this host is gone). Then the
	// key is taken over at once. Nil: nobody is known to be dead.
	Dead func(value []byte) bool
	// Wait makes Open wait for the lease of an owner that may have died: for its TTL and two seconds more. After that
	// the owner lives, and Open returns a TakenError. Without Wait it does so at once.
	Wait bool
}

// graceAfterTTL is how late a store may remove the keys of a lease that has run out.
const graceAfterTTL = 2 * time.Second

// Status is how the session stands.
type Status struct {
	// Held: the key is ours, as far as is known.
	Held bool
	// Created is the revision of the key's creation, Lease the lease on which our keys hang; both change with each
	// new holding.
	Created, Lease int64
	// Err says why the session is not held.
	Err error
}

// Session is a presence that is kept up until Close.
type Session struct {
	s   store.Store
	cfg Config

	mu     sync.Mutex
	value  []byte
	status Status
	lease  store.Lease // of the last holding
	closed bool
	// verify makes the keeper look whether the key is still ours.
	verify chan struct{}

	changes store.Latest[Status]
	cancel  context.CancelFunc
	kept    sync.WaitGroup
}

// Open makes the key and keeps it. It errs with *TakenError when another lives under the key, or with an error of
// the store. ctx bounds Open only; Close ends the session.
func Open(ctx context.Context, s store.Store, cfg Config) (*Session, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ss := &Session{s: s, cfg: cfg, value: slices.Clone(cfg.Value), verify: make(chan struct{}, 1), changes: store.NewLatest[Status]()}
	h, err := ss.acquire(ctx)
	var taken *TakenError
	if cfg.Wait && errors.As(err, &taken) {
		h, err = ss.outwait(ctx, taken)
	}
	if err != nil {
		return nil, fmt.Errorf("open session %s: %w", cfg.Key, err)
	}
	ss.held(h)
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ss.cancel = cancel
	ss.kept.Go(func() { ss.keep(life, h) })
	return ss, nil
}

// Status tells how the session stands.
func (ss *Session) Status() Status {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.status
}

// Changes sends the status after each change, newest only, beginning with the first holding. It is closed by Close.
func (ss *Session) Changes() <-chan Status { return ss.changes.C() }

// held notes a holding, or that it goes on.
func (ss *Session) held(h holding) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.lease = h.lease
	ss.status = Status{Held: true, Created: h.created, Lease: h.lease.ID()}
	ss.changes.Send(ss.status)
}

// current is the present holding; ErrLeaseLost if there is none.
func (ss *Session) current() (Status, error) {
	st := ss.Status()
	if !st.Held {
		return st, fmt.Errorf("session %s: %w: %w", ss.cfg.Key, store.ErrLeaseLost, st.Err)
	}
	return st, nil
}

func (ss *Session) fence(st Status) store.Compare {
	return store.Compare{Key: ss.cfg.Key, Kind: store.Created, Revision: st.Created}
}

// Fence is the comparison that holds while the present holding lasts; ErrLeaseLost if there is none.
func (ss *Session) Fence() (store.Compare, error) {
	st, err := ss.current()
	return ss.fence(st), err
}

// Commit applies tx if its comparisons hold and the session is held, in one step; errors as store.Store.Commit.
func (ss *Session) Commit(ctx context.Context, tx store.Tx) (int64, error) {
	st, err := ss.current()
	if err != nil {
		return 0, err
	}
	return ss.commit(ctx, st, tx)
}

func (ss *Session) commit(ctx context.Context, st Status, tx store.Tx) (int64, error) {
	tx.If = append(slices.Clip(tx.If), ss.fence(st))
	rev, err := ss.s.Commit(ctx, tx)
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrLeaseLost) {
		select {
		case ss.verify <- struct{}{}:
		default:
		}
	}
	if err != nil {
		return 0, fmt.Errorf("session %s: %w", ss.cfg.Key, err)
	}
	return rev, nil
}

// Put writes a key on the session's lease: it goes when the session does. After a new holding (see Changes) it has
// to be put again.
func (ss *Session) Put(ctx context.Context, key string, value []byte) error {
	st, err := ss.current()
	if err != nil {
		return err
	}
	_, err = ss.commit(ctx, st, store.Tx{Put: []store.Put{{Key: key, Value: value, Lease: st.Lease}}})
	return err
}

// Update changes the value of the session's own key, also for later holdings.
func (ss *Session) Update(ctx context.Context, value []byte) error {
	ss.mu.Lock()
	ss.value = slices.Clone(value)
	ss.mu.Unlock()
	return ss.Put(ctx, ss.cfg.Key, value)
}

// Delete removes a key that the session has put.
func (ss *Session) Delete(ctx context.Context, key string) error {
	_, err := ss.Commit(ctx, store.Tx{Delete: []string{key}})
	return err
}

// Close ends the session and, as far as the store can be reached before ctx ends, removes its keys at once;
// otherwise they go within the TTL and the error says why. It may be called again.
func (ss *Session) Close(ctx context.Context) error {
	ss.cancel()
	ss.kept.Wait()
	ss.mu.Lock()
	lease, again := ss.lease, ss.closed
	if !again {
		ss.closed = true
		ss.status = Status{Err: errors.New("closed")}
		ss.changes.Send(ss.status)
		ss.changes.Close()
	}
	ss.mu.Unlock()
	if again {
		return nil
	}
	if err := lease.Revoke(ctx); err != nil {
		return fmt.Errorf("close session %s: %w", ss.cfg.Key, err)
	}
	return nil
}
