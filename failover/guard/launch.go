package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Launch starts a guard in a session of its own, so that it outlives the caller, and waits until it answers. argv is the
// command that ends in Main (the path of the orchestrator and "guard"). The caller is the guard's parent as long as it
// lives, and must collect it (Reap) once it has ended.
//
// Errors say why the server was not started: another guard, a right that has ended, a socket that cannot be made.
func Launch(ctx context.Context, argv []string, cfg Config) (*Client, int, error) {
	raw, err := json.Marshal(cfg)
	if err != nil {
		return nil, 0, fmt.Errorf("start the guard: %w", err)
	}
	pid, in, out, err := spawn(argv, cfg.LogFile)
	if err != nil {
		return nil, 0, fmt.Errorf("start the guard: %w", err)
	}
	defer in.Close()
	defer out.Close()
	stop := context.AfterFunc(ctx, func() {
		_ = in.SetWriteDeadline(time.Unix(1, 0))
		_ = out.SetReadDeadline(time.Unix(1, 0))
	})
	defer stop()
	var first response
	if _, err = in.Write(raw); err == nil {
		in.Close()
		err = readLine(out, &first)
	}
	if err == nil && first.Status != nil {
		return &Client{socket: cfg.Socket, instance: first.Status.Instance}, pid, nil
	}
	// It has not started a server, or is still clearing up; it must not start one later, unobserved.
	_ = unix.Kill(pid, unix.SIGTERM)
	switch {
	case err == nil:
		Reap(pid, time.Second)
		return nil, 0, first.err()
	case ctx.Err() != nil:
		Reap(pid, 0)
		return nil, pid, fmt.Errorf("start the guard: %w", context.Cause(ctx))
	case errors.Is(err, io.EOF):
		Reap(pid, time.Second)
		return nil, 0, fmt.Errorf("start the guard: it ended at once; see %s", cfg.LogFile)
	}
	return nil, pid, fmt.Errorf("start the guard: %w", err)
}

// spawn starts argv with pipes on standard input and output and the log file on standard error.
func spawn(argv []string, logPath string) (pid int, in, out *os.File, err error) {
	log, err := os.OpenFile(logPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return 0, nil, nil, err
	}
	defer log.Close()
	childIn, in, err := os.Pipe()
	if err != nil {
		return 0, nil, nil, err
	}
	defer childIn.Close()
	out, childOut, err := os.Pipe()
	if err != nil {
		in.Close()
		return 0, nil, nil, err
	}
	defer childOut.Close()
	p, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Dir: "/", Env: environment(os.Getenv), Files: []*os.File{childIn, childOut, log},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		in.Close()
		out.Close()
		return 0, nil, nil, err
	}
	pid = p.Pid
	return pid, in, out, p.Release()
}

// environment is what a guard needs of ours. It outlives us, and what we were given (passwords of etcd, perhaps) is none
// of its business.
func environment(getenv func(string) string) []string {
	var env []string
	for _, name := range []string{"PATH", "TZ", "LANG", "LC_ALL", "TMPDIR", "GOTRACEBACK", "GOCOVERDIR"} {
		if v := getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// Reap collects a guard that this process has launched and that has ended, waiting for its end for at most bound. It reports
// whether nothing is left to collect.
func Reap(pid int, bound time.Duration) bool {
	deadline := time.Now().Add(bound)
	for {
		got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		if got == pid || errors.Is(err, unix.ECHILD) {
			return true
		}
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		time.Sleep(min(left, 2*time.Millisecond))
	}
}
