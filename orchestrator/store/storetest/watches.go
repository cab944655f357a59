//nolint:thelper // these are the tests themselves, not helpers
package storetest

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/store"
)

func watches() map[string]func(*testing.T, store.Store) {
	return map[string]func(*testing.T, store.Store){
		"a watch sends the whole state at once":                               watchAtOnce,
		"a watch sees puts, changes and deletions":                            watchFollows,
		"a slow reader gets the last state of a burst and holds nobody up":    watchBurst,
		"a commit is seen whole or not at all":                                watchWhole,
		"who waits for a change is woken though the change has been undone":   watchUndone,
		"revisions of a watch never go back":                                  watchMonotonic,
		"two watches are independent":                                         watchTwo,
		"the states of a watch are the reader's own":                          watchOwn,
		"a watch ends with its ctx":                                           watchEnds,
		"a watch and a load at the same revision show the same":               watchLikeLoad,
		"what was deleted and made again shows its new creation in the watch": watchRecreated,
	}
}

func watchAtOnce(t *testing.T, s store.Store) {
	st := Next(t, s.Watch(t.Context()), func(store.State) bool { return true })
	assert.Empty(t, st.Items)
	assert.Positive(t, st.Revision)
	make1(t, s, "a", "1")
	st = Next(t, s.Watch(t.Context()), func(store.State) bool { return true })
	assert.True(t, has("a", "1")(st))
}

func watchFollows(t *testing.T, s store.Store) {
	states := s.Watch(t.Context())
	rev := make1(t, s, "a", "1")
	st := Next(t, states, has("a", "1"))
	assert.GreaterOrEqual(t, st.Revision, rev)
	_, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{modified("a", rev)}, Put: []store.Put{put("a", "2")}})
	require.NoError(t, err)
	st = Next(t, states, has("a", "2"))
	assert.Equal(t, rev, st.Items["a"].Created)
	_, err = s.Commit(t.Context(), store.Tx{If: []store.Compare{created("a", rev)}, Delete: []string{"a"}})
	require.NoError(t, err)
	Next(t, states, lacks("a"))
}

func watchBurst(t *testing.T, s store.Store) {
	const n = 300
	states := s.Watch(t.Context())
	rev := make1(t, s, "n", "0")
	for i := 1; i <= n; i++ {
		var err error
		rev, err = s.Commit(t.Context(), store.Tx{If: []store.Compare{modified("n", rev)}, Put: []store.Put{put("n", strconv.Itoa(i))}})
		require.NoError(t, err)
	}
	seen := 0
	Next(t, states, func(st store.State) bool {
		seen++
		return has("n", strconv.Itoa(n))(st)
	})
	assert.LessOrEqual(t, seen, n, "states are replaced, not queued")
}

func watchWhole(t *testing.T, s store.Store) {
	const n = 100
	states := s.Watch(t.Context())
	done := make(chan error, 1)
	go func() {
		rev, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{absent("a")}, Put: []store.Put{put("a", "0"), put("b", "0")}})
		for i := 1; i <= n && err == nil; i++ {
			v := strconv.Itoa(i)
			rev, err = s.Commit(t.Context(), store.Tx{If: []store.Compare{modified("a", rev)}, Put: []store.Put{put("a", v), put("b", v)}})
		}
		done <- err
	}()
	Next(t, states, func(st store.State) bool {
		a, b := st.Items["a"], st.Items["b"]
		require.Equal(t, string(a.Value), string(b.Value), "half a commit")
		require.Equal(t, a.Modified, b.Modified)
		return string(a.Value) == strconv.Itoa(n)
	})
	require.NoError(t, <-done)
}

func watchUndone(t *testing.T, s store.Store) {
	states := s.Watch(t.Context())
	first := Next(t, states, func(store.State) bool { return true })
	for range 20 {
		rev := make1(t, s, "leader", "x")
		_, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{created("leader", rev)}, Delete: []string{"leader"}})
		require.NoError(t, err)
		st := Next(t, states, func(st store.State) bool { return st.Revision > rev && len(st.Items) == 0 })
		require.Greater(t, st.Revision, first.Revision)
	}
}

func watchMonotonic(t *testing.T, s store.Store) {
	const n = 100
	states := s.Watch(t.Context())
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < n && err == nil; i++ {
			key := "k" + strconv.Itoa(i)
			_, err = s.Commit(t.Context(), store.Tx{If: []store.Compare{absent(key)}, Put: []store.Put{put(key, "1")}})
		}
		done <- err
	}()
	last, size := int64(0), 0
	Next(t, states, func(st store.State) bool {
		require.GreaterOrEqual(t, st.Revision, last)
		require.GreaterOrEqual(t, len(st.Items), size, "a key that was there is missing")
		last, size = st.Revision, len(st.Items)
		return size == n
	})
	require.NoError(t, <-done)
}

func watchTwo(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	one, two := s.Watch(ctx), s.Watch(t.Context())
	make1(t, s, "a", "1")
	Next(t, one, has("a", "1"))
	Next(t, two, has("a", "1"))
	cancel()
	make1(t, s, "b", "1")
	Next(t, two, has("b", "1"))
}

func watchOwn(t *testing.T, s store.Store) {
	one, two := s.Watch(t.Context()), s.Watch(t.Context())
	make1(t, s, "a", "1")
	st := Next(t, one, has("a", "1"))
	delete(st.Items, "a")
	Next(t, two, has("a", "1"))
	make1(t, s, "b", "1")
	st = Next(t, one, has("b", "1"))
	assert.Contains(t, st.Items, "a")
}

func watchEnds(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	states := s.Watch(ctx)
	Next(t, states, func(store.State) bool { return true })
	cancel()
	late := time.After(patience)
	for {
		select {
		case _, ok := <-states:
			if !ok {
				return
			}
		case <-late:
			require.FailNow(t, "the watch did not end")
		}
	}
}

func watchLikeLoad(t *testing.T, s store.Store) {
	states := s.Watch(t.Context())
	l := lease(t, s, patience)
	makeOn(t, s, "a", "1", l)
	make1(t, s, "b", "2")
	st := Next(t, states, has("b", "2"))
	assert.Equal(t, load(t, s).Items, st.Items)
	require.NoError(t, l.Revoke(t.Context()))
}

func watchRecreated(t *testing.T, s store.Store) {
	states := s.Watch(t.Context())
	first := make1(t, s, "a", "1")
	_, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{created("a", first)}, Delete: []string{"a"}})
	require.NoError(t, err)
	second := make1(t, s, "a", "1")
	st := Next(t, states, func(st store.State) bool { return st.Revision >= second })
	assert.Equal(t, second, st.Items["a"].Created)
}
