package election

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store"
	"github.com/multicoord/multicoord/orchestrator/store/memstore"
	"github.com/multicoord/multicoord/orchestrator/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ttl = 5 * time.Second

// candidate is a campaign in a goroutine.
type candidate struct {
	id     string
	cancel context.CancelFunc
	done   chan error
	// led receives each leadership as it begins; its lead waits for the end of its ctx.
	led chan reign
}

type reign struct {
	Leadership
	ctx   context.Context
	since time.Time
}

// stand starts a candidate whose lead does nothing until its ctx ends.
func stand(t *testing.T, s store.Store, id string) *candidate {
	t.Helper()
	c := &candidate{id: id, done: make(chan error, 1), led: make(chan reign, 100)}
	ctx, cancel := context.WithCancel(t.Context())
	c.cancel = cancel
	go func() {
		c.done <- Campaign(ctx, s, id, ttl, func(ctx context.Context, l Leadership) error {
			c.led <- reign{l, ctx, time.Now()}
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	return c
}

func (c *candidate) leads(t *testing.T, within time.Duration) reign {
	t.Helper()
	select {
	case r := <-c.led:
		return r
	case <-time.After(within):
		require.FailNow(t, c.id+" does not lead")
		return reign{}
	}
}

func (c *candidate) stop(t *testing.T) {
	t.Helper()
	c.cancel()
	require.NoError(t, <-c.done)
}

func leaderOf(t *testing.T, s store.Store) string {
	t.Helper()
	v, err := state.Load(t.Context(), s)
	require.NoError(t, err)
	if v.Leader == nil {
		return ""
	}
	return v.Leader.ID
}

func TestOneLeadsAndTheNextTakesOverAtOnceWhenItResigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		a := stand(t, s, "a")
		first := a.leads(t, time.Second)
		b := stand(t, s, "b")
		time.Sleep(10 * ttl)
		require.Empty(t, b.led, "two leaders")
		require.NoError(t, first.ctx.Err(), "leadership is kept by renewals")
		assert.Equal(t, "a", leaderOf(t, s))

		left := time.Now()
		a.stop(t)
		second := b.leads(t, time.Second)
		assert.Less(t, second.since.Sub(left), 10*time.Millisecond)
		assert.Greater(t, second.Revision(), first.Revision())
		assert.Equal(t, "b", leaderOf(t, s))
		b.stop(t)
		assert.Empty(t, leaderOf(t, s))
	})
}

// cut is a proxy whose calls fail while it is down.
func cut(s store.Store) (*storetest.Proxy, *atomic.Bool) {
	down := &atomic.Bool{}
	return &storetest.Proxy{Store: s, Before: func(context.Context, storetest.Op) error {
		if down.Load() {
			return store.ErrUnavailable
		}
		return nil
	}}, down
}

func TestACutOffLeaderStopsBeforeItsLeaseCanHaveRunOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		proxy, down := cut(s)
		a := stand(t, proxy, "a")
		first := a.leads(t, time.Second)
		b := stand(t, s, "b")
		time.Sleep(3*ttl + 123*time.Millisecond)
		down.Store(true)
		cutAt := time.Now()
		<-first.ctx.Done()
		ended := time.Now()
		require.ErrorIs(t, context.Cause(first.ctx), ErrWindow)
		second := b.leads(t, 2*ttl)
		assert.Greater(t, second.since, ended, "the old leader must have stopped before the new one begins")
		assert.LessOrEqual(t, second.since.Sub(cutAt), ttl)
		down.Store(false)
		time.Sleep(3 * ttl)
		require.Empty(t, a.led)
		a.stop(t)
		b.stop(t)
	})
}

func TestARenewalThatHangsDoesNotKeepTheLeaderInOffice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		var hang atomic.Bool
		free := make(chan struct{})
		proxy := &storetest.Proxy{Store: s, Before: func(_ context.Context, op storetest.Op) error {
			if op == storetest.Renew && hang.Load() {
				<-free // whatever its ctx says
			}
			return nil
		}}
		a := stand(t, proxy, "a")
		first := a.leads(t, time.Second)
		time.Sleep(ttl)
		hang.Store(true)
		last := time.Now()
		<-first.ctx.Done()
		assert.LessOrEqual(t, time.Since(last), trust(ttl))
		close(free)
		a.stop(t)
	})
}

func TestAShortOutageCostsNoLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		proxy, down := cut(s)
		a := stand(t, proxy, "a")
		first := a.leads(t, time.Second)
		for range 20 {
			time.Sleep(ttl)
			down.Store(true)
			time.Sleep(ttl/2 - 100*time.Millisecond)
			down.Store(false)
		}
		require.NoError(t, first.ctx.Err())
		a.stop(t)
	})
}

func TestAFrozenLeaderIsRefusedByTheFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		proxy, down := cut(s)
		a := stand(t, proxy, "a")
		old := a.leads(t, time.Second)
		tx := func(v string) store.Tx {
			return store.Tx{Put: []store.Put{{Key: state.Group(0), Value: []byte(v)}}}
		}
		_, err := old.Commit(t.Context(), tx("old"))
		require.NoError(t, err)
		down.Store(true)
		b := stand(t, s, "b")
		young := b.leads(t, 2*ttl)
		_, err = young.Commit(t.Context(), tx("young"))
		require.NoError(t, err)

		_, err = old.Commit(t.Context(), tx("late"))
		require.ErrorIs(t, err, store.ErrConflict)
		require.ErrorIs(t, err, ErrLost)
		// As if its timer had not fired yet: the process was frozen and its first act is the write.
		down.Store(false)
		asleep := old.Leadership
		var cancel context.CancelCauseFunc
		asleep.ctx, cancel = context.WithCancelCause(t.Context())
		asleep.end = cancel
		_, err = asleep.Commit(t.Context(), tx("late"))
		require.ErrorIs(t, err, store.ErrConflict)
		require.ErrorIs(t, err, ErrLost)
		require.ErrorIs(t, context.Cause(asleep.ctx), ErrLost, "it has learned that it is over")
		st, err := s.Load(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "young", string(st.Items[state.Group(0)].Value))
		a.stop(t)
		b.stop(t)
	})
}

func TestAConflictOfTheCallersOwnDoesNotEndTheLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		a := stand(t, s, "a")
		l := a.leads(t, time.Second)
		_, err := l.Commit(t.Context(), store.Tx{
			If:  []store.Compare{state.GroupUnchanged(0, 4711)},
			Put: []store.Put{{Key: state.Group(0), Value: []byte("x")}},
		})
		require.ErrorIs(t, err, store.ErrConflict)
		require.NotErrorIs(t, err, ErrLost)
		require.NoError(t, l.ctx.Err())
		a.stop(t)
	})
}

func TestWhenTheKeyIsDeletedByHandTheFirstRefusedWriteEndsTheLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		a := stand(t, s, "a")
		first := a.leads(t, time.Second)
		_, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{first.Fence()}, Delete: []string{state.Leader}})
		require.NoError(t, err)
		_, err = first.Commit(t.Context(), store.Tx{Put: []store.Put{{Key: "x"}}})
		require.ErrorIs(t, err, ErrLost)
		second := a.leads(t, ttl)
		require.Error(t, first.ctx.Err())
		_, err = second.Commit(t.Context(), store.Tx{Put: []store.Put{{Key: "x"}}})
		require.NoError(t, err)
		a.stop(t)
	})
}

func TestALostAnswerToTheClaimIsNoDeadlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		var lose atomic.Int32
		lose.Store(2)
		proxy := &storetest.Proxy{Store: s, After: func(_ context.Context, op storetest.Op) error {
			if op == storetest.Commit && lose.Add(-1) >= 0 {
				return store.ErrUnavailable
			}
			return nil
		}}
		a := stand(t, proxy, "a")
		a.leads(t, 2*ttl)
		a.stop(t)
		assert.Empty(t, leaderOf(t, s))
	})
}

func TestWhatLeadReturnsDecidesWhetherTheCampaignGoesOn(t *testing.T) {
	mine := errors.New("mine")
	for _, c := range []struct {
		name  string
		err   error
		again bool
	}{
		{"nil ends it", nil, false},
		{"an error of its own ends it", mine, false},
		{"a conflict begins it anew", fmt.Errorf("turn: %w", store.ErrConflict), true},
		{"an unavailable store begins it anew", fmt.Errorf("turn: %w", store.ErrUnavailable), true},
		{"a lost lease begins it anew", fmt.Errorf("turn: %w", store.ErrLeaseLost), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := memstore.New()
				n := 0
				err := Campaign(t.Context(), s, "a", ttl, func(context.Context, Leadership) error {
					if n++; n == 1 {
						return c.err
					}
					return nil
				})
				if c.again {
					require.NoError(t, err)
					assert.Equal(t, 2, n)
				} else {
					require.Equal(t, c.err, err)
					assert.Equal(t, 1, n)
				}
				assert.Empty(t, leaderOf(t, s), "resigned")
			})
		})
	}
}

func TestCampaignWaitsForLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var returned atomic.Bool
		done := make(chan error, 1)
		led := make(chan struct{})
		go func() {
			done <- Campaign(ctx, memstore.New(), "a", ttl, func(ctx context.Context, _ Leadership) error {
				close(led)
				<-ctx.Done()
				time.Sleep(time.Hour) // it has much to put away
				returned.Store(true)
				return nil
			})
		}()
		<-led
		cancel()
		require.NoError(t, <-done)
		assert.True(t, returned.Load())
	})
}

func TestCandidatesStandThoughTheStoreIsAwayAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proxy, down := cut(memstore.New())
		down.Store(true)
		a := stand(t, proxy, "a")
		time.Sleep(10 * ttl)
		require.Empty(t, a.led)
		down.Store(false)
		a.leads(t, ttl)
		a.stop(t)
	})
}

func TestOfManyCandidatesEachGetsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		const n = 10
		var mu sync.Mutex
		in, turns := 0, map[string]bool{}
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				err := Campaign(t.Context(), s, fmt.Sprint(i), ttl, func(_ context.Context, l Leadership) error {
					mu.Lock()
					in++
					assert.Equal(t, 1, in)
					turns[l.ID()] = true
					mu.Unlock()
					time.Sleep(time.Second)
					mu.Lock()
					in--
					mu.Unlock()
					return nil
				})
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		assert.Len(t, turns, n)
	})
}

func TestTheLeaderIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		a := stand(t, s, "host-1")
		l := a.leads(t, time.Second)
		v, err := state.Load(t.Context(), s)
		require.NoError(t, err)
		assert.Equal(t, cluster.LeaderStatus{ID: "host-1", At: time.Now().UTC()}, *v.Leader)
		assert.Equal(t, v.State.Items[state.Leader].Created, l.Revision())
		a.stop(t)
	})
}
