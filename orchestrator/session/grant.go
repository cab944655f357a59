package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multicoord/multicoord/failover"
	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store"
)

// Now reads CLOCK_BOOTTIME.
func Now() failover.Instant {
	var ts unix.Timespec
	// It cannot fail: every Linux that Go supports has the clock.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return failover.Instant(ts.Nano())
}

// Grant is the right to let one server be primary. Its holder may rely on it until the beginning of the last
// successful renewal plus TTL, minus a margin of its own choice.
type Grant struct {
	grant   cluster.Grant
	lease   store.Lease
	created int64
	began   atomic.Int64
}

// AcquireGrant takes the grant of g.Group for g.Node under g.Term. It succeeds only while nobody holds it and the
// group's state is the one that was read (seen is its Modified revision): a decision that has been replaced
// gives no grant. More comparisons, such as a session's fence, may be added. The grant lives for ttl.
//
// ErrConflict: the grant is held, or the group's state is another one; wait for the next snapshot. After
// ErrUnavailable the grant may exist for up to ttl without a holder.
func AcquireGrant(ctx context.Context, s store.Store, g cluster.Grant, seen int64, ttl time.Duration, more ...store.Compare) (*Grant, error) {
	fail := func(err error) (*Grant, error) {
		return nil, fmt.Errorf("acquire grant of group %d for %s under term %d: %w", g.Group, g.Node, g.Term, err)
	}
	if seen == 0 {
		return fail(errors.New("no decision has been read"))
	}
	began := Now()
	lease, err := s.Lease(ctx, ttl)
	if err != nil {
		return fail(err)
	}
	put, err := state.PutGrant(g, lease.ID())
	var created int64
	if err == nil {
		created, err = s.Commit(ctx, store.Tx{
			If: append([]store.Compare{
				{Key: state.Grant(g.Group), Kind: store.Created, Revision: 0},
				state.GroupUnchanged(g.Group, seen),
			}, more...),
			Put: []store.Put{put},
		})
	}
	if err != nil {
		// The commit may have been carried out all the same; without its lease the grant goes.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(ttl, 2*time.Second))
		defer cancel()
		_ = lease.Revoke(last)
		return fail(err)
	}
	gr := &Grant{grant: g, lease: lease, created: created}
	gr.began.Store(int64(began))
	return gr, nil
}

// AdoptGrant goes on with a grant that an earlier process of this agent has held: it finds exactly g in the state while
// the group's state is the one that was read (seen), and renews the lease on which the grant hangs. g must tell its Machine
// and DataDir, for a server that another machine keeps under the same names is another server. The caller must hold the
// session agents/<g.Host>, so that it is the only heir, and give its fence (more).
//
// After the renewal the grant is written once more as it is, if all of that still holds: a commit without a write may
// be answered by a member of etcd that lags behind (IsTxnSerializable in server/etcdserver/txn holds for it).
//
// ErrConflict: there is no such grant, or a comparison does not hold, or the group's state is another one, or the grant lives for less than ttl (it was
// made under another spec): a holder that counts on more than it has is a second primary some day. ErrLeaseLost: the
// grant has just run out.
func AdoptGrant(ctx context.Context, s store.Store, g cluster.Grant, seen int64, ttl time.Duration, more ...store.Compare) (*Grant, error) {
	fail := func(err error) (*Grant, error) {
		return nil, fmt.Errorf("adopt grant of group %d for %s under term %d: %w", g.Group, g.Node, g.Term, err)
	}
	if g.Machine == "" || g.DataDir == "" {
		return fail(fmt.Errorf("it is not known where it is held: %w", store.ErrConflict))
	}
	want, err := state.Encode(g)
	if err != nil {
		return fail(err)
	}
	st, err := s.Load(ctx)
	if err != nil {
		return fail(err)
	}
	it, ok := st.Items[state.Grant(g.Group)]
	if !ok || it.Lease == 0 || !bytes.Equal(it.Value, want) || seen == 0 || st.Items[state.Group(g.Group)].Modified != seen {
		return fail(store.ErrConflict)
	}
	lease, err := s.Attach(ctx, it.Lease)
	if err != nil {
		return fail(err)
	}
	if lease.TTL() < ttl {
		return fail(fmt.Errorf("it lives for %s only, not for %s, and must run out first: %w", lease.TTL(), ttl, store.ErrConflict))
	}
	gr := &Grant{grant: g, lease: lease, created: it.Created}
	if err := gr.Renew(ctx); err != nil {
		return fail(err)
	}
	_, err = s.Commit(ctx, store.Tx{
		If: append([]store.Compare{
			gr.Fence(),
			{Key: it.Key, Kind: store.Modified, Revision: it.Modified},
			state.GroupUnchanged(g.Group, seen),
		}, more...),
		Put: []store.Put{{Key: it.Key, Value: it.Value, Lease: it.Lease}},
	})
	if err != nil {
		return fail(err)
	}
	return gr, nil
}

// Renew extends the grant by its whole TTL, counted from the instant at which the call began; Began tells it after a
// success. It is a keepalive of our lease and writes nothing. ErrLeaseLost: the right is gone, the server must not be
// primary any more. ErrUnavailable: not known; the right still ends TTL after the last renewal that succeeded.
func (g *Grant) Renew(ctx context.Context) error {
	began := Now()
	if err := g.lease.Renew(ctx); err != nil {
		return fmt.Errorf("renew grant of group %d: %w", g.grant.Group, err)
	}
	g.began.Store(int64(began))
	return nil
}

// Release gives the right back. The server must have been stopped, or have become a standby, before. When it errs
// the grant runs out within its TTL.
func (g *Grant) Release(ctx context.Context) error {
	if err := g.lease.Revoke(ctx); err != nil {
		return fmt.Errorf("release grant of group %d: %w", g.grant.Group, err)
	}
	return nil
}

// Fence is the comparison that holds while the grant lasts.
func (g *Grant) Fence() store.Compare {
	return store.Compare{Key: state.Grant(g.grant.Group), Kind: store.Created, Revision: g.created}
}

// Began is when the call began that made the grant or last renewed it.
func (g *Grant) Began() failover.Instant { return failover.Instant(g.began.Load()) }

// TTL is the life of the grant from Began on, as the store granted it: at least what was asked for. Deadlines are
// computed from this, or from what was asked for when the grant was acquired, never from what the spec says by now.
func (g *Grant) TTL() time.Duration { return g.lease.TTL() }

// Value is what the grant says.
func (g *Grant) Value() cluster.Grant { return g.grant }

// Grants is how an agent gets grants while its session lasts.
type Grants struct {
	Store   store.Store
	Session *Session
}

// Acquire adopts the grant if an earlier process of this agent has left exactly this one behind, and acquires it
// otherwise (AcquireGrant), fenced by the session.
func (gs Grants) Acquire(ctx context.Context, g cluster.Grant, seen int64, ttl time.Duration) (*Grant, error) {
	fence, err := gs.Session.Fence()
	if err != nil {
		return nil, fmt.Errorf("acquire grant of group %d: %w", g.Group, err)
	}
	gr, err := AdoptGrant(ctx, gs.Store, g, seen, ttl, fence)
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrLeaseLost) {
		return AcquireGrant(ctx, gs.Store, g, seen, ttl, fence)
	}
	return gr, err
}
