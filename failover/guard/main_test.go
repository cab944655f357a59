package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestMain makes the test's binary a guard, or a stand-in for postgres, when it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) >= 2 {
		switch os.Args[1] {
		case "guard":
			if err := Main(context.Background(), os.Stdin, os.Stdout); err != nil {
				os.Exit(1)
			}
			os.Exit(0)
		case "obedient", "stubborn", "stubborn-child":
			standIn(os.Args[1], os.Args[2])
		}
	}
	os.Exit(m.Run())
}

// standIn behaves like a postmaster as far as signals go: obedient, or deaf to all but SIGKILL, with a child in a session
// of its own that is deaf, too. Each writes its pid into a file of its own name.
func standIn(mode, dir string) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGHUP)
	if mode == "stubborn" {
		cmd := exec.Command(os.Args[0], "stubborn-child", dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			panic(err)
		}
	}
	fmt.Println("stand-in says hello")
	tmp := filepath.Join(dir, mode+".tmp")
	if err := os.WriteFile(tmp, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, mode)); err != nil {
		panic(err)
	}
	for sig := range signals {
		switch {
		case mode != "obedient":
		case sig == unix.SIGHUP:
			_ = os.WriteFile(filepath.Join(dir, "reloaded"), nil, 0o600)
		case sig == unix.SIGQUIT:
			os.Exit(2)
		default:
			os.Exit(0)
		}
	}
}

type node struct {
	t   *testing.T
	dir string
	cfg Config
	pid int // of the guard
}

func newNode(t *testing.T, mode string, standby bool) *node {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mcg") //nolint:usetesting // the path of a socket has to be short
	require.NoError(t, err)
	data := filepath.Join(dir, "data")
	require.NoError(t, os.Mkdir(data, 0o700))
	if standby {
		require.NoError(t, os.WriteFile(filepath.Join(data, signalFile), nil, 0o600))
	}
	self, err := os.Executable()
	require.NoError(t, err)
	n := &node{t: t, dir: dir, cfg: Config{
		Node: "n", Socket: filepath.Join(dir, "guard.sock"), Postgres: []string{self, mode, dir}, DataDir: data,
		LockFile: filepath.Join(dir, "guard.lock"), StateFile: filepath.Join(dir, "state.json"), LogFile: filepath.Join(dir, "guard.log"),
		StopTimeout: 10 * time.Second, ImmediateTimeout: 300 * time.Millisecond,
	}}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(n.cfg.LogFile)
			t.Logf("guard's log:\n%s", log)
		}
		n.kill()
		require.NoError(t, os.RemoveAll(dir))
	})
	return n
}

// launch starts a guard and waits until the stand-in can take signals.
func (n *node) launch(term uint64, deadline Instant) *Client {
	n.t.Helper()
	c, err := n.try(term, deadline)
	require.NoError(n.t, err)
	eventually(n.t, 5*time.Second, "the stand-in runs", func() bool { return n.alive(n.cfg.Postgres[1]) })
	if n.cfg.Postgres[1] == "stubborn" {
		eventually(n.t, 5*time.Second, "its child runs", func() bool { return n.alive("stubborn-child") })
	}
	return c
}

func (n *node) try(term uint64, deadline Instant) (*Client, error) {
	cfg := n.cfg
	cfg.Term, cfg.Deadline = term, deadline
	c, pid, err := Launch(n.ctx(), []string{cfg.Postgres[0], "guard"}, cfg)
	if err == nil {
		n.pid = pid
		n.t.Cleanup(func() { Reap(pid, time.Second) })
	}
	return c, err
}

func (n *node) ctx() context.Context {
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	n.t.Cleanup(cancel)
	return ctx
}

func (n *node) process(name string) (pid int) {
	raw, err := os.ReadFile(filepath.Join(n.dir, name))
	if err != nil {
		return 0
	}
	pid, _ = strconv.Atoi(string(raw))
	return pid
}

// alive tells whether a stand-in of that name runs.
func (n *node) alive(name string) bool {
	pid := n.process(name)
	p, ok := readProcess(pid)
	return pid > 0 && ok && !p.zombie()
}

// kill ends what a failed test has left.
func (n *node) kill() {
	for _, name := range []string{"obedient", "stubborn", "stubborn-child"} {
		if n.alive(name) {
			_ = unix.Kill(n.process(name), unix.SIGKILL)
		}
	}
	if n.pid > 0 && !Reap(n.pid, 2*time.Second) {
		_ = unix.Kill(n.pid, unix.SIGKILL)
		Reap(n.pid, time.Second)
	}
}

func (n *node) standbySignal() string { return filepath.Join(n.cfg.DataDir, signalFile) }

// exit waits for the end of the server and of the guard.
func (n *node) exit(c *Client) Exit {
	n.t.Helper()
	e, err := c.Wait(n.ctx())
	require.NoError(n.t, err)
	require.True(n.t, Reap(n.pid, 2*time.Second), "the guard ends with its server")
	require.False(n.t, n.alive(n.cfg.Postgres[1]))
	require.False(n.t, n.alive("stubborn-child"))
	written, err := ReadExit(n.cfg.StateFile)
	require.NoError(n.t, err)
	require.Equal(n.t, e.Reason, written.Reason)
	_, err = os.Lstat(n.cfg.Socket)
	require.ErrorIs(n.t, err, os.ErrNotExist)
	return e
}

func eventually(t *testing.T, bound time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(bound)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", bound, what)
		}
		<-tick.C
	}
}

// logged tells what the guard's log contains.
func (n *node) logged(s string) bool {
	raw, err := os.ReadFile(n.cfg.LogFile)
	return !errors.Is(err, os.ErrNotExist) && strings.Contains(string(raw), s)
}
