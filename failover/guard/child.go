package guard

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is the postmaster.
type child struct {
	pid       int
	startedAt time.Time
	ended     <-chan *os.ProcessState
}

// startChild forks the server. The kernel ties PR_SET_PDEATHSIG to the thread that forked, so the goroutine that forks is
// locked to its thread until the child has ended. (Go sets the signal after it has changed the credentials, which would
// clear it: forkAndExecInChild1 in src/syscall/exec_linux.go. It also sends it at once if the parent is already gone.)
func startChild(cfg Config, output *os.File) (*child, error) {
	cmd := exec.Command(cfg.Postgres[0], cfg.Postgres[1:]...)
	cmd.Env = cfg.Env
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGQUIT}
	if c := cfg.Credential; c != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: c.Groups}
	}
	started := make(chan error, 1)
	ended := make(chan *os.ProcessState, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // what matters is in ProcessState
			ended <- cmd.ProcessState
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cfg.Postgres[0], err)
	}
	return &child{pid: cmd.Process.Pid, startedAt: time.Now(), ended: ended}, nil
}

// becomeKeeper makes this process the one that inherits the server's orphans, and one that the kernel kills late when
// memory runs out (PostgreSQL resets that for its backends: PG_OOM_ADJUST_FILE).
func becomeKeeper() (env []string, err error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become subreaper: %w", err)
	}
	const file = "/proc/self/oom_score_adj"
	if err := os.WriteFile(file, []byte(strconv.Itoa(-900)), 0); err == nil {
		env = []string{"PG_OOM_ADJUST_FILE=" + file, "PG_OOM_ADJUST_VALUE=0"}
	}
	return env, nil
}

// reap collects dead children other than the postmaster, for which its own goroutine waits.
func reap(postmaster int) {
	for _, pid := range zombieChildren() {
		if pid != postmaster {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
	}
}

func zombieChildren() []int {
	all, err := descendants(os.Getpid())
	if err != nil {
		return nil
	}
	var pids []int
	for _, p := range all {
		if p.ppid == os.Getpid() && p.zombie() {
			pids = append(pids, p.pid)
		}
	}
	return pids
}
