package etcdstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/multicoord/multicoord/orchestrator/etcdserver"
	"github.com/multicoord/multicoord/orchestrator/store/etcdstore"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// etcd's server and its log package start these once for the whole process.
		goleak.IgnoreTopFunction("go.etcd.io/etcd/pkg/v3/schedule.(*fifo).run"),
		goleak.IgnoreTopFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"),
	)
}

// prefixes gives each test a prefix of its own.
var prefixes atomic.Int64

func freshPrefix() string { return fmt.Sprintf("/multicoord/t%d", prefixes.Add(1)) }

func embedded(t *testing.T) []string {
	t.Helper()
	srv, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: shortDir(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, srv.Close()) })
	return srv.Endpoints()
}

// shortDir is a folder whose path leaves room for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mc") //nolint:usetesting // the names of tests make paths too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func open(t *testing.T, cfg etcdstore.Config) *etcdstore.Store {
	t.Helper()
	if cfg.Prefix == "" {
		cfg.Prefix = freshPrefix()
	}
	s, err := etcdstore.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// freePorts finds n ports that are free now.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

// process is an etcd of the distribution.
type process struct {
	t        *testing.T
	args     []string
	log      *os.File
	cmd      *exec.Cmd
	Endpoint string
}

// external starts etcds that form one cluster; more flags may be given (client URLs use the given scheme).
func external(t *testing.T, members int, scheme string, flags ...string) []*process {
	t.Helper()
	bin, err := exec.LookPath("etcd")
	if err != nil {
		t.Skip("no etcd in PATH (package etcd-server)")
	}
	ports := freePorts(t, 2*members)
	var initial []string
	for i := range members {
		initial = append(initial, fmt.Sprintf("m%d=http://127.0.0.1:%d", i, ports[2*i+1]))
	}
	dir := t.TempDir()
	ps := make([]*process, members)
	for i := range members {
		client, peer := fmt.Sprintf("%s://127.0.0.1:%d", scheme, ports[2*i]), fmt.Sprintf("http://127.0.0.1:%d", ports[2*i+1])
		log, err := os.Create(filepath.Join(dir, fmt.Sprintf("m%d.log", i)))
		require.NoError(t, err)
		ps[i] = &process{t: t, log: log, Endpoint: client, args: append([]string{
			bin, "--name", fmt.Sprintf("m%d", i), "--data-dir", filepath.Join(dir, fmt.Sprintf("m%d", i)),
			"--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-state", "new",
			"--logger", "zap",
		}, flags...)}
		ps[i].start()
		t.Cleanup(func() {
			ps[i].kill()
			log.Close()
			if t.Failed() {
				text, _ := os.ReadFile(log.Name())
				t.Logf("log of %s: %s", ps[i].Endpoint, text[max(0, len(text)-2000):])
			}
		})
	}
	return ps
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(p.t, p.cmd.Start())
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(sig))
}

func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
}

func endpoints(ps []*process) []string {
	var all []string
	for _, p := range ps {
		all = append(all, p.Endpoint)
	}
	return all
}

// ready waits until etcd answers under cfg.
func ready(t *testing.T, cfg etcdstore.Config) {
	t.Helper()
	if cfg.Prefix == "" {
		cfg.Prefix = "/ready"
	}
	await(t, func(ctx context.Context) error {
		s, err := etcdstore.Open(ctx, cfg)
		if err != nil {
			return err
		}
		return s.Close()
	})
}

// await repeats try until it succeeds.
func await(t *testing.T, try func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			require.NoError(t, errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

// admin is etcd's plain client.
func admin(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// buffer collects log lines of several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
