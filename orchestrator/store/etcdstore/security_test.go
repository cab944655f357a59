package etcdstore_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/multicoord/multicoord/orchestrator/store"
	"github.com/multicoord/multicoord/orchestrator/store/etcdstore"
	"github.com/multicoord/multicoord/orchestrator/store/storetest"
)

func itoa(n int) string { return strconv.Itoa(n) }

// authority issues certificates into a folder.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	File string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.File, _ = a.issue(name, tmpl)
	return a
}

// issue writes name.pem and name.key; the first certificate is the authority's own.
func (a *authority) issue(name string, tmpl *x509.Certificate) (certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	tmpl.SerialNumber = big.NewInt(time.Now().UnixNano())
	if tmpl.NotAfter.IsZero() {
		tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	require.NoError(a.t, err)
	if a.cert == nil {
		a.cert, err = x509.ParseCertificate(der)
		require.NoError(a.t, err)
		a.key = key
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	require.NoError(a.t, err)
	certFile, keyFile = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	require.NoError(a.t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(a.t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600))
	return certFile, keyFile
}

func (a *authority) server(name string, ip string) (certFile, keyFile string) {
	return a.issue(name, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.ParseIP(ip)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

func (a *authority) client(name string, until time.Time) (certFile, keyFile string) {
	return a.issue(name, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: until.Add(-time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func TestTLSWithClientCertificates(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t, "ca"), newAuthority(t, "stranger")
	cert, key := ca.server("etcd", "127.0.0.1")
	ps := external(t, 1, "https", "--cert-file", cert, "--key-file", key, "--trusted-ca-file", ca.File, "--client-cert-auth")
	good, goodKey := ca.client("good", time.Now().Add(time.Hour))
	old, oldKey := ca.client("old", time.Now().Add(-time.Minute))
	foreign, foreignKey := stranger.client("foreign", time.Now().Add(time.Hour))
	base := etcdstore.Config{Endpoints: endpoints(ps), CAFile: ca.File, CertFile: good, KeyFile: goodKey, DialTimeout: 2 * time.Second}
	ready(t, base)

	s := open(t, base)
	create(t, s, "k", "1")
	members, err := s.Members(t.Context())
	require.NoError(t, err)
	assert.True(t, members[0].Healthy, members[0].Err)

	for name, c := range map[string]struct {
		change func(*etcdstore.Config)
		want   string
	}{
		"the wrong CA": {func(c *etcdstore.Config) { c.CAFile = stranger.File }, "is not signed by " + stranger.File},
		"no CA":        {func(c *etcdstore.Config) { c.CAFile = "" }, "is not signed by any CA that this host trusts"},
		"no client certificate": {
			func(c *etcdstore.Config) { c.CertFile, c.KeyFile = "", "" },
			"does not accept our client certificate (none given)",
		},
		"an expired client certificate": {func(c *etcdstore.Config) { c.CertFile, c.KeyFile = old, oldKey }, old},
		"a client certificate of another CA": {
			func(c *etcdstore.Config) { c.CertFile, c.KeyFile = foreign, foreignKey },
			"does not accept our client certificate (" + foreign,
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := base
			c.change(&cfg)
			_, err := etcdstore.Open(t.Context(), cfg)
			require.ErrorIs(t, err, store.ErrDenied)
			assert.ErrorContains(t, err, c.want)
		})
	}
	t.Run("no TLS at all", func(t *testing.T) {
		_, err := etcdstore.Open(t.Context(), etcdstore.Config{Endpoints: []string{"http" + ps[0].Endpoint[len("https"):]}, DialTimeout: time.Second})
		require.ErrorIs(t, err, store.ErrUnavailable)
		assert.ErrorContains(t, err, "use https://")
	})
	t.Run("a certificate for another address", func(t *testing.T) {
		cert, key := ca.server("elsewhere", "127.0.0.9")
		ps := external(t, 1, "https", "--cert-file", cert, "--key-file", key)
		await(t, dialable(ps[0]))
		_, err := etcdstore.Open(t.Context(), etcdstore.Config{Endpoints: endpoints(ps), CAFile: ca.File, DialTimeout: 2 * time.Second})
		require.ErrorIs(t, err, store.ErrDenied)
		assert.ErrorContains(t, err, "is not made for the address")
	})
	t.Run("TLS to a server without", func(t *testing.T) {
		ps := external(t, 1, "http")
		ready(t, etcdstore.Config{Endpoints: endpoints(ps)})
		_, err := etcdstore.Open(t.Context(), etcdstore.Config{Endpoints: []string{"https" + ps[0].Endpoint[len("http"):]}, DialTimeout: 2 * time.Second})
		require.Error(t, err)
		assert.ErrorContains(t, err, "use http://")
	})
}

func TestUserAndPassword(t *testing.T) {
	t.Parallel()
	ps := external(t, 1, "http", "--bcrypt-cost", "4")
	ready(t, etcdstore.Config{Endpoints: endpoints(ps)})
	enableAuth(t, admin(t, ps[0].Endpoint))

	base := etcdstore.Config{Endpoints: endpoints(ps), Prefix: "/multicoord/main", Username: "mc", Password: "mcpw", DialTimeout: 2 * time.Second}
	s := open(t, base)
	states := s.Watch(t.Context())
	create(t, s, "k", "1")
	awaitItem(t, states, "k")
	l, err := s.Lease(t.Context(), 5*time.Second)
	require.NoError(t, err)
	_, err = s.Commit(t.Context(), store.Tx{If: []store.Compare{{Key: "l"}}, Put: []store.Put{{Key: "l", Lease: l.ID()}}})
	require.NoError(t, err)
	require.NoError(t, l.Renew(t.Context()))
	_, err = s.Attach(t.Context(), l.ID())
	require.NoError(t, err)
	require.NoError(t, l.Revoke(t.Context()))
	_, err = s.Members(t.Context())
	require.NoError(t, err)

	for name, c := range map[string]struct {
		change func(*etcdstore.Config)
		want   string
	}{
		"a wrong password": {func(c *etcdstore.Config) { c.Password = "no" }, `does not accept the password of user "mc"`},
		"an unknown user":  {func(c *etcdstore.Config) { c.Username = "who" }, `user "who"`},
		"no user":          {func(c *etcdstore.Config) { c.Username, c.Password = "", "" }, "no user was given"},
		"another prefix":   {func(c *etcdstore.Config) { c.Prefix = "/multicoord/other" }, "grant its role readwrite"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := base
			c.change(&cfg)
			_, err := etcdstore.Open(t.Context(), cfg)
			require.ErrorIs(t, err, store.ErrDenied)
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), "mcpw")
		})
	}
	t.Run("renewals do not log in each time", func(t *testing.T) {
		l, err := s.Lease(t.Context(), 5*time.Second)
		require.NoError(t, err)
		require.NoError(t, l.Renew(t.Context()))
		before := logins(t, ps[0])
		for range 20 {
			require.NoError(t, l.Renew(t.Context()))
		}
		assert.Equal(t, before, logins(t, ps[0]))
		require.NoError(t, l.Revoke(t.Context()))
	})
	t.Run("tokens are fetched again after etcd has restarted", func(t *testing.T) {
		ps[0].kill()
		ps[0].start()
		ready(t, base)
		create(t, s, "again", "1")
		awaitItem(t, states, "again")
	})
}

func awaitItem(t *testing.T, states <-chan store.State, key string) {
	t.Helper()
	storetest.Next(t, states, func(st store.State) bool {
		_, ok := st.Items[key]
		return ok
	})
}

func dialable(p *process) func(context.Context) error {
	return func(context.Context) error {
		u, err := url.Parse(p.Endpoint)
		if err != nil {
			return err
		}
		c, err := net.Dial("tcp", u.Host)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// enableAuth makes user mc, who may use the prefix /multicoord/main/, and switches authentication on.
func enableAuth(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	step := func(_ any, err error) {
		t.Helper()
		require.NoError(t, err)
	}
	step(c.UserAdd(ctx, "root", "rootpw"))
	step(c.RoleAdd(ctx, "root"))
	step(c.UserGrantRole(ctx, "root", "root"))
	step(c.RoleAdd(ctx, "mc"))
	const prefix = "/multicoord/main/"
	step(c.RoleGrantPermission(ctx, "mc", prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite)))
	step(c.UserAdd(ctx, "mc", "mcpw"))
	step(c.UserGrantRole(ctx, "mc", "mc"))
	step(c.AuthEnable(ctx))
}

// logins is how often etcd was asked to check a password.
func logins(t *testing.T, p *process) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Endpoint+"/metrics", nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "grpc_server_started_total") && strings.Contains(line, `"Authenticate"`) {
			return strings.TrimSpace(line)
		}
	}
	require.FailNow(t, "no count of logins")
	return ""
}
