package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func packet(code uint32, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	return append(binary.BigEndian.AppendUint32(b, code), body...)
}

// scripted is a connection whose client says its lines whatever it is answered.
type scripted struct {
	net.Conn // nil: anything else panics
	in       io.Reader
	out      bytes.Buffer
}

func (s *scripted) Read(b []byte) (int, error)      { return s.in.Read(b) }
func (s *scripted) Write(b []byte) (int, error)     { return s.out.Write(b) }
func (s *scripted) SetDeadline(time.Time) error     { return nil }
func (s *scripted) SetReadDeadline(time.Time) error { return nil }

func TestStartup(t *testing.T) {
	const params = "user\x00me\x00database\x00db\x00\x00"
	all := map[string]string{"user": "me", "database": "db"}
	key := packet(cancelRequestCode, "\x00\x00\x00\x07abcd")
	for _, c := range []struct {
		name   string
		in     []byte
		want   Startup
		answer string
		code   string
		err    error
	}{
		{name: "3.0", in: packet(Protocol30, params), want: Startup{Protocol: Protocol30, Params: all}},
		{name: "3.1 is what nobody answers with a negotiation", in: packet(Protocol30+1, params), want: Startup{Protocol: Protocol30 + 1, Params: all}},
		{name: "3.2", in: packet(Protocol32, params), want: Startup{Protocol: Protocol32, Params: all}},
		{
			name: "3.9999 becomes 3.2", in: packet(Protocol30+9999, params), want: Startup{Protocol: Protocol32, Params: all},
			answer: "v\x00\x00\x00\x0c\x00\x03\x00\x02\x00\x00\x00\x00",
		},
		{
			name: "unknown option", in: packet(Protocol30, "_pq_.x\x00on\x00_pq_.x\x00off\x00"+params), want: Startup{Protocol: Protocol30, Params: all},
			answer: "v\x00\x00\x00\x13\x00\x03\x00\x00\x00\x00\x00\x01_pq_.x\x00",
		},
		{
			name: "SSL, GSS, then start-up", in: bytes.Join([][]byte{packet(sslRequestCode, ""), packet(gssRequestCode, ""), packet(Protocol30, params)}, nil),
			want: Startup{Protocol: Protocol30, Params: all}, answer: "NN",
		},
		{name: "SSL twice", in: bytes.Join([][]byte{packet(sslRequestCode, ""), packet(sslRequestCode, "")}, nil), answer: "N", code: "0A000"},
		{name: "GSS twice", in: bytes.Join([][]byte{packet(gssRequestCode, ""), packet(gssRequestCode, "")}, nil), answer: "N", code: "0A000"},
		{name: "SSL with a body", in: packet(sslRequestCode, "x"), code: "0A000"},
		{name: "the last of two values counts", in: packet(Protocol30, "user\x00a\x00user\x00b\x00\x00"), want: Startup{Protocol: Protocol30, Params: map[string]string{"user": "b"}}},
		{name: "an empty value", in: packet(Protocol30, "user\x00a\x00options\x00\x00\x00"), want: Startup{Protocol: Protocol30, Params: map[string]string{"user": "a", "options": ""}}},
		{name: "cancel", in: key, want: Startup{Cancel: &CancelKey{PID: 7, Secret: []byte("abcd")}}},
		{
			name: "cancel with a long secret", in: packet(cancelRequestCode, "\x00\x00\x00\x07"+strings.Repeat("s", 256)),
			want: Startup{Cancel: &CancelKey{PID: 7, Secret: []byte(strings.Repeat("s", 256))}},
		},
		{name: "cancel without a secret", in: packet(cancelRequestCode, "\x00\x00\x00\x07abc"), code: "08P01"},
		{name: "cancel with too long a secret", in: packet(cancelRequestCode, "\x00\x00\x00\x07"+strings.Repeat("s", 257)), code: "08P01"},
		{name: "protocol 2", in: packet(2<<16, params), code: "0A000"},
		{name: "protocol 4", in: packet(4<<16, params), code: "0A000"},
		{name: "no user", in: packet(Protocol30, "database\x00db\x00\x00"), code: "28000"},
		{name: "empty user", in: packet(Protocol30, "user\x00\x00\x00"), code: "28000"},
		{name: "no terminator", in: packet(Protocol30, "user\x00me\x00"), code: "08P01"},
		{name: "no value", in: packet(Protocol30, "user\x00"), code: "08P01"},
		{name: "something behind the terminator", in: packet(Protocol30, params+"x"), code: "08P01"},
		{name: "no parameters", in: packet(Protocol30, ""), code: "08P01"},
		{
			name: "longest", in: packet(Protocol30, "user\x00"+strings.Repeat("u", 9989)+"\x00\x00"),
			want: Startup{Protocol: Protocol30, Params: map[string]string{"user": strings.Repeat("u", 9989)}},
		},
		{name: "too long", in: packet(Protocol30, "user\x00"+strings.Repeat("u", 9990)+"\x00\x00"), code: "08P01"},
		{name: "HTTP", in: []byte("GET / HTTP/1.1\r\n\r\n"), code: "08P01"},
		{name: "length 0", in: make([]byte, 8), code: "08P01"},
		{name: "TLS without a certificate of ours", in: []byte{0x16, 3, 1, 2, 0}, code: "08P01"},
		{name: "nothing", in: nil, err: io.EOF},
		{name: "part of a length", in: []byte{0, 0}, err: io.ErrUnexpectedEOF},
		{name: "part of a packet", in: packet(Protocol30, params)[:15], err: io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { // however the packets are cut
				rest := []byte("not to be read")
				if c.err != nil {
					rest = nil
				}
				src := &pieces{data: append(bytes.Clone(c.in), rest...), sizes: rapid.SliceOfN(rapid.IntRange(1, 50), 1, 4).Draw(t, "reads")}
				conn := &scripted{in: src}
				got, same, err := ReadStartup(conn, StartupConfig{})
				if same != net.Conn(conn) {
					t.Fatal("the connection was exchanged")
				}
				switch {
				case c.code != "":
					if !isCode(c.code)(err) {
						t.Fatalf("%v instead of %s", err, c.code)
					}
				case c.err != nil:
					if !errors.Is(err, c.err) {
						t.Fatalf("%v instead of %v", err, c.err)
					}
				default:
					require.NoError(t, err)
					require.Equal(t, c.want, got)
					require.Equal(t, rest, src.data)
				}
				require.Equal(t, c.answer, conn.out.String())
			})
		})
	}
}

func TestStartupReadsWhatPgxWrites(t *testing.T) {
	b, err := (&pgproto3.StartupMessage{ProtocolVersion: Protocol32, Parameters: map[string]string{"user": "me", "options": "-c a=b"}}).Encode(nil)
	require.NoError(t, err)
	s, _, err := ReadStartup(&scripted{in: bytes.NewReader(b)}, StartupConfig{})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"user": "me", "options": "-c a=b"}, s.Params)
	b, err = (&pgproto3.CancelRequest{ProcessID: 9, SecretKey: []byte("0123456789abcdef")}).Encode(nil)
	require.NoError(t, err)
	require.Equal(t, b, AppendCancelRequest(nil, CancelKey{PID: 9, Secret: []byte("0123456789abcdef")}))
}

func TestAClientThatSaysNothingIsGivenUp(t *testing.T) {
	a, _ := pair(t)
	_, _, err := ReadStartup(a, StartupConfig{Timeout: 20 * time.Millisecond})
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestTLS(t *testing.T) {
	server, pool := certificate(t)
	client := &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", NextProtos: []string{"postgresql"}}
	start := packet(Protocol30, "user\x00me\x00\x00")
	type result struct {
		s   Startup
		err error
	}
	accept := func(t *testing.T) (net.Conn, <-chan result) {
		t.Helper()
		a, b := pair(t)
		done := make(chan result, 1)
		go func() {
			s, conn, err := ReadStartup(a, StartupConfig{TLS: server, Timeout: 10 * time.Second})
			if err != nil {
				conn.Close()
			}
			done <- result{s, err}
		}()
		b.SetDeadline(time.Now().Add(10 * time.Second))
		return b, done
	}
	ask := func(t *testing.T, conn net.Conn) {
		t.Helper()
		conn.Write(packet(sslRequestCode, ""))
		var answer [1]byte
		_, err := io.ReadFull(conn, answer[:])
		require.NoError(t, err)
		require.Equal(t, byte('S'), answer[0])
	}
	t.Run("asked for", func(t *testing.T) {
		conn, done := accept(t)
		ask(t, conn)
		encrypted := tls.Client(conn, client)
		encrypted.Write(start)
		got := <-done
		require.NoError(t, got.err)
		require.True(t, got.s.TLS)
		require.Equal(t, "me", got.s.Params["user"])
	})
	t.Run("asked for by a client without ALPN", func(t *testing.T) {
		conn, done := accept(t)
		ask(t, conn)
		tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}).Write(start)
		require.NoError(t, (<-done).err)
	})
	t.Run("from the first byte on", func(t *testing.T) {
		conn, done := accept(t)
		tls.Client(conn, client).Write(start)
		got := <-done
		require.NoError(t, got.err)
		require.True(t, got.s.TLS)
	})
	t.Run("from the first byte on needs ALPN", func(t *testing.T) {
		conn, done := accept(t)
		tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}).Write(start)
		require.True(t, isCode("08P01")((<-done).err))
	})
	t.Run("another protocol by ALPN", func(t *testing.T) {
		conn, done := accept(t)
		tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", NextProtos: []string{"http/1.1"}}).HandshakeContext(t.Context())
		require.Error(t, (<-done).err)
	})
	t.Run("a cancel request within", func(t *testing.T) {
		conn, done := accept(t)
		ask(t, conn)
		tls.Client(conn, client).Write(packet(cancelRequestCode, "\x00\x00\x00\x07abcd"))
		got := <-done
		require.NoError(t, got.err)
		require.NotNil(t, got.s.Cancel)
		require.True(t, got.s.TLS)
	})
	t.Run("asked for again within", func(t *testing.T) {
		conn, done := accept(t)
		ask(t, conn)
		tls.Client(conn, client).Write(packet(sslRequestCode, ""))
		require.True(t, isCode("0A000")((<-done).err))
	})
	t.Run("bytes before the handshake are refused", func(t *testing.T) {
		// CVE-2021-23222: what came in clear must not pass for something said under encryption.
		conn, done := accept(t)
		conn.Write(append(packet(sslRequestCode, ""), start...))
		require.True(t, isCode("08P01")((<-done).err))
	})
	t.Run("bytes before a real handshake are refused", func(t *testing.T) {
		conn, done := accept(t)
		conn.Write(append(packet(sslRequestCode, ""), start...))
		var answer [1]byte
		io.ReadFull(conn, answer[:])
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		require.Error(t, tls.Client(conn, client).HandshakeContext(ctx))
		require.Error(t, (<-done).err)
	})
}
