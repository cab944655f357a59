package agent

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/failover"
	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/session"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store"
	"github.com/multicoord/multicoord/orchestrator/store/memstore"
)

const grantTTL = 6 * time.Second

// flaky is a store whose leases can be made unreachable.
type flaky struct {
	store.Store
	mu   sync.Mutex
	away bool
}

func (f *flaky) set(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
}

func (f *flaky) Acquire(ctx context.Context, g cluster.Grant, revision int64, ttl time.Duration) (Grant, error) {
	held, err := session.AcquireGrant(ctx, f.Store, g, revision, ttl)
	if err != nil {
		return nil, err
	}
	return flakyGrant{held, f}, nil
}

type flakyGrant struct {
	*session.Grant
	f *flaky
}

func (g flakyGrant) Renew(ctx context.Context) error {
	g.f.mu.Lock()
	away := g.f.away
	g.f.mu.Unlock()
	if away {
		return store.ErrUnavailable
	}
	return g.Grant.Renew(ctx)
}

// rightUnderTest is a right with what it told the guard.
type rightUnderTest struct {
	*right
	grants *flaky
	began  time.Time

	mu     sync.Mutex
	told   []failover.Right
	fenced []string
}

func (r *rightUnderTest) last() (told failover.Right, fenced int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.told) > 0 {
		told = r.told[len(r.told)-1]
	}
	return told, len(r.fenced)
}

// newRight makes a group under term 3 and a right to it. The host's clock is the bubble's.
func newRight(t *testing.T) (*rightUnderTest, int64) {
	st := memstore.New()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	put, err := state.PutGroup(cluster.GroupState{ID: 1, Phase: cluster.Running, Primary: "a", Term: 3})
	require.NoError(t, err)
	revision, err := st.Commit(ctx, store.Tx{If: []store.Compare{state.GroupUnchanged(1, 0)}, Put: []store.Put{put}})
	require.NoError(t, err)
	u := &rightUnderTest{grants: &flaky{Store: st}, began: time.Now()}
	u.right = &right{
		log: slog.New(slog.DiscardHandler), life: ctx, grants: u.grants, node: cluster.Grant{Group: 1, Node: "a", Host: "h"}, ttl: grantTTL,
		clock: func() failover.Instant { return failover.Instant(time.Since(u.began)) + 1 },
		extend: func(_ context.Context, r failover.Right) error {
			u.mu.Lock()
			defer u.mu.Unlock()
			u.told = append(u.told, r)
			return nil
		},
		fence: func(_ context.Context, why string) {
			u.mu.Lock()
			defer u.mu.Unlock()
			u.fenced = append(u.fenced, why)
		},
		nudge: func() {},
	}
	return u, revision
}

func TestAHeldRightIsRenewedAndToldToTheGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, revision := newRight(t)
		require.NoError(t, r.acquire(t.Context(), 3, revision))
		<-time.After(10 * grantTTL)
		synctest.Wait()
		told, fenced := r.last()
		require.Zero(t, fenced)
		require.Equal(t, uint64(3), told.Term)
		require.Greater(t, told.Deadline, r.clock(), "the guard's deadline lies ahead")
		require.LessOrEqual(t, told.Deadline, r.clock().Add(grantTTL-failover.Margin(grantTTL)), "and never beyond the lease, less the margin")
		require.NoError(t, r.release(t.Context()))
		require.Zero(t, r.current())
	})
}

func TestARightEndsByTheHostsOwnClockWhenTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, revision := newRight(t)
		require.NoError(t, r.acquire(t.Context(), 3, revision))
		<-time.After(grantTTL / 6)
		r.grants.set(true)
		<-time.After(grantTTL - failover.Margin(grantTTL))
		synctest.Wait()
		require.Zero(t, r.current(), "nobody says so, but the time has run out")
		_, fenced := r.last()
		require.Equal(t, 1, fenced, "the agent fences too, in case the guard is hung")
		r.grants.set(false)
		<-time.After(grantTTL)
		synctest.Wait()
		require.NoError(t, r.acquire(t.Context(), 3, revision), "and the grant can be acquired anew")
		require.Equal(t, uint64(3), r.current().Term)
		require.NoError(t, r.release(t.Context()))
	})
}

func TestAShortAbsenceOfTheStoreChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, revision := newRight(t)
		require.NoError(t, r.acquire(t.Context(), 3, revision))
		r.grants.set(true)
		<-time.After(grantTTL / 2)
		require.Equal(t, uint64(3), r.current().Term)
		r.grants.set(false)
		<-time.After(5 * grantTTL)
		synctest.Wait()
		require.Equal(t, uint64(3), r.current().Term)
		_, fenced := r.last()
		require.Zero(t, fenced)
		require.NoError(t, r.release(t.Context()))
	})
}

func TestALongerTTLInTheSpecDoesNotStretchAGrantThatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, revision := newRight(t)
		require.NoError(t, r.acquire(t.Context(), 3, revision))
		r.setTTL(10 * grantTTL)
		require.NoError(t, r.acquire(t.Context(), 3, revision))
		told, _ := r.last()
		require.LessOrEqual(t, told.Deadline, r.clock().Add(grantTTL-failover.Margin(grantTTL)))
		require.NoError(t, r.release(t.Context()))
	})
}

func TestAnOvertakenDecisionGetsNoGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, revision := newRight(t)
		put, err := state.PutGroup(cluster.GroupState{ID: 1, Phase: cluster.Running, Primary: "b", Term: 4})
		require.NoError(t, err)
		_, err = r.grants.Commit(t.Context(), store.Tx{If: []store.Compare{state.GroupUnchanged(1, revision)}, Put: []store.Put{put}})
		require.NoError(t, err)
		require.ErrorIs(t, r.acquire(t.Context(), 3, revision), store.ErrConflict)
		require.Zero(t, r.current())
	})
}

func TestAGrantIsNotSharedByTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, revision := newRight(t)
		require.NoError(t, r.acquire(t.Context(), 3, revision))
		_, err := r.grants.Acquire(t.Context(), cluster.Grant{Group: 1, Node: "b", Host: "g", Term: 3}, revision, grantTTL)
		require.ErrorIs(t, err, store.ErrConflict)
		require.NoError(t, r.release(t.Context()))
		_, err = r.grants.Acquire(t.Context(), cluster.Grant{Group: 1, Node: "b", Host: "g", Term: 3}, revision, grantTTL)
		require.NoError(t, err, "released, it is free at once")
	})
}
