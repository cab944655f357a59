package session

import (
	"context"
	"encoding/json"
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

func agent(pid int) []byte {
	b, _ := json.Marshal(cluster.AgentStatus{Host: "h1", PID: pid})
	return b
}

func config(pid int) Config { return Config{Key: state.Agent("h1"), Value: agent(pid), TTL: ttl} }

func begin(t *testing.T, s store.Store, cfg Config) *Session {
	t.Helper()
	ss, err := Open(t.Context(), s, cfg)
	require.NoError(t, err)
	return ss
}

func load(t *testing.T, s store.Store) store.State {
	t.Helper()
	st, err := s.Load(t.Context())
	require.NoError(t, err)
	return st
}

// die ends the renewals without giving anything back, as kill -9 does.
func (ss *Session) die() {
	ss.cancel()
	ss.kept.Wait()
}

// becomes waits for a status.
func becomes(t *testing.T, ss *Session, held bool) Status {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case st := <-ss.Changes():
			if st.Held == held {
				return st
			}
		case <-late:
			require.FailNow(t, "the status did not come")
		}
	}
}

func cut(s store.Store) (*storetest.Proxy, *atomic.Bool) {
	down := &atomic.Bool{}
	return &storetest.Proxy{Store: s, Before: func(context.Context, storetest.Op) error {
		if down.Load() {
			return store.ErrUnavailable
		}
		return nil
	}}, down
}

func TestASessionIsKeptUntilItIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		ss := begin(t, s, config(1))
		st := becomes(t, ss, true)
		require.NoError(t, ss.Put(t.Context(), state.Node("n1"), []byte("report")))
		time.Sleep(20 * ttl)
		items := load(t, s).Items
		require.Len(t, items, 2)
		assert.Equal(t, st.Created, items[state.Agent("h1")].Created)
		assert.Equal(t, st.Lease, items[state.Node("n1")].Lease)
		require.NoError(t, ss.Delete(t.Context(), state.Node("n1")))
		require.NoError(t, ss.Update(t.Context(), agent(11)))
		items = load(t, s).Items
		require.Len(t, items, 1)
		assert.Equal(t, agent(11), items[state.Agent("h1")].Value)
		assert.Equal(t, st.Created, items[state.Agent("h1")].Created)

		require.NoError(t, ss.Close(t.Context()))
		assert.Empty(t, load(t, s).Items, "gone at once")
		require.NoError(t, ss.Close(t.Context()))
		assert.False(t, ss.Status().Held)
		require.ErrorIs(t, ss.Put(t.Context(), "x", nil), store.ErrLeaseLost)
		for range ss.Changes() {
			continue
		}
	})
}

func TestASecondLiveOwnerIsRefusedByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		first := begin(t, s, config(4711))
		_, err := Open(t.Context(), s, config(2))
		var taken *TakenError
		require.ErrorAs(t, err, &taken)
		require.ErrorContains(t, err, "agents/h1")
		require.ErrorContains(t, err, "pid 4711")
		require.ErrorContains(t, err, `host "h1"`)
		assert.Equal(t, agent(4711), taken.Value)

		waiting := config(2)
		waiting.Wait = true
		began := time.Now()
		_, err = Open(t.Context(), s, waiting)
		require.ErrorAs(t, err, &taken)
		assert.InDelta(t, ttl.Seconds(), time.Since(began).Seconds(), 3, "no longer than a dead one's lease could last")
		assert.True(t, first.Status().Held)
		require.NoError(t, first.Close(t.Context()))
		require.NoError(t, begin(t, s, config(2)).Close(t.Context()))
	})
}

func TestARestartedOwnerWaitsForTheLeaseOfTheKilledOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		old := begin(t, s, config(1))
		old.die()
		cfg := config(2)
		cfg.Wait = true
		began := time.Now()
		ss := begin(t, s, cfg)
		assert.LessOrEqual(t, time.Since(began), ttl+time.Second)
		assert.Greater(t, ss.Status().Created, old.Status().Created)
		_, err := old.Commit(t.Context(), store.Tx{Put: []store.Put{{Key: "x"}}})
		require.Error(t, err, "the old one's writes are fenced")
		require.NoError(t, ss.Close(t.Context()))
	})
}

func TestAnOwnerThatIsKnownToBeDeadIsReplacedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		old := begin(t, s, config(1))
		require.NoError(t, old.Put(t.Context(), state.Node("n1"), []byte("old")))
		old.die()
		cfg := config(2)
		cfg.Dead = func(value []byte) bool {
			var a cluster.AgentStatus
			return json.Unmarshal(value, &a) == nil && a.PID == 1
		}
		began := time.Now()
		ss := begin(t, s, cfg)
		assert.Zero(t, time.Since(began))
		_, err := old.Commit(t.Context(), store.Tx{Put: []store.Put{{Key: "x"}}})
		require.ErrorIs(t, err, store.ErrConflict, "the dead one's writes are fenced, should it live after all")
		// What the new one reports survives the old lease.
		require.NoError(t, ss.Put(t.Context(), state.Node("n1"), []byte("new")))
		time.Sleep(3 * ttl)
		assert.Equal(t, "new", string(load(t, s).Items[state.Node("n1")].Value))
		require.NoError(t, ss.Close(t.Context()))

		alive := begin(t, s, config(3))
		_, err = Open(t.Context(), s, cfg)
		var taken *TakenError
		require.ErrorAs(t, err, &taken)
		require.NoError(t, alive.Close(t.Context()))
	})
}

func TestALostSessionIsTakenAgainAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		proxy, down := cut(s)
		ss := begin(t, proxy, config(1))
		first := becomes(t, ss, true)
		require.NoError(t, ss.Put(t.Context(), state.Node("n1"), []byte("r")))
		down.Store(true)
		since := time.Now()
		lost := becomes(t, ss, false)
		assert.InDelta(t, ttl.Seconds(), time.Since(since).Seconds(), 2)
		require.ErrorIs(t, lost.Err, store.ErrUnavailable)
		require.ErrorIs(t, ss.Put(t.Context(), "x", nil), store.ErrLeaseLost)
		time.Sleep(3 * ttl)
		assert.Empty(t, load(t, s).Items)
		require.ErrorIs(t, ss.Update(t.Context(), agent(12)), store.ErrLeaseLost, "not now, but for the next holding")
		down.Store(false)
		second := becomes(t, ss, true)
		assert.Greater(t, second.Created, first.Created)
		items := load(t, s).Items
		require.Len(t, items, 1, "reports are put again by their owner")
		assert.Equal(t, agent(12), items[state.Agent("h1")].Value)
		require.NoError(t, ss.Put(t.Context(), state.Node("n1"), []byte("r")))
		require.NoError(t, ss.Close(t.Context()))
	})
}

func TestAnOutageShorterThanTheTTLIsNotNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proxy, down := cut(memstore.New())
		ss := begin(t, proxy, config(1))
		becomes(t, ss, true)
		time.Sleep(ttl)
		down.Store(true)
		time.Sleep(ttl / 2)
		down.Store(false)
		time.Sleep(3 * ttl)
		require.Empty(t, ss.Changes())
		require.True(t, ss.Status().Held)
		require.NoError(t, ss.Close(t.Context()))
	})
}

func TestASessionWhoseKeyWasDeletedIsTakenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		ss := begin(t, s, config(1))
		first := becomes(t, ss, true)
		fence, err := ss.Fence()
		require.NoError(t, err)
		_, err = s.Commit(t.Context(), store.Tx{If: []store.Compare{fence}, Delete: []string{state.Agent("h1")}})
		require.NoError(t, err)
		require.ErrorIs(t, ss.Put(t.Context(), "x", nil), store.ErrConflict)
		second := becomes(t, ss, true)
		assert.Greater(t, second.Created, first.Created)
		require.NoError(t, ss.Put(t.Context(), "x", nil))
		require.NoError(t, ss.Close(t.Context()))
		assert.Empty(t, load(t, s).Items)
	})
}

func TestASessionThatWasTakenOverComesBackOnlyWhenTheOtherHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		proxy, down := cut(s)
		one := begin(t, proxy, config(1))
		becomes(t, one, true)
		down.Store(true)
		time.Sleep(2 * ttl)
		two := begin(t, s, config(2))
		down.Store(false)
		time.Sleep(2 * ttl)
		var taken *TakenError
		require.ErrorAs(t, one.Status().Err, &taken)
		assert.Equal(t, agent(2), load(t, s).Items[state.Agent("h1")].Value)
		assert.True(t, two.Status().Held)
		require.NoError(t, two.Close(t.Context()))
		becomes(t, one, true)
		require.NoError(t, one.Close(t.Context()))
	})
}

func TestAnUnansweredClaimOfASessionLeavesNothingForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		var lose atomic.Bool
		lose.Store(true)
		proxy := &storetest.Proxy{Store: s, After: func(_ context.Context, op storetest.Op) error {
			if op == storetest.Commit && lose.Load() {
				return store.ErrUnavailable
			}
			return nil
		}}
		_, err := Open(t.Context(), proxy, config(1))
		require.ErrorIs(t, err, store.ErrUnavailable)
		assert.Empty(t, load(t, s).Items)
		lose.Store(false)
		require.NoError(t, begin(t, proxy, config(1)).Close(t.Context()))
	})
}

func TestCloseWithoutAStoreLeavesTheKeyToItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		proxy, down := cut(s)
		ss := begin(t, proxy, config(1))
		down.Store(true)
		require.ErrorIs(t, ss.Close(t.Context()), store.ErrUnavailable)
		require.Len(t, load(t, s).Items, 1)
		time.Sleep(ttl + time.Second)
		assert.Empty(t, load(t, s).Items)
	})
}
