package wire

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

func newFake(t *testing.T) *fakeServer {
	t.Helper()
	v, err := NewVerifier("pass wörd", 0)
	require.NoError(t, err)
	return (&fakeServer{verifiers: map[string]Verifier{"alice": v}, secret: []byte("abcd")}).run(t)
}

func (f *fakeServer) config(t *testing.T, user, password, more string) *pgx.ConnConfig {
	t.Helper()
	host, port, err := net.SplitHostPort(f.addr)
	require.NoError(t, err)
	cfg, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%s user=%s password='%s' dbname=db default_query_exec_mode=simple_protocol %s",
		host, port, user, password, more))
	require.NoError(t, err)
	return cfg
}

func TestPgxLogsIn(t *testing.T) {
	f := newFake(t)
	for _, c := range []struct {
		more     string
		protocol uint32
	}{
		{"sslmode=disable", Protocol30},
		{"sslmode=prefer", Protocol30},
		{"sslmode=disable max_protocol_version=3.2", Protocol32},
		{"sslmode=disable min_protocol_version=3.2 max_protocol_version=latest", Protocol32},
	} {
		conn, err := pgx.ConnectConfig(t.Context(), f.config(t, "alice", "pass wörd", c.more))
		require.NoError(t, err, c.more)
		var one string
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT 1").Scan(&one))
		require.Equal(t, "1", one)
		require.NoError(t, conn.Close(t.Context()))
		got := f.next(t)
		require.NoError(t, got.err)
		require.Equal(t, c.protocol, got.startup.Protocol)
		require.Equal(t, "db", got.startup.Params["database"])
		require.True(t, f.verifiers["alice"].Matches(got.keys))
	}
}

func TestPgxLogsInOverTLS(t *testing.T) {
	server, _ := certificate(t)
	v, err := NewVerifier("pass wörd", 0)
	require.NoError(t, err)
	f := (&fakeServer{verifiers: map[string]Verifier{"alice": v}, secret: []byte("abcd"), tls: server}).run(t)
	for _, more := range []string{"sslmode=require", "sslmode=require sslnegotiation=direct"} {
		conn, err := pgx.ConnectConfig(t.Context(), f.config(t, "alice", "pass wörd", more))
		require.NoError(t, err, more)
		require.NoError(t, conn.Close(t.Context()))
		got := f.next(t)
		require.NoError(t, got.err)
		require.True(t, got.startup.TLS)
	}
}

func TestAWrongPasswordAndAnUnknownUserLookTheSame(t *testing.T) {
	f := newFake(t)
	for _, user := range []string{"alice", "mallory"} {
		_, err := pgx.ConnectConfig(t.Context(), f.config(t, user, "wrong", "sslmode=disable"))
		var e *pgconn.PgError
		require.ErrorAs(t, err, &e)
		require.Equal(t, "28P01", e.Code)
		require.Equal(t, "FATAL", e.Severity)
		require.Equal(t, fmt.Sprintf("password authentication failed for user %q", user), e.Message)
		require.Error(t, f.next(t).err)
	}
}

// psql is libpq's view of things; the password is in the environment.
func psql(t *testing.T, f *fakeServer, user, password string, more ...string) (string, error) {
	t.Helper()
	host, port, err := net.SplitHostPort(f.addr)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/psql", "-XAtc", "SELECT 1", "-h", host, "-p", port, "-U", user, "db")
	cmd.Env = append(append(os.Environ(), "PGPASSWORD="+password), more...)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestPsqlLogsIn(t *testing.T) {
	server, _ := certificate(t)
	v, err := NewVerifier("pass wörd", 0)
	require.NoError(t, err)
	for _, c := range []struct {
		name string
		f    *fakeServer
		env  []string
	}{
		{"in clear", newFake(t), []string{"PGSSLMODE=disable"}},
		{"prefers TLS, gets none", newFake(t), []string{"PGSSLMODE=prefer", "PGGSSENCMODE=prefer"}},
		// With TLS libpq could bind to the channel, says "y", and is not offered it.
		{"TLS", (&fakeServer{verifiers: map[string]Verifier{"alice": v}, secret: []byte("abcd"), tls: server}).run(t), []string{"PGSSLMODE=require"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := psql(t, c.f, "alice", "pass wörd", c.env...)
			require.NoError(t, err, out)
			require.Equal(t, "1", out)
			got := c.f.next(t)
			require.NoError(t, got.err)
			require.True(t, c.f.verifiers["alice"].Matches(got.keys) || v.Matches(got.keys))
			out, err = psql(t, c.f, "alice", "wrong", c.env...)
			require.Error(t, err)
			require.Contains(t, out, `FATAL:  password authentication failed for user "alice"`)
		})
	}
}

func TestACancelRequestOfPgxCarriesTheLongSecretOfProtocol32(t *testing.T) {
	v, err := NewVerifier("x", 0)
	require.NoError(t, err)
	secret := []byte(strings.Repeat("0123456789abcdef", 16))
	f := (&fakeServer{verifiers: map[string]Verifier{"alice": v}, secret: secret}).run(t)
	conn, err := pgconn.ConnectConfig(t.Context(), &f.config(t, "alice", "x", "sslmode=disable min_protocol_version=3.2").Config)
	require.NoError(t, err)
	require.NoError(t, conn.CancelRequest(t.Context()))
	got := f.next(t)
	require.NoError(t, got.err)
	require.Equal(t, &CancelKey{PID: 4711, Secret: secret}, got.startup.Cancel)
	require.NoError(t, conn.Close(t.Context()))
	f.next(t)
}

func password(body []byte) []byte { return frame('p', body) }

func initial(mechanism string, length uint32, data string) []byte {
	b := append([]byte(mechanism), 0)
	return password(append(binary.BigEndian.AppendUint32(b, length), data...))
}

func TestHostileLogins(t *testing.T) {
	v, err := NewVerifier("x", 1)
	require.NoError(t, err)
	first := "n,,n=,r=abc"
	good := initial(scramMechanism, uint32(len(first)), first)
	for name, c := range map[string]struct {
		in   []byte
		code string // "" for a lost connection
	}{
		"nothing":                     {nil, ""},
		"not a password":              {frame('Q', []byte("SELECT 1\x00")), "08P01"},
		"empty password":              {password(nil), "08P01"},
		"plain password":              {password([]byte("secret\x00")), "08P01"},
		"another mechanism":           {initial("SCRAM-SHA-256-PLUS", 0, ""), "08P01"},
		"length too great":            {initial(scramMechanism, 1<<30, "n,,"), "08P01"},
		"length too small":            {initial(scramMechanism, 1, "n,,"), "08P01"},
		"negative length":             {initial(scramMechanism, 0x80000000, "n,,"), "08P01"},
		"no response, but bytes":      {initial(scramMechanism, 0xffffffff, "n,,"), "08P01"},
		"no response, then garbage":   {append(initial(scramMechanism, 0xffffffff, ""), password([]byte("x"))...), "08P01"},
		"2 GiB claimed":               {[]byte{'p', 0x7f, 0xff, 0xff, 0xff}, "08P01"},
		"10,001 bytes claimed":        {[]byte{'p', 0, 0, 0x27, 0x15}, "08P01"},
		"length 0":                    {[]byte{'p', 0, 0, 0, 0}, "08P01"},
		"ends within":                 {good[:10], ""},
		"ends behind the first":       {good, ""},
		"garbage for the proof":       {append(good, password([]byte("garbage"))...), "08P01"},
		"channel binding not offered": {initial(scramMechanism, 20, "p=tls-unique,,n=,r=a"), "08P01"},
	} {
		for _, mock := range []bool{false, true} {
			var err error
			grown := allocated(func() {
				_, err = AuthenticateClient(&scripted{in: &pieces{data: c.in}}, "me", v, mock)
			})
			require.Lessf(t, grown, uint64(64<<10), name)
			var e *Error
			if c.code == "" {
				require.Errorf(t, err, name)
				require.NotErrorAs(t, err, &e, name)
				continue
			}
			require.Truef(t, isCode(c.code)(err), "%s: %v", name, err)
		}
	}
}

// interactive plays the client's side of an exchange over a pipe.
func interactive(t *testing.T, v Verifier, mock bool, client func(conn net.Conn)) (Keys, error) {
	t.Helper()
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); client(b); b.Close() }()
	keys, err := AuthenticateClient(a, "me", v, mock)
	a.Close()
	<-done
	return keys, err
}

func TestAFirstMessageMayComeLate(t *testing.T) {
	v, err := NewVerifier("x", 1)
	require.NoError(t, err)
	keys, err := interactive(t, v, false, func(conn net.Conn) {
		x := clientExchange{nonce: nonce(), keys: Credentials{Password: "x"}.keysFor}
		readMessage(conn, 1000)
		conn.Write(initial(scramMechanism, 0xffffffff, ""))
		readMessage(conn, 1000)
		conn.Write(password([]byte(x.first())))
		_, body, _ := readMessage(conn, 1000)
		final, _ := x.final(body[4:])
		conn.Write(password([]byte(final)))
		readMessage(conn, 1000)
	})
	require.NoError(t, err)
	require.True(t, v.Matches(keys))
}

func TestAMockFailsEvenForTheRightPassword(t *testing.T) {
	v, err := NewVerifier("x", 1)
	require.NoError(t, err)
	login := func(conn net.Conn) {
		x := clientExchange{nonce: nonce(), keys: Credentials{Password: "x"}.keysFor}
		readMessage(conn, 1000)
		conn.Write(initial(scramMechanism, uint32(len(x.first())), x.first()))
		_, body, _ := readMessage(conn, 1000)
		final, _ := x.final(body[4:])
		conn.Write(password([]byte(final)))
		readMessage(conn, 1000)
	}
	_, err = interactive(t, v, false, login)
	require.NoError(t, err)
	_, err = interactive(t, v, true, login)
	require.True(t, isCode("28P01")(err))
}

func TestAProofCannotBeUsedTwice(t *testing.T) {
	v, err := NewVerifier("x", 1)
	require.NoError(t, err)
	var recorded []byte
	x := clientExchange{nonce: "fixed", keys: Credentials{Password: "x"}.keysFor}
	first := x.first()
	_, err = interactive(t, v, false, func(conn net.Conn) {
		readMessage(conn, 1000)
		conn.Write(initial(scramMechanism, uint32(len(first)), first))
		_, body, _ := readMessage(conn, 1000)
		final, _ := x.final(body[4:])
		recorded = password([]byte(final))
		conn.Write(recorded)
		readMessage(conn, 1000)
	})
	require.NoError(t, err)
	_, err = interactive(t, v, false, func(conn net.Conn) {
		readMessage(conn, 1000)
		conn.Write(initial(scramMechanism, uint32(len(first)), first))
		readMessage(conn, 1000)
		conn.Write(recorded)
	})
	require.True(t, isCode("08P01")(err), "%v", err)
	require.NotContains(t, err.Error(), base64.StdEncoding.EncodeToString(v.StoredKey))
}
