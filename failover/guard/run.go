package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/multicoord/multicoord/failover"
)

// Main is `orchestrator guard`: it reads the configuration from stdin, tells on stdout that it is up (or why not), detaches
// from both, and returns when the server has ended. The calling process should have nothing else to do: signals, standard
// error and the children of the process become the guard's.
func Main(ctx context.Context, stdin, stdout *os.File) error {
	cfg, err := ReadConfig(stdin)
	if err == nil {
		err = run(ctx, cfg, true, func(st Status) error {
			if err := writeLine(stdout, response{Status: &st}); err != nil {
				return fmt.Errorf("tell the agent: %w", err)
			}
			return detach(stdin, stdout)
		})
	}
	if err != nil {
		_ = writeLine(stdout, failure(err)) // lands in /dev/null once detached
	}
	return err
}

// Run keeps one server until it has ended; the rules are in the package's documentation. It needs a process of its own. A
// server that has ended, in whatever way, is no error: the exit record in StateFile tells.
func Run(ctx context.Context, cfg Config) error {
	return run(ctx, cfg, false, func(Status) error { return nil })
}

func detach(stdin, stdout *os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for _, f := range []*os.File{stdin, stdout} {
		if err := unix.Dup3(int(null.Fd()), int(f.Fd()), 0); err != nil {
			return fmt.Errorf("detach: %w", err)
		}
	}
	return nil
}

func run(ctx context.Context, cfg Config, stderr bool, ready func(Status) error) error {
	cfg, err := cfg.complete()
	if err != nil {
		return err
	}
	lock, err := takeLock(cfg)
	if err != nil {
		return err
	}
	defer lock.Close()
	file, err := openLog(cfg.LogFile, cfg.LogSize, stderr)
	if err != nil {
		return err
	}
	defer file.Close()
	late := writeLate(file)
	log := slog.New(slog.NewTextHandler(late, nil)).With("node", cfg.Node, "guard_pid", os.Getpid())
	defer func() { // everything that logs has ended by now
		close(late.lines)
		waitFor(late.done, time.Second)
	}()
	if err := keep(ctx, cfg, log, file, lock, ready); err != nil {
		log.Error("the guard ends", "err", err)
		return err
	}
	return nil
}

// keep starts the server and runs the loop until it has ended.
func keep(ctx context.Context, cfg Config, log *slog.Logger, file *logFile, lock *os.File, ready func(Status) error) error {
	signals := make(chan os.Signal, 16)
	// HUP and PIPE are caught, not ignored: what is ignored would be so in the server's own programs, too.
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGCHLD, unix.SIGHUP, unix.SIGPIPE)
	defer signal.Stop(signals)
	l, output, err := prepare(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer l.alarm.close()
	ln, err := listen(cfg.Socket)
	if err != nil {
		output.abandon()
		return err
	}
	defer ln.Close()
	if err := os.Remove(cfg.StateFile); err != nil && !errors.Is(err, os.ErrNotExist) { // it tells of an earlier server
		output.abandon()
		return fmt.Errorf("remove the last exit record: %w", err)
	}
	l.primary = isPrimary(cfg.DataDir)
	if l.child, err = startChild(cfg, output.write); err != nil {
		output.abandon()
		return errors.Join(err, writeExit(cfg.StateFile, Exit{Node: cfg.Node, EndedAt: time.Now(), Code: -1, Reason: err.Error()}))
	}
	copied := output.copyTo(file)
	watchCtx, stopWatch := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWatch()
	promoted := watchPromotion(watchCtx, cfg.DataDir)
	srv := serve(ln, l.instance)
	log.Info("server started", "pid", l.child.pid, "primary", l.primary, "term", l.right.Term)
	if err := ready(l.status()); err != nil {
		log.Warn("the agent that started this guard is gone", "err", err)
	}
	l.run(ctx, srv.calls, promoted, signals)
	waitFor(copied, time.Second)
	exit := l.record()
	log.Info("server ended", "reason", exit.Reason, "exit_code", exit.Code, "signal", exit.Signal)
	finish(cfg, log, lock, exit)
	srv.close(response{Exit: &exit})
	return nil
}

// prepare does all that can be refused before the server is started.
func prepare(ctx context.Context, cfg Config, log *slog.Logger) (*loop, *output, error) {
	env, err := becomeKeeper()
	if err != nil {
		return nil, nil, err
	}
	cfg.Env = append(cfg.Env, env...)
	if err := clearLeftovers(ctx, cfg, log); err != nil {
		return nil, nil, err
	}
	l := &loop{
		cfg: cfg, log: log, instance: uuid.NewString(), right: failover.Right{Term: cfg.Term, Deadline: cfg.Deadline},
		step: time.NewTimer(time.Hour),
	}
	l.step.Stop()
	if isPrimary(cfg.DataDir) {
		if reason := l.right.Ended(Now()); reason != "" {
			return nil, nil, fmt.Errorf("refuse to start a primary: %s", reason)
		}
	}
	if l.alarm, err = newAlarm(); err != nil {
		return nil, nil, err
	}
	if err := l.alarm.set(cfg.Deadline); err != nil {
		return nil, nil, fmt.Errorf("arm the timer: %w", err)
	}
	out, err := newOutput()
	if err != nil {
		return nil, nil, err
	}
	return l, out, nil
}

// run is the event loop. It returns when the postmaster and all its processes are gone.
func (l *loop) run(ctx context.Context, calls <-chan call, promoted <-chan struct{}, signals <-chan os.Signal) {
	tick := time.NewTicker(100 * time.Millisecond) // stands in for an alarm that could not be armed
	defer tick.Stop()
	done := ctx.Done()
	for {
		select {
		case c := <-calls:
			l.answer(c)
		case <-l.alarm.C:
		case <-tick.C:
		case <-promoted:
			promoted, l.primary = nil, true
			l.log.Info("the server is becoming primary", "term", l.right.Term)
		case <-done:
			done = nil
			l.requestStop(Fast, l.cfg.StopTimeout, "the guard was told to end")
		case sig := <-signals:
			l.signalled(sig)
		case st := <-l.child.ended:
			l.childEnded(st)
		case <-l.step.C:
			if l.ended == nil {
				l.advance()
			} else if l.drained() {
				return
			}
		}
		l.check()
	}
}

// takeLock makes sure that there is one guard for a node's folder.
func takeLock(cfg Config) (*os.File, error) {
	f, err := os.OpenFile(cfg.LockFile, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the guard's lock file: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := io.ReadAll(io.LimitReader(f, 32))
		f.Close()
		return nil, fmt.Errorf("another guard (pid %s) keeps %s: %w", strings.TrimSpace(string(pid)), cfg.Node, err)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

// finish writes the exit record and lets go of the folder, in bounded time even if the disk hangs.
func finish(cfg Config, log *slog.Logger, lock *os.File, exit Exit) {
	written := make(chan struct{})
	go func() {
		defer close(written)
		if err := writeExit(cfg.StateFile, exit); err != nil {
			log.Error("write the exit record", "err", err)
		}
	}()
	if !waitFor(written, 5*time.Second) {
		log.Error("write the exit record: the disk does not answer")
	}
	_ = os.Remove(cfg.Socket)
	lock.Close()
}

func waitFor(done <-chan struct{}, bound time.Duration) bool {
	t := time.NewTimer(bound)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// output is the pipe on which postgres writes until its logging collector runs.
type output struct{ read, write *os.File }

func newOutput() (*output, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for the server's output: %w", err)
	}
	return &output{r, w}, nil
}

func (o *output) abandon() { o.read.Close(); o.write.Close() }

// copyTo copies what the server writes until all of its processes have ended.
func (o *output) copyTo(file *logFile) <-chan struct{} {
	o.write.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer o.read.Close()
		_, _ = io.Copy(file, o.read)
	}()
	return done
}
