package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return rec.Code, rec.Body.String()
}

func TestMetricsHoldTheProcessAndTheCallersOwn(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "multicoord_test_total", Help: "Test."})
	reg.MustRegister(c)
	c.Add(3)
	code, body := get(t, Handler(Config{Registry: reg}), "/metrics")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "multicoord_test_total 3")
	require.Contains(t, body, "go_goroutines")
	require.Contains(t, body, "process_resident_memory_bytes")
}

func TestTwoHandlersShareARegistryWithoutClash(t *testing.T) {
	reg := prometheus.NewRegistry()
	for range 2 {
		code, _ := get(t, Handler(Config{Registry: reg}), "/metrics")
		require.Equal(t, http.StatusOK, code)
	}
}

func TestChecksAnswer503WithEveryReason(t *testing.T) {
	ready := fmt.Errorf("router: %w", errors.New("no primary is known"))
	h := Handler(Config{
		Healthy: func() error { return nil },
		Ready:   func() error { return errors.Join(ready, errors.New("etcd is away")) },
	})
	code, body := get(t, h, "/healthz")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "ok\n", body)
	code, body = get(t, h, "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "router: no primary is known\netcd is away\n", body)
}

func TestReasonsKeepTheWordsAroundAWrappedJoin(t *testing.T) {
	err := fmt.Errorf("agent: %w", errors.Join(errors.New("a"), errors.New("b")))
	require.Equal(t, []string{"agent: a\nb"}, Reasons(err))
	require.Empty(t, Reasons(nil))
}

func TestProfilesAreServedOnlyWhenAskedFor(t *testing.T) {
	code, _ := get(t, Handler(Config{}), "/debug/pprof/cmdline")
	require.Equal(t, http.StatusNotFound, code)
	code, _ = get(t, Handler(Config{Profile: true}), "/debug/pprof/cmdline")
	require.Equal(t, http.StatusOK, code)
}

func TestServeEndsWithItsContextAndLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ServeListener(ctx, l, Config{}) }()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
	resp, err := client.Get("http://" + l.Addr().String() + "/healthz")
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "ok\n", string(body))
	cancel()
	require.NoError(t, <-ended)
	client.CloseIdleConnections()
}

func TestServeNamesTheAddressThatItCannotHave(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	err = Serve(t.Context(), l.Addr().String(), Config{})
	require.ErrorContains(t, err, "listen for metrics on "+l.Addr().String())
}
