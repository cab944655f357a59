package router_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/coordinator/route"
	"github.com/multicoord/multicoord/coordinator/router"
	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/sql"
)

const bin = "/usr/lib/postgresql/15/bin/"

// server is a PostgreSQL server of the tests.
type server struct {
	name, dir string
	port      int
	cmd       *exec.Cmd
	done      chan struct{}
}

func (s *server) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// pair is a primary with a streaming standby.
type pair struct {
	dir     string
	primary *server
	standby *server
}

const (
	superPassword  = "super secret"
	routerPassword = "router secret"
	appPassword    = "app's secret"
)

func credential() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// command runs as the OS user postgres when the test runs as root, as the test's own user otherwise.
func command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() == 0 {
		if cred, err := credential(); err == nil {
			c.SysProcAttr.Credential = cred
		}
	}
	c.Dir = "/"
	c.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
	return c
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func newPair() (*pair, error) {
	dir, err := os.MkdirTemp("/tmp", "mcr")
	if err != nil {
		return nil, err
	}
	p := &pair{dir: dir}
	if err := p.make(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pair) make() error {
	if err := os.Chmod(p.dir, 0o777); err != nil {
		return err
	}
	pw := filepath.Join(p.dir, "pw")
	if err := os.WriteFile(pw, []byte(superPassword+"\n"), 0o644); err != nil {
		return err
	}
	p.primary = &server{name: "coord-1", dir: filepath.Join(p.dir, "p")}
	p.standby = &server{name: "coord-2", dir: filepath.Join(p.dir, "s")}
	for _, s := range []*server{p.primary, p.standby} {
		var err error
		if s.port, err = freePort(); err != nil {
			return err
		}
	}
	if out, err := command(bin+"initdb", "-D", p.primary.dir, "-U", "postgres", "-A", "scram-sha-256", "--pwfile="+pw,
		"-E", "UTF8", "--locale=C.UTF-8", "--no-sync").CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	conf := "fsync=off\nlisten_addresses='127.0.0.1'\nunix_socket_directories=''\nwal_level=logical\nmax_connections=150\n" +
		"max_prepared_transactions=5\nhot_standby_feedback=on\nmax_standby_streaming_delay=200ms\nlog_min_messages=warning\n" +
		"shared_buffers=64MB\nmax_wal_senders=5\nwal_keep_size=256MB\nautovacuum=off\n"
	if err := appendFile(filepath.Join(p.primary.dir, "postgresql.conf"), conf); err != nil {
		return err
	}
	if err := appendFile(filepath.Join(p.primary.dir, "pg_hba.conf"), "host replication all 127.0.0.1/32 scram-sha-256\n"); err != nil {
		return err
	}
	if err := p.primary.start(); err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	c, err := p.primary.super(ctx, "postgres")
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for _, q := range []string{
		sql.RouterBootstrap, sql.RouterBootstrap,
		"ALTER ROLE multicoord_router PASSWORD '" + routerPassword + "'",
		"CREATE ROLE app LOGIN PASSWORD '" + strings.ReplaceAll(appPassword, "'", "''") + "'",
		"CREATE ROLE other LOGIN PASSWORD 'other'",
		"GRANT pg_signal_backend, pg_monitor TO app",
		"CREATE DATABASE app OWNER app",
	} {
		if _, err := c.Exec(ctx, q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	base := command(bin+"pg_basebackup", "-D", p.standby.dir, "-d",
		fmt.Sprintf("host=127.0.0.1 port=%d user=postgres", p.primary.port), "-R", "-X", "stream", "-c", "fast", "--no-sync")
	base.Env = append(base.Env, "PGPASSWORD="+superPassword)
	if out, err := base.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_basebackup: %w: %s", err, out)
	}
	return p.standby.start()
}

func appendFile(name, text string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

func (s *server) start() error {
	log, err := os.OpenFile(s.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = command(bin+"postgres", "-D", s.dir, "-p", strconv.Itoa(s.port))
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	s.done = done
	cmd := s.cmd
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	return poll(20*time.Second, func() error {
		select {
		case <-done:
			text, _ := os.ReadFile(s.dir + ".log")
			return fmt.Errorf("%s has ended: %s", s.name, text)
		default:
		}
		ctx, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		c, err := s.super(ctx, "postgres")
		if err != nil {
			return err
		}
		return c.Close(ctx)
	})
}

func (s *server) stop(sig syscall.Signal) {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	var children []int
	if sig == syscall.SIGKILL {
		children = childrenOf(s.cmd.Process.Pid)
	}
	_ = s.cmd.Process.Signal(sig)
	for _, pid := range children { // no backend goes on alone
		_ = syscall.Kill(pid, sig)
	}
	<-s.done
	for _, pid := range children {
		_ = poll(5*time.Second, func() error {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err == nil && !strings.Contains(string(text), ") Z ") {
				return errors.New("still there")
			}
			return nil
		})
	}
}

func childrenOf(parent int) []int {
	var pids []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func (s *server) super(ctx context.Context, db string) (*pgx.Conn, error) {
	return connect(ctx, s.address(), "postgres", superPassword, db, "")
}

func connect(ctx context.Context, address, user, password, db, more string) (*pgx.Conn, error) {
	host, port, _ := net.SplitHostPort(address)
	cfg, err := pgx.ParseConfig(strings.TrimSpace(fmt.Sprintf("host=%s port=%s sslmode=disable %s", host, port, more)))
	if err != nil {
		return nil, err
	}
	cfg.User, cfg.Password, cfg.Database = user, password, db
	return pgx.ConnectConfig(ctx, cfg)
}

func (p *pair) close() {
	for _, s := range []*server{p.standby, p.primary} {
		if s != nil && s.cmd != nil {
			s.stop(syscall.SIGQUIT)
		}
	}
	_ = os.RemoveAll(p.dir)
}

// poll repeats f until it succeeds or time is up.
func poll(limit time.Duration, f func() error) error {
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-deadline:
			return fmt.Errorf("after %s: %w", limit, err)
		case <-tick.C:
		}
	}
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	require.NoError(t, poll(20*time.Second, f))
}

// fixture is a router in front of a pair.
type fixture struct {
	*pair
	t          *testing.T
	r          *router.Router
	addr       string
	topologies chan router.Topology
	settings   cluster.Router
	stop       func()
}

func (p *pair) members() []route.Member {
	return []route.Member{
		{Name: p.primary.name, Address: p.primary.address(), Role: cluster.Primary, Term: 1},
		{Name: p.standby.name, Address: p.standby.address(), Role: cluster.Standby, Term: 1},
	}
}

func testSettings() cluster.Router {
	return cluster.Router{PoolSize: 20, WaitTimeout: cluster.Duration(20 * time.Second), Reads: cluster.Reads{
		Check: cluster.Duration(50 * time.Millisecond),
	}}
}

// serve starts a router in front of the shared pair.
func serve(t *testing.T, change ...func(*cluster.Router)) *fixture {
	t.Helper()
	return serveOn(t, shared(t), change...)
}

func serveOn(t *testing.T, p *pair, change ...func(*cluster.Router)) *fixture {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &fixture{pair: p, t: t, addr: l.Addr().String(), topologies: make(chan router.Topology, 4), settings: testSettings()}
	for _, c := range change {
		c(&f.settings)
	}
	level := slog.LevelError
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	f.r = router.New(router.Config{
		Log:       slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
		Listeners: []net.Listener{l}, Password: routerPassword, Topologies: f.topologies, Grace: 2 * time.Second,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.r.Run(ctx) }()
	stopped := false
	f.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(20 * time.Second):
			t.Error("the router does not stop")
		}
	}
	t.Cleanup(f.stop)
	f.publish()
	f.ready()
	return f
}

func (f *fixture) publish() { f.topologies <- topology(f.members(), f.settings) }

func topology(members []route.Member, settings cluster.Router) router.Topology {
	return router.Topology{Members: members, Settings: settings}
}

// ready waits until the primary and the standby serve.
func (f *fixture) ready() {
	f.t.Helper()
	eventually(f.t, func() error {
		table := f.r.Stats().Table
		if table.Primary == nil {
			return errors.New(table.PrimaryReason)
		}
		if len(table.Standbys) != 1 || !table.Standbys[0].Eligible {
			return fmt.Errorf("the standby is not eligible: %+v", table.Standbys)
		}
		return nil
	})
}

func ctx(t *testing.T) context.Context {
	t.Helper()
	c, stop := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(stop)
	return c
}

// client connects as app through the router; more are further connection settings.
func (f *fixture) client(more ...string) *pgx.Conn {
	f.t.Helper()
	c, err := connect(ctx(f.t), f.addr, "app", appPassword, "app", strings.Join(more, " "))
	require.NoError(f.t, err)
	f.t.Cleanup(func() {
		c2, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		_ = c.Close(c2)
	})
	return c
}

// direct connects to a server as its superuser.
func (f *fixture) direct(s *server, db string) *pgx.Conn {
	f.t.Helper()
	c, err := s.super(ctx(f.t), db)
	require.NoError(f.t, err)
	f.t.Cleanup(func() {
		c2, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		_ = c.Close(c2)
	})
	return c
}

// psql runs psql through the router and gives what it prints, errors included.
func (f *fixture) psql(args ...string) (string, error) {
	f.t.Helper()
	host, port, _ := net.SplitHostPort(f.addr)
	c := command("/usr/bin/psql", append([]string{"-X", "-At", "-h", host, "-p", port, "-U", "app", "-d", "app"}, args...)...)
	c.Env = append(c.Env, "PGPASSWORD="+appPassword)
	out, err := c.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
