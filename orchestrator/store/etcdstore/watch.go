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
	quiet = 2 * time.Second
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
		w := &watch{s: s, out: out}
		pause, down := reloadMin, false
		for {
			came, err := w.follow(ctx)
			if ctx.Err() != nil {
				return
			}
			if came {
				if down {
					s.cfg.Log.Info("watch of the agreed state works again", "endpoints", s.where)
				}
				pause, down = reloadMin, false
			} else if !down {
				s.cfg.Log.Warn("watch of the agreed state interrupted; trying again", "endpoints", s.where, "err", err)
				down = true
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, reloadMax)
		}
	}()
	return out.C()
}

type watch struct {
	s    *Store
	out  store.Latest[store.State]
	last int64 // the revision that was sent last
}

// publish sends the state unless it is the one that was sent last. Equal items do not make two states the same: who
// waits for a change must be woken even if the change has been undone.
func (w *watch) publish(revision int64, items map[string]store.Item) {
	if revision != w.last {
		w.last = revision
		w.out.Send(store.State{Revision: revision, Items: maps.Clone(items)})
	}
}

// follow loads the state and keeps it up to date until something breaks. It tells whether it got as far as loading
// and watching.
func (w *watch) follow(ctx context.Context) (came bool, err error) {
	st, err := w.s.Load(ctx)
	if err != nil {
		return false, err
	}
	w.publish(st.Revision, st.Items)
	// A watcher of our own has a stream of its own: closing it closes a stream that hangs.
	watcher := clientv3.NewWatcher(w.s.client)
	defer watcher.Close()
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	events := watcher.Watch(ctx, w.s.prefix, clientv3.WithPrefix(), clientv3.WithRev(st.Revision+1), clientv3.WithCreatedNotify(), clientv3.WithProgressNotify())
	items := maps.Clone(st.Items)
	alive := time.NewTimer(2 * quiet)
	defer alive.Stop()
	asked := true // the notice that the watch has been created is awaited
	for {
		select {
		case resp, ok := <-events:
			if !ok {
				return came, errors.New("etcd ended the watch")
			}
			if err := resp.Err(); err != nil {
				return came, fmt.Errorf("watch: %w", err)
			}
			came, asked = true, false
			alive.Reset(quiet)
			if rev := w.s.apply(items, resp.Events); rev > 0 {
				w.publish(rev, items)
			}
		case <-alive.C:
			if asked {
				return came, fmt.Errorf("watch: no sign of life from etcd for %s", 2*quiet)
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
