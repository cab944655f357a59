package etcdserver_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/etcdserver"
	"github.com/multicoord/multicoord/orchestrator/store"
	"github.com/multicoord/multicoord/orchestrator/store/etcdstore"
)

func TestStart(t *testing.T) {
	t0 := time.Now()
	s, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	require.NoError(t, err)
	t.Log("start", time.Since(t0))
	t0 = time.Now()
	st, err := etcdstore.Open(t.Context(), etcdstore.Config{Endpoints: s.Endpoints(), Prefix: "/multicoord/x"})
	require.NoError(t, err)
	t.Log("open", time.Since(t0))
	t0 = time.Now()
	_, err = st.Commit(t.Context(), store.Tx{If: []store.Compare{{Key: "a"}}, Put: []store.Put{{Key: "a", Value: []byte("b")}}})
	require.NoError(t, err)
	t.Log("commit", time.Since(t0))
	t0 = time.Now()
	ch := st.Watch(t.Context())
	t.Log(<-ch, time.Since(t0))
	m, err := st.Members(t.Context())
	t.Log(m, err)
	t0 = time.Now()
	require.NoError(t, s.Close())
	t.Log("close", time.Since(t0))
	t0 = time.Now()
	require.NoError(t, st.Close())
	t.Log("close", time.Since(t0))
}
