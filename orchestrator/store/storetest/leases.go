//nolint:thelper // these are the tests themselves, not helpers
package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/store"
)

// short is the time to live in cases that wait for its end.
const short = time.Second

func leases() map[string]func(*testing.T, store.Store) {
	return map[string]func(*testing.T, store.Store){
		"a lease lives at least as long as asked for":             ttlIsEnough,
		"the keys of a lease go when it runs out":                 expiry,
		"no key goes before its lease can have run out":           notEarly,
		"a renewed lease keeps its keys":                          renewal,
		"a lost lease is not brought back by a renewal":           lostStaysLost,
		"a revoked lease takes its keys with it at once":          revoked,
		"a put on a lost lease writes nothing at all":             putOnLost,
		"a key can be moved to another lease, and off it":         moved,
		"a key that was put again without its lease stays":        detached,
		"who attaches to a lease shares its life":                 attached,
		"nobody can attach to a lease that is gone":               attachedTooLate,
		"a lease that has run out deletes what it holds, no more": onlyItsOwn,
	}
}

func lease(t *testing.T, s store.Store, ttl time.Duration) store.Lease {
	t.Helper()
	l, err := s.Lease(t.Context(), ttl)
	require.NoError(t, err)
	return l
}

func makeOn(t *testing.T, s store.Store, key, value string, l store.Lease) int64 {
	t.Helper()
	rev, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{absent(key)}, Put: []store.Put{{Key: key, Value: []byte(value), Lease: l.ID()}}})
	require.NoError(t, err)
	return rev
}

func ttlIsEnough(t *testing.T, s store.Store) {
	for _, ask := range []time.Duration{0, time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second} {
		l := lease(t, s, ask)
		assert.GreaterOrEqual(t, l.TTL(), max(ask, time.Second))
		assert.Zero(t, l.TTL()%time.Second, "whole seconds")
		assert.NotZero(t, l.ID())
		require.NoError(t, l.Revoke(t.Context()))
	}
}

func expiry(t *testing.T, s store.Store) {
	states := s.Watch(t.Context())
	l := lease(t, s, short)
	makeOn(t, s, "nodes/a", "1", l)
	makeOn(t, s, "agents/h", "1", l)
	Next(t, states, has("agents/h", "1"))
	Next(t, states, func(st store.State) bool { return len(st.Items) == 0 })
	require.ErrorIs(t, l.Renew(t.Context()), store.ErrLeaseLost)
	assert.NoError(t, l.Revoke(t.Context()), "revoking a lost lease is no error")
}

func notEarly(t *testing.T, s store.Store) {
	states := s.Watch(t.Context())
	began := time.Now()
	l := lease(t, s, short)
	makeOn(t, s, "grant", "1", l)
	Next(t, states, has("grant", "1"))
	Next(t, states, lacks("grant"))
	assert.GreaterOrEqual(t, time.Since(began), l.TTL())
}

func renewal(t *testing.T, s store.Store) {
	l := lease(t, s, short)
	rev := makeOn(t, s, "grant", "1", l)
	renewed(t.Context(), t, l, 2*l.TTL())
	it := load(t, s).Items["grant"]
	assert.Equal(t, store.Item{Key: "grant", Value: []byte("1"), Created: rev, Modified: rev, Lease: l.ID()}, it, "a renewal changes no key")
	require.NoError(t, l.Revoke(t.Context()))
}

func lostStaysLost(t *testing.T, s store.Store) {
	l := lease(t, s, patience)
	makeOn(t, s, "grant", "old", l)
	require.NoError(t, l.Revoke(t.Context()))
	makeOn(t, s, "grant", "new", lease(t, s, patience))
	require.ErrorIs(t, l.Renew(t.Context()), store.ErrLeaseLost)
	assert.Equal(t, "new", string(load(t, s).Items["grant"].Value))
}

func revoked(t *testing.T, s store.Store) {
	l := lease(t, s, patience)
	makeOn(t, s, "a", "1", l)
	makeOn(t, s, "b", "1", l)
	require.NoError(t, l.Revoke(t.Context()))
	assert.Empty(t, load(t, s).Items)
	assert.NoError(t, l.Revoke(t.Context()), "a second time")
}

func putOnLost(t *testing.T, s store.Store) {
	l := lease(t, s, patience)
	require.NoError(t, l.Revoke(t.Context()))
	_, err := s.Commit(t.Context(), store.Tx{
		If:  []store.Compare{absent("a")},
		Put: []store.Put{put("a", "1"), {Key: "b", Value: []byte("1"), Lease: l.ID()}},
	})
	require.ErrorIs(t, err, store.ErrLeaseLost)
	assert.Empty(t, load(t, s).Items)
}

func moved(t *testing.T, s store.Store) {
	one, two := lease(t, s, patience), lease(t, s, patience)
	rev := makeOn(t, s, "k", "1", one)
	_, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{created("k", rev)}, Put: []store.Put{{Key: "k", Value: []byte("2"), Lease: two.ID()}}})
	require.NoError(t, err)
	require.NoError(t, one.Revoke(t.Context()))
	it := load(t, s).Items["k"]
	assert.Equal(t, two.ID(), it.Lease)
	assert.Equal(t, "2", string(it.Value))
	require.NoError(t, two.Revoke(t.Context()))
	assert.Empty(t, load(t, s).Items)
}

func detached(t *testing.T, s store.Store) {
	l := lease(t, s, patience)
	rev := makeOn(t, s, "k", "1", l)
	_, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{created("k", rev)}, Put: []store.Put{put("k", "2")}})
	require.NoError(t, err)
	require.NoError(t, l.Revoke(t.Context()))
	it := load(t, s).Items["k"]
	assert.Equal(t, "2", string(it.Value))
	assert.Zero(t, it.Lease)
}

func attached(t *testing.T, s store.Store) {
	first := lease(t, s, patience)
	makeOn(t, s, "grant", "1", first)
	heir, err := s.Attach(t.Context(), load(t, s).Items["grant"].Lease)
	require.NoError(t, err)
	assert.Equal(t, first.ID(), heir.ID())
	assert.Equal(t, first.TTL(), heir.TTL())
	require.NoError(t, heir.Renew(t.Context()))
	require.NoError(t, heir.Revoke(t.Context()))
	assert.Empty(t, load(t, s).Items)
	assert.ErrorIs(t, first.Renew(t.Context()), store.ErrLeaseLost)
}

func attachedTooLate(t *testing.T, s store.Store) {
	l := lease(t, s, patience)
	require.NoError(t, l.Revoke(t.Context()))
	_, err := s.Attach(t.Context(), l.ID())
	assert.ErrorIs(t, err, store.ErrLeaseLost)
}

func onlyItsOwn(t *testing.T, s store.Store) {
	states := s.Watch(t.Context())
	l := lease(t, s, short)
	makeOn(t, s, "mine", "1", l)
	make1(t, s, "durable", "1")
	other := lease(t, s, patience)
	makeOn(t, s, "other", "1", other)
	Next(t, states, has("mine", "1"))
	st := Next(t, states, lacks("mine"))
	assert.Len(t, st.Items, 2)
	require.NoError(t, other.Revoke(t.Context()))
}
