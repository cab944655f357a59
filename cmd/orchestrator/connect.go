package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/secret"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store"
	"github.com/multicoord/multicoord/orchestrator/store/etcdstore"
)

const (
	// keyPrefix begins the keys of all clusters in etcd; the cluster's name follows.
	keyPrefix = "/multicoord/"
	// localDial bounds the wait for the etcd of a cluster on this machine; it is there at once or not at all.
	localDial = 2 * time.Second
	// remoteDial bounds the wait for other machines' etcd.
	remoteDial = 5 * time.Second
	// maxPasswordFile bounds what is read of a password file.
	maxPasswordFile = 4 << 10
)

// handle is a cluster whose agreed state has been reached.
type handle struct {
	Store    store.Store
	Snapshot cluster.Snapshot
	// State is what Snapshot was made from.
	State store.State
	// Dir is this host's data folder. It may not exist when the cluster was found by --etcd.
	Dir string
	// Local tells that the cluster was found by the data folder: it runs on this machine.
	Local bool

	name    string
	where   string // the endpoints, for messages
	keyPath string
	etcd    *etcdstore.Store
}

// Close ends the connections.
func (h *handle) Close() { _ = h.etcd.Close() }

// Members lists the servers of the store.
func (h *handle) Members(ctx context.Context) ([]etcdstore.Member, error) { return h.etcd.Members(ctx) }

// Spec gives the agreed spec, or says how to store one.
func (h *handle) Spec() (cluster.Spec, error) {
	if h.Snapshot.Spec == nil {
		return cluster.Spec{}, fmt.Errorf("the etcd at %s knows no cluster %q: store its spec with `orchestrator init -f FILE`, or name another one with --cluster", h.where, h.name)
	}
	return *h.Snapshot.Spec, nil
}

// Secrets opens the passwords of the cluster's own roles with the key file.
func (h *handle) Secrets() (secret.Secrets, error) {
	spec, err := h.Spec()
	if err != nil {
		return secret.Secrets{}, err
	}
	key, err := secret.LoadKey(h.keyPath)
	if err != nil {
		return secret.Secrets{}, err
	}
	sealed, _ := state.SealedSecrets(h.State)
	return secret.Open(key, spec.ID, sealed)
}

// reload reads the agreed state again.
func (h *handle) reload(ctx context.Context) error {
	v, err := state.Load(ctx, h.Store)
	if err != nil {
		return err
	}
	h.Snapshot, h.State = v.Snapshot, v.State
	return nil
}

// openCluster finds the agreed state: by --etcd, or else by what `up` has left in the data folder. It gives up
// after about 2 s when the cluster should run on this machine, and after about 5 s otherwise. The cluster may
// have no spec yet. The caller closes the handle.
func (a *app) openCluster(ctx context.Context) (*handle, error) {
	dir, err := a.dataDir()
	if err != nil {
		return nil, err
	}
	keyPath, err := a.keyFile()
	if err != nil {
		return nil, err
	}
	h := &handle{Dir: dir, Local: len(a.global.Etcd) == 0, name: a.global.Cluster, keyPath: keyPath}
	cfg, err := a.etcdConfig()
	if err != nil {
		return nil, err
	}
	if h.Local {
		local, err := a.findLocal(ctx, dir)
		if err != nil {
			return nil, err
		}
		cfg.Endpoints, cfg.DialTimeout = local.Etcd, localDial
		cfg.Prefix, h.name = keyPrefix+local.Cluster, local.Cluster
	}
	h.where = strings.Join(cfg.Endpoints, ", ")
	h.etcd, err = etcdstore.Open(ctx, cfg)
	if err != nil {
		if h.Local && errors.Is(err, store.ErrUnavailable) {
			return nil, fmt.Errorf("%w (its store does not answer: %w)", a.notRunning(dir), err)
		}
		return nil, err
	}
	h.Store = h.etcd
	if err := h.reload(ctx); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// etcdConfig makes the configuration of the client from the flags. Endpoints are empty without --etcd.
func (a *app) etcdConfig() (etcdstore.Config, error) {
	g := a.global
	cfg := etcdstore.Config{
		Endpoints: g.Etcd, Prefix: keyPrefix + g.Cluster, Username: g.EtcdUser,
		CAFile: g.EtcdCA, CertFile: g.EtcdCert, KeyFile: g.EtcdKey,
		DialTimeout: remoteDial, Log: a.log,
	}
	if g.EtcdPass == "" {
		if g.EtcdUser != "" {
			return cfg, usagef("--etcd-user needs --etcd-password-file")
		}
		return cfg, nil
	}
	if g.EtcdUser == "" {
		return cfg, usagef("--etcd-password-file needs --etcd-user")
	}
	var err error
	cfg.Password, err = readPasswordFile(g.EtcdPass)
	return cfg, err
}

// readPasswordFile reads the first line of a file that holds a password.
func readPasswordFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPasswordFile))
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 {
		return "", fmt.Errorf("read password: the first line of %s is empty", path)
	}
	return string(line), nil
}

// findLocal reads what `up` has left in dir, and looks whether somebody listens there at all.
func (a *app) findLocal(ctx context.Context, dir string) (localCluster, error) {
	l, err := readLocal(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l, a.notRunning(dir)
	case errors.Is(err, fs.ErrPermission):
		return l, fmt.Errorf("the data folder %s belongs to another user: %w; run this as that user", dir, err)
	case err != nil:
		return l, err
	}
	if a.global.Cluster != defaultCluster && l.Cluster != a.global.Cluster {
		return l, fmt.Errorf("%s holds the cluster %q, not %q: check --cluster and --data-dir", dir, l.Cluster, a.global.Cluster)
	}
	dialer := net.Dialer{Timeout: localDial}
	for _, e := range l.Etcd {
		if path, ok := socketPath(e); ok {
			conn, err := dialer.DialContext(ctx, "unix", path)
			switch {
			case errors.Is(err, fs.ErrPermission):
				return l, fmt.Errorf("the cluster in %s belongs to another user: %w; run this as that user", dir, err)
			case err != nil:
				return l, a.notRunning(dir)
			}
			_ = conn.Close()
		}
	}
	return l, nil
}

// socketPath gives the file of a unix endpoint.
func socketPath(endpoint string) (string, bool) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "unix" {
		return "", false
	}
	return filepath.Join("/", u.Host, u.Path), true
}

// notRunning says that nothing runs in dir and what to do.
func (a *app) notRunning(dir string) error {
	return fmt.Errorf("no cluster is running in %s: start it with `orchestrator up%s`, or say with --etcd where the etcd of a cluster on other hosts is", dir, a.flagsFor(dir))
}
