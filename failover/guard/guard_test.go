package guard

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/multicoord/multicoord/failover"
)

// scheduling is what a loaded machine may add to a bound.
const scheduling = 2 * time.Second

func TestAPrimaryIsStoppedAtItsDeadline(t *testing.T) {
	n := newNode(t, "obedient", false)
	deadline := Now().Add(700 * time.Millisecond)
	e := n.exit(n.launch(1, deadline))
	require.GreaterOrEqual(t, Now(), deadline)
	require.Less(t, Now().Sub(deadline), failover.StopBound+scheduling)
	require.True(t, e.Fenced)
	require.Equal(t, 2, e.Code, "by an immediate stop")
	require.Contains(t, e.Reason, "deadline of term 1 passed")
}

func TestAPrimaryThatDoesNotHearIsKilledWithItsChildren(t *testing.T) {
	for name, before := range map[string]func(pid int){
		"deaf":    func(int) {},
		"stopped": func(pid int) { require.NoError(t, unix.Kill(pid, unix.SIGSTOP)) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, "stubborn", false)
			c := n.launch(1, Now().Add(time.Second))
			before(n.process("stubborn"))
			before(n.process("stubborn-child"))
			e := n.exit(c)
			require.Equal(t, "signal: killed", e.Signal)
			require.True(t, e.Fenced)
		})
	}
}

func TestAStandbyNeedsNoDeadline(t *testing.T) {
	n := newNode(t, "obedient", true)
	c := n.launch(0, 0)
	require.NoError(t, c.SetDeadline(n.ctx(), 1, Now().Add(time.Millisecond)))
	require.NoError(t, c.SetDeadline(n.ctx(), 2, Now()), "past")
	st, err := c.Status(n.ctx())
	require.NoError(t, err)
	require.False(t, st.Primary)
	require.Empty(t, st.Stopping)
	require.NoError(t, c.Stop(n.ctx(), Fast, time.Second))
	e, err := ReadExit(n.cfg.StateFile)
	require.NoError(t, err)
	require.True(t, e.Clean())
	require.True(t, e.Requested)
	require.False(t, e.Fenced)
}

func TestAPromotionWithoutADeadlineEndsTheServer(t *testing.T) {
	n := newNode(t, "obedient", true)
	c := n.launch(0, 0)
	begun := time.Now()
	require.NoError(t, os.Remove(n.standbySignal()))
	e := n.exit(c)
	require.Less(t, time.Since(begun), failover.StopBound+scheduling)
	require.Contains(t, e.Reason, "without a deadline")
}

func TestAPromotionWithADeadlineGoesOn(t *testing.T) {
	n := newNode(t, "obedient", true)
	c := n.launch(0, 0)
	require.NoError(t, c.SetDeadline(n.ctx(), 7, Now().Add(time.Hour)))
	require.NoError(t, os.Remove(n.standbySignal()))
	eventually(t, 5*time.Second, "the guard sees a primary", func() bool {
		st, err := c.Status(n.ctx())
		require.NoError(t, err)
		return st.Primary
	})
	t.Run("and putting standby.signal back does not make it a standby", func(t *testing.T) {
		require.NoError(t, os.WriteFile(n.standbySignal(), nil, 0o600))
		require.NoError(t, c.Fence(n.ctx(), 7))
		require.True(t, n.exit(c).Fenced)
	})
}

func TestALaterAgentExtendsTheDeadlineAndAnOlderOneIsRefused(t *testing.T) {
	n := newNode(t, "obedient", false)
	first := n.launch(3, Now().Add(time.Hour))
	again, err := Dial(n.ctx(), n.cfg.Socket)
	require.NoError(t, err)
	later := Now().Add(2 * time.Hour)
	require.NoError(t, again.SetDeadline(n.ctx(), 3, later))
	require.NoError(t, again.SetDeadline(n.ctx(), 3, later.Add(-time.Minute)), "an earlier one changes nothing")
	st, err := first.Status(n.ctx())
	require.NoError(t, err)
	require.Equal(t, later, st.DeadlineNanos)
	require.ErrorIs(t, first.SetDeadline(n.ctx(), 2, later), ErrStaleTerm)
	require.ErrorIs(t, first.Fence(n.ctx(), 2), ErrStaleTerm)
	require.NoError(t, first.Fence(n.ctx(), 3))
	e := n.exit(first)
	require.True(t, e.Fenced)
	require.ErrorIs(t, again.SetDeadline(n.ctx(), 4, later), ErrNotRunning)
}

func TestAFencedRightIsNotRenewed(t *testing.T) {
	n := newNode(t, "obedient", true)
	c := n.launch(0, 0)
	require.NoError(t, c.Fence(n.ctx(), 5))
	require.ErrorIs(t, c.SetDeadline(n.ctx(), 5, Now().Add(time.Hour)), ErrFenced)
	require.NoError(t, c.SetDeadline(n.ctx(), 6, Now().Add(time.Hour)))
	require.NoError(t, c.Stop(n.ctx(), Fast, time.Second))
}

func TestAPrimaryWithoutARightIsNotStarted(t *testing.T) {
	n := newNode(t, "obedient", false)
	for _, deadline := range []Instant{0, Now()} {
		_, err := n.try(1, deadline)
		require.ErrorContains(t, err, "refuse to start a primary")
	}
	require.Zero(t, n.process("obedient"))
}

func TestTheGuardsDeathEndsTheServer(t *testing.T) {
	n := newNode(t, "obedient", true)
	c := n.launch(0, 0)
	require.NoError(t, unix.Kill(n.pid, unix.SIGKILL))
	eventually(t, 5*time.Second, "the server ends", func() bool { return !n.alive("obedient") })
	_, err := c.Wait(n.ctx())
	require.ErrorIs(t, err, ErrNotRunning)
	require.True(t, Reap(n.pid, 2*time.Second))
	t.Run("and its socket does not keep the next one from starting", func(t *testing.T) {
		require.NoError(t, os.Remove(n.dir+"/obedient"))
		next := n.launch(0, 0)
		_, err := c.Status(n.ctx())
		require.ErrorIs(t, err, ErrNotRunning, "a client means the guard that it has met")
		require.NoError(t, next.Stop(n.ctx(), Fast, time.Second))
	})
}

func TestThereIsOneGuardForAFolder(t *testing.T) {
	n := newNode(t, "obedient", true)
	c := n.launch(0, 0)
	cfg := n.cfg
	_, _, err := Launch(n.ctx(), []string{cfg.Postgres[0], "guard"}, cfg)
	require.ErrorContains(t, err, fmt.Sprintf("another guard (pid %d)", n.pid))
	_, err = c.Status(n.ctx())
	require.NoError(t, err)
	require.NoError(t, c.Stop(n.ctx(), Fast, time.Second))
}

func TestStopsEscalate(t *testing.T) {
	n := newNode(t, "stubborn", true)
	c := n.launch(0, 0)
	begun := time.Now()
	ctx, cancel := context.WithTimeout(n.ctx(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, c.Stop(ctx, Smart, 100*time.Millisecond), context.DeadlineExceeded, "the caller gives up, the guard does not")
	e := n.exit(c)
	require.Equal(t, "signal: killed", e.Signal)
	require.GreaterOrEqual(t, time.Since(begun), n.cfg.ImmediateTimeout)
}

func TestAStopGoesOnToTheDeadlineAndNoLonger(t *testing.T) {
	n := newNode(t, "stubborn", false)
	c := n.launch(1, Now().Add(time.Second))
	begun := time.Now()
	require.NoError(t, c.Stop(n.ctx(), Fast, time.Hour))
	require.Less(t, time.Since(begun), time.Second+failover.StopBound+scheduling)
	e, err := ReadExit(n.cfg.StateFile)
	require.NoError(t, err)
	require.True(t, e.Fenced)
}

func TestTheRightIsRenewedWhileAPrimaryStops(t *testing.T) {
	n := newNode(t, "stubborn", false)
	c := n.launch(1, Now().Add(time.Second))
	done := make(chan error, 1)
	go func() { done <- c.Stop(n.ctx(), Fast, time.Hour) }()
	eventually(t, 5*time.Second, "it is stopping", func() bool {
		st, err := c.Status(n.ctx())
		require.NoError(t, err)
		return st.Stopping != ""
	})
	later := Now().Add(time.Hour)
	require.NoError(t, c.SetDeadline(n.ctx(), 1, later))
	require.NoError(t, c.Stop(n.ctx(), Immediate, 0))
	require.NoError(t, <-done)
}

func TestSIGTERMToTheGuardIsAFastStop(t *testing.T) {
	n := newNode(t, "obedient", true)
	c := n.launch(0, 0)
	require.NoError(t, unix.Kill(n.pid, unix.SIGHUP))
	require.NoError(t, unix.Kill(n.pid, unix.SIGTERM))
	e := n.exit(c)
	require.True(t, e.Clean())
	require.True(t, e.Requested)
	require.Contains(t, e.Reason, "terminated")
}

func TestAServerThatEndsByItselfIsRecordedAndItsChildrenGo(t *testing.T) {
	n := newNode(t, "stubborn", true)
	c := n.launch(0, 0)
	require.NoError(t, unix.Kill(n.process("stubborn"), unix.SIGKILL))
	e := n.exit(c)
	require.False(t, e.Requested || e.Fenced || e.Clean())
	require.Equal(t, "the server ended by itself", e.Reason)
}

func TestReloadAndOutput(t *testing.T) {
	n := newNode(t, "obedient", true)
	c := n.launch(0, 0)
	require.NoError(t, c.Reload(n.ctx()))
	eventually(t, 5*time.Second, "it has reloaded", func() bool { _, err := os.Stat(n.dir + "/reloaded"); return err == nil })
	eventually(t, 5*time.Second, "its output is in the guard's log", func() bool { return n.logged("stand-in says hello") })
	require.NoError(t, c.Stop(n.ctx(), Fast, time.Second))
}

func TestAServerThatCannotBeStartedIsAnError(t *testing.T) {
	n := newNode(t, "obedient", true)
	n.cfg.Postgres = []string{"/nonexistent/postgres"}
	_, _, err := Launch(n.ctx(), []string{"/proc/self/exe", "guard"}, n.cfg)
	require.ErrorContains(t, err, "/nonexistent/postgres")
}

func TestHostileRequestsDoNotHarm(t *testing.T) {
	n := newNode(t, "obedient", true)
	c := n.launch(0, 0)
	var idle []net.Conn
	for i := range maxConnections + 20 { // they say nothing, or nonsense without end
		conn, err := net.Dial("unix", n.cfg.Socket)
		require.NoError(t, err)
		idle = append(idle, conn)
		if i%2 == 0 {
			_, _ = conn.Write([]byte(strings.Repeat("x", maxLine+100)))
		}
	}
	for _, conn := range idle {
		conn.Close()
	}
	for _, line := range []string{"\n", "{}\n", `{"op":"nonsense"}` + "\n", `{"op":"stop","mode":"brutal"}` + "\n", `{"op":"stop","mode":"fast","instance":"other"}` + "\n", `{"op":"deadline","term":-1}` + "\n"} {
		eventually(t, 10*time.Second, "an answer to "+line, func() bool {
			conn, err := net.Dial("unix", n.cfg.Socket)
			require.NoError(t, err)
			defer conn.Close()
			_, _ = conn.Write([]byte(line))
			var resp response
			return readLine(conn, &resp) == nil && resp.Error != ""
		})
	}
	st, err := c.Status(n.ctx())
	require.NoError(t, err)
	require.Empty(t, st.Stopping)
	require.NoError(t, c.Stop(n.ctx(), Fast, time.Second))
}

func TestAGuardThatDoesNotAnswerDoesNotHoldUpItsClient(t *testing.T) {
	n := newNode(t, "obedient", true)
	c := n.launch(0, 0)
	require.NoError(t, unix.Kill(n.pid, unix.SIGSTOP))
	eventually(t, 5*time.Second, "it is stopped", func() bool { p, ok := readProcess(n.pid); return ok && p.state == 'T' })
	ctx, cancel := context.WithTimeout(n.ctx(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Status(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, c.SetDeadline(n.ctx(), 1, Now()), ErrNoAnswer, "of itself")
	require.NoError(t, unix.Kill(n.pid, unix.SIGCONT))
	require.NoError(t, c.Stop(n.ctx(), Fast, time.Second))
}

func TestNothingIsLeftOfAGuardInTheProcessThatStartedIt(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	n := newNode(t, "obedient", true)
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(fds)
	}
	before := 0
	for i := range 4 {
		c := n.launch(0, 0)
		require.NoError(t, c.Stop(n.ctx(), Fast, time.Second))
		require.True(t, Reap(n.pid, 5*time.Second))
		require.NoError(t, os.Remove(n.dir+"/obedient"))
		if i == 0 {
			before = open() // the runtime has its own by now
		}
	}
	require.LessOrEqual(t, open(), before)
	below, err := descendants(os.Getpid())
	require.NoError(t, err)
	require.Empty(t, below)
}

func TestATreeIsKilledWhollyThoughItsRootIsStopped(t *testing.T) {
	n := newNode(t, "stubborn", false)
	n.launch(1, Now().Add(time.Hour))
	require.NoError(t, unix.Kill(n.pid, unix.SIGSTOP))
	require.NoError(t, KillTree(n.ctx(), n.pid))
	require.False(t, n.alive("stubborn"))
	require.False(t, n.alive("stubborn-child"), "when it returns, not some time after")
	require.NoError(t, KillTree(n.ctx(), n.pid), "what is gone is no error")
}

func TestRootExpectsTheGuardOfTheSocketsKeeper(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root talks to other users' guards")
	}
	dir := t.TempDir()
	require.Equal(t, 0, keeperOf(dir+"/guard.sock"))
	require.NoError(t, os.Chown(dir, 12345, 12345))
	require.Equal(t, 12345, keeperOf(dir+"/guard.sock"))
	require.Equal(t, 0, keeperOf(dir+"/missing/guard.sock"))
}
