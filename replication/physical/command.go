package physical

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// command is one run of a program of PostgreSQL as the account.
type command struct {
	account Account
	argv    []string
	env     []string
	// lock is a file that the program and its children keep open: its flock lasts until the last of them has ended.
	lock *os.File
	// lines receives each line of standard error as it comes (nil: none).
	lines func(string)
}

// maxOutput is how much of a program's standard output is kept, and of its standard error (the end of it), in bytes.
const maxOutput = 256 << 10

// run runs the program to its end and gives its standard output. Errors carry the end of what it wrote to standard error.
// When ctx ends, or this process dies, the program is killed.
func (c command) run(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = append(baseEnv(), c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: c.account.credential()}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	if c.lock != nil {
		cmd.ExtraFiles = []*os.File{c.lock}
	}
	stdout, stderr := &keeper{}, &keeper{end: true, lines: c.lines}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	done := make(chan error, 1)
	go func() {
		// The death signal belongs to the thread that forks: it must last as long as the program.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- cmd.Run()
	}()
	err := <-done
	stderr.flush()
	if err == nil {
		return stdout.String(), nil
	}
	if ctx.Err() != nil {
		return stdout.String(), fmt.Errorf("%s: %w", filepath.Base(c.argv[0]), context.Cause(ctx))
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if said := lastLines(stderr.String()+"\n"+tailIfShort(stdout.String()), 12); said != "" {
			return stdout.String(), fmt.Errorf("%s: %w: %s", filepath.Base(c.argv[0]), err, said)
		}
	}
	return stdout.String(), fmt.Errorf("%s: %w", filepath.Base(c.argv[0]), err)
}

func tailIfShort(s string) string {
	if len(s) > 4096 {
		return ""
	}
	return s
}

// baseEnv is the environment of PostgreSQL's programs and servers: messages in English, which we read; nothing of PG*, which
// would change what they do; nothing else that this process was given.
func baseEnv() []string {
	env := []string{"LC_ALL=C.UTF-8"}
	for _, name := range []string{"PATH", "TZ", "TMPDIR", "LD_LIBRARY_PATH"} {
		if v := os.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func lastLines(s string, n int) string {
	lines := strings.FieldsFunc(strings.TrimSpace(s), func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// keeper keeps the beginning (or the end) of what is written to it and splits it into lines.
type keeper struct {
	end   bool
	lines func(string)
	kept  []byte
	line  []byte
}

var _ io.Writer = (*keeper)(nil)

func (k *keeper) Write(p []byte) (int, error) {
	k.kept = append(k.kept, p...)
	if over := len(k.kept) - maxOutput; over > 0 {
		if k.end {
			k.kept = append(k.kept[:0], k.kept[over:]...)
		} else {
			k.kept = k.kept[:maxOutput]
		}
	}
	if k.lines == nil {
		return len(p), nil
	}
	for _, b := range p {
		if b == '\n' || b == '\r' {
			k.flush()
		} else if len(k.line) < 4096 {
			k.line = append(k.line, b)
		}
	}
	return len(p), nil
}

func (k *keeper) flush() {
	if k.lines != nil && len(k.line) > 0 {
		k.lines(string(k.line))
		k.line = k.line[:0]
	}
}

func (k *keeper) String() string { return string(k.kept) }
