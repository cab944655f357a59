// Package control is the orchestrator's turn: observe → decide → commit, by whoever leads.
//
// Level: service. It uses the store, the election and the pure deciders; it is wired in cmd.
//
// Duties: campaign for leadership; while leading, look at every new state, ask reconcile what follows, and commit
// that, fenced by the leadership and by the revision the decision was made from. A commit that lost a race is
// dropped: the next state brings a new decision.
//
// It never touches a server, and keeps nothing in memory that is not in the agreed state: a leader may be killed at
// any moment, and the next one goes on.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/multicoord/multicoord/orchestrator/election"
	"github.com/multicoord/multicoord/orchestrator/reconcile"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store"
)

// TTL is the life of the leadership without renewal. A leader that dies is replaced after that; nothing in the data
// path waits for a leader.
const TTL = 5 * time.Second

// again is how long the leader rests before it looks again without a change of the state: decisions depend on the
// state alone, but a commit may have failed for want of the store.
const again = 2 * time.Second

// Plane is one process of the control plane. Any number may run; one leads.
type Plane struct {
	log     *slog.Logger
	store   store.Store
	id      string
	leading atomic.Bool
	commits atomic.Int64
}

// New makes a member of the control plane. The id names it in the agreed state and must be unique.
func New(log *slog.Logger, st store.Store, id string) *Plane {
	return &Plane{log: log.With("part", "control"), store: st, id: id}
}

// Leading tells whether this process leads now.
func (p *Plane) Leading() bool { return p.leading.Load() }

// Decisions is the number of decisions that this process has committed.
func (p *Plane) Decisions() int64 { return p.commits.Load() }

// Run campaigns and leads until ctx ends, and then resigns so that another one takes over at once.
func (p *Plane) Run(ctx context.Context) error {
	if err := election.Campaign(ctx, p.store, p.id, TTL, p.lead, election.WithLog(p.log)); ctx.Err() == nil {
		return err
	}
	return nil
}

// lead runs while this process leads; ctx ends with the right to act.
func (p *Plane) lead(ctx context.Context, l election.Leadership) error {
	p.log.Info("leading", "id", p.id)
	p.leading.Store(true)
	defer p.leading.Store(false)
	tick := time.NewTicker(again)
	defer tick.Stop()
	views := state.WatchViews(ctx, p.store, p.log)
	var last state.View
	var known bool
	for {
		select {
		case <-ctx.Done():
			return nil
		case v, ok := <-views:
			if !ok {
				return nil
			}
			last, known = v, true
		case <-tick.C:
		}
		if known {
			p.turn(ctx, l, last)
		}
	}
}

// turn decides once and commits what was decided, each group by itself.
func (p *Plane) turn(ctx context.Context, l election.Leadership, v state.View) {
	for _, c := range reconcile.Decide(v.Snapshot, time.Now()) {
		err := p.commit(ctx, l, v.State, c)
		switch {
		case err == nil:
			p.commits.Add(1)
			p.log.Info("decided", "group", c.Group.ID, "phase", c.Group.Phase, "primary", c.Group.Primary, "term", c.Group.Term)
		case errors.Is(err, store.ErrConflict):
			p.log.Debug("decision overtaken", "group", c.Group.ID)
		case ctx.Err() != nil:
			return
		default:
			p.log.Warn("decision not committed", "group", c.Group.ID, "err", err)
		}
	}
}

func (p *Plane) commit(ctx context.Context, l election.Leadership, st store.State, c reconcile.Change) error {
	put, err := state.PutGroup(c.Group)
	if err != nil {
		return err
	}
	tx := store.Tx{
		If:  []store.Compare{state.GroupUnchanged(c.Group.ID, c.IfRevision)},
		Put: []store.Put{put},
	}
	if c.Event != nil {
		if err := state.Append(&tx, st, state.KeepEvents, *c.Event); err != nil {
			return err
		}
	}
	if _, err := l.Commit(ctx, tx); err != nil {
		return fmt.Errorf("commit group %d: %w", c.Group.ID, err)
	}
	return nil
}
