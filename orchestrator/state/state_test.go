package state

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/store"
	"github.com/multicoord/multicoord/orchestrator/store/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var at = time.Date(2026, 3, 1, 12, 30, 15, 123456789, time.UTC)

// full is a state with something under every key, and the snapshot that it means.
func full(t *testing.T) (store.Tx, cluster.Snapshot) {
	t.Helper()
	lag := int64(12)
	want := cluster.Snapshot{
		Spec: &cluster.Spec{
			Name: "main", ID: "8b6c9f0e", Hosts: []cluster.Host{{Name: "h1", Address: "10.0.0.1", BasePort: 5432}},
			Groups:   []cluster.Group{{ID: 0, Nodes: []cluster.Node{{Name: "c0", Host: "h1", Port: 5432}}}},
			Failover: cluster.Failover{TTL: cluster.Duration(5 * time.Second), MaxLagBytes: 1 << 20},
		},
		Leader: &cluster.LeaderStatus{ID: "h1-77", At: at},
		Groups: map[int]cluster.GroupState{
			0:    {ID: 0, Phase: cluster.Running, Primary: "c0", Term: 7, SystemID: "7000000000000000001", Sync: []string{"c1"}, At: at},
			9999: {ID: 9999, Phase: cluster.Initializing, Primary: "w", Term: 1, At: at},
		},
		Grants: map[int]cluster.Grant{0: {Group: 0, Node: "c0", Host: "h1", Term: 7}},
		Nodes: map[string]cluster.NodeStatus{"c0": {
			Name: "c0", Host: "h1", Address: "10.0.0.1", Port: 5432, State: cluster.NodeRunning, Role: cluster.Standby,
			LSN: 0x16B374D848, Received: 0x16B374D849, LagMS: &lag, Upstream: "c1", PendingRestart: []string{"max_connections"}, StartedAt: at, At: at,
		}},
		Agents:  map[string]cluster.AgentStatus{"h1": {Host: "h1", PID: 7, Version: "1", At: at}},
		Routers: map[string]cluster.RouterStatus{"r1": {ID: "r1", Listen: "127.0.0.1:6432", Epoch: 3, At: at}},
	}
	tx := store.Tx{If: []store.Compare{SpecUnchanged(0)}, Put: []store.Put{PutSecrets([]byte("\x01sealed"))}}
	add := func(p store.Put, err error) {
		t.Helper()
		require.NoError(t, err)
		tx.Put = append(tx.Put, p)
	}
	add(PutSpec(*want.Spec))
	add(PutLeader(*want.Leader, 0))
	for _, g := range want.Groups {
		add(PutGroup(g))
	}
	add(PutGrant(want.Grants[0], 0))
	add(PutNode(want.Nodes["c0"], 0))
	add(PutAgent(want.Agents["h1"], 0))
	add(PutRouter(want.Routers["r1"], 0))
	return tx, want
}

func TestWhatIsPutIsDecoded(t *testing.T) {
	s := memstore.New()
	tx, want := full(t)
	require.NoError(t, Append(&tx, store.State{}, KeepEvents, cluster.Event{At: at, Kind: "init"}))
	tx.Put = append(tx.Put, store.Put{Key: "moves/1", Value: []byte("of a later version")}, store.Put{Key: "groups/0/moves", Value: []byte("too")})
	rev, err := s.Commit(t.Context(), tx)
	require.NoError(t, err)
	v, err := Load(t.Context(), s)
	require.NoError(t, err)
	want.Revision, want.SpecRevision, want.GroupRevision = rev, rev, map[int]int64{0: rev, 9999: rev}
	if d := cmp.Diff(want, v.Snapshot); d != "" {
		t.Errorf("want - got +:\n%s", d)
	}
	sealed, at := SealedSecrets(v.State)
	assert.Equal(t, "\x01sealed", string(sealed))
	assert.Equal(t, rev, at)
	assert.Len(t, Events(v.State), 1)
}

func TestAnEmptyStoreIsAnEmptySnapshot(t *testing.T) {
	snap, err := Decode(store.State{Revision: 1})
	require.NoError(t, err)
	assert.Nil(t, snap.Spec)
	assert.Nil(t, snap.Leader)
	assert.NotNil(t, snap.Groups)
	sealed, rev := SealedSecrets(store.State{})
	assert.Nil(t, sealed)
	assert.Zero(t, rev)
	assert.Zero(t, LeaseOf(store.State{}, Leader))
}

func TestFieldsOfALaterVersionAreIgnored(t *testing.T) {
	snap, err := Decode(store.State{Items: map[string]store.Item{
		"groups/0": {Key: "groups/0", Value: []byte(`{"id":0,"phase":"running","primary":"a","term":2,"colour":"blue"}`), Modified: 3},
	}})
	require.NoError(t, err)
	assert.Equal(t, "a", snap.Groups[0].Primary)
}

func TestABrokenValueIsAnErrorThatNamesItsKey(t *testing.T) {
	for _, c := range []struct {
		key, value string
		decided    bool
	}{
		{"spec", `{`, true},
		{"spec", `{"failover":{"ttl":"soon"}}`, true},
		{"leader", `[]`, true},
		{"groups/0", ``, true},
		{"groups/0", `{"id":1}`, true},
		{"groups/0", `{"id":0,"term":-1}`, true},
		{"groups/12/grant", `{"group":1}`, true},
		{"groups/1/grant", `no`, true},
		{"nodes/a", `{"name":"a","lsn":"far"}`, false},
		{"nodes/a", `{"name":"b"}`, false},
		{"agents/h", `{"host":"x"}`, false},
		{"routers/r", `{"id":"x"}`, false},
	} {
		t.Run(c.key+" "+c.value, func(t *testing.T) {
			_, err := Decode(store.State{Items: map[string]store.Item{c.key: {Key: c.key, Value: []byte(c.value), Modified: 2}}})
			var broken *BrokenError
			require.ErrorAs(t, err, &broken)
			assert.Equal(t, c.key, broken.Key)
			require.ErrorContains(t, err, strconv.Quote(c.key))
			assert.Equal(t, !c.decided, Usable(err))
		})
	}
	assert.True(t, Usable(nil))
	assert.False(t, Usable(assert.AnError))
}

func TestKeysThatAreNoGroupsAreIgnored(t *testing.T) {
	items := map[string]store.Item{}
	for _, key := range []string{"groups/", "groups/x", "groups/-1", "groups/01", "groups/1/grant/x", "groups//grant", "nonsense", "histor"} {
		items[key] = store.Item{Key: key, Value: []byte("?")}
	}
	snap, err := Decode(store.State{Items: items})
	require.NoError(t, err)
	assert.Empty(t, snap.Groups)
	assert.Empty(t, snap.Grants)
}

func FuzzDecode(f *testing.F) {
	f.Add("groups/0", []byte(`{"id":0,"phase":"running","term":7}`))
	f.Add("groups/0/grant", []byte(`{"group":0,"term":7}`))
	f.Add("spec", []byte(`{"name":"x","failover":{"ttl":"5s","maximum_lag_on_failover":"1MB"}}`))
	f.Add("nodes/a", []byte(`{"name":"a","lsn":"16/B374D848","lag_ms":null}`))
	f.Add("history/20260301T123015.123456789Z-0000", []byte(`{"kind":"failover"}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		st := store.State{Revision: 2, Items: map[string]store.Item{key: {Key: key, Value: value, Created: 2, Modified: 2}}}
		snap, err := Decode(st)
		if err == nil {
			for id, g := range snap.Groups {
				if Group(id) != key || g.ID != id {
					t.Fatalf("group %d under key %q", id, key)
				}
			}
		}
		_ = Events(st)
	})
}

func events(n int, from time.Time) []cluster.Event {
	es := make([]cluster.Event, n)
	for i := range es {
		es[i] = cluster.Event{At: from.Add(time.Duration(i) * time.Second), Kind: "test", Message: strconv.Itoa(i), Duration: cluster.Duration(time.Second)}
	}
	return es
}

// appendTo commits events as a leader does.
func appendTo(t *testing.T, s store.Store, keep int, es ...cluster.Event) {
	t.Helper()
	st, err := s.Load(t.Context())
	require.NoError(t, err)
	tx := store.Tx{If: []store.Compare{{Key: Leader}}}
	require.NoError(t, Append(&tx, st, keep, es...))
	require.NoError(t, tx.Check())
	_, err = s.Commit(t.Context(), tx)
	require.NoError(t, err)
}

func history0(t *testing.T, s store.Store) []cluster.Event {
	t.Helper()
	st, err := s.Load(t.Context())
	require.NoError(t, err)
	return Events(st)
}

func TestTheHistoryIsInOrderAndBounded(t *testing.T) {
	s := memstore.New()
	all := events(30, at)
	for _, e := range all {
		appendTo(t, s, 10, e)
	}
	if d := cmp.Diff(all[20:], history0(t, s)); d != "" {
		t.Errorf("want - got +:\n%s", d)
	}
}

func TestEventsOfOneInstantAreAllKept(t *testing.T) {
	s := memstore.New()
	var want []string
	for i := range 12 {
		appendTo(t, s, 100, cluster.Event{At: at, Message: strconv.Itoa(2 * i)}, cluster.Event{At: at, Message: strconv.Itoa(2*i + 1)})
		want = append(want, strconv.Itoa(2*i), strconv.Itoa(2*i+1))
	}
	var got []string
	for _, e := range history0(t, s) {
		got = append(got, e.Message)
	}
	assert.Equal(t, want, got)
}

func TestPruningMakesNoCommitTooLarge(t *testing.T) {
	s := memstore.New()
	for i := range 5 {
		appendTo(t, s, 1000, events(100, at.Add(time.Duration(i)*time.Hour))...)
	}
	require.Len(t, history0(t, s), 500)
	for range 6 {
		appendTo(t, s, 10, cluster.Event{At: at.Add(24 * time.Hour), Message: "new"})
	}
	assert.Len(t, history0(t, s), 10)
}

func TestTimesOfOtherZonesSortWithTheRest(t *testing.T) {
	east := time.FixedZone("east", 5*3600)
	keys := []string{History(at, 0), History(at.Add(time.Nanosecond).In(east), 0), History(at.Add(time.Hour), 0), History(at.Add(time.Hour), 1)}
	assert.True(t, slices.IsSorted(keys), keys)
}

func TestAnUnreadableEventIsShownAsItIs(t *testing.T) {
	es := Events(store.State{Items: map[string]store.Item{"history/x": {Key: "history/x", Value: []byte("{broken")}}})
	require.Len(t, es, 1)
	assert.Contains(t, es[0].Message, "{broken")
}

func TestAWatchKeepsTheLastGoodSnapshotWhileADecisionIsBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		var log bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		snaps := Watch(ctx, s, slog.New(slog.NewTextHandler(&log, nil)))
		write := func(key, value string) {
			t.Helper()
			st, err := s.Load(t.Context())
			require.NoError(t, err)
			_, err = s.Commit(t.Context(), store.Tx{
				If:  []store.Compare{{Key: key, Revision: st.Items[key].Modified}},
				Put: []store.Put{{Key: key, Value: []byte(value)}},
			})
			require.NoError(t, err)
			synctest.Wait()
		}
		<-snaps
		write("groups/0", `{"id":0,"primary":"a"}`)
		assert.Equal(t, "a", (<-snaps).Groups[0].Primary)

		write("groups/0", `{"id":0,`)
		write("nodes/n", `{"name":"n"}`)
		require.Empty(t, snaps, "nothing is sent")
		assert.Equal(t, 1, bytes.Count(log.Bytes(), []byte("level=ERROR")), "said once")
		assert.Contains(t, log.String(), "groups/0")
		log.Reset()

		write("groups/0", `{"id":0,"primary":"b"}`)
		snap := <-snaps
		assert.Equal(t, "b", snap.Groups[0].Primary)
		assert.Contains(t, snap.Nodes, "n")

		write("nodes/n", `?`)
		snap = <-snaps
		assert.NotContains(t, snap.Nodes, "n", "a report that cannot be read counts as missing")
		assert.Equal(t, "b", snap.Groups[0].Primary)
		assert.Contains(t, log.String(), "nodes/n")
		cancel()
		for range snaps {
			continue
		}
	})
}

func TestViewsHoldTheItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		tx, _ := full(t)
		tx.Put = append(tx.Put, store.Put{Key: "agents/broken", Value: []byte("?")})
		_, err := s.Commit(t.Context(), tx)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		views := WatchViews(ctx, s, slog.New(slog.DiscardHandler))
		v := <-views
		assert.Equal(t, v.Revision, v.State.Revision)
		assert.Contains(t, v.State.Items, Secrets)
		require.Error(t, v.Err)
		assert.True(t, Usable(v.Err))
		cancel()
		for range views {
			continue
		}
	})
}

func TestWhatJSONCannotExpressIsAnError(t *testing.T) {
	_, err := PutLeader(cluster.LeaderStatus{At: time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)}, 0)
	require.ErrorContains(t, err, `"leader"`)
}
