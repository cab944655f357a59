//nolint:thelper // these are the tests themselves, not helpers
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/store"
)

func commits() map[string]func(*testing.T, store.Store) {
	return map[string]func(*testing.T, store.Store){
		"an empty store has a revision and no items":                     empty,
		"a commit without a comparison is refused":                       unfenced,
		"a commit that writes a key twice or an empty key is refused":    malformed,
		"a commit holds 128 writes and no more":                          large,
		"a key is created when it is absent, and only then":              createOnce,
		"a change keeps the creation and moves the modification":         change,
		"a comparison that does not hold leaves nothing":                 conflictLeavesNothing,
		"a creation compares equal however often the key is modified":    createdCompare,
		"a key that was deleted and made again has another creation":     recreated,
		"deletes and puts of one commit come at one revision":            oneRevision,
		"deleting an absent key is no error":                             deleteAbsent,
		"values are bytes: empty and binary ones come back as they were": values,
		"what the caller does to a value afterwards changes nothing":     copies,
		"of concurrent commits on one revision exactly one wins":         oneWins,
		"no increment by compare-and-swap is lost":                       increments,
		"a call whose ctx has ended is unavailable and says so":          endedContext,
	}
}

func empty(t *testing.T, s store.Store) {
	st := load(t, s)
	assert.Empty(t, st.Items)
	assert.Positive(t, st.Revision)
}

func unfenced(t *testing.T, s store.Store) {
	_, err := s.Commit(t.Context(), store.Tx{Put: []store.Put{put("a", "1")}})
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrConflict)
	require.NotErrorIs(t, err, store.ErrUnavailable)
	assert.Empty(t, load(t, s).Items)
}

func malformed(t *testing.T, s store.Store) {
	for name, tx := range map[string]store.Tx{
		"two puts":         {If: []store.Compare{absent("a")}, Put: []store.Put{put("a", "1"), put("a", "2")}},
		"put and delete":   {If: []store.Compare{absent("a")}, Put: []store.Put{put("a", "1")}, Delete: []string{"a"}},
		"empty key put":    {If: []store.Compare{absent("a")}, Put: []store.Put{put("", "1")}},
		"empty key delete": {If: []store.Compare{absent("a")}, Delete: []string{""}},
		"empty comparison": {If: []store.Compare{absent("")}, Put: []store.Put{put("a", "1")}},
		"unknown kind":     {If: []store.Compare{{Key: "a", Kind: 7}}, Put: []store.Put{put("a", "1")}},
	} {
		_, err := s.Commit(t.Context(), tx)
		require.Error(t, err, name)
	}
	assert.Empty(t, load(t, s).Items)
}

func large(t *testing.T, s store.Store) {
	tx := store.Tx{If: []store.Compare{absent("k0")}}
	for i := range store.MaxOps {
		tx.Put = append(tx.Put, put("k"+strconv.Itoa(i), "v"))
	}
	over := tx
	over.Put = append(over.Put[:store.MaxOps:store.MaxOps], put("one-more", "v"))
	_, err := s.Commit(t.Context(), over)
	require.Error(t, err)
	assert.Empty(t, load(t, s).Items)
	_, err = s.Commit(t.Context(), tx)
	require.NoError(t, err)
	assert.Len(t, load(t, s).Items, store.MaxOps)
}

func createOnce(t *testing.T, s store.Store) {
	rev := make1(t, s, "spec", "1")
	it := load(t, s).Items["spec"]
	assert.Equal(t, store.Item{Key: "spec", Value: []byte("1"), Created: rev, Modified: rev}, it)
	for _, c := range []store.Compare{modified("spec", 0), created("spec", 0)} {
		_, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{c}, Put: []store.Put{put("spec", "2")}})
		require.ErrorIs(t, err, store.ErrConflict)
	}
	assert.Equal(t, it, load(t, s).Items["spec"])
}

func change(t *testing.T, s store.Store) {
	first := make1(t, s, "groups/0", "1")
	second, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{modified("groups/0", first)}, Put: []store.Put{put("groups/0", "2")}})
	require.NoError(t, err)
	assert.Greater(t, second, first)
	st := load(t, s)
	assert.Equal(t, store.Item{Key: "groups/0", Value: []byte("2"), Created: first, Modified: second}, st.Items["groups/0"])
	assert.GreaterOrEqual(t, st.Revision, second)
}

func conflictLeavesNothing(t *testing.T, s store.Store) {
	a := make1(t, s, "a", "1")
	make1(t, s, "b", "1")
	before := load(t, s)
	_, err := s.Commit(t.Context(), store.Tx{
		If:     []store.Compare{modified("a", a), modified("b", a)}, // the second does not hold
		Put:    []store.Put{put("a", "2"), put("c", "2")},
		Delete: []string{"b"},
	})
	require.ErrorIs(t, err, store.ErrConflict)
	assert.Equal(t, before.Items, load(t, s).Items)
}

func createdCompare(t *testing.T, s store.Store) {
	rev := make1(t, s, "leader", "1")
	for i := range 3 {
		_, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{created("leader", rev)}, Put: []store.Put{put("leader", fmt.Sprint(i))}})
		require.NoError(t, err)
	}
	_, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{modified("leader", rev)}, Put: []store.Put{put("leader", "x")}})
	require.ErrorIs(t, err, store.ErrConflict)
}

func recreated(t *testing.T, s store.Store) {
	first := make1(t, s, "leader", "1")
	_, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{created("leader", first)}, Delete: []string{"leader"}})
	require.NoError(t, err)
	assert.Empty(t, load(t, s).Items)
	_, err = s.Commit(t.Context(), store.Tx{If: []store.Compare{created("leader", first)}, Put: []store.Put{put("leader", "late")}})
	require.ErrorIs(t, err, store.ErrConflict, "a stale holder must not bring the key back")
	second := make1(t, s, "leader", "2")
	assert.Greater(t, second, first)
	_, err = s.Commit(t.Context(), store.Tx{If: []store.Compare{created("leader", first)}, Put: []store.Put{put("leader", "late")}})
	require.ErrorIs(t, err, store.ErrConflict)
	assert.Equal(t, "2", string(load(t, s).Items["leader"].Value))
}

func oneRevision(t *testing.T, s store.Store) {
	make1(t, s, "old", "1")
	rev, err := s.Commit(t.Context(), store.Tx{
		If:     []store.Compare{absent("a"), absent("b")},
		Put:    []store.Put{put("a", "1"), put("b", "1")},
		Delete: []string{"old"},
	})
	require.NoError(t, err)
	st := load(t, s)
	assert.Len(t, st.Items, 2)
	assert.Equal(t, rev, st.Items["a"].Modified)
	assert.Equal(t, rev, st.Items["b"].Created)
}

func deleteAbsent(t *testing.T, s store.Store) {
	_, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{absent("x")}, Delete: []string{"x"}})
	require.NoError(t, err)
	assert.Empty(t, load(t, s).Items)
}

func values(t *testing.T, s store.Store) {
	binary := make([]byte, 256)
	for i := range binary {
		binary[i] = byte(i)
	}
	_, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{absent("bin")}, Put: []store.Put{{Key: "bin", Value: binary}, {Key: "none"}}})
	require.NoError(t, err)
	st := load(t, s)
	assert.Equal(t, binary, st.Items["bin"].Value)
	assert.Contains(t, st.Items, "none")
	assert.Empty(t, st.Items["none"].Value)
}

func copies(t *testing.T, s store.Store) {
	mine := []byte("right")
	_, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{absent("k")}, Put: []store.Put{{Key: "k", Value: mine}}})
	require.NoError(t, err)
	copy(mine, "wrong")
	st := load(t, s)
	copy(st.Items["k"].Value, "wrong")
	delete(st.Items, "k")
	assert.Equal(t, "right", string(load(t, s).Items["k"].Value))
}

func oneWins(t *testing.T, s store.Store) {
	const rounds, rivals = 10, 8
	for round := range rounds {
		key := "round/" + strconv.Itoa(round)
		var wg sync.WaitGroup
		errs := make([]error, rivals)
		for i := range rivals {
			wg.Go(func() {
				_, errs[i] = s.Commit(t.Context(), store.Tx{If: []store.Compare{absent(key)}, Put: []store.Put{put(key, strconv.Itoa(i))}})
			})
		}
		wg.Wait()
		winner := -1
		for i, err := range errs {
			if err == nil {
				require.Equal(t, -1, winner, "two winners")
				winner = i
				continue
			}
			require.ErrorIs(t, err, store.ErrConflict)
		}
		require.GreaterOrEqual(t, winner, 0, "no winner")
		assert.Equal(t, strconv.Itoa(winner), string(load(t, s).Items[key].Value))
	}
}

func increments(t *testing.T, s store.Store) {
	const workers, each = 4, 10
	make1(t, s, "n", "0")
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				for {
					st, err := s.Load(t.Context())
					if err != nil {
						t.Errorf("load: %v", err)
						return
					}
					it := st.Items["n"]
					n, _ := strconv.Atoi(string(it.Value))
					_, err = s.Commit(t.Context(), store.Tx{If: []store.Compare{modified("n", it.Modified)}, Put: []store.Put{put("n", strconv.Itoa(n+1))}})
					if err == nil {
						break
					}
					if !errors.Is(err, store.ErrConflict) {
						t.Errorf("commit: %v", err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	assert.Equal(t, strconv.Itoa(workers*each), string(load(t, s).Items["n"].Value))
}

func endedContext(t *testing.T, s store.Store) {
	l, err := s.Lease(t.Context(), patience)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check := func(what string, err error) {
		require.ErrorIs(t, err, store.ErrUnavailable, what)
		assert.ErrorIs(t, err, context.Canceled, what)
	}
	_, err = s.Load(ctx)
	check("load", err)
	_, err = s.Commit(ctx, store.Tx{If: []store.Compare{absent("a")}, Put: []store.Put{put("a", "1")}})
	check("commit", err)
	_, err = s.Lease(ctx, patience)
	check("lease", err)
	_, err = s.Attach(ctx, l.ID())
	check("attach", err)
	check("renew", l.Renew(ctx))
	check("revoke", l.Revoke(ctx))
	assert.Empty(t, load(t, s).Items)
	require.NoError(t, l.Revoke(t.Context()))
}
