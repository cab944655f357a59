// Package storetest is the suite that every implementation of store.Store must pass, and a Store between (Proxy) that
// lets tests of the layers above delay and break calls.
//
// Level: tests only.
//
//nolint:thelper // these are the tests themselves, not helpers
package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/store"
)

// Run runs the suite. open gives an empty store of its own for each case; in runs a case (synctest.Test for stores that
// live in memory, Parallel for those that need real time).
func Run(t *testing.T, open func(*testing.T) store.Store, in func(*testing.T, func(*testing.T))) {
	for name, test := range cases() {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) { test(t, open(t)) })
		})
	}
}

// Parallel runs a case in real time, beside the others.
func Parallel(t *testing.T, test func(*testing.T)) {
	t.Parallel()
	test(t)
}

func cases() map[string]func(*testing.T, store.Store) {
	all := map[string]func(*testing.T, store.Store){}
	for _, part := range []map[string]func(*testing.T, store.Store){commits(), leases(), watches()} {
		for name, test := range part {
			all[name] = test
		}
	}
	return all
}

// patience bounds every wait of the suite.
const patience = 15 * time.Second

// Next waits for a state that satisfies ok.
func Next(t *testing.T, states <-chan store.State, ok func(store.State) bool) store.State {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case st, open := <-states:
			require.True(t, open, "the watch ended early")
			if ok(st) {
				return st
			}
		case <-late:
			require.FailNow(t, "the awaited state has not come")
		}
	}
}

func absent(key string) store.Compare { return store.Compare{Key: key} }

func modified(key string, rev int64) store.Compare {
	return store.Compare{Key: key, Kind: store.Modified, Revision: rev}
}

func created(key string, rev int64) store.Compare {
	return store.Compare{Key: key, Kind: store.Created, Revision: rev}
}

func put(key, value string) store.Put { return store.Put{Key: key, Value: []byte(value)} }

// make1 creates a key and gives the revision.
func make1(t *testing.T, s store.Store, key, value string) int64 {
	t.Helper()
	rev, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{absent(key)}, Put: []store.Put{put(key, value)}})
	require.NoError(t, err)
	return rev
}

func load(t *testing.T, s store.Store) store.State {
	t.Helper()
	st, err := s.Load(t.Context())
	require.NoError(t, err)
	return st
}

func has(key, value string) func(store.State) bool {
	return func(st store.State) bool {
		it, ok := st.Items[key]
		return ok && string(it.Value) == value
	}
}

func lacks(key string) func(store.State) bool {
	return func(st store.State) bool {
		_, ok := st.Items[key]
		return !ok
	}
}

// renewed keeps a lease alive for d, by renewals every third of its TTL.
func renewed(ctx context.Context, t *testing.T, l store.Lease, d time.Duration) {
	t.Helper()
	end := time.Now().Add(d)
	tick := time.NewTicker(l.TTL() / 3)
	defer tick.Stop()
	for time.Now().Before(end) {
		<-tick.C
		require.NoError(t, l.Renew(ctx))
	}
}
