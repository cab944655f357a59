// Package etcdstore is the agreed state in etcd (API version 3, servers from 3.4 on).
//
// Level: adapter. It implements store.Store with etcd's client and knows no values.
//
// Duties: connections (several endpoints, TLS, user and password, unix sockets), time-outs on every call, errors
// that say what to check, and a watch that lives through lost connections, hung members and compaction.
//
// It never retries a write whose outcome is not known, never renews a lease by itself and never reads from a member
// without asking the quorum.
package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/status"

	"github.com/multicoord/multicoord/orchestrator/store"
	"github.com/multicoord/multicoord/orchestrator/store/etcdlog"
)

// Config says how etcd is reached.
type Config struct {
	// Endpoints are URLs: http://host:2379, https://host:2379 or unix:///path/to/socket; all of one scheme.
	Endpoints []string
	// Prefix is the folder of all keys, such as "/multicoord/main".
	Prefix string
	// Username and Password for etcd's own authentication; both or neither.
	Username, Password string
	// CAFile verifies etcd's certificate (empty: the host's CAs). CertFile and KeyFile are our client certificate;
	// both or neither. PEM.
	CAFile, CertFile, KeyFile string
	// DialTimeout bounds Open (default 5 s).
	DialTimeout time.Duration
	// RequestTimeout bounds each call whose ctx allows more (default 5 s).
	RequestTimeout time.Duration
	Log            *slog.Logger
}

const (
	defaultTimeout = 5 * time.Second
	// keepaliveTime is the least that gRPC allows; the watch asks more often itself.
	keepaliveTime = 10 * time.Second
	// keepaliveTimeout is also the connections' TCP_USER_TIMEOUT: unacknowledged data closes them after that.
	keepaliveTimeout = 3 * time.Second
)

// Store implements store.Store.
type Store struct {
	cfg    Config
	prefix string // with a slash at the end
	where  string // the endpoints, for messages
	client *clientv3.Client
	// login is a client without a user, over which the user's password is exchanged for a token: an etcd that has been
	// started anew refuses every call that carries an old token, in 3.4 the login too. Nil without a user.
	login *clientv3.Client
	// keepalive renews all leases.
	keepalive *keepalive
	// cause is the last failure of a connection, which the client hides behind "deadline exceeded"; nil after a
	// call that went through.
	cause atomic.Pointer[error]
}

// Open connects and asks etcd one question, so that a wrong address, password or certificate is found at once.
// The errors are those of package store: ErrUnavailable when nobody answers (trying again can help), ErrDenied
// when etcd refuses us; others tell of a wrong Config.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.DialTimeout <= 0 {
		cfg.DialTimeout = defaultTimeout
	}
	if cfg.RequestTimeout <= 0 {
		cfg.RequestTimeout = defaultTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{cfg: cfg, prefix: strings.TrimRight(cfg.Prefix, "/") + "/", where: strings.Join(cfg.Endpoints, ", ")}
	conf, err := s.clientConfig()
	if err != nil {
		return nil, fmt.Errorf("connect to etcd: %w", err)
	}
	// The client lives longer than ctx, which bounds Open only.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	conf.Context = life
	stop := context.AfterFunc(ctx, cancel)
	client, err := s.connect(conf)
	if err != nil {
		cancel()
		return nil, s.diagnose(ctx, conf.TLS, s.wrap("connect", err))
	}
	s.client, s.keepalive = client, newKeepalive(client)
	if err := s.ping(ctx); err != nil || !stop() {
		cancel()
		_ = s.closeClients()
		if err == nil {
			err = s.wrap("connect", ctx.Err())
		}
		return nil, s.diagnose(ctx, conf.TLS, err)
	}
	return s, nil
}

// connect makes the client, and before it the one for logins if there is a user.
func (s *Store) connect(conf clientv3.Config) (*clientv3.Client, error) {
	if conf.Username != "" {
		anonymous := conf
		anonymous.Username, anonymous.Password = "", ""
		anonymous.DialOptions = conf.DialOptions[1:] // without observe, which would come back here
		var err error
		if s.login, err = clientv3.New(anonymous); err != nil {
			return nil, err
		}
	}
	client, err := clientv3.New(conf)
	if err != nil && s.login != nil {
		_ = s.login.Close()
	}
	return client, err
}

// Close ends all connections; watches end with their ctx.
func (s *Store) Close() error {
	s.keepalive.close()
	if err := s.closeClients(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close connections to etcd: %w", err)
	}
	return nil
}

func (s *Store) closeClients() error {
	err := s.client.Close()
	if s.login != nil {
		_ = s.login.Close()
	}
	return err
}

func (s *Store) clientConfig() (clientv3.Config, error) {
	if err := checkEndpoints(s.cfg); err != nil {
		return clientv3.Config{}, err
	}
	if (s.cfg.Username == "") != (s.cfg.Password == "") {
		return clientv3.Config{}, errors.New("user and password of etcd must be given together")
	}
	conf := clientv3.Config{
		Endpoints:            s.cfg.Endpoints,
		DialTimeout:          s.cfg.DialTimeout,
		DialKeepAliveTime:    keepaliveTime,
		DialKeepAliveTimeout: keepaliveTimeout,
		Username:             s.cfg.Username,
		Password:             s.cfg.Password,
		MaxUnaryRetries:      5,
		BackoffWaitBetween:   50 * time.Millisecond,
		// The client warns about each attempt; we report outcomes.
		Logger: etcdlog.New(s.cfg.Log.With("part", "etcd client"), zapcore.ErrorLevel, clientNoise()...),
		DialOptions: []grpc.DialOption{
			grpc.WithChainUnaryInterceptor(s.observe),
			// gRPC's default lets two minutes pass between attempts to connect.
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
				MinConnectTimeout: 2 * time.Second,
			}),
		},
	}
	if strings.HasPrefix(s.cfg.Endpoints[0], "https://") || strings.HasPrefix(s.cfg.Endpoints[0], "unixs:") {
		info := transport.TLSInfo{TrustedCAFile: s.cfg.CAFile, CertFile: s.cfg.CertFile, KeyFile: s.cfg.KeyFile}
		t, err := info.ClientConfig()
		if err != nil {
			return clientv3.Config{}, fmt.Errorf("read certificates (CA %s, certificate %s, key %s): %w",
				orNone(s.cfg.CAFile), orNone(s.cfg.CertFile), orNone(s.cfg.KeyFile), err)
		}
		conf.TLS = t
	}
	return conf, nil
}

// clientNoise are errors that the client logs and also returns.
func clientNoise() []string {
	return []string{"clientv3/retry_interceptor: getToken failed", "streamer failed to create ClientStream"}
}

func checkEndpoints(cfg Config) error {
	if len(cfg.Endpoints) == 0 {
		return errors.New("no etcd endpoint given; expected something like http://127.0.0.1:2379")
	}
	scheme := ""
	for _, e := range cfg.Endpoints {
		u, err := url.Parse(e)
		if err != nil {
			return fmt.Errorf("etcd endpoint %q is not a URL such as http://127.0.0.1:2379", e)
		}
		switch u.Scheme {
		case "http", "https":
			if u.Host == "" || (u.Path != "" && u.Path != "/") {
				return fmt.Errorf("etcd endpoint %q must be scheme, host and port, such as http://127.0.0.1:2379", e)
			}
			if u.User != nil {
				return fmt.Errorf("etcd endpoint %q must not hold a user; give user and password separately", u.Redacted())
			}
		case "unix", "unixs":
			if !strings.HasPrefix(u.Path, "/") || u.Host != "" {
				return fmt.Errorf("etcd endpoint %q must hold an absolute path, such as unix:///run/etcd.sock", e)
			}
		default:
			return fmt.Errorf("etcd endpoint %q must begin with http://, https:// or unix:///", e)
		}
		if scheme != "" && scheme != u.Scheme {
			return fmt.Errorf("etcd endpoints mix %s:// and %s://; all must have the same scheme", scheme, u.Scheme)
		}
		scheme = u.Scheme
	}
	tls := scheme == "https" || scheme == "unixs"
	if !tls && (cfg.CAFile != "" || cfg.CertFile != "" || cfg.KeyFile != "") {
		return fmt.Errorf("certificates are given but the etcd endpoints are %s://; use https://", scheme)
	}
	if (cfg.CertFile == "") != (cfg.KeyFile == "") {
		return errors.New("client certificate and key of etcd must be given together")
	}
	return nil
}

// failFast marks a ctx whose calls fail as soon as no endpoint can be connected to, instead of waiting for one.
type failFast struct{}

// attemptTimeout bounds one attempt of a read when there are more endpoints to try: a member that hangs, but whose
// kernel still acknowledges data, is noticed by gRPC only after 13 s.
const attemptTimeout = 1500 * time.Millisecond

// isRead tells of the calls that are repeated without harm. The client repeats any call whose attempt has run into a
// deadline of its own, so no other call may be given one.
func isRead(method string) bool {
	switch method {
	case "/etcdserverpb.KV/Range", "/etcdserverpb.Lease/LeaseTimeToLive", "/etcdserverpb.Cluster/MemberList":
		return true
	}
	return false
}

// observe sees each attempt of a call: it keeps the cause of failed connections for messages, and bounds attempts.
func (s *Store) observe(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if ctx.Value(failFast{}) != nil {
		opts = append(opts, grpc.WaitForReady(false))
	}
	if method == "/etcdserverpb.Auth/Authenticate" && s.login != nil {
		cc = s.login.ActiveConnection()
	}
	if !isRead(method) || len(s.cfg.Endpoints) == 1 {
		err := invoke(ctx, method, req, reply, cc, opts...)
		s.remember(err)
		return err
	}
	attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	err := invoke(attempt, method, req, reply, cc, opts...)
	s.remember(err)
	if err != nil && ctx.Err() == nil && (attempt.Err() != nil || strings.Contains(err.Error(), context.DeadlineExceeded.Error())) {
		// The member may be the first to notice the end of the attempt, and calls it an unknown error.
		err = status.FromContextError(context.DeadlineExceeded).Err()
	}
	return err
}

// remember keeps the cause of failed connections until a call goes through. A refused certificate is kept though other
// attempts fail otherwise: with TLS 1.3 the client has begun to send before the server refuses it, and whether it then
// reads the reason or only finds the connection closed is a matter of luck.
func (s *Store) remember(err error) {
	if err == nil {
		s.cause.Store(nil)
		return
	}
	if !isConnectionError(err) {
		return
	}
	if was := s.cause.Load(); was == nil || s.tlsHint(plain(*was)) == "" || s.tlsHint(plain(err)) != "" {
		s.cause.Store(&err)
	}
}

func isConnectionError(err error) bool {
	msg := err.Error()
	for _, part := range []string{"connection error", "error reading from server", "transport", "broken pipe", "connection reset"} {
		if strings.Contains(msg, part) {
			return true
		}
	}
	return false
}

func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.cfg.RequestTimeout)
}

// ping asks for one key under the prefix, through the quorum.
func (s *Store) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, failFast{}, true), s.cfg.DialTimeout)
	defer cancel()
	_, err := s.client.Get(ctx, s.prefix, clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly())
	return s.wrap("connect", err)
}

// Load implements store.Store.
func (s *Store) Load(ctx context.Context) (store.State, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	resp, err := s.client.Get(ctx, s.prefix, clientv3.WithPrefix())
	if err != nil {
		return store.State{}, s.wrap("read the agreed state", err)
	}
	st := store.State{Revision: resp.Header.Revision, Items: make(map[string]store.Item, len(resp.Kvs))}
	for _, kv := range resp.Kvs {
		it := s.item(kv)
		st.Items[it.Key] = it
	}
	return st, nil
}

// Commit implements store.Store. After ErrUnavailable the outcome is not known: the request may have been
// carried out without the answer reaching us. Read again; the revisions tell.
func (s *Store) Commit(ctx context.Context, tx store.Tx) (int64, error) {
	if err := tx.Check(); err != nil {
		return 0, err
	}
	cmps := make([]clientv3.Cmp, len(tx.If))
	for i, c := range tx.If {
		if c.Kind == store.Created {
			cmps[i] = clientv3.Compare(clientv3.CreateRevision(s.prefix+c.Key), "=", c.Revision)
		} else {
			cmps[i] = clientv3.Compare(clientv3.ModRevision(s.prefix+c.Key), "=", c.Revision)
		}
	}
	ops := make([]clientv3.Op, 0, len(tx.Put)+len(tx.Delete))
	for _, p := range tx.Put {
		ops = append(ops, clientv3.OpPut(s.prefix+p.Key, string(p.Value), clientv3.WithLease(clientv3.LeaseID(p.Lease))))
	}
	for _, key := range tx.Delete {
		ops = append(ops, clientv3.OpDelete(s.prefix+key))
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	resp, err := s.client.Txn(ctx).If(cmps...).Then(ops...).Commit()
	if err != nil {
		return 0, s.wrap("commit", err)
	}
	if !resp.Succeeded {
		return 0, fmt.Errorf("commit: %w", store.ErrConflict)
	}
	return resp.Header.Revision, nil
}

var _ store.Store = (*Store)(nil)
