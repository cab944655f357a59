package guard

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multicoord/multicoord/failover"
)

// loop is the state of a running guard; one goroutine owns it.
type loop struct {
	cfg      Config
	log      *slog.Logger
	instance string
	child    *child
	alarm    *alarm

	right   failover.Right
	primary bool

	stop      *stopping
	requested bool
	fenced    bool
	step      *time.Timer // the next step of a stop, or of draining

	ended   *os.ProcessState // nil while the postmaster lives
	endedAt time.Time
}

// call is a request with the place for its answer (buffered: the loop never waits for a client).
type call struct {
	req   request
	reply chan response
}

func (l *loop) answer(c call) {
	if c.req.Instance != "" && c.req.Instance != l.instance {
		c.reply <- failure(fmt.Errorf("%w: another one has taken its place", ErrNotRunning))
		return
	}
	switch c.req.Op {
	case "status":
		st := l.status()
		c.reply <- response{Status: &st}
	case "deadline":
		c.reply <- outcome(l.renew(c.req.Term, c.req.Deadline))
	case "fence":
		c.reply <- outcome(l.fence(c.req.Term))
	case "stop":
		mode := c.req.Mode
		if mode != Smart && mode != Fast && mode != Immediate {
			c.reply <- failure(fmt.Errorf("unknown mode %q", mode))
			return
		}
		c.reply <- response{}
		l.requestStop(mode, max(c.req.Timeout, 0), "asked to stop ("+string(mode)+")")
	case "reload":
		c.reply <- outcome(l.reload())
	case "wait":
		c.reply <- response{} // the waiting is done where the connection is
	default:
		c.reply <- failure(fmt.Errorf("unknown request %q", c.req.Op))
	}
}

func outcome(err error) response {
	if err != nil {
		return failure(err)
	}
	return response{}
}

func (l *loop) status() Status {
	st := Status{
		Instance: l.instance, GuardPID: os.Getpid(), PostmasterPID: l.child.pid, DataDir: l.cfg.DataDir,
		StartedAt: l.child.startedAt, Term: l.right.Term, DeadlineNanos: l.right.Deadline, Fenced: l.right.Fenced,
		Primary: l.primary,
	}
	if l.stop != nil {
		st.Stopping = l.stop.reason
	} else if l.ended != nil {
		st.Stopping = "the server has ended"
	}
	return st
}

func (l *loop) renew(term uint64, deadline Instant) error {
	if l.ended != nil || l.fenced {
		return ErrStopping
	}
	right, err := l.right.Renew(term, deadline)
	if err != nil {
		return err
	}
	if right.Term != l.right.Term {
		l.log.Info("new term", "term", right.Term, "deadline_in", right.Deadline.Sub(Now()))
	}
	l.right = right
	if err := l.alarm.set(right.Deadline); err != nil { // the ticker stands in for it
		l.log.Error("arm the timer", "err", err)
	}
	return nil
}

func (l *loop) fence(term uint64) error {
	right, err := l.right.Fence(term)
	if err != nil {
		return err
	}
	l.right = right
	l.log.Info("the right to be primary was given up", "term", right.Term, "primary", l.primary)
	return nil
}

func (l *loop) reload() error {
	if l.ended != nil || l.stop != nil {
		return ErrStopping
	}
	return unix.Kill(l.child.pid, unix.SIGHUP)
}

// check ends a primary whose right has ended. It is called after every event.
func (l *loop) check() {
	if l.ended != nil || l.fenced || !l.primary {
		return
	}
	if reason := l.right.Ended(Now()); reason != "" {
		l.fenced = true
		l.begin(stopping{reason: reason, urgency: fenceUrgency, rungs: fenceLadder(l.cfg.KillAfter)})
	}
}

func (l *loop) requestStop(mode StopMode, timeout time.Duration, reason string) {
	l.requested = true
	if l.ended != nil || l.stop != nil && l.stop.urgency >= urgency(mode) {
		return
	}
	l.begin(stopping{reason: reason, urgency: urgency(mode), rungs: ladder(mode, timeout, l.cfg.ImmediateTimeout)})
}

func (l *loop) signalled(sig os.Signal) {
	switch sig {
	case unix.SIGCHLD:
		reap(l.child.pid)
	case unix.SIGTERM, unix.SIGINT:
		l.requestStop(Fast, l.cfg.StopTimeout, "the guard got the signal "+sig.String())
	}
}

func (l *loop) begin(s stopping) {
	l.stop = &s
	l.advance()
	l.log.Warn("stopping the server", "reason", s.reason, "pid", l.child.pid)
}

// advance takes the next step of the stop under way. The last step is repeated until the postmaster has ended.
func (l *loop) advance() {
	r := l.stop.rungs[0]
	if len(l.stop.rungs) > 1 {
		l.stop.rungs = l.stop.rungs[1:]
	} else {
		l.stop.rungs[0].wait = min(2*r.wait, killAgainMax)
	}
	if r.signal == unix.SIGKILL {
		l.killAll()
	} else if err := unix.Kill(l.child.pid, r.signal); err != nil && !errors.Is(err, unix.ESRCH) {
		l.log.Error("signal the postmaster", "signal", r.signal.String(), "err", err)
	}
	l.step.Reset(r.wait)
}

// killAll sends SIGKILL to the postmaster first, so that it starts nothing more, and then to everything below this process:
// a child that is stopped, or busy, does not notice that its postmaster is gone.
func (l *loop) killAll() {
	below, err := descendants(os.Getpid())
	_ = unix.Kill(l.child.pid, unix.SIGKILL)
	if err != nil {
		l.log.Error("list the server's processes", "err", err)
	}
	for _, p := range below {
		if p.pid != l.child.pid && !p.zombie() {
			_ = p.signal(unix.SIGKILL)
		}
	}
}

const (
	drainEvery  = 5 * time.Millisecond
	loggerGrace = 500 * time.Millisecond
)

// childEnded begins draining: the server is gone only when none of its processes is left.
func (l *loop) childEnded(st *os.ProcessState) {
	l.ended, l.endedAt = st, time.Now()
	l.step.Reset(0)
}

// drained reports whether no process is left, and otherwise kills those that are. The logging collector gets a moment to
// write what the others said last.
func (l *loop) drained() bool {
	reap(0)
	below, err := descendants(os.Getpid())
	if err != nil {
		l.log.Error("list the server's processes", "err", err)
	}
	left := 0
	for _, p := range below {
		if p.zombie() {
			continue
		}
		left++
		if !p.logger() || time.Since(l.endedAt) > loggerGrace {
			_ = p.signal(unix.SIGKILL)
		}
	}
	if left > 0 {
		l.step.Reset(max(drainEvery, min(time.Since(l.endedAt)/10, killAgainMax)))
	}
	return left == 0
}

// record makes the exit record.
func (l *loop) record() Exit {
	e := Exit{
		Node: l.cfg.Node, PostmasterPID: l.child.pid, StartedAt: l.child.startedAt, EndedAt: l.endedAt, Code: -1,
		Reason: "the server ended by itself", Requested: l.requested, Fenced: l.fenced,
		Term: l.right.Term, Deadline: l.right.Deadline,
	}
	if l.stop != nil {
		e.Reason = l.stop.reason
	}
	if l.ended == nil {
		return e
	}
	if ws, ok := l.ended.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = "signal: " + ws.Signal().String()
	} else {
		e.Code = l.ended.ExitCode()
	}
	return e
}
