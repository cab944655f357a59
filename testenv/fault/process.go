package fault

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// within is how long a signal may take to show its effect.
const within = 10 * time.Second

// Kill sends SIGKILL and waits until the process is gone (or a zombie, which only its parent can remove).
func Kill(tb testing.TB, pid int) {
	tb.Helper()
	send(tb, pid, syscall.SIGKILL)
	until(tb, pid, "gone", func(state string) bool { return state == "" || state == "Z" })
}

// Stop freezes the process (SIGSTOP) and waits until it stands still: its connections stay open, nobody answers.
func Stop(tb testing.TB, pid int) {
	tb.Helper()
	send(tb, pid, syscall.SIGSTOP)
	until(tb, pid, "stopped", func(state string) bool { return state == "T" || state == "" })
}

// Cont lets a frozen process go on (SIGCONT).
func Cont(tb testing.TB, pid int) {
	tb.Helper()
	send(tb, pid, syscall.SIGCONT)
	until(tb, pid, "running", func(state string) bool { return state != "T" })
}

// Alive tells whether the process exists and is no zombie.
func Alive(pid int) bool {
	state := stateOf(pid)
	return state != "" && state != "Z"
}

func send(tb testing.TB, pid int, s syscall.Signal) {
	tb.Helper()
	// 0 and negative numbers mean process groups, 1 is init: all of them are a mistake in the test.
	if pid <= 1 {
		tb.Fatalf("send %s to pid %d: not a single process", s, pid)
	}
	if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		tb.Fatalf("send %s to pid %d: %v", s, pid, err)
	}
}

func until(tb testing.TB, pid int, what string, ok func(state string) bool) {
	tb.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok(stateOf(pid)) {
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("pid %d is not %s within %s, but in state %q", pid, what, within, stateOf(pid))
		}
	}
}

// stateOf reads the state letter from /proc; empty when there is no such process.
func stateOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(b)[strings.LastIndexByte(string(b), ')')+1:])
	if len(fields) == 0 {
		return ""
	}
	return fields[0]
}

// CPU is the processor time that a process (all its threads, without its children) has used since it started.
// Linux counts it in hundredths of a second.
func CPU(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// Fields 14 and 15 of proc(5), utime and stime; the first after the command's parenthesis is field 3.
	fields := strings.Fields(string(b)[strings.LastIndexByte(string(b), ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("read the processor time of pid %d: %q has too few fields", pid, b)
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the processor time of pid %d: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100), nil
}
