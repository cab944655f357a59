package state

import (
	"context"
	"log/slog"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/store"
)

// View is a snapshot with the items that it was made from (for history, secrets and leases).
type View struct {
	cluster.Snapshot
	State store.State
	// Err names reports that could not be understood and are missing in the snapshot; nil when there are none.
	Err error
}

// Watch sends the snapshot at once and after every change, newest only (see store.Store.Watch), until ctx ends.
//
// When something that was decided cannot be understood (see Usable), nothing is sent until that is mended: readers
// go on with the last good snapshot. A report that cannot be understood counts as missing. Both are logged once.
func Watch(ctx context.Context, s store.Store, log *slog.Logger) <-chan cluster.Snapshot {
	return follow(ctx, s, log, func(v View) cluster.Snapshot { return v.Snapshot })
}

// WatchViews is Watch for those who need the items too.
func WatchViews(ctx context.Context, s store.Store, log *slog.Logger) <-chan View {
	return follow(ctx, s, log, func(v View) View { return v })
}

func follow[T any](ctx context.Context, s store.Store, log *slog.Logger, pick func(View) T) <-chan T {
	out := store.NewLatest[T]()
	states := s.Watch(ctx)
	go func() {
		defer out.Close()
		logged := ""
		for st := range states {
			snap, err := Decode(st)
			usable := Usable(err)
			if err == nil {
				logged = ""
			} else if msg := err.Error(); msg != logged {
				logged = msg
				if usable {
					log.Warn("reports in the agreed state cannot be read and count as missing", "err", err)
				} else {
					log.Error("agreed state cannot be read; going on with the last one that could", "err", err)
				}
			}
			if usable {
				out.Send(pick(View{Snapshot: snap, State: st, Err: err}))
			}
		}
	}()
	return out.C()
}

// Load reads the state once. With an err for which Usable is true the view is complete but for broken reports.
func Load(ctx context.Context, s store.Store) (View, error) {
	st, err := s.Load(ctx)
	if err != nil {
		return View{}, err
	}
	snap, err := Decode(st)
	if !Usable(err) {
		return View{}, err
	}
	return View{Snapshot: snap, State: st, Err: err}, nil
}
