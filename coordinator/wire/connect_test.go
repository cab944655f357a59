package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// query runs one simple query on a connection and gives its first value, or the server's error.
func query(conn net.Conn, sql string) (string, error) {
	if _, err := conn.Write(AppendQuery(nil, sql)); err != nil {
		return "", err
	}
	r := NewReader(conn, 1<<20)
	value, failure := "", error(nil)
	for {
		f, err := r.Next()
		if err != nil {
			return "", err
		}
		switch f.Type {
		case 'D':
			if n := int32(binary.BigEndian.Uint32(f.Body()[2:])); n > 0 {
				value = string(f.Body()[6 : 6+n])
			}
		case 'E':
			e, err := ParseError(f.Body())
			if err != nil {
				return "", err
			}
			failure = e
		case 'Z':
			return value, failure
		}
	}
}

func (p *postgres) config(c Credentials) ServerConfig {
	return ServerConfig{
		Network: "tcp", Address: p.address(), Credentials: c, Timeout: 20 * time.Second,
		Params: map[string]string{"database": "postgres", "application_name": "wire test", "options": "-c work_mem=123kB"},
	}
}

func TestConnectWithAPassword(t *testing.T) {
	p := server(t)
	s, err := Connect(t.Context(), p.config(Credentials{User: "postgres", Password: superPassword}))
	require.NoError(t, err)
	defer s.Conn.Close()
	// PostgreSQL 15 speaks 3.0 and says so when asked for 3.2.
	protocol, secret := Protocol30, 4
	if p.version >= 18 {
		protocol, secret = Protocol32, 32
	}
	require.Equal(t, protocol, s.Protocol)
	require.Len(t, s.Secret, secret)
	require.Equal(t, "wire test", s.Params["application_name"])
	require.True(t, strings.HasPrefix(s.Params["server_version"], strconv.Itoa(p.version)))
	require.NotZero(t, s.PID)
	got, err := query(s.Conn, "SHOW work_mem")
	require.NoError(t, err)
	require.Equal(t, "123kB", got)
	_, err = query(s.Conn, "SELECT 1/0")
	require.True(t, isCode("22012")(err))
}

func TestErrorsOfTheServerComeBackAsTheyAre(t *testing.T) {
	p := server(t)
	for _, c := range []struct{ user, password, database, code string }{
		{"postgres", "wrong", "postgres", "28P01"},
		{"nobody_here", "wrong", "postgres", "28P01"},
		{"postgres", superPassword, "no_such_database", "3D000"},
	} {
		cfg := p.config(Credentials{User: c.user, Password: c.password})
		cfg.Params["database"] = c.database
		_, err := Connect(t.Context(), cfg)
		require.Truef(t, isCode(c.code)(err), "%v", err)
		require.NotContains(t, err.Error(), superPassword)
	}
}

// The heart of pass-through: a client logs in here with its password, and its role logs in to the server with what was
// learned from its proof, while nobody here ever knew the password.
func TestAClientsKeysOpenTheServer(t *testing.T) {
	p := server(t)
	admin := p.connect(t)
	ctx := t.Context()
	_, err := admin.Exec(ctx, "DROP ROLE IF EXISTS through; CREATE ROLE through LOGIN PASSWORD 'pass wörd'")
	require.NoError(t, err)
	verifier := func() Verifier {
		var text string
		require.NoError(t, admin.QueryRow(ctx, "SELECT rolpassword FROM pg_authid WHERE rolname = 'through'").Scan(&text))
		v, err := ParseVerifier(text)
		require.NoError(t, err)
		return v
	}
	v := verifier()
	f := (&fakeServer{verifiers: map[string]Verifier{"through": v}, secret: []byte("abcd")}).run(t)
	client, err := pgx.ConnectConfig(ctx, f.config(t, "through", "pass wörd", "sslmode=disable"))
	require.NoError(t, err)
	require.NoError(t, client.Close(ctx))
	keys := f.next(t).keys

	for _, known := range []*Verifier{nil, &v} {
		s, err := Connect(ctx, p.config(Credentials{User: "through", Keys: &keys, Verifier: known}))
		require.NoError(t, err)
		got, err := query(s.Conn, "SELECT current_user")
		require.NoError(t, err)
		require.Equal(t, "through", got)
		s.Conn.Close()
	}

	// A new password, even the same one with a new salt, ends it.
	_, err = admin.Exec(ctx, "ALTER ROLE through PASSWORD 'pass wörd'")
	require.NoError(t, err)
	_, err = Connect(ctx, p.config(Credentials{User: "through", Keys: &keys, Verifier: &v}))
	require.ErrorIs(t, err, ErrStaleKeys)
	_, err = Connect(ctx, p.config(Credentials{User: "through", Keys: &keys}))
	require.True(t, isCode("28P01")(err), "%v", err)

	// A verifier that was made here is one for the server.
	ours, err := NewVerifier("another", 5000)
	require.NoError(t, err)
	_, err = admin.Exec(ctx, "ALTER ROLE through PASSWORD '"+ours.String()+"'")
	require.NoError(t, err)
	s, err := Connect(ctx, p.config(Credentials{User: "through", Password: "another"}))
	require.NoError(t, err)
	s.Conn.Close()
}

func TestCancelEndsAStatement(t *testing.T) {
	p := server(t)
	s, err := Connect(t.Context(), p.config(Credentials{User: "postgres", Password: superPassword}))
	require.NoError(t, err)
	defer s.Conn.Close()
	s.Conn.SetDeadline(time.Now().Add(30 * time.Second))
	admin := p.connect(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := query(s.Conn, "SELECT pg_sleep(600)")
		require.True(t, isCode("57014")(err), "%v", err)
	})
	require.Eventually(t, func() bool {
		var sleeps bool
		err := admin.QueryRow(t.Context(), "SELECT coalesce(bool_or(wait_event = 'PgSleep'), false) FROM pg_stat_activity WHERE pid = $1", s.PID).Scan(&sleeps)
		return err == nil && sleeps
	}, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, Cancel(t.Context(), "tcp", p.address(), CancelKey{PID: s.PID, Secret: []byte("xxxx")}), "a wrong key is no error, and cancels nothing")
	require.NoError(t, Cancel(t.Context(), "tcp", p.address(), CancelKey{PID: s.PID, Secret: s.Secret}))
	wg.Wait()
	got, err := query(s.Conn, "SELECT 1")
	require.NoError(t, err)
	require.Equal(t, "1", got)
	require.Error(t, Cancel(t.Context(), "tcp", p.address(), CancelKey{PID: s.PID}))
}

func TestConnectAndCancelWithProtocol32(t *testing.T) {
	v, err := NewVerifier("x", 0)
	require.NoError(t, err)
	secret := []byte(strings.Repeat("s", 32))
	f := (&fakeServer{verifiers: map[string]Verifier{"me": v}, secret: secret}).run(t)
	s, err := Connect(t.Context(), ServerConfig{Network: "tcp", Address: f.addr, Credentials: Credentials{User: "me", Password: "x"}})
	require.NoError(t, err)
	require.Equal(t, Protocol32, s.Protocol)
	require.Equal(t, secret, s.Secret)
	require.NoError(t, Cancel(t.Context(), "tcp", f.addr, CancelKey{PID: s.PID, Secret: s.Secret}))
	require.Equal(t, &CancelKey{PID: 4711, Secret: secret}, f.next(t).startup.Cancel)
	s.Conn.Close()
	f.next(t)
}

func TestConnectOverTLS(t *testing.T) {
	cert, pool := certificate(t)
	v, err := NewVerifier("x", 0)
	require.NoError(t, err)
	f := (&fakeServer{verifiers: map[string]Verifier{"me": v}, secret: []byte("abcd"), tls: cert}).run(t)
	cfg := ServerConfig{Network: "tcp", Address: f.addr, Credentials: Credentials{User: "me", Password: "x"}, TLS: &tls.Config{RootCAs: pool}}
	s, err := Connect(t.Context(), cfg)
	require.NoError(t, err)
	got, err := query(s.Conn, "SELECT 1")
	require.NoError(t, err)
	require.Equal(t, "1", got)
	s.Conn.Close()
	require.True(t, f.next(t).startup.TLS)

	cfg.TLS = &tls.Config{}
	_, err = Connect(t.Context(), cfg)
	require.ErrorContains(t, err, "certificate")
	f.next(t)
	plain := newFake(t)
	cfg.Address = plain.addr
	_, err = Connect(t.Context(), cfg)
	require.ErrorContains(t, err, "does not offer TLS")
}

// hostile listens and plays a server that says what the script gives for each message of the client (the start-up packet
// is the first).
func hostile(t *testing.T, script func(n int, body []byte) []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			var head [4]byte
			io.ReadFull(conn, head[:])
			body := make([]byte, min(binary.BigEndian.Uint32(head[:]), maxStartup)-4)
			io.ReadFull(conn, body)
			for n := 0; ; n++ {
				out := script(n, body)
				if out == nil {
					break
				}
				conn.Write(out)
				if _, body, err = readMessage(conn, 1<<20); err != nil {
					break
				}
			}
			conn.Close()
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

func TestHostileServers(t *testing.T) {
	auth := func(code uint32, data string) []byte { return appendAuthentication(nil, code, []byte(data)) }
	sasl := auth(authSASL, scramMechanism+"\x00\x00")
	bye := Fatal("53300", "too many clients").Append(nil)
	once := func(first []byte) func(int, []byte) []byte {
		return func(n int, _ []byte) []byte {
			if n == 0 {
				return first
			}
			return nil
		}
	}
	// A server that does not know the password, and says whatever it likes.
	impostor := func(final func(serverFirst string) []byte) func(int, []byte) []byte {
		challenge := ""
		return func(n int, body []byte) []byte {
			switch n {
			case 0:
				return sasl
			case 1:
				client := string(body[bytes.Index(body, []byte("r="))+2:])
				challenge = "r=" + client + "X,s=" + base64.StdEncoding.EncodeToString([]byte("salt")) + ",i=1"
				return auth(authSASLContinue, challenge)
			case 2:
				return final(challenge)
			}
			return nil
		}
	}
	ok := AppendReady(AppendAuthenticationOK(nil), 'I')
	for _, c := range []struct {
		name, want string
		script     func(int, []byte) []byte
	}{
		{"closes at once", "EOF", once(nil)},
		{"an error", "too many clients", once(bye)},
		{"a broken error", "invalid message format", once(frame('E', []byte("S")))},
		{"a broken notice", "invalid message format", once(frame('N', nil))},
		{"trust", "without proving", once(ok)},
		{"password in clear", "never sent", once(auth(authCleartext, ""))},
		{"md5", "never sent", once(auth(authMD5, "salt"))},
		{"GSS", "method 7", once(auth(7, ""))},
		{"no code", "invalid message format", once(frame('R', []byte{0, 0}))},
		{"no mechanism", "SASL mechanisms", once(auth(authSASL, "\x00"))},
		{"unterminated mechanisms", "invalid message format", once(auth(authSASL, "SCRAM"))},
		{"too many mechanisms", "invalid message format", once(auth(authSASL, strings.Repeat("x\x00", 1000)+"\x00"))},
		{"only PLUS", "SASL mechanisms", once(auth(authSASL, "SCRAM-SHA-256-PLUS\x00\x00"))},
		{"continue before begin", "method 11", once(auth(authSASLContinue, "x"))},
		{"final before begin", "method 12", once(auth(authSASLFinal, "v="))},
		{"ready before authentication", "unexpected message", once(AppendReady(nil, 'I'))},
		{"parameters before authentication", "unexpected message", once(AppendParameterStatus(nil, "a", "b"))},
		{"a data row", "unexpected message", once(frame('D', []byte{0, 0}))},
		{"2 GiB claimed", "longer than", once([]byte{'R', 0x7f, 0xff, 0xff, 0xff})},
		{"length 0", "invalid message length", once([]byte{'R', 0, 0, 0, 0})},
		{"another protocol", "not asked for", once(frame('v', binary.BigEndian.AppendUint64(nil, uint64(4<<16)<<32)))},
		{"a newer protocol", "not asked for", once(frame('v', binary.BigEndian.AppendUint64(nil, uint64(Protocol32+1)<<32)))},
		{"a short negotiation", "invalid message format", once(frame('v', []byte{0}))},
		{"nonce not continued", "nonce", func(n int, _ []byte) []byte {
			return [][]byte{sasl, auth(authSASLContinue, "r=other,s="+base64.StdEncoding.EncodeToString([]byte("salt"))+",i=1"), nil}[n]
		}},
		{"ok instead of its signature", "without proving", impostor(func(string) []byte { return ok })},
		{"an empty signature", "may not be the server", impostor(func(string) []byte { return append(auth(authSASLFinal, "v="), ok...) })},
		{"a wrong signature", "may not be the server", impostor(func(string) []byte {
			return append(auth(authSASLFinal, "v="+base64.StdEncoding.EncodeToString(make([]byte, 32))), ok...)
		})},
		{"an error in SASL", "other-error", impostor(func(string) []byte { return auth(authSASLFinal, "e=other-error") })},
		{"the challenge twice", "method 11", impostor(func(s string) []byte { return auth(authSASLContinue, s) })},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Connect(t.Context(), ServerConfig{
				Network: "tcp", Address: hostile(t, c.script), Credentials: Credentials{User: "me", Password: "secret"}, Timeout: 20 * time.Second,
			})
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "secret")
		})
	}
	t.Run("what comes behind authentication", func(t *testing.T) {
		for _, m := range [][]byte{
			frame('K', []byte{1, 2}), frame('K', make([]byte, 300)), frame('S', []byte("a")), frame('S', []byte("a\x00b\x00c")), frame('Z', nil),
			frame('Z', []byte("T")), frame('T', []byte{0, 0}), AppendAuthenticationOK(nil),
		} {
			h := handshake{stage: admitted, server: &Server{Params: map[string]string{}}}
			require.Errorf(t, h.step(m[0], m[5:]), "%q", m)
		}
	})
	t.Run("without credentials a server may ask for none", func(t *testing.T) {
		cfg := ServerConfig{Network: "tcp", Address: hostile(t, once(ok)), Credentials: Credentials{User: "me"}}
		s, err := Connect(t.Context(), cfg)
		require.NoError(t, err)
		s.Conn.Close()
		cfg.Address = hostile(t, once(sasl))
		_, err = Connect(t.Context(), cfg)
		require.ErrorContains(t, err, "none was given")
	})
}

func TestConnectEndsWithItsContextAndItsTimeout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	cfg := ServerConfig{Network: "tcp", Address: l.Addr().String(), Credentials: Credentials{User: "me", Password: "x"}, Timeout: 30 * time.Millisecond}
	_, err = Connect(t.Context(), cfg)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("shutting down")
	cfg.Timeout = time.Minute
	time.AfterFunc(30*time.Millisecond, func() { cancel(why) })
	_, err = Connect(ctx, cfg)
	require.ErrorIs(t, err, why)
	require.ErrorIs(t, Cancel(ctx, "tcp", cfg.Address, CancelKey{Secret: []byte("abcd")}), context.Canceled)
}

func TestConnectOverAUnixSocketAndItsPacket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	got := make(chan *pgproto3.StartupMessage, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		m, err := pgproto3.NewBackend(conn, conn).ReceiveStartupMessage()
		if err == nil {
			got <- m.(*pgproto3.StartupMessage)
		}
	}()
	cfg := ServerConfig{
		Network: "unix", Address: path, Credentials: Credentials{User: "me", Password: "x"},
		Params: map[string]string{"user": "someone else", "database": "db", "replication": "true"}, Protocol: Protocol30,
	}
	_, err = Connect(t.Context(), cfg)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, &pgproto3.StartupMessage{
		ProtocolVersion: Protocol30, Parameters: map[string]string{"user": "me", "database": "db", "replication": "true"},
	}, <-got)

	for _, bad := range []ServerConfig{
		{},
		{Credentials: Credentials{User: "a\x00b"}},
		{Credentials: Credentials{User: "a"}, Params: map[string]string{"a": "b\x00c"}},
		{Credentials: Credentials{User: "a"}, Params: map[string]string{"options": strings.Repeat("x", maxStartup)}},
	} {
		_, err := startupPacket(Protocol30, bad)
		require.Error(t, err)
	}
}
