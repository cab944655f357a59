package physical

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/multicoord/multicoord/failover"
	"github.com/multicoord/multicoord/failover/guard"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// scheduling is what a loaded machine may add to a bound.
const scheduling = 3 * time.Second

// writer commits through one session as fast as it can and remembers when a commit was last acknowledged.
type writer struct {
	last  atomic.Int64 // guard.Instant
	count atomic.Int64
	done  chan struct{}
}

func (l *lab) write(s *Server) *writer {
	conn := l.connect(s)
	_, err := conn.Exec(l.ctx(), "CREATE TABLE IF NOT EXISTS acknowledged (at bigint)")
	require.NoError(l.t, err)
	w := &writer{done: make(chan struct{})}
	ctx, cancel := context.WithCancel(l.t.Context())
	l.t.Cleanup(func() { cancel(); <-w.done })
	go func() {
		defer close(w.done)
		for {
			if _, err := conn.Exec(ctx, "INSERT INTO acknowledged VALUES ($1)", int64(guard.Now())); err != nil {
				return
			}
			w.last.Store(int64(guard.Now()))
			w.count.Add(1)
		}
	}()
	return w
}

// gone requires that the server and its guard end, and when.
func (l *lab) gone(s *Server, w *writer, deadline guard.Instant) guard.Exit {
	l.t.Helper()
	eventually(l.t, 20*time.Second, "the server is gone", func() bool {
		pids, err := guard.Processes(s.DataDir())
		require.NoError(l.t, err)
		return len(pids) == 0
	})
	gone := guard.Now()
	<-w.done
	require.Positive(l.t, w.count.Load())
	last := guard.Instant(w.last.Load())
	require.Less(l.t, last.Sub(deadline), failover.StopBound, "the last acknowledged write")
	require.Less(l.t, gone.Sub(deadline), failover.StopBound+scheduling)
	var e guard.Exit
	eventually(l.t, 5*time.Second, "the exit record", func() bool {
		var err error
		e, err = s.LastExit()
		return err == nil
	})
	return e
}

func (l *lab) extend(s *Server, term uint64, deadline guard.Instant) {
	l.t.Helper()
	client, err := s.Guard(l.ctx())
	require.NoError(l.t, err)
	require.NoError(l.t, client.SetDeadline(l.ctx(), term, deadline))
}

func TestAPrimaryPastItsDeadlineIsGoneWithItsOpenSessions(t *testing.T) {
	l := newLab(t)
	p := l.primary("a-1")
	idle := l.connect(p)
	w := l.write(p)
	deadline := guard.Now().Add(500 * time.Millisecond)
	l.extend(p, 2, deadline)
	e := l.gone(p, w, deadline)
	require.True(t, e.Fenced)
	require.Contains(t, e.Reason, "deadline of term 2 passed")
	require.Error(t, idle.Ping(l.ctx()))
	require.ErrorContains(t, p.Ready(l.ctx()), "the server was stopped: deadline of term 2 passed")
}

func TestAStoppedPostmasterPastItsDeadlineIsKilledWithItsBackends(t *testing.T) {
	l := newLab(t)
	p := l.primary("a-1")
	frozen := l.connect(p)
	w := l.write(p)
	client, err := p.Guard(l.ctx())
	require.NoError(t, err)
	st, err := client.Status(l.ctx())
	require.NoError(t, err)
	deadline := guard.Now().Add(700 * time.Millisecond)
	require.NoError(t, client.SetDeadline(l.ctx(), 2, deadline))
	require.NoError(t, unix.Kill(st.PostmasterPID, unix.SIGSTOP))
	require.NoError(t, unix.Kill(int(frozen.PgConn().PID()), unix.SIGSTOP))
	e := l.gone(p, w, deadline)
	require.True(t, e.Fenced)
	require.Equal(t, "signal: killed", e.Signal)
}

func TestAPrimaryWhoseAgentDiedIsGoneAtTheDeadline(t *testing.T) {
	l := newLab(t)
	p := l.primary("a-1")
	require.NoError(t, p.Stop(l.ctx(), guard.Fast, 10*time.Second))
	agent := l.agent("start", p.cfg)
	out, err := agent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, agent.Start())
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, agent.Process.Kill())
	_ = agent.Wait()
	require.NoError(t, p.Ready(l.ctx()), "the server outlives its agent")
	client, err := p.Guard(l.ctx())
	require.NoError(t, err)
	st, err := client.Status(l.ctx())
	require.NoError(t, err)
	w := l.write(p)
	e := l.gone(p, w, st.DeadlineNanos)
	require.True(t, e.Fenced)
}

func TestANewAgentTakesARunningServerOver(t *testing.T) {
	l := newLab(t)
	p := l.primary("a-1")
	w := l.write(p)
	soon := guard.Now().Add(time.Second)
	l.extend(p, 2, soon)
	again := New(p.cfg)
	l.extend(again, 2, hour())
	eventually(t, 10*time.Second, "it writes past the first deadline", func() bool {
		return guard.Instant(w.last.Load()) > soon.Add(200*time.Millisecond)
	})
	client, err := p.Guard(l.ctx())
	require.NoError(t, err)
	require.ErrorIs(t, client.SetDeadline(l.ctx(), 1, hour()), guard.ErrStaleTerm)
	o, err := again.Observe(l.ctx(), l.connect(again))
	require.NoError(t, err)
	require.Equal(t, cluster.Primary, o.Role)
	require.NoError(t, again.Stop(l.ctx(), guard.Fast, 10*time.Second))
}

func TestAStandbyOutlivesEveryDeadlineUntilItIsPromotedByHand(t *testing.T) {
	l := newLab(t)
	p := l.primary("a-1")
	s := l.standby("a-2", p, nil)
	l.extend(s, 1, guard.Now().Add(10*time.Millisecond))
	conn := l.connect(s)
	eventually(t, 5*time.Second, "the deadline passes", func() bool {
		client, err := s.Guard(l.ctx())
		require.NoError(t, err)
		st, err := client.Status(l.ctx())
		require.NoError(t, err)
		return guard.Now() > st.DeadlineNanos.Add(300*time.Millisecond)
	})
	require.NoError(t, conn.Ping(l.ctx()))
	begun := time.Now()
	_, _ = conn.Exec(l.ctx(), "SELECT pg_promote(true)")
	eventually(t, 10*time.Second, "the server is gone", func() bool {
		pids, err := guard.Processes(s.DataDir())
		require.NoError(t, err)
		return len(pids) == 0
	})
	require.Less(t, time.Since(begun), failover.StopBound+scheduling)
	require.ErrorContains(t, s.Ready(l.ctx()), "deadline of term 1 passed")
}

func TestTheGuardsDeathTakesTheServerWithIt(t *testing.T) {
	l := newLab(t)
	p := l.primary("a-1")
	conn := l.connect(p)
	client, err := p.Guard(l.ctx())
	require.NoError(t, err)
	st, err := client.Status(l.ctx())
	require.NoError(t, err)
	if l.account.Switch {
		var owner unix.Stat_t
		require.NoError(t, unix.Stat("/proc/"+strconv.Itoa(st.PostmasterPID), &owner))
		require.Equal(t, l.account.UID, owner.Uid, "the death signal works across the change of account")
	}
	require.NoError(t, unix.Kill(st.GuardPID, unix.SIGKILL))
	eventually(t, 10*time.Second, "the server is gone", func() bool {
		pids, err := guard.Processes(p.DataDir())
		require.NoError(t, err)
		return len(pids) == 0
	})
	require.Error(t, conn.Ping(l.ctx()))
	require.NoError(t, p.Start(l.ctx(), 1, hour()), "and the next one starts")
	require.NoError(t, l.connect(p).Ping(l.ctx()))
}

func TestAGuardThatIsStoppedIsDoneWithout(t *testing.T) {
	for name, end := range map[string]func(*lab, *Server) error{
		"by Kill":              func(l *lab, s *Server) error { return s.Kill(l.ctx()) },
		"by Stop":              func(l *lab, s *Server) error { return s.Stop(l.ctx(), guard.Fast, time.Second) },
		"by an immediate Stop": func(l *lab, s *Server) error { return s.Stop(l.ctx(), guard.Immediate, time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			p := l.primary("a-1")
			client, err := p.Guard(l.ctx())
			require.NoError(t, err)
			st, err := client.Status(l.ctx())
			require.NoError(t, err)
			require.NoError(t, unix.Kill(st.GuardPID, unix.SIGSTOP))
			require.NoError(t, end(l, p))
			pids, err := guard.Processes(p.DataDir())
			require.NoError(t, err)
			require.Empty(t, pids)
			_, held := p.lockHolder()
			require.False(t, held)
			require.NoError(t, p.Start(l.ctx(), 1, hour()))
		})
	}
}

func TestFencingNeedsNeitherTheGuardNorThePostmaster(t *testing.T) {
	for name, stop := range map[string]func(st guard.Status) []int{
		"both are well":            func(guard.Status) []int { return nil },
		"the guard is stopped":     func(st guard.Status) []int { return []int{st.GuardPID} },
		"both are stopped":         func(st guard.Status) []int { return []int{st.GuardPID, st.PostmasterPID} },
		"the postmaster's stopped": func(st guard.Status) []int { return []int{st.PostmasterPID} },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			p := l.primary("a-1")
			w := l.write(p)
			client, err := p.Guard(l.ctx())
			require.NoError(t, err)
			st, err := client.Status(l.ctx())
			require.NoError(t, err)
			eventually(t, 5*time.Second, "it writes", func() bool { return w.count.Load() > 0 })
			for _, pid := range stop(st) {
				require.NoError(t, unix.Kill(pid, unix.SIGSTOP))
			}
			begun := guard.Now()
			ctx, cancel := context.WithTimeout(l.ctx(), 5*time.Second)
			defer cancel()
			require.NoError(t, p.Fence(ctx))
			t.Log("took", guard.Now().Sub(begun), "last write after", guard.Instant(w.last.Load()).Sub(begun))
			pids, err := guard.Processes(p.DataDir())
			require.NoError(t, err)
			require.Empty(t, pids)
			_, held := p.lockHolder()
			require.False(t, held, "the guard is gone, too")
			<-w.done
			require.NoError(t, p.Fence(ctx), "what has ended is fenced")
			require.NoError(t, p.Start(l.ctx(), 1, hour()), "and the next one starts")
		})
	}
}

func TestAServerWhoseFolderWasMovedAwayIsStillEnded(t *testing.T) {
	for name, c := range map[string]struct {
		hung bool
		end  func(*lab, *Server) error
	}{
		"by Stop":                        {false, func(l *lab, s *Server) error { return s.Stop(l.ctx(), guard.Fast, time.Second) }},
		"by Kill, while the guard hangs": {true, func(l *lab, s *Server) error { return s.Kill(l.ctx()) }},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			p := l.primary("a-1")
			client, err := p.Guard(l.ctx())
			require.NoError(t, err)
			st, err := client.Status(l.ctx())
			require.NoError(t, err)
			if c.hung {
				require.NoError(t, unix.Kill(st.GuardPID, unix.SIGSTOP))
			}
			moved := p.DataDir() + ".moved"
			require.NoError(t, os.Rename(p.DataDir(), moved))
			require.NoError(t, c.end(l, p))
			pids, err := guard.Processes(moved)
			require.NoError(t, err)
			require.Empty(t, pids)
		})
	}
}

func TestServersWithoutAGuardAreEndedBeforeAStart(t *testing.T) {
	l := newLab(t)
	p := l.primary("a-1")
	ctx := l.ctx()
	require.NoError(t, p.Stop(ctx, guard.Fast, 10*time.Second))
	// Somebody starts the server by hand.
	byHand := exec.Command(p.cfg.Bin.program("postgres"), "-D", p.DataDir(), "-c", "port="+strconv.Itoa(p.cfg.Port), "-c", "unix_socket_directories="+p.SocketDir())
	byHand.SysProcAttr = &syscall.SysProcAttr{Credential: l.account.credential(), Setsid: true}
	require.NoError(t, byHand.Start())
	ended := make(chan error, 1)
	go func() { ended <- byHand.Wait() }()
	eventually(t, 20*time.Second, "it runs", func() bool { return p.postmasterStatus(byHand.Process.Pid) == "ready" })
	require.ErrorIs(t, p.Remove(ctx), ErrRunning)
	require.NoError(t, p.Start(ctx, 1, hour()))
	require.NoError(t, <-ended, "by a fast stop")
	require.NoError(t, l.connect(p).Ping(ctx))
}

func TestAStalePidFileThatNamesAStrangerIsNoObstacle(t *testing.T) {
	l := newLab(t)
	p := l.primary("a-1")
	ctx := l.ctx()
	require.NoError(t, p.Stop(ctx, guard.Fast, 10*time.Second))
	stranger := exec.Command("sleep", "60") // as the same account, which PostgreSQL takes for another server
	stranger.SysProcAttr = &syscall.SysProcAttr{Credential: l.account.credential()}
	require.NoError(t, stranger.Start())
	defer func() { _ = stranger.Process.Kill(); _ = stranger.Wait() }()
	stale := strconv.Itoa(stranger.Process.Pid) + "\n" + p.DataDir() + "\n1\n1\n\n\n\n\n"
	require.NoError(t, os.WriteFile(filepath.Join(p.DataDir(), "postmaster.pid"), []byte(stale), 0o600))
	require.NoError(t, p.Start(ctx, 1, hour()))
}

func TestALostBackendIsRecoveredFromByTheServerItself(t *testing.T) {
	l := newLab(t)
	p := l.primary("a-1")
	victim := l.connect(p)
	require.NoError(t, unix.Kill(int(victim.PgConn().PID()), unix.SIGKILL))
	eventually(t, 20*time.Second, "it takes connections again", func() bool {
		conn, err := p.Connect(l.ctx(), superPassword, "postgres")
		if err != nil {
			return false
		}
		defer closeConn(conn)
		return conn.Ping(l.ctx()) == nil
	})
	_, err := p.Guard(l.ctx())
	require.NoError(t, err)
}

func closeConn(conn *pgx.Conn) { _ = conn.Close(context.Background()) }
