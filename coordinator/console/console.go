package console

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/multicoord/multicoord/coordinator/wire"
)

// Config is what the admin console needs.
type Config struct {
	Log *slog.Logger
	// Verifier gives the SCRAM verifier of a user who may use the console; false for everybody else. It answers from
	// memory.
	Verifier func(user string) (wire.Verifier, bool)
	Source   Source
	// Reload carries out RELOAD; nil when there is nothing to reload.
	Reload func(ctx context.Context) error
	// Version is the program's.
	Version string
	// TLS accepts encrypted connections; nil for none.
	TLS *tls.Config
	// MaxClients is the number of sessions at a time (default 100); more get 53300.
	MaxClients int
	// LoginTimeout bounds start-up and authentication together (default 10 s).
	LoginTimeout time.Duration
}

const (
	// pendingClients is how many connections there may be beyond MaxClients that have not logged in yet.
	pendingClients = 50
	// maxMessage bounds a message of a client that has logged in.
	maxMessage = 1 << 20
	// writeTimeout is how long a client may leave an answer unread.
	writeTimeout = 30 * time.Second
	// farewellTimeout is how long a client may take to read why it is sent away at the end.
	farewellTimeout = 2 * time.Second
	// actionTimeout bounds RELOAD and SHOW route.
	actionTimeout = 30 * time.Second
)

// Serve answers clients on l until ctx ends; then it tells them so (57P01), closes l and waits for all of them.
func Serve(ctx context.Context, l net.Listener, cfg Config) error {
	if cfg.MaxClients <= 0 {
		cfg.MaxClients = 100
	}
	if cfg.LoginTimeout <= 0 {
		cfg.LoginTimeout = 10 * time.Second
	}
	c := &console{cfg: cfg, grammar: newGrammar(), mock: make([]byte, 32)}
	rand.Read(c.mock) // never fails
	s := server{log: cfg.Log, limit: cfg.MaxClients + pendingClients, handle: c.serve}
	return s.run(ctx, l)
}

// console is what the sessions share.
type console struct {
	cfg      Config
	grammar  grammar
	mock     []byte // the secret of mock verifiers
	sessions atomic.Int64
}

// serve is one connection.
func (c *console) serve(ctx context.Context, conn net.Conn) {
	startup, conn, err := c.login(ctx, conn)
	defer conn.Close() // TLS says goodbye
	var e *wire.Error
	switch {
	case errors.As(err, &e):
		c.cfg.Log.WarnContext(ctx, "login to the console refused", "user", startup.Params["user"], "client", conn.RemoteAddr().String(), "err", e)
		if conn.SetWriteDeadline(time.Now().Add(farewellTimeout)) == nil {
			_, _ = conn.Write(e.Append(nil))
		}
		return
	case errors.Is(err, io.EOF) || err == nil && startup.Cancel != nil:
		return // a health check, or a cancel request: no command here takes long enough to be cancelled
	case err != nil:
		c.cfg.Log.DebugContext(ctx, "login to the console broken off", "client", conn.RemoteAddr().String(), "err", err)
		return
	}
	if n := c.sessions.Add(1); n > int64(c.cfg.MaxClients) {
		defer c.sessions.Add(-1)
		if conn.SetWriteDeadline(time.Now().Add(farewellTimeout)) == nil {
			_, _ = conn.Write(wire.Fatal("53300", "too many clients of the admin console (%d)", c.cfg.MaxClients).Append(nil))
		}
		return
	}
	defer c.sessions.Add(-1)
	s := newSession(c, conn, startup)
	if err := s.run(ctx); err != nil && !errors.Is(err, io.EOF) {
		c.cfg.Log.DebugContext(ctx, "console session ended", "user", s.user, "client", conn.RemoteAddr().String(), "err", err)
	}
}

// login takes a connection through start-up and authentication. The connection returned is the one to go on with.
func (c *console) login(ctx context.Context, raw net.Conn) (wire.Startup, net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	deadline := time.Now().Add(c.cfg.LoginTimeout)
	startup, conn, err := wire.ReadStartup(raw, wire.StartupConfig{TLS: c.cfg.TLS, Timeout: c.cfg.LoginTimeout})
	if err != nil || startup.Cancel != nil {
		return startup, conn, err
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return startup, conn, err
	}
	user := startup.Params["user"]
	verifier, known := c.cfg.Verifier(user)
	if !known {
		verifier = wire.MockVerifier(user, c.mock)
	}
	if _, err := wire.AuthenticateClient(conn, user, verifier, !known); err != nil {
		return startup, conn, err
	}
	return startup, conn, conn.SetDeadline(time.Time{})
}

// cancelKey makes a key for BackendKeyData: clients want one, though nothing here can be cancelled.
func cancelKey(protocol uint32) (pid uint32, secret []byte) {
	b := make([]byte, 36)
	rand.Read(b) // never fails
	if protocol < wire.Protocol32 {
		b = b[:8]
	}
	return binary.BigEndian.Uint32(b) >> 1, b[4:]
}
