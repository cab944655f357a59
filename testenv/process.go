package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Command is a process to start.
type Command struct {
	// Name is for messages and for the file of its output.
	Name string
	// Argv is the program and its arguments.
	Argv []string
	// Env is added to the environment.
	Env []string
	Dir string
	// Credential is the user to run as; nil for the test's own.
	Credential *syscall.Credential
	// StopSignal ends the process when the test does; SIGTERM if it is zero.
	StopSignal syscall.Signal
}

// Process is a process that an Env has started.
type Process struct {
	env  *Env
	name string
	cmd  *exec.Cmd
	log  string
	stop syscall.Signal
	done chan struct{}

	mu  sync.Mutex
	err error
}

// stopWithin is how long a process may take to stop by itself when the test ends, before it is killed.
const stopWithin = 20 * time.Second

// Start starts a process in the background. Its output goes to a file, of which the end is shown when the test
// fails. When the test ends it is asked to stop and killed if it does not.
func (e *Env) Start(c Command) *Process {
	e.TB.Helper()
	e.Mkdir("output", 0o755, nil)
	out, err := os.CreateTemp(e.Path("output"), c.Name+".*.log")
	if err != nil {
		e.TB.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Env = append(os.Environ(), append(e.tag(), c.Env...)...)
	cmd.Dir = c.Dir
	if cmd.Dir == "" {
		cmd.Dir = e.Dir
	}
	cmd.Stdout, cmd.Stderr = out, out
	// A session of its own: a Ctrl-C at the test's terminal reaches the test, which stops the rest in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: c.Credential}
	if err := cmd.Start(); err != nil {
		e.TB.Fatalf("start %s: %v", c.Name, err)
	}
	p := &Process{env: e, name: c.Name, cmd: cmd, log: out.Name(), stop: c.StopSignal, done: make(chan struct{})}
	if p.stop == 0 {
		p.stop = syscall.SIGTERM
	}
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(p.done)
	}()
	e.TB.Cleanup(func() {
		p.end()
		if e.TB.Failed() {
			e.TB.Logf("--- %s (pid %d, %s), the end of its output:\n%s", c.Name, cmd.Process.Pid, p.outcome(), p.Tail(60))
		}
	})
	return p
}

// tag marks every process that the test starts, and all that descend from it, by the test's folder.
func (e *Env) tag() []string { return []string{"MULTICOORD_TESTENV=" + e.Dir} }

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running tells whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal to the process alone.
func (p *Process) Signal(s syscall.Signal) {
	p.env.TB.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.env.TB.Fatalf("send %s to %s: %v", s, p.name, err)
	}
}

// Kill sends SIGKILL and waits until the process is gone.
func (p *Process) Kill() {
	p.env.TB.Helper()
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Wait waits for the end of the process and gives its exit code (-1 when a signal ended it).
func (p *Process) Wait(within time.Duration) int {
	p.env.TB.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		p.env.TB.Fatalf("%s (pid %d) has not ended within %s; the end of its output:\n%s", p.name, p.PID(), within, p.Tail(40))
	}
	return p.cmd.ProcessState.ExitCode()
}

// Stop asks the process to stop and waits for it; its exit code comes back.
func (p *Process) Stop(within time.Duration) int {
	p.env.TB.Helper()
	p.Signal(p.stop)
	return p.Wait(within)
}

// Output is what the process has written so far.
func (p *Process) Output() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Tail is the last lines of its output.
func (p *Process) Tail(lines int) string {
	all := strings.Split(strings.TrimRight(p.Output(), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func (p *Process) outcome() string {
	if p.Running() {
		return "running"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err.Error()
	}
	return "exit code 0"
}

// end stops the process as the last deed of a test, without failing it for what it did itself.
func (p *Process) end() {
	if !p.Running() {
		return
	}
	// A stopped process cannot act on anything but this.
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	_ = p.cmd.Process.Signal(p.stop)
	select {
	case <-p.done:
	case <-time.After(stopWithin):
		p.env.TB.Errorf("%s (pid %d) did not stop within %s after %s and was killed", p.name, p.PID(), stopWithin, p.stop)
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// Result is the outcome of a command that ran to its end.
type Result struct {
	Argv           []string
	Stdout, Stderr string
	Code           int
	Took           time.Duration
}

// String shows everything, for messages.
func (r Result) String() string {
	return fmt.Sprintf("%s: exit code %d after %s\nstdout: %s\nstderr: %s",
		strings.Join(r.Argv, " "), r.Code, r.Took.Round(time.Millisecond), r.Stdout, r.Stderr)
}

// Run runs a command to its end, with stdin as its input. It fails the test only if the command cannot be run or takes
// longer than within; the exit code is the caller's to judge.
func (e *Env) Run(within time.Duration, c Command, stdin string) Result {
	e.TB.Helper()
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Env = append(os.Environ(), append(e.tag(), c.Env...)...)
	cmd.Dir = c.Dir
	if cmd.Dir == "" {
		cmd.Dir = e.Dir
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: c.Credential}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Stdin = io.Reader(strings.NewReader(stdin))
	// What the command leaves in the background holds its pipes open; that is not what is waited for.
	cmd.WaitDelay = 500 * time.Millisecond
	began := time.Now()
	if err := cmd.Start(); err != nil {
		e.TB.Fatalf("start %s: %v", strings.Join(c.Argv, " "), err)
	}
	timer := time.AfterFunc(within, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	r := Result{Argv: c.Argv, Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode(), Took: time.Since(began)}
	if !timer.Stop() {
		e.TB.Fatalf("%s did not end within %s\n%s", strings.Join(c.Argv, " "), within, r)
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		e.TB.Fatalf("run %s: %v\n%s", strings.Join(c.Argv, " "), err, r)
	}
	return r
}
