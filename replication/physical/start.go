package physical

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multicoord/multicoord/failover"
	"github.com/multicoord/multicoord/failover/guard"
)

// Start is Launch and then Ready. An error that is ErrStarting means that ctx ended while the server runs, but does not yet
// accept connections; it goes on.
func (s *Server) Start(ctx context.Context, term uint64, deadline guard.Instant) error {
	if _, err := s.Launch(ctx, term, deadline); err != nil {
		return err
	}
	return s.Ready(ctx)
}

// Launch starts the server under a new guard and returns as soon as the postmaster runs. The guard outlives this process. term
// and deadline are the right to be primary; a standby needs none. If the server is running already, that is ErrRunning.
func (s *Server) Launch(ctx context.Context, term uint64, deadline guard.Instant) (*guard.Client, error) {
	s.work.Lock()
	defer s.work.Unlock()
	if err := s.checkOurs(); err != nil {
		return nil, err
	}
	if _, err := s.Guard(ctx); err == nil {
		return nil, s.errorf("start: %w", ErrRunning)
	}
	if err := s.prepareFolders(ctx); err != nil {
		return nil, err
	}
	if err := s.cleanAuto(); err != nil {
		return nil, err
	}
	argv := []string{s.cfg.Bin.program("postgres"), "-D", s.DataDir()}
	for _, c := range s.commandLine() {
		argv = append(argv, "-c", c.name+"="+c.value)
	}
	client, pid, err := guard.Launch(ctx, []string{s.cfg.Self, "guard"}, guard.Config{
		Node: s.cfg.Node, Socket: s.run.guard(), Postgres: argv, Env: s.serverEnv(), Credential: s.cfg.Account.guardCredential(),
		DataDir: s.DataDir(), SocketDir: s.SocketDir(), LockFile: s.path("guard.lock"), StateFile: s.path("state.json"), LogFile: s.path("guard.log"),
		Term: term, Deadline: deadline,
	})
	if pid != 0 {
		s.mu.Lock()
		s.guards = append(s.guards, pid)
		s.mu.Unlock()
	}
	if err != nil {
		return nil, s.errorf("start: %w", err)
	}
	return client, nil
}

// serverEnv is the server's environment: the account's home is there for commands that the server runs (archiving, say).
func (s *Server) serverEnv() []string {
	env := append(baseEnv(), "USER="+s.cfg.Account.Name, "LOGNAME="+s.cfg.Account.Name)
	if home := s.cfg.Account.Home; home != "" {
		env = append(env, "HOME="+home)
	}
	return env
}

func (s *Server) prepareFolders(ctx context.Context) error {
	if err := s.cfg.Account.CheckReach(ctx, s.DataDir()); err != nil {
		return s.errorf("%w", err)
	}
	if err := s.run.make(s.cfg.Account); err != nil {
		return s.errorf("%w", err)
	}
	log := s.path("log")
	if err := os.Mkdir(log, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return s.errorf("make the folder for logs: %w", err)
	}
	if err := s.cfg.Account.chown(log); err != nil {
		return s.errorf("make the folder for logs: %w", err)
	}
	if err := s.PruneLogs(); err != nil {
		s.cfg.Log.Warn("old log files stay", "node", s.cfg.Node, "err", err)
	}
	return nil
}

// Ready waits until the server accepts connections. If it ends instead, the error has the last lines of its log; if ctx ends
// first, it is ErrStarting.
func (s *Server) Ready(ctx context.Context) error {
	client, err := s.Guard(ctx)
	if err != nil {
		return s.ended(err)
	}
	st, err := client.Status(ctx)
	if err != nil {
		return s.ended(err)
	}
	waitCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := client.Wait(waitCtx)
		ended <- err
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if s.postmasterStatus(st.PostmasterPID) == "ready" {
			cancel()
			_ = <-ended // that the wait was given up is no news
			return nil
		}
		select {
		case err := <-ended:
			if ctx.Err() != nil {
				return s.errorf("%w", ErrStarting)
			}
			return s.ended(err)
		case <-tick.C:
		}
	}
}

// postmasterStatus reads the last line of postmaster.pid (LOCK_FILE_LINE_PM_STATUS in src/include/utils/pidfile.h):
// "starting", "stopping", "ready" or "standby"; "" if the file is not that postmaster's.
func (s *Server) postmasterStatus(pid int) string {
	raw, err := os.ReadFile(filepath.Join(s.DataDir(), "postmaster.pid"))
	if err != nil {
		return ""
	}
	lines := strings.Split(string(raw), "\n")
	if len(lines) < 8 || strings.TrimSpace(lines[0]) != strconv.Itoa(pid) {
		return ""
	}
	return strings.TrimSpace(lines[7])
}

// ended explains why a server that was started does not run any more.
func (s *Server) ended(err error) error {
	s.reap(time.Second)
	exit, readErr := guard.ReadExit(s.path("state.json"))
	if readErr != nil {
		if err == nil {
			err = readErr
		}
		return s.errorf("the server does not run: %w", err)
	}
	if exit.Fenced {
		return s.errorf("the server was stopped: %s", exit.Reason)
	}
	return s.errorf("the server ended: %s", s.Explain(exit))
}

// LastExit is how the server ended the last time; an error that is fs.ErrNotExist if it runs, never has run, or its guard was
// killed before it could tell.
func (s *Server) LastExit() (guard.Exit, error) { return guard.ReadExit(s.path("state.json")) }

// Explain makes an exit record a message, with the last lines of the server's log unless the guard has stopped it.
func (s *Server) Explain(e guard.Exit) string {
	if e.Fenced || e.Requested {
		return e.Reason
	}
	return e.String() + s.lastWords(e)
}

// Guard finds the guard of the running server: by its socket in our folder, and verified to be the guard of our data directory, with
// a postmaster that is its child. ErrNotRunning if there is none.
func (s *Server) Guard(ctx context.Context) (*guard.Client, error) {
	s.reap(0)
	client, err := guard.Dial(ctx, s.run.guard())
	if err != nil {
		return nil, s.errorf("find its guard: %w", err)
	}
	st, err := client.Status(ctx)
	if err != nil {
		return nil, s.errorf("find its guard: %w", err)
	}
	if st.DataDir != s.DataDir() {
		return nil, s.errorf("the guard (pid %d) on %s keeps another data directory: %s", st.GuardPID, s.run.guard(), st.DataDir)
	}
	return client, nil
}

// stopped gives nil if no guard and no process of PostgreSQL works in the folder, and otherwise ErrRunning with who does.
func (s *Server) stopped(ctx context.Context) error {
	if client, err := s.Guard(ctx); err == nil {
		st, err := client.Status(ctx)
		if err == nil {
			return fmt.Errorf("%w (pid %d)", ErrRunning, st.PostmasterPID)
		}
	} else if !errors.Is(err, ErrNotRunning) {
		return err
	}
	pids, err := guard.Processes(s.DataDir())
	if err != nil {
		return err
	}
	if len(pids) > 0 {
		return fmt.Errorf("%w (pids %v), without a guard", ErrRunning, pids)
	}
	return nil
}

// Stop stops the server and returns when all of it is gone. The guard escalates by itself after timeout (fast, immediate,
// SIGKILL). Where no guard answers, processes of the data directory are ended without it. A stopped server is fine.
func (s *Server) Stop(ctx context.Context, mode guard.StopMode, timeout time.Duration) error {
	client, err := s.Guard(ctx)
	grace := time.Second
	within := 2*timeout + 10*time.Second // all steps of the guard together take no longer, unless it does not run
	if mode == guard.Immediate {
		grace, within = 0, 8*time.Second
	}
	if err == nil {
		bounded, cancel := context.WithTimeout(ctx, within)
		err = client.Stop(bounded, mode, timeout)
		cancel()
	}
	switch {
	case err == nil:
		s.reap(2 * time.Second)
	case errors.Is(err, ErrNotRunning):
	case ctx.Err() != nil:
		return s.errorf("stop: %w", context.Cause(ctx))
	default:
		s.cfg.Log.Warn("the guard does not do it; stopping the server without it", "node", s.cfg.Node, "err", err)
	}
	// Whatever is left has no guard, or one that does not answer.
	if err := guard.EndProcesses(ctx, s.DataDir(), grace); err != nil {
		return s.errorf("stop: %w", err)
	}
	return s.endGuard(ctx, time.Second)
}

// Kill ends the server at once with SIGKILL, without its guard: for a guard that does not answer while the server must not
// go on.
func (s *Server) Kill(ctx context.Context) error {
	if err := guard.EndProcesses(ctx, s.DataDir(), 0); err != nil {
		return s.errorf("kill: %w", err)
	}
	return s.endGuard(ctx, guardGrace)
}

// guardGrace is how long a guard may take to note how its server ended before it is killed as well, when there is hurry.
const guardGrace = 100 * time.Millisecond

// Fence ends the server as its guard would have to when its right to be primary is over, and asks the guard nothing: SIGQUIT
// to the postmaster, SIGKILL to all processes of the data directory after failover.KillAfter. It returns when none of them is
// left, and no guard; within failover.StopBound even if the guard and all the others are stopped, unless a disk holds a
// process up. A stopped server is fine. An error means that something was left when ctx ended.
func (s *Server) Fence(ctx context.Context) error {
	if err := guard.FenceProcesses(ctx, s.DataDir(), failover.KillAfter); err != nil {
		return s.errorf("fence: %w", err)
	}
	return s.endGuard(ctx, guardGrace)
}

// endGuard waits for a guard whose server has gone, and kills it if it has not ended after grace (it may be stopped by
// SIGSTOP).
func (s *Server) endGuard(ctx context.Context, grace time.Duration) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); ; {
		s.reap(0)
		if !s.locked() {
			return nil
		}
		pid := 0
		if time.Since(begun) > grace {
			if pid, _ = s.lockHolder(); pid > 0 {
				if err := guard.KillTree(ctx, pid); err != nil {
					return s.errorf("end the guard: %w", err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return s.errorf("the guard (pid %d) does not end: %w", pid, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// locked tells whether a guard holds the lock of the folder.
func (s *Server) locked() bool {
	f, err := os.Open(s.path("guard.lock"))
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// lockHolder tells whether a guard holds the lock of the folder, and its pid, verified by the files that it has open (0 if
// that could not be verified).
func (s *Server) lockHolder() (pid int, held bool) {
	f, err := os.Open(s.path("guard.lock"))
	if err != nil {
		return 0, false
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return 0, false
	}
	raw := make([]byte, 32)
	n, _ := f.Read(raw)
	pid, err = strconv.Atoi(strings.TrimSpace(string(raw[:n])))
	if err != nil || pid <= 1 {
		return 0, true
	}
	if !slices.Contains(openBy(f), pid) {
		return 0, true
	}
	return pid, true
}

// reap collects guards that this process has started and that have ended, waiting up to bound for each.
func (s *Server) reap(bound time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.guards[:0]
	for _, pid := range s.guards {
		if !guard.Reap(pid, bound) {
			left = append(left, pid)
		}
	}
	s.guards = left
}

// Reload makes the running server read its configuration again (SIGHUP, sent by its parent).
func (s *Server) Reload(ctx context.Context) error {
	client, err := s.Guard(ctx)
	if err != nil {
		return err
	}
	if err := client.Reload(ctx); err != nil {
		return s.errorf("%w", err)
	}
	return nil
}
