// Package memstore is the agreed state in memory, with the semantics of etcd: revisions, fenced commits, leases
// that run out, watches that send the newest state only.
//
// Level: adapter for tests of the layers above. It uses the time package alone, so testing/synctest drives it.
//
// It never goes to disk and is not for production.
package memstore

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/multicoord/multicoord/orchestrator/store"
)

// Store implements store.Store. The zero value is not usable; see New.
type Store struct {
	mu       sync.Mutex
	revision int64
	items    map[string]store.Item
	leases   map[int64]*lease
	lastID   int64
	watchers map[*watcher]struct{}
}

type watcher struct {
	out store.Latest[store.State]
}

// New makes an empty store at revision 1.
func New() *Store {
	return &Store{
		revision: 1,
		items:    map[string]store.Item{},
		leases:   map[int64]*lease{},
		watchers: map[*watcher]struct{}{},
	}
}

// Load implements store.Store.
func (s *Store) Load(ctx context.Context) (store.State, error) {
	if err := ended(ctx, "load"); err != nil {
		return store.State{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state(), nil
}

func (s *Store) state() store.State {
	return store.State{Revision: s.revision, Items: s.items}.Clone()
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context) <-chan store.State {
	w := &watcher{out: store.NewLatest[store.State]()}
	s.mu.Lock()
	s.watchers[w] = struct{}{}
	w.out.Send(s.state())
	s.mu.Unlock()
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, w)
		w.out.Close()
	})
	return w.out.C()
}

// changed tells the watchers. The caller holds the lock.
func (s *Store) changed() {
	for w := range s.watchers {
		w.out.Send(s.state())
	}
}

// Commit implements store.Store.
func (s *Store) Commit(ctx context.Context, tx store.Tx) (int64, error) {
	if err := tx.Check(); err != nil {
		return 0, err
	}
	if err := ended(ctx, "commit"); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range tx.If {
		it := s.items[c.Key]
		have := it.Modified
		if c.Kind == store.Created {
			have = it.Created
		}
		if have != c.Revision {
			return 0, fmt.Errorf("commit: key %q: %w", c.Key, store.ErrConflict)
		}
	}
	for _, p := range tx.Put {
		if _, ok := s.leases[p.Lease]; p.Lease != 0 && !ok {
			return 0, fmt.Errorf("commit: put %q: %w", p.Key, store.ErrLeaseLost)
		}
	}
	s.apply(tx)
	return s.revision, nil
}

func (s *Store) apply(tx store.Tx) {
	next, wrote := s.revision+1, false
	for _, key := range tx.Delete {
		if _, ok := s.items[key]; ok {
			delete(s.items, key)
			wrote = true
		}
	}
	for _, p := range tx.Put {
		it := store.Item{Key: p.Key, Value: append([]byte(nil), p.Value...), Created: next, Modified: next, Lease: p.Lease}
		if old, ok := s.items[p.Key]; ok {
			it.Created = old.Created
		}
		s.items[p.Key] = it
		wrote = true
	}
	if wrote {
		s.revision = next
		s.changed()
	}
}

func ended(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w: %w", op, store.ErrUnavailable, err)
	}
	return nil
}

// lease implements store.Lease.
type lease struct {
	s   *Store
	id  int64
	ttl time.Duration
	// expires and timer are guarded by the store's lock.
	expires time.Time
	timer   *time.Timer
}

// Lease implements store.Store.
func (s *Store) Lease(ctx context.Context, ttl time.Duration) (store.Lease, error) {
	if err := ended(ctx, "make lease"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastID++
	l := &lease{s: s, id: s.lastID, ttl: store.WholeSeconds(ttl)}
	l.expires = time.Now().Add(l.ttl)
	l.timer = time.AfterFunc(l.ttl, l.expire)
	s.leases[l.id] = l
	return l, nil
}

// Attach implements store.Store.
func (s *Store) Attach(ctx context.Context, id int64) (store.Lease, error) {
	if err := ended(ctx, "attach to lease"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.leases[id]
	if !ok {
		return nil, fmt.Errorf("attach to lease %x: %w", id, store.ErrLeaseLost)
	}
	return l, nil
}

func (l *lease) ID() int64          { return l.id }
func (l *lease) TTL() time.Duration { return l.ttl }

func (l *lease) Renew(ctx context.Context) error {
	if err := ended(ctx, "renew lease"); err != nil {
		return err
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if _, ok := l.s.leases[l.id]; !ok {
		return fmt.Errorf("renew lease %x: %w", l.id, store.ErrLeaseLost)
	}
	l.expires = time.Now().Add(l.ttl)
	l.timer.Reset(l.ttl)
	return nil
}

func (l *lease) Revoke(ctx context.Context) error {
	if err := ended(ctx, "revoke lease"); err != nil {
		return err
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.end()
	return nil
}

func (l *lease) expire() {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	// A renewal may have won the race against the timer; the timer has been set anew then.
	if time.Now().Before(l.expires) {
		return
	}
	l.end()
}

// end removes the lease and its keys. The caller holds the lock.
func (l *lease) end() {
	if _, ok := l.s.leases[l.id]; !ok {
		return
	}
	delete(l.s.leases, l.id)
	l.timer.Stop()
	var gone store.Tx
	for key, it := range l.s.items {
		if it.Lease == l.id {
			gone.Delete = append(gone.Delete, key)
		}
	}
	l.s.apply(gone)
}

var _ store.Store = (*Store)(nil)
