package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/multicoord/multicoord/orchestrator/store"
)

const (
	// quiet is how long the watch waits for a sign of life before it asks for one, and then how long it waits for
	// the answer before it takes the member for hung and begins again, possibly at another.
	quiet = 1500 * time.Millisecond
	// reloadMin and reloadMax bound the pause after a failure.
	reloadMin = 50 * time.Millisecond
	reloadMax = 1 * time.Second
)

func (s *Store) item(kv *mvccpb.KeyValue) store.Item {
	return store.Item{
		Key:      strings.TrimPrefix(string(kv.Key), s.prefix),
		Value:    kv.Value,
		Created:  kv.CreateRevision,
		Modified: kv.ModRevision,
		Lease:    kv.Lease,
	}
}

// Watch implements store.Store. One goroutine loads, follows and, whatever goes wrong, loads again.
func (s *Store) Watch(ctx context.Context) <-chan store.State {
	out := store.NewLatest[store.State]()
	go func() {
		defer out.Close()
		w := &watch{s: s, out: out, pause: reloadMin}
		for {
			err := w.follow(ctx)
			if ctx.Err() != nil {
				return
			}
			if !w.down {
				w.down = true
				s.cfg.Log.Warn("watch of the agreed state interrupted; trying again", "endpoints", s.where, "err", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(w.pause):
			}
			w.pause = min(2*w.pause, reloadMax)
		}
	}()
	return out.C()
}

type watch struct {
	s    *Store
	out  store.Latest[store.State]
	last int64 // the revision that was sent last
	// down: an interruption was logged; pause is what follows the next one.
	down  bool
	pause time.Duration
}

// up notes that the watch has been set up.
func (w *watch) up() {
	if w.down {
		w.s.cfg.Log.Info("watch of the agreed state works again", "endpoints", w.s.where)
	}
	w.down, w.pause = false, reloadMin
}

// publish sends the state unless it is the one that was sent last. Equal items do not make two states the same: who
// waits for a change must be woken even if the change has been undone.
func (w *watch) publish(revision int64, items map[string]store.Item) {
	if revision != w.last {
		w.last = revision
		w.out.Send(store.State{Revision: revision, Items: maps.Clone(items)})
	}
}

// follow loads the state and keeps it up to date until something breaks.
func (w *watch) follow(ctx context.Context) error {
	st, err := w.s.Load(ctx)
	if err != nil {
		return err
	}
	w.publish(st.Revision, st.Items)
	// A watcher of our own has a stream of its own: closing it closes a stream that hangs.
	watcher := clientv3.NewWatcher(w.s.client)
	defer watcher.Close()
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	// Watch returns only when etcd has answered, or ctx has ended.
	hung := time.AfterFunc(quiet, cancel)
	events := watcher.Watch(ctx, w.s.prefix, clientv3.WithPrefix(), clientv3.WithRev(st.Revision+1), clientv3.WithProgressNotify())
	if !hung.Stop() {
		return fmt.Errorf("watch: no answer from etcd within %s", quiet)
	}
	w.up()
	items := maps.Clone(st.Items)
	alive := time.NewTimer(quiet)
	defer alive.Stop()
	asked := false
	for {
		select {
		case resp, ok := <-events:
			if !ok {
				return errors.New("etcd ended the watch")
			}
			if err := resp.Err(); err != nil {
				return fmt.Errorf("watch: %w", err)
			}
			asked = false
			alive.Reset(quiet)
			if rev := w.s.apply(items, resp.Events); rev > 0 {
				w.publish(rev, items)
			}
		case <-alive.C:
			if asked {
				return fmt.Errorf("watch: no sign of life from etcd for %s", 2*quiet)
			}
			asked = true
			alive.Reset(quiet)
			// It can block as long as the stream does; the end of follow ends it.
			asking.Go(func() { _ = watcher.RequestProgress(ctx) })
		}
	}
}

// apply changes items by events and returns the revision of the last one, 0 if there is none. All events of one
// revision come in one response, so the result is a state that has existed.
func (s *Store) apply(items map[string]store.Item, events []*clientv3.Event) int64 {
	rev := int64(0)
	for _, e := range events {
		it := s.item(e.Kv)
		if e.Type == clientv3.EventTypeDelete {
			delete(items, it.Key)
		} else {
			items[it.Key] = it
		}
		rev = max(rev, e.Kv.ModRevision)
	}
	return rev
}
