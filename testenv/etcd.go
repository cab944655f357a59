package testenv

import (
	"context"
	"crypto/tls"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// EtcdOptions says how an external etcd is made.
type EtcdOptions struct {
	// Members is the number of members (default 1).
	Members int
	// TLS makes it speak TLS and ask clients for a certificate.
	TLS bool
	// Auth makes it ask for a user and password: User and Password of Etcd.
	Auth bool
}

// Etcd is an etcd of the distribution's own etcd-server, in processes of their own.
type Etcd struct {
	Members   []*Process
	Endpoints []string
	// CA, Cert and Key are files for clients, empty without TLS.
	CA, Cert, Key string
	// User and Password are empty without Auth.
	User, Password string

	env  *Env
	argv [][]string
}

// Etcd starts an etcd and waits until it answers.
func (e *Env) Etcd(o EtcdOptions) *Etcd {
	e.TB.Helper()
	o.Members = max(o.Members, 1)
	d := &Etcd{env: e}
	scheme := "http"
	var extra []string
	if o.TLS {
		scheme = "https"
		pki := e.pki("etcd-tls")
		d.CA, d.Cert, d.Key = pki.ca, pki.clientCert, pki.clientKey
		extra = []string{
			"--cert-file", pki.serverCert, "--key-file", pki.serverKey, "--trusted-ca-file", pki.ca, "--client-cert-auth",
		}
	}
	var cluster, peers []string
	for i := range o.Members {
		d.Endpoints = append(d.Endpoints, scheme+"://127.0.0.1:"+strconv.Itoa(e.Port()))
		peers = append(peers, "http://127.0.0.1:"+strconv.Itoa(e.Port()))
		cluster = append(cluster, fmt.Sprintf("etcd%d=%s", i+1, peers[i]))
	}
	for i := range o.Members {
		name := fmt.Sprintf("etcd%d", i+1)
		d.argv = append(d.argv, append([]string{
			e.Program("etcd"), "--name", name, "--data-dir", e.Path(name), "--logger", "zap", "--log-level", "warn",
			"--listen-client-urls", d.Endpoints[i], "--advertise-client-urls", d.Endpoints[i],
			"--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
			"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", "new",
			"--unsafe-no-fsync",
		}, extra...))
		d.Members = append(d.Members, e.Start(Command{Name: name, Argv: d.argv[i]}))
	}
	d.WaitReady()
	if o.Auth {
		d.enableAuth()
	}
	return d
}

// Restart starts a member again that has ended or is killed now.
func (d *Etcd) Restart(i int) {
	d.env.TB.Helper()
	if d.Members[i].Running() {
		d.Members[i].Kill()
	}
	d.Members[i] = d.env.Start(Command{Name: fmt.Sprintf("etcd%d", i+1), Argv: d.argv[i]})
}

// Freeze stops all members (SIGSTOP): connections stay open and nobody answers. Thaw lets them go on.
func (d *Etcd) Freeze() { d.signal(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (d *Etcd) Thaw() { d.signal(syscall.SIGCONT) }

func (d *Etcd) signal(s syscall.Signal) {
	d.env.TB.Helper()
	for _, m := range d.Members {
		m.Signal(s)
	}
}

// WaitReady waits until a linearizable read succeeds.
func (d *Etcd) WaitReady() {
	d.env.TB.Helper()
	d.env.Until(20*time.Second, "etcd answers", func() error {
		client, err := d.dial()
		if err != nil {
			return err
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, err = client.Get(ctx, "ready")
		return err
	})
}

// Client opens a client that is closed when the test ends.
func (d *Etcd) Client() *clientv3.Client {
	d.env.TB.Helper()
	client, err := d.dial()
	if err != nil {
		d.env.TB.Fatalf("connect to etcd: %v", err)
	}
	d.env.TB.Cleanup(func() { _ = client.Close() })
	return client
}

// dial makes a client; with a user it needs an etcd that answers.
func (d *Etcd) dial() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: d.Endpoints, DialTimeout: 2 * time.Second, Logger: zap.NewNop(),
		Username: d.User, Password: d.Password, TLS: d.tls(),
	})
}

func (d *Etcd) tls() *tls.Config {
	if d.CA == "" {
		return nil
	}
	cfg, err := clientTLS(d.CA, d.Cert, d.Key)
	if err != nil {
		d.env.TB.Fatal(err)
	}
	return cfg
}

// enableAuth makes a user that may do everything and switches authentication on.
func (d *Etcd) enableAuth() {
	d.env.TB.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client := d.Client()
	const user, password = "root", "etcd's own secret"
	steps := []func() error{
		func() error { _, err := client.UserAdd(ctx, user, password); return err },
		func() error { _, err := client.RoleAdd(ctx, "root"); return err },
		func() error { _, err := client.UserGrantRole(ctx, user, "root"); return err },
		func() error { _, err := client.AuthEnable(ctx); return err },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			d.env.TB.Fatalf("switch etcd's authentication on: %v", err)
		}
	}
	d.User, d.Password = user, password
}
