package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store"
	"github.com/multicoord/multicoord/orchestrator/store/memstore"
	"github.com/multicoord/multicoord/orchestrator/store/storetest"
)

// decide writes the state of group 0 and gives its revision.
func decide(t *testing.T, s store.Store, primary string, term uint64) int64 {
	t.Helper()
	put, err := state.PutGroup(cluster.GroupState{Phase: cluster.Running, Primary: primary, Term: term})
	require.NoError(t, err)
	rev, err := s.Commit(t.Context(), store.Tx{
		If:  []store.Compare{state.GroupUnchanged(0, load(t, s).Items[state.Group(0)].Modified)},
		Put: []store.Put{put},
	})
	require.NoError(t, err)
	return rev
}

func grantOf(node string, term uint64) cluster.Grant {
	return cluster.Grant{Node: node, Host: "h-" + node, Term: term, Machine: "boot-" + node, DataDir: "/data"}
}

func TestAGrantIsGivenOnlyForTheDecisionThatWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		_, err := AcquireGrant(t.Context(), s, grantOf("a", 1), 0, ttl)
		require.Error(t, err, "nothing has been decided")
		stale := decide(t, s, "a", 1)
		fresh := decide(t, s, "b", 2)
		_, err = AcquireGrant(t.Context(), s, grantOf("a", 1), stale, ttl)
		require.ErrorIs(t, err, store.ErrConflict)
		g, err := AcquireGrant(t.Context(), s, grantOf("b", 2), fresh, ttl)
		require.NoError(t, err)
		v, err := state.Load(t.Context(), s)
		require.NoError(t, err)
		assert.Equal(t, map[int]cluster.Grant{0: g.Value()}, v.Grants)
		require.NoError(t, g.Release(t.Context()))
		assert.NotContains(t, load(t, s).Items, state.Grant(0))
	})
}

func TestAGrantIsExclusiveUntilItIsReleasedOrRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		rev := decide(t, s, "a", 1)
		a, err := AcquireGrant(t.Context(), s, grantOf("a", 1), rev, ttl)
		require.NoError(t, err)
		for range 10 {
			time.Sleep(ttl / 2)
			require.NoError(t, a.Renew(t.Context()))
			_, err = AcquireGrant(t.Context(), s, grantOf("a", 1), rev, ttl)
			require.ErrorIs(t, err, store.ErrConflict)
		}
		require.NoError(t, a.Release(t.Context()))
		b, err := AcquireGrant(t.Context(), s, grantOf("a", 1), rev, ttl)
		require.NoError(t, err, "free at once")
		time.Sleep(ttl + time.Millisecond)
		_, err = AcquireGrant(t.Context(), s, grantOf("a", 1), rev, ttl)
		require.NoError(t, err, "free after the TTL")
		require.ErrorIs(t, b.Renew(t.Context()), store.ErrLeaseLost)
	})
}

// Patroni issue 2779: a frozen primary that resumed took the leader's key back.
func TestAHolderThatWasFrozenCannotTakeTheGrantBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		old, err := AcquireGrant(t.Context(), s, grantOf("a", 1), decide(t, s, "a", 1), ttl)
		require.NoError(t, err)
		time.Sleep(2 * ttl) // frozen
		young, err := AcquireGrant(t.Context(), s, grantOf("b", 2), decide(t, s, "b", 2), ttl)
		require.NoError(t, err)
		before := load(t, s)
		require.ErrorIs(t, old.Renew(t.Context()), store.ErrLeaseLost)
		require.NoError(t, old.Release(t.Context()), "giving back what is gone is no error")
		_, err = s.Commit(t.Context(), store.Tx{If: []store.Compare{old.Fence()}, Put: []store.Put{{Key: "x"}}})
		require.ErrorIs(t, err, store.ErrConflict)
		assert.Equal(t, before, load(t, s), "nothing was written")
		require.NoError(t, young.Renew(t.Context()))
	})
}

func TestARenewalWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		g, err := AcquireGrant(t.Context(), s, grantOf("a", 1), decide(t, s, "a", 1), ttl)
		require.NoError(t, err)
		before := load(t, s)
		for range 10 {
			time.Sleep(ttl / 3)
			require.NoError(t, g.Renew(t.Context()))
		}
		assert.Equal(t, before, load(t, s))
	})
}

func TestARightCountsFromTheBeginningOfTheRenewal(t *testing.T) {
	s := memstore.New()
	gate := make(chan struct{}, 1)
	proxy := &storetest.Proxy{Store: s, Before: func(_ context.Context, op storetest.Op) error {
		if op == storetest.Renew || op == storetest.Lease {
			<-gate
		}
		return nil
	}}
	before := Now()
	go func() { gate <- struct{}{} }()
	g, err := AcquireGrant(t.Context(), proxy, grantOf("a", 1), decide(t, s, "a", 1), ttl)
	require.NoError(t, err)
	first := g.Began()
	assert.GreaterOrEqual(t, first, before)

	done := make(chan error, 1)
	before = Now()
	go func() { done <- g.Renew(t.Context()) }()
	tick := time.NewTicker(20 * time.Millisecond) // the call hangs for that long
	defer tick.Stop()
	<-tick.C
	after := Now()
	gate <- struct{}{}
	require.NoError(t, <-done)
	assert.GreaterOrEqual(t, g.Began(), before)
	assert.Less(t, g.Began(), after)

	require.NoError(t, g.Release(t.Context()))
	was := g.Began()
	gate <- struct{}{}
	require.ErrorIs(t, g.Renew(t.Context()), store.ErrLeaseLost)
	assert.Equal(t, was, g.Began(), "a failed renewal moves nothing")
}

func TestARestartedAgentAdoptsItsOwnGrantAndNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		rev := decide(t, s, "a", 3)
		old, err := AcquireGrant(t.Context(), s, grantOf("a", 3), rev, ttl)
		require.NoError(t, err)
		time.Sleep(ttl - time.Second) // the agent is killed and comes back
		for name, change := range map[string]func(*cluster.Grant){
			"another node":       func(g *cluster.Grant) { g.Node = "b" },
			"another term":       func(g *cluster.Grant) { g.Term = 4 },
			"another host":       func(g *cluster.Grant) { g.Host = "elsewhere" },
			"another group":      func(g *cluster.Grant) { g.Group = 1 },
			"another machine":    func(g *cluster.Grant) { g.Machine = "boot-b" },
			"an unknown machine": func(g *cluster.Grant) { g.Machine = "" },
			"another folder":     func(g *cluster.Grant) { g.DataDir = "/elsewhere" },
			"an unknown folder":  func(g *cluster.Grant) { g.DataDir = "" },
		} {
			g := grantOf("a", 3)
			change(&g)
			_, err := AdoptGrant(t.Context(), s, g, rev, ttl)
			require.ErrorIs(t, err, store.ErrConflict, name)
		}
		_, err = AdoptGrant(t.Context(), s, grantOf("a", 3), rev-1, ttl)
		require.ErrorIs(t, err, store.ErrConflict, "another decision")

		heir, err := AdoptGrant(t.Context(), s, grantOf("a", 3), rev, ttl)
		require.NoError(t, err)
		assert.Equal(t, old.Fence(), heir.Fence())
		assert.Equal(t, ttl, heir.TTL())
		time.Sleep(ttl - time.Second)
		require.NoError(t, heir.Renew(t.Context()), "the adoption has renewed it")
		require.NoError(t, heir.Release(t.Context()))
		require.ErrorIs(t, old.Renew(t.Context()), store.ErrLeaseLost, "the end is shared with the old process, should it live")
		_, err = AdoptGrant(t.Context(), s, grantOf("a", 3), rev, ttl)
		require.ErrorIs(t, err, store.ErrConflict)
	})
}

// Two machines were given one name, and neither the grant nor its heir tells where it is held.
func TestAGrantThatDoesNotTellItsMachineIsNotAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		rev := decide(t, s, "a", 1)
		g := grantOf("a", 1)
		g.Machine, g.DataDir = "", ""
		_, err := AcquireGrant(t.Context(), s, g, rev, ttl)
		require.NoError(t, err)
		_, err = AdoptGrant(t.Context(), s, g, rev, ttl)
		require.ErrorIs(t, err, store.ErrConflict)
		_, err = AdoptGrant(t.Context(), s, grantOf("a", 1), rev, ttl)
		require.ErrorIs(t, err, store.ErrConflict)
	})
}

// What an heir relies on is looked at once more after the renewal: it may have changed while the heir was frozen.
func TestAnHeirWhoseSessionOrDecisionIsGoneAdoptsNothing(t *testing.T) {
	for name, meanwhile := range map[string]func(t *testing.T, s store.Store){
		"the session": func(t *testing.T, s store.Store) {
			t.Helper()
			_, err := s.Commit(t.Context(), store.Tx{
				If:     []store.Compare{{Key: config(1).Key, Kind: store.Modified, Revision: load(t, s).Items[config(1).Key].Modified}},
				Delete: []string{config(1).Key},
			})
			require.NoError(t, err)
		},
		"the decision": func(t *testing.T, s store.Store) { t.Helper(); decide(t, s, "b", 2) },
		"the grant": func(t *testing.T, s store.Store) {
			t.Helper()
			lease, err := s.Attach(t.Context(), load(t, s).Items[state.Grant(0)].Lease)
			require.NoError(t, err)
			require.NoError(t, lease.Revoke(t.Context()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := memstore.New()
				rev := decide(t, s, "a", 1)
				_, err := AcquireGrant(t.Context(), s, grantOf("a", 1), rev, ttl)
				require.NoError(t, err)
				ss := begin(t, s, config(1))
				fence, err := ss.Fence()
				require.NoError(t, err)
				proxy := &storetest.Proxy{Store: s, After: func(_ context.Context, op storetest.Op) error {
					if op == storetest.Renew {
						meanwhile(t, s)
					}
					return nil
				}}
				_, err = AdoptGrant(t.Context(), proxy, grantOf("a", 1), rev, ttl, fence)
				require.Error(t, err)
				require.True(t, errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrLeaseLost), err)
				require.NoError(t, ss.Close(t.Context()))
			})
		})
	}
}

func TestAnAdoptionIsConfirmedAndKeepsTheFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		rev := decide(t, s, "a", 1)
		old, err := AcquireGrant(t.Context(), s, grantOf("a", 1), rev, ttl)
		require.NoError(t, err)
		before := load(t, s).Items[state.Grant(0)]
		heir, err := AdoptGrant(t.Context(), s, grantOf("a", 1), rev, ttl)
		require.NoError(t, err)
		after := load(t, s).Items[state.Grant(0)]
		assert.Greater(t, after.Modified, before.Modified, "a write, which no lagging member can answer")
		after.Modified = before.Modified
		assert.Equal(t, before, after)
		assert.Equal(t, old.Fence(), heir.Fence())
	})
}

func TestAGrantThatIsShorterThanItsHeirCountsOnIsNotAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		rev := decide(t, s, "a", 1)
		_, err := AcquireGrant(t.Context(), s, grantOf("a", 1), rev, ttl)
		require.NoError(t, err)
		ss := begin(t, s, config(1))
		gs := Grants{Store: s, Session: ss}
		time.Sleep(ttl / 2)
		_, err = gs.Acquire(t.Context(), grantOf("a", 1), rev, 2*ttl)
		require.ErrorIs(t, err, store.ErrConflict)
		time.Sleep(ttl / 2)
		synctest.Wait()
		g, err := gs.Acquire(t.Context(), grantOf("a", 1), rev, 2*ttl)
		require.NoError(t, err, "it was not prolonged")
		assert.Equal(t, 2*ttl, g.TTL())
		require.NoError(t, g.Release(t.Context()))

		_, err = AcquireGrant(t.Context(), s, grantOf("a", 1), rev, 2*ttl)
		require.NoError(t, err)
		g, err = gs.Acquire(t.Context(), grantOf("a", 1), rev, ttl)
		require.NoError(t, err, "more than asked for is safe")
		assert.Equal(t, 2*ttl, g.TTL())
		require.NoError(t, ss.Close(t.Context()))
	})
}

func TestAnAgentGetsGrantsOnlyWhileItsSessionLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		rev := decide(t, s, "a", 1)
		ss := begin(t, s, config(1))
		gs := Grants{Store: s, Session: ss}
		g, err := gs.Acquire(t.Context(), grantOf("a", 1), rev, ttl)
		require.NoError(t, err)
		ss.die()

		// The next process of the agent goes on with it.
		cfg := config(2)
		cfg.Dead = func([]byte) bool { return true }
		heir := begin(t, s, cfg)
		adopted, err := Grants{Store: s, Session: heir}.Acquire(t.Context(), grantOf("a", 1), rev, ttl)
		require.NoError(t, err)
		assert.Equal(t, g.Fence(), adopted.Fence())
		require.NoError(t, adopted.Release(t.Context()))

		_, err = gs.Acquire(t.Context(), grantOf("a", 1), rev, ttl)
		require.ErrorIs(t, err, store.ErrConflict, "the first one's session is gone, though it has not noticed")
		require.NoError(t, heir.Close(t.Context()))
		_, err = Grants{Store: s, Session: heir}.Acquire(t.Context(), grantOf("a", 1), rev, ttl)
		require.ErrorIs(t, err, store.ErrLeaseLost)
	})
}

func TestAnUnansweredClaimOfAGrantIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		rev := decide(t, s, "a", 1)
		proxy := &storetest.Proxy{Store: s, After: func(_ context.Context, op storetest.Op) error {
			if op == storetest.Commit {
				return store.ErrUnavailable
			}
			return nil
		}}
		_, err := AcquireGrant(t.Context(), proxy, grantOf("a", 1), rev, ttl)
		require.ErrorIs(t, err, store.ErrUnavailable)
		assert.NotContains(t, load(t, s).Items, state.Grant(0))
	})
}

// tenancy is a stretch of time in which a node believed that it may be primary.
type tenancy struct {
	node     string
	term     uint64
	from, to time.Time
}

// serve plays the agent of one node: it takes the grant when the node is the group's primary, renews it, and believes in
// it until the beginning of the last successful renewal plus TTL minus a margin.
func serve(ctx context.Context, s store.Store, node string, ttl time.Duration, note func(tenancy)) {
	for states := s.Watch(ctx); ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		st, ok := <-states
		if !ok {
			return
		}
		snap, err := state.Decode(st)
		g := snap.Groups[0]
		if err != nil || g.Primary != node {
			continue
		}
		began := time.Now()
		held, err := AcquireGrant(ctx, s, grantOf(node, g.Term), snap.GroupRevision[0], ttl)
		if err != nil {
			continue
		}
		margin := 200 * time.Millisecond
		tn := tenancy{node: node, term: g.Term, from: time.Now(), to: began.Add(ttl - margin)}
		for time.Now().Before(tn.to) {
			time.Sleep(min(ttl/3, time.Until(tn.to)))
			began := time.Now()
			call, cancel := context.WithTimeout(ctx, ttl/3)
			err := held.Renew(call)
			cancel()
			if time.Now().After(tn.to) {
				break // the guard has ended the server meanwhile
			}
			if errors.Is(err, store.ErrLeaseLost) {
				tn.to = time.Now()
			} else if err == nil {
				tn.to = began.Add(ttl - margin)
			}
		}
		if tn.to.After(tn.from) {
			note(tn)
		}
	}
}

// However calls are delayed, lost or frozen, and however often the leader changes its mind, no two nodes believe at the
// same time that they may be primary, and terms follow each other in time.
func TestNeverTwoPrimaries(t *testing.T) {
	total := 0
	for round := range 10 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				fates := make([][]storetest.Fate, 3)
				for i := range fates {
					fates[i] = rapid.SliceOfN(storetest.Fates(), 5, 40).Draw(rt, "fates")
				}
				moves := rapid.SliceOfN(rapid.IntRange(100, 8000), 5, 20).Draw(rt, "moves")
				ttl := time.Duration(rapid.IntRange(1, 5).Draw(rt, "ttl")) * time.Second
				var problem string
				synctest.Test(t, func(t *testing.T) {
					var n int
					problem, n = primaries(t, fates, moves, ttl)
					total += n
				})
				if problem != "" {
					rt.Fatal(problem)
				}
			})
		})
	}
	t.Log(total, "tenancies")
	require.Greater(t, total, 1000)
}

func primaries(t *testing.T, fates [][]storetest.Fate, moves []int, ttl time.Duration) (problem string, count int) {
	t.Helper()
	s := memstore.New()
	var mu sync.Mutex
	var all []tenancy
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i, fs := range fates {
		wg.Go(func() {
			serve(ctx, storetest.Troubled(s, fs), fmt.Sprint("n", i), ttl, func(tn tenancy) {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, tn)
			})
		})
	}
	// The leader names another primary every now and then; agents take the grant when it is free.
	for i, ms := range moves {
		decide(t, s, fmt.Sprint("n", i%len(fates)), uint64(i+1))
		time.Sleep(time.Duration(ms) * time.Millisecond)
	}
	cancel()
	wg.Wait()
	slices.SortFunc(all, func(a, b tenancy) int { return a.from.Compare(b.from) })
	for i := 1; i < len(all); i++ {
		a, b := all[i-1], all[i]
		if a.to.After(b.from) {
			return fmt.Sprintf("%s under term %d until %s and %s under term %d from %s", a.node, a.term, a.to, b.node, b.term, b.from), len(all)
		}
		if b.term < a.term {
			return fmt.Sprintf("term %d after term %d", b.term, a.term), len(all)
		}
	}
	return "", len(all)
}
