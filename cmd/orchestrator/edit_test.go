package main

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/specfile"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store"
	"github.com/multicoord/multicoord/orchestrator/store/memstore"
)

// meddling lets somebody else write before each commit.
type meddling struct {
	store.Store
	before func()
	err    error
}

func (m *meddling) Commit(ctx context.Context, tx store.Tx) (int64, error) {
	if m.before != nil {
		m.before()
	}
	if m.err != nil {
		return 0, m.err
	}
	return m.Store.Commit(ctx, tx)
}

func storedSpec(t *testing.T) (*memstore.Store, *handle, *meddling) {
	t.Helper()
	spec, err := cluster.DefaultSpec().Complete()
	require.NoError(t, err)
	put, err := state.PutSpec(spec)
	require.NoError(t, err)
	st := memstore.New()
	_, err = st.Commit(t.Context(), store.Tx{If: []store.Compare{state.SpecUnchanged(0)}, Put: []store.Put{put}})
	require.NoError(t, err)
	m := &meddling{Store: st}
	h := &handle{Store: m, name: spec.Name}
	require.NoError(t, h.reload(t.Context()))
	return st, h, m
}

func setKey(key, value string) func(cluster.Snapshot, cluster.Spec) (cluster.Spec, error) {
	return func(_ cluster.Snapshot, s cluster.Spec) (cluster.Spec, error) { return specfile.Set(s, key, value) }
}

func TestAnEditIsMadeOnTopOfWhatOthersHaveChangedMeanwhile(t *testing.T) {
	st, h, m := storedSpec(t)
	once := true
	m.before = func() {
		if !once {
			return
		}
		once = false
		other := &handle{Store: st, name: h.name}
		require.NoError(t, other.reload(t.Context()))
		_, err := other.edit(t.Context(), false, setKey("router.max_client_conn", "77"))
		require.NoError(t, err)
	}
	e, err := h.edit(t.Context(), false, setKey("router.default_pool_size", "33"))
	require.NoError(t, err)
	require.Equal(t, []change{{"router.default_pool_size", "20", "33"}}, e.Changes)
	require.NoError(t, h.reload(t.Context()))
	require.Equal(t, 77, h.Snapshot.Spec.Router.MaxClients)
	require.Equal(t, 33, h.Snapshot.Spec.Router.PoolSize)
	require.Equal(t, e.Revision, h.Snapshot.SpecRevision)
}

func TestAnEditGivesUpAgainstEndlessChanges(t *testing.T) {
	_, h, m := storedSpec(t)
	m.err = store.ErrConflict
	_, err := h.edit(t.Context(), false, setKey("router.default_pool_size", "33"))
	require.ErrorContains(t, err, "try again")
}

func TestAnEditWhoseOutcomeIsNotKnownSaysSo(t *testing.T) {
	_, h, m := storedSpec(t)
	m.err = store.ErrUnavailable
	_, err := h.edit(t.Context(), false, setKey("router.default_pool_size", "33"))
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorContains(t, err, "whether it was stored is not known")
}

func TestNothingIsStoredByADryRunByNoChangeAndByAnError(t *testing.T) {
	_, h, m := storedSpec(t)
	m.before = func() { t.Error("something was stored") }
	e, err := h.edit(t.Context(), true, setKey("router.default_pool_size", "33"))
	require.NoError(t, err)
	require.Len(t, e.Changes, 1)
	require.False(t, e.Stored)
	e, err = h.edit(t.Context(), false, setKey("router.default_pool_size", "20"))
	require.NoError(t, err)
	require.Empty(t, e.Changes)
	boom := errors.New("boom")
	_, err = h.edit(t.Context(), false, func(cluster.Snapshot, cluster.Spec) (cluster.Spec, error) { return cluster.Spec{}, boom })
	require.ErrorIs(t, err, boom)
	_, err = h.edit(t.Context(), false, func(_ cluster.Snapshot, s cluster.Spec) (cluster.Spec, error) {
		s = s.Clone()
		s.Groups = s.Groups[:2]
		return s, nil
	})
	require.ErrorContains(t, err, "group 2 is missing")
}

func TestAStandbyIsNotRemovedWhileTheLeaderChoosesThePrimary(t *testing.T) {
	st, h, m := storedSpec(t)
	primary := func(name string, phase cluster.Phase) {
		put, err := state.PutGroup(cluster.GroupState{ID: 0, Phase: phase, Primary: name, Term: 1})
		require.NoError(t, err)
		_, err = st.Commit(t.Context(), store.Tx{If: []store.Compare{{Key: state.Spec, Kind: store.Modified, Revision: h.Snapshot.SpecRevision}}, Put: []store.Put{put}})
		require.NoError(t, err)
	}
	remove := func() error {
		_, err := h.edit(t.Context(), false, func(snap cluster.Snapshot, s cluster.Spec) (cluster.Spec, error) {
			return removeStandbys(s, snap.Groups[0], 0, []string{"coordinator-2"})
		})
		return err
	}
	creating := "group 0 is still being created; wait until `orchestrator status` shows it"
	require.EqualError(t, remove(), creating, "nothing is decided")
	primary("coordinator-2", cluster.Initializing)
	require.NoError(t, h.reload(t.Context()))
	require.EqualError(t, remove(), creating)
	primary("coordinator-1", cluster.Running)
	require.NoError(t, h.reload(t.Context()))
	m.before = func() { m.before = nil; primary("coordinator-2", cluster.Running) }
	require.ErrorContains(t, remove(), "coordinator-2 is the primary of group 0", "the decision that came in between counts")
	primary("coordinator-3", cluster.Running)
	require.NoError(t, h.reload(t.Context()))
	require.NoError(t, remove())
}

func TestDiffNamesElementsSoThatOneThatGoesDoesNotShiftTheOthers(t *testing.T) {
	was, err := cluster.DefaultSpec().Complete()
	require.NoError(t, err)
	is, err := was.RemoveStandby(0, "coordinator-2", "coordinator-1")
	require.NoError(t, err)
	changes, err := diff(was, is)
	require.NoError(t, err)
	for _, c := range changes {
		require.Contains(t, c.Key, "groups[0].nodes[coordinator-2].")
		require.Empty(t, c.To)
	}
	require.Len(t, changes, 3)
}

func TestAStoreWithRemainsOfAClusterIsNotVacant(t *testing.T) {
	st := memstore.New()
	require.NoError(t, checkVacant(t.Context(), st))
	put, err := state.PutGroup(cluster.GroupState{ID: 1})
	require.NoError(t, err)
	_, err = st.Commit(t.Context(), store.Tx{If: []store.Compare{state.SpecUnchanged(0)}, Put: []store.Put{put}})
	require.NoError(t, err)
	require.ErrorContains(t, checkVacant(t.Context(), st), "restore its etcd from a backup")
	full, _, _ := storedSpec(t)
	require.ErrorIs(t, checkVacant(t.Context(), full), errClusterExists)
}
