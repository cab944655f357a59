package election

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/etcdserver"
	"github.com/multicoord/multicoord/orchestrator/store"
	"github.com/multicoord/multicoord/orchestrator/store/etcdstore"
)

func TestOverEtcdTheNextLeadsAtOnceAndNobodyLeadsWithoutIt(t *testing.T) {
	dir, err := os.MkdirTemp("", "mc") //nolint:usetesting // the names of tests make paths too long for a socket
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	srv, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: dir})
	require.NoError(t, err)
	connect := func() *etcdstore.Store {
		s, err := etcdstore.Open(t.Context(), etcdstore.Config{Endpoints: srv.Endpoints(), Prefix: "/multicoord/main"})
		require.NoError(t, err)
		return s
	}
	one, two := connect(), connect()
	a := stand(t, one, "a")
	first := a.leads(t, 5*time.Second)
	b := stand(t, two, "b")
	_, err = first.Commit(t.Context(), store.Tx{Put: []store.Put{{Key: "x", Value: []byte("a")}}})
	require.NoError(t, err)

	left := time.Now()
	a.stop(t)
	second := b.leads(t, 5*time.Second)
	assert.Less(t, second.since.Sub(left), time.Second)
	t.Log("handed over in", second.since.Sub(left))
	_, err = first.Commit(t.Context(), store.Tx{Put: []store.Put{{Key: "x", Value: []byte("late")}}})
	require.ErrorIs(t, err, store.ErrConflict)

	require.NoError(t, srv.Close())
	away := time.Now()
	select {
	case <-second.ctx.Done():
	case <-time.After(2 * ttl):
		require.FailNow(t, "it leads without etcd")
	}
	assert.LessOrEqual(t, time.Since(away), ttl)

	srv, err = etcdserver.Start(t.Context(), etcdserver.Config{Dir: dir})
	require.NoError(t, err)
	third := b.leads(t, 3*ttl)
	assert.Greater(t, third.Revision(), second.Revision())
	b.stop(t)
	require.NoError(t, one.Close())
	require.NoError(t, two.Close())
	require.NoError(t, srv.Close())
}
