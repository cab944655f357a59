package wire

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// login is what a fakeServer has learned from one client connection.
type login struct {
	startup Startup
	keys    Keys
	err     error
}

// fakeServer is a listener that carries out start-up and authentication with the code under test, and answers every
// query with one row "1". Its results come over logins.
type fakeServer struct {
	addr      string
	verifiers map[string]Verifier
	tls       *tls.Config
	secret    []byte
	logins    chan login
}

func (f *fakeServer) run(t *testing.T) *fakeServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f.addr, f.logins = l.Addr().String(), make(chan login, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				conn, got := f.serve(conn)
				conn.Close()
				if !errors.Is(got.err, io.EOF) || got.startup.Params != nil { // pgx comes again when TLS was declined
					f.logins <- got
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return f
}

func (f *fakeServer) serve(conn net.Conn) (net.Conn, login) {
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	s, conn, err := ReadStartup(conn, StartupConfig{TLS: f.tls, Timeout: 10 * time.Second})
	got := login{startup: s, err: err}
	if err == nil && s.Cancel == nil {
		v, known := f.verifiers[s.Params["user"]]
		if !known {
			v = MockVerifier(s.Params["user"], []byte("0123456789abcdef0123456789abcdef"))
		}
		got.keys, got.err = AuthenticateClient(conn, s.Params["user"], v, !known)
		if got.err == nil {
			got.err = f.answer(conn)
		}
	}
	var e *Error
	if errors.As(got.err, &e) {
		conn.Write(e.Append(nil))
	}
	return conn, got
}

func (f *fakeServer) answer(conn net.Conn) error {
	out := AppendAuthenticationOK(nil)
	out = AppendParameterStatus(out, "server_version", "15.0")
	out = AppendParameterStatus(out, "client_encoding", "UTF8")
	out = AppendParameterStatus(out, "standard_conforming_strings", "on")
	out = AppendBackendKeyData(out, 4711, f.secret)
	out = AppendReady(out, 'I')
	r := NewReader(conn, 1<<20)
	for {
		if len(out) > 0 {
			if _, err := conn.Write(out); err != nil {
				return err
			}
		}
		m, err := r.Next()
		if err != nil || m.Type == 'X' {
			return err
		}
		out = AppendRowDescription(out[:0], []Column{{Name: "one"}})
		out = AppendDataRow(out, [][]byte{[]byte("1")})
		out = AppendReady(AppendCommandComplete(out, "SELECT 1"), 'I')
	}
}

// next waits for the outcome of one connection.
func (f *fakeServer) next(t *testing.T) login {
	t.Helper()
	select {
	case got := <-f.logins:
		return got
	case <-time.After(20 * time.Second):
		require.FailNow(t, "no client has come and gone")
		return login{}
	}
}

// certificate makes a self-signed certificate for 127.0.0.1.
func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}
