package etcdserver_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/multicoord/multicoord/orchestrator/etcdserver"
	"github.com/multicoord/multicoord/orchestrator/store"
	"github.com/multicoord/multicoord/orchestrator/store/etcdstore"
)

// childDir makes the test binary run a server in that folder instead of tests.
const childDir = "ETCDSERVER_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir))
	}
	goleak.VerifyTestMain(m)
}

// child serves until it is told to end by SIGTERM.
func child(dir string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s, err := etcdserver.Start(ctx, etcdserver.Config{Dir: dir, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready")
	<-ctx.Done()
	if err := s.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

type process struct {
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	once   sync.Once
}

// run starts a child and waits until it serves.
func run(t *testing.T, dir string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0]), stderr: &bytes.Buffer{}}
	p.cmd.Env = append(os.Environ(), childDir+"="+dir)
	p.cmd.Stderr = p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.kill()
		require.NoError(t, err, p.stderr.String())
	}
	require.Equal(t, "ready\n", line)
	return p
}

func (p *process) kill() {
	p.once.Do(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mc") //nolint:usetesting // the names of tests make paths too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func start(t *testing.T, dir string) *etcdserver.Server {
	t.Helper()
	s, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: dir, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func open(t *testing.T, endpoints []string) *etcdstore.Store {
	t.Helper()
	s, err := etcdstore.Open(t.Context(), etcdstore.Config{Endpoints: endpoints, Prefix: "/multicoord/main"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func create(ctx context.Context, s store.Store, key string) error {
	_, err := s.Commit(ctx, store.Tx{If: []store.Compare{{Key: key}}, Put: []store.Put{{Key: key, Value: []byte("v")}}})
	return err
}

func TestServesWithinASecondAndSaysNothing(t *testing.T) {
	var log bytes.Buffer
	began := time.Now()
	srv, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: shortDir(t), Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	took := time.Since(began)
	s, err := etcdstore.Open(t.Context(), etcdstore.Config{Endpoints: srv.Endpoints(), Prefix: "/x"})
	require.NoError(t, err)
	require.NoError(t, create(t.Context(), s, "k"))
	require.NoError(t, s.Close())
	require.NoError(t, srv.Close())
	assert.Less(t, took, time.Second)
	assert.Empty(t, log.String())
}

func TestWhatWasAcknowledgedSurvivesKill9(t *testing.T) {
	dir := shortDir(t)
	where, err := etcdserver.Endpoint(dir)
	require.NoError(t, err)
	var acked sync.Map
	for round := range 4 {
		p := run(t, dir)
		s, err := etcdstore.Open(t.Context(), etcdstore.Config{Endpoints: []string{where}, Prefix: "/multicoord/main"})
		require.NoError(t, err)
		var wg sync.WaitGroup
		var n atomic.Int64
		enough := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		for w := range 4 {
			wg.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					key := fmt.Sprintf("round%d/writer%d/%d", round, w, i)
					if create(ctx, s, key) == nil {
						acked.Store(key, true)
						if n.Add(1) == int64(100+37*round) {
							close(enough)
						}
					}
				}
			})
		}
		<-enough
		p.kill() // in the middle of writes
		cancel()
		wg.Wait()
		require.NoError(t, s.Close())
	}
	s := open(t, start(t, dir).Endpoints())
	st, err := s.Load(t.Context())
	require.NoError(t, err)
	count := 0
	acked.Range(func(key, _ any) bool {
		count++
		assert.Contains(t, st.Items, key)
		return !t.Failed()
	})
	t.Log(count, "acknowledged writes,", len(st.Items), "found")
	assert.GreaterOrEqual(t, count, 400)
}

func TestASecondServerInTheSameFolderIsRefused(t *testing.T) {
	dir := shortDir(t)
	p := run(t, dir)
	_, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: dir})
	require.ErrorIs(t, err, etcdserver.ErrInUse)
	require.ErrorContains(t, err, strconv.Itoa(p.cmd.Process.Pid))
	require.ErrorContains(t, err, dir)
	// The first one has kept its sockets.
	where, err := etcdserver.Endpoint(dir)
	require.NoError(t, err)
	require.NoError(t, create(t.Context(), open(t, []string{where}), "k"))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait(), p.stderr.String())
	start(t, dir)
}

func TestNothingListensOnTCPAndNobodyElseCanReachTheSockets(t *testing.T) {
	dir := shortDir(t)
	require.NoError(t, os.Chmod(dir, 0o755))
	p := run(t, dir)
	for _, table := range []string{"tcp", "tcp6"} {
		assert.Empty(t, sockets(t, p.cmd.Process.Pid, table))
	}
	for _, d := range []string{".", "run", "data"} {
		info, err := os.Stat(filepath.Join(dir, d))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o700), info.Mode().Perm(), d)
	}
	for _, name := range []string{"client.sock", "peer.sock"} {
		c, err := net.Dial("unix", filepath.Join(dir, "run", name))
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
}

// sockets lists the sockets of a process that /proc/<pid>/net/<table> shows.
func sockets(t *testing.T, pid int, table string) []string {
	t.Helper()
	inodes := map[string]bool{}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	require.NoError(t, err)
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil {
			if inode, ok := strings.CutPrefix(target, "socket:["); ok {
				inodes[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	require.NotEmpty(t, inodes, "the unix sockets at least")
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	var found []string
	for _, line := range strings.Split(string(text), "\n")[1:] {
		if f := strings.Fields(line); len(f) > 9 && inodes[f[9]] {
			found = append(found, line)
		}
	}
	return found
}

func TestClosesAtOnceThoughClientsWatch(t *testing.T) {
	srv := start(t, shortDir(t))
	s := open(t, srv.Endpoints())
	ctx, cancel := context.WithCancel(t.Context())
	states := s.Watch(ctx)
	<-states
	_, err := s.Lease(ctx, time.Minute)
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, srv.Close())
	assert.Less(t, time.Since(began), time.Second)
	require.NoError(t, srv.Close(), "a second time")
	cancel()
	for range states {
		continue
	}
}

func TestDataAndLeasesSurviveARestart(t *testing.T) {
	dir := shortDir(t)
	first, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: dir})
	require.NoError(t, err)
	s := open(t, first.Endpoints())
	l, err := s.Lease(t.Context(), time.Minute)
	require.NoError(t, err)
	_, err = s.Commit(t.Context(), store.Tx{If: []store.Compare{{Key: "grant"}}, Put: []store.Put{{Key: "grant", Lease: l.ID()}}})
	require.NoError(t, err)
	require.NoError(t, create(t.Context(), s, "spec"))
	require.NoError(t, first.Close())

	start(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	st, err := s.Load(ctx) // the same client finds the new server
	require.NoError(t, err)
	assert.Len(t, st.Items, 2)
	require.NoError(t, l.Renew(ctx))
}

func TestLeasesOfOneSecondArePossible(t *testing.T) {
	s := open(t, start(t, shortDir(t)).Endpoints())
	l, err := s.Lease(t.Context(), time.Second)
	require.NoError(t, err)
	assert.Equal(t, time.Second, l.TTL())
}

func TestALongPathPutsTheSocketsElsewhere(t *testing.T) {
	dir := filepath.Join(shortDir(t), strings.Repeat("long/", 30))
	srv := start(t, dir)
	where, err := etcdserver.Endpoint(dir)
	require.NoError(t, err)
	assert.Equal(t, []string{where}, srv.Endpoints())
	sock := strings.TrimPrefix(where, "unix://")
	assert.Less(t, len(sock), 104)
	assert.NotContains(t, sock, "long")
	info, err := os.Stat(filepath.Dir(sock))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	require.NoError(t, create(t.Context(), open(t, srv.Endpoints()), "k"))
	other, err := etcdserver.Endpoint(dir + "x")
	require.NoError(t, err)
	assert.NotEqual(t, where, other)
	require.NoError(t, srv.Close())
	assert.NoDirExists(t, filepath.Dir(sock), "nothing is left behind")
}

func TestWhatIsInTheWayIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, dir string)
		want    string
	}{
		"a file where the folder should be": {func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.WriteFile(dir, nil, 0o600))
		}, "is not a folder"},
		"a link where the folder should be": {func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.Symlink(t.TempDir(), dir))
		}, "is not a folder"},
		"a file where a socket should be": {func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "run"), 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "run", "client.sock"), []byte("precious"), 0o600))
		}, "is no socket"},
		"a folder of another user": {func(t *testing.T, dir string) {
			t.Helper()
			if os.Geteuid() != 0 {
				t.Skip("needs root to give a folder away")
			}
			require.NoError(t, os.Mkdir(dir, 0o755))
			require.NoError(t, os.Chown(dir, 65534, 65534))
		}, "belongs to user id 65534"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(shortDir(t), "etcd")
			c.prepare(t, dir)
			_, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: dir})
			require.ErrorContains(t, err, c.want)
			assert.ErrorContains(t, err, dir)
		})
	}
}

func TestDamagedDataIsAnErrorAndNotAnEmptyStore(t *testing.T) {
	dir := shortDir(t)
	srv, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: dir})
	require.NoError(t, err)
	require.NoError(t, create(t.Context(), open(t, srv.Endpoints()), "k"))
	require.NoError(t, srv.Close())
	wals, err := filepath.Glob(filepath.Join(dir, "data", "member", "wal", "*.wal"))
	require.NoError(t, err)
	require.NotEmpty(t, wals)
	require.NoError(t, os.WriteFile(wals[0], []byte("nonsense"), 0o600))

	// Another process tries: what etcd had opened stays open there.
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.Error(t, cmd.Run())
	assert.NotContains(t, out.String(), "ready")
	assert.Contains(t, out.String(), dir)
	assert.Contains(t, out.String(), "damaged")
}
