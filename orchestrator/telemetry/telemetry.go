// Package telemetry serves what a process says of itself over HTTP: /metrics in Prometheus' format, /healthz
// and /readyz.
//
// Level: adapter (HTTP and the Prometheus client). The caller gives the registry and says what healthy and
// ready mean.
//
// It never measures anything but the Go runtime and the process, never decides anything, and serves profiles
// only when asked to.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The bounds of one request and of the end of the server.
const (
	readTimeout  = 5 * time.Second
	writeTimeout = 30 * time.Second
	idleTimeout  = 2 * time.Minute
	// profileTimeout replaces writeTimeout where profiles are served: they take 30 s by default.
	profileTimeout  = 5 * time.Minute
	shutdownTimeout = 2 * time.Second
	maxHeaderBytes  = 16 << 10
	maxScrapes      = 4
)

// Config says what is served.
type Config struct {
	// Registry holds the process's metrics; Serve does not change it. nil serves those of the runtime only.
	Registry *prometheus.Registry
	// Healthy says why the process should be restarted, nil if it should not; Ready why it should get no work.
	// Either may be nil (always well) and is called from several goroutines; it must not block for long.
	Healthy, Ready func() error
	// Profile serves net/http/pprof under /debug/pprof/. It shows the process's memory and arguments: only on
	// addresses that nobody else reaches.
	Profile bool
	Log     *slog.Logger
}

// Serve listens on addr ("host:port") and serves until ctx ends, then lets running requests end for at most
// 2 s. It returns an error only when it cannot listen or stops serving by itself.
func Serve(ctx context.Context, addr string, cfg Config) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for metrics on %s: %w", addr, err)
	}
	return ServeListener(ctx, l, cfg)
}

// ServeListener is Serve on a listener that the caller has made; it closes it.
func ServeListener(ctx context.Context, l net.Listener, cfg Config) error {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	srv := &http.Server{
		Handler:           Handler(cfg),
		ReadTimeout:       readTimeout,
		ReadHeaderTimeout: readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	if cfg.Profile {
		srv.WriteTimeout = profileTimeout
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve metrics on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		_ = srv.Close() // requests that would not end in time
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics on %s: %w", l.Addr(), err)
	}
	return nil
}

// Handler serves the paths without a listener.
func Handler(cfg Config) http.Handler {
	own := prometheus.NewRegistry()
	own.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	all := prometheus.Gatherers{own}
	if cfg.Registry != nil {
		all = append(all, cfg.Registry)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(all, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes, Timeout: writeTimeout - time.Second,
	}))
	mux.HandleFunc("GET /healthz", check(cfg.Healthy))
	mux.HandleFunc("GET /readyz", check(cfg.Ready))
	if cfg.Profile {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// check answers 200 "ok", or 503 with one reason a line.
func check(ask func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		var err error
		if ask != nil {
			err = ask()
		}
		if err == nil {
			_, _ = io.WriteString(w, "ok\n")
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, strings.Join(Reasons(err), "\n")+"\n")
	}
}

// Reasons takes joined errors apart: one text for each.
func Reasons(err error) []string {
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) || err.Error() != errors.Join(joined.Unwrap()...).Error() {
		return []string{err.Error()}
	}
	var out []string
	for _, e := range joined.Unwrap() {
		out = append(out, Reasons(e)...)
	}
	return out
}
