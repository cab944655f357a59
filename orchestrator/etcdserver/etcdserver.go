// Package etcdserver runs a single etcd member inside this process: the store of `orchestrator up`, which needs no
// etcd of the operator's.
//
// Level: adapter around go.etcd.io/etcd/server/v3/embed.
//
// Duties: a private folder, unix sockets that only our user can reach, one process per folder, quick start, bounded
// stop, and the same durability as any etcd: what was acknowledged is on disk (fsync) and survives kill -9.
//
// It never listens on TCP, neither for clients nor for peers, and never forms a cluster of several members: for that
// there is real etcd. etcd ends the whole process when it cannot write its log any more; servers of PostgreSQL
// live on under their guards.
package etcdserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"

	"github.com/multicoord/multicoord/orchestrator/store/etcdlog"
)

// Config says where the server keeps its data.
type Config struct {
	// Dir is made with mode 0700 if it does not exist. It holds data/, lock and, if its path is short enough, run/
	// with the sockets (see Endpoint).
	Dir string
	Log *slog.Logger
}

const (
	memberName = "embedded"
	// The only member elects itself: ticks may be short, which makes the start quick and leases of 1 s possible.
	tickMs, electionMs = 20, 100
	quotaBytes         = 1 << 30
	// keepRevisions of history are kept when the server compacts (every five minutes).
	keepRevisions = "1000"
	stopTimeout   = 10 * time.Second
)

// noise are warnings about what is chosen on purpose here.
func noise() []string {
	return []string{
		"Running http and grpc server on single port. This is not recommended for production.",
		"simple token is not cryptographically signed",
		// Of a data folder that is only just being made.
		"Failed to detect schema version",
		"failed to update storage version",
		"cannot campaign at term 1 since there are still pending configuration changes",
	}
}

// Server is a running member.
type Server struct {
	etcd     *embed.Etcd
	endpoint string
	run      string // the folder of the sockets
	lock     *os.File
	streams  *streams
	err      chan error
	stopping chan struct{}
	watched  sync.WaitGroup
	log      zap.AtomicLevel
	once     sync.Once
	closeErr error
}

// Start starts the member in cfg.Dir and returns once it serves, or with the reason why it does not; ErrInUse
// when another process runs it already. If ctx ends before, the start is given up.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s, err := start(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start embedded etcd in %s: %w", cfg.Dir, err)
	}
	return s, nil
}

func start(ctx context.Context, cfg Config) (_ *Server, err error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	run, err := runDir(dir)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{dir, filepath.Join(dir, "data"), run} {
		if err := private(d); err != nil {
			return nil, err
		}
	}
	held, err := lock(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = held.Close()
		}
	}()
	if err := syncDir(dir); err != nil {
		return nil, fmt.Errorf("sync folder: %w", err)
	}
	for _, name := range []string{clientSocket, peerSocket} {
		if err := removeSocket(filepath.Join(run, name)); err != nil {
			return nil, fmt.Errorf("remove old socket: %w", err)
		}
	}
	s := &Server{
		endpoint: "unix://" + filepath.Join(run, clientSocket),
		run:      run,
		lock:     held,
		streams:  newStreams(),
		err:      make(chan error, 1),
		stopping: make(chan struct{}),
		log:      zap.NewAtomicLevelAt(zapcore.WarnLevel),
	}
	if s.etcd, err = startEtcd(s.config(cfg.Log, dir, run)); err != nil {
		return nil, err
	}
	select {
	case <-s.etcd.Server.ReadyNotify():
	case err = <-s.etcd.Err():
	case <-s.etcd.Server.StopNotify():
		err = errors.New("it stopped at once; its log says why")
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		s.streams.end()
		s.etcd.Close()
		return nil, err
	}
	s.watched.Go(s.watch)
	return s, nil
}

// startEtcd makes an error of a panic, which is how etcd reacts to data that it does not understand. What it had opened
// by then stays open until the process ends.
func startEtcd(c *embed.Config) (e *embed.Etcd, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the data in %s is damaged (%v); restore the folder from a backup, or move it away to begin with an empty store", c.Dir, r)
		}
	}()
	return embed.StartEtcd(c)
}

func (s *Server) config(log *slog.Logger, dir, run string) *embed.Config {
	// The peer listener takes its address from Host alone, the client listener from Host and Path; a URL with the
	// path in Host serves both.
	client := url.URL{Scheme: "unix", Host: filepath.Join(run, clientSocket)}
	peer := url.URL{Scheme: "unix", Host: filepath.Join(run, peerSocket)}
	// What the member tells others about itself: it has no others.
	self := url.URL{Scheme: "unix", Path: "/" + memberName}

	c := embed.NewConfig()
	c.Name = memberName
	c.Dir = filepath.Join(dir, "data")
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{self}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{self}
	c.InitialCluster = c.InitialClusterFromName(memberName)
	c.TickMs, c.ElectionMs = tickMs, electionMs
	c.QuotaBackendBytes = quotaBytes
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModeRevision, keepRevisions
	c.EnableGRPCGateway = false
	c.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainStreamInterceptor(s.streams.intercept)}
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(etcdlog.New(log.With("part", "embedded etcd"), s.log, noise()...))
	return c
}

// watch reports a server that ends by itself.
func (s *Server) watch() {
	var err error
	select {
	case <-s.stopping:
		return
	case e, ok := <-s.etcd.Err():
		if !ok {
			return
		}
		err = e
	case <-s.etcd.Server.StopNotify():
		err = errors.New("it stopped by itself; its log says why")
	}
	select {
	case <-s.stopping:
	default:
		s.err <- fmt.Errorf("embedded etcd: %w", err)
	}
}

// Endpoints is where clients find the server.
func (s *Server) Endpoints() []string { return []string{s.endpoint} }

// Err tells when the server ends by itself: at most one error comes. Close is still due then.
func (s *Server) Err() <-chan error { return s.err }

// Close stops the server; open watches are cut off. It takes 10 s at most, then it gives up with an error and the
// folder stays locked until the process ends.
func (s *Server) Close() error {
	s.once.Do(func() {
		close(s.stopping)
		s.watched.Wait()
		s.log.SetLevel(zapcore.FatalLevel) // etcd reports each listener that we close as an error
		// etcd waits for open streams, and watches are never done.
		s.streams.end()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.etcd.Close()
		}()
		select {
		case <-done:
			_ = os.Remove(s.run) // it is empty now, and made again when it is needed
			s.closeErr = s.lock.Close()
		case <-time.After(stopTimeout):
			s.closeErr = fmt.Errorf("stop embedded etcd: it still runs after %s; it ends with this process", stopTimeout)
		}
	})
	return s.closeErr
}
