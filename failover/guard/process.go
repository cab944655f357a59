package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is what /proc/<pid>/stat says.
type process struct {
	pid, ppid int
	state     byte
	start     uint64 // in clock ticks since boot: with the pid, it names a process
}

func (p process) zombie() bool { return p.state == 'Z' || p.state == 'X' }

// readProcess reads /proc/<pid>/stat (proc(5)); ok is false if the process is gone.
func readProcess(pid int) (p process, ok bool) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return p, false
	}
	return parseStat(pid, raw)
}

// parseStat takes the fields after the command's name, which is in parentheses and may contain anything.
func parseStat(pid int, raw []byte) (process, bool) {
	end := bytes.LastIndexByte(raw, ')')
	if end < 0 {
		return process{}, false
	}
	f := strings.Fields(string(raw[end+1:]))
	if len(f) < 20 {
		return process{}, false
	}
	ppid, err := strconv.Atoi(f[1])
	if err != nil {
		return process{}, false
	}
	start, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return process{}, false
	}
	return process{pid: pid, ppid: ppid, state: f[0][0], start: start}, true
}

func allPIDs() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// descendants lists the processes below root, zombies included.
func descendants(root int) ([]process, error) {
	pids, err := allPIDs()
	if err != nil {
		return nil, err
	}
	children := map[int][]process{}
	for _, pid := range pids {
		if p, ok := readProcess(pid); ok {
			children[p.ppid] = append(children[p.ppid], p)
		}
	}
	var all []process
	for todo := children[root]; len(todo) > 0; todo = todo[1:] {
		all = append(all, todo[0])
		todo = append(todo, children[todo[0].pid]...)
	}
	return all, nil
}

// signal sends sig to p and to no other process that has got its pid meanwhile.
func (p process) signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // before Linux 5.3, or a sandbox
			return unix.Kill(p.pid, sig)
		}
		return err
	}
	defer unix.Close(fd)
	if now, ok := readProcess(p.pid); !ok || now.start != p.start {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// logger tells whether p is the server's logging collector, which ends by itself when all others have, and until then holds
// their last words.
func (p process) logger() bool {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/cmdline")
	if err != nil {
		return false
	}
	title := strings.TrimRight(string(raw), "\x00 ")
	return strings.HasPrefix(title, "postgres:") && strings.HasSuffix(title, " logger")
}

// serverProcesses lists the living PostgreSQL processes of a data directory: those that run a program called postgres with
// that directory (under whatever path, or deleted under this one) as their working directory, which the postmaster enters
// first of all and its children inherit.
func serverProcesses(dataDir string) ([]process, error) {
	real, err := filepath.EvalSymlinks(dataDir)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		real = dataDir
	}
	dir, _ := os.Stat(real) // nil if it is gone
	pids, err := allPIDs()
	if err != nil {
		return nil, err
	}
	var found []process
	for _, pid := range pids {
		if !runsPostgres(pid) || !worksIn(pid, real, dir) {
			continue
		}
		if p, ok := readProcess(pid); ok && !p.zombie() {
			found = append(found, p)
		}
	}
	return found, nil
}

func runsPostgres(pid int) bool {
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	return err == nil && filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == "postgres"
}

func worksIn(pid int, path string, dir os.FileInfo) bool {
	link := "/proc/" + strconv.Itoa(pid) + "/cwd"
	cwd, err := os.Readlink(link)
	if err != nil {
		return false
	}
	if strings.TrimSuffix(cwd, " (deleted)") == path {
		return true
	}
	st, err := os.Stat(link)
	return err == nil && dir != nil && os.SameFile(st, dir)
}

// Processes lists the pids of the living PostgreSQL processes that work in a data directory, whoever started them.
func Processes(dataDir string) ([]int, error) {
	ps, err := serverProcesses(dataDir)
	if err != nil {
		return nil, fmt.Errorf("look for processes of %s: %w", dataDir, err)
	}
	var pids []int
	for _, p := range ps {
		pids = append(pids, p.pid)
	}
	return pids, nil
}

// EndProcesses ends the PostgreSQL processes that work in a data directory, by signals and without their guard. With grace it
// asks the postmaster first (a fast stop, then an immediate one, each for that long); then, or with grace 0 at once, it
// kills. It returns when none is left, or with an error that names those that are when ctx ends.
func EndProcesses(ctx context.Context, dataDir string, grace time.Duration) error {
	begun := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	sent := 0
	for {
		ps, err := serverProcesses(dataDir)
		if err != nil {
			return fmt.Errorf("look for processes of %s: %w", dataDir, err)
		}
		if len(ps) == 0 {
			return nil
		}
		rung := 2
		if grace > 0 {
			rung = min(int(time.Since(begun)/grace), 2)
		}
		switch {
		case rung == 2:
			for _, p := range ps {
				_ = p.signal(unix.SIGKILL)
			}
		case sent <= rung:
			sent = rung + 1
			if p, ok := postmasterOf(ps); ok {
				_ = p.signal([]unix.Signal{unix.SIGINT, unix.SIGQUIT}[rung])
			}
		}
		select {
		case <-ctx.Done():
			pids, _ := Processes(dataDir)
			return fmt.Errorf("processes %v of %s do not end: %w", pids, dataDir, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// FenceProcesses ends the PostgreSQL processes that work in a data directory as a guard ends a primary past its deadline, and
// without one: SIGQUIT to the postmaster at once, SIGKILL to all of them after killAfter, until none is left. It
// errs with those that are left when ctx ends.
func FenceProcesses(ctx context.Context, dataDir string, killAfter time.Duration) error {
	begun := time.Now()
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for told := false; ; {
		ps, err := serverProcesses(dataDir)
		if err != nil {
			return fmt.Errorf("look for processes of %s: %w", dataDir, err)
		}
		if len(ps) == 0 {
			return nil
		}
		switch p, ok := postmasterIn(dataDir, ps); {
		case time.Since(begun) >= killAfter:
			if ok { // first, so that it starts nothing more
				_ = p.signal(unix.SIGKILL)
			}
			for _, p := range ps {
				_ = p.signal(unix.SIGKILL)
			}
		case ok && !told:
			told = true
			_ = p.signal(unix.SIGQUIT)
		}
		select {
		case <-ctx.Done():
			pids, _ := Processes(dataDir)
			return fmt.Errorf("processes %v of %s do not end: %w", pids, dataDir, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// postmasterIn picks the process that postmaster.pid names, if it is one of these, and otherwise the one that looks like it.
func postmasterIn(dataDir string, ps []process) (process, bool) {
	raw, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err == nil {
		line, _, _ := strings.Cut(string(raw), "\n")
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
			for _, p := range ps {
				if p.pid == pid {
					return p, true
				}
			}
		}
	}
	return postmasterOf(ps)
}

// KillTree kills everything below a process and then the process: a guard that does not answer, and its server, wherever
// that works. It returns when all are gone, or with an error when ctx ends.
func KillTree(ctx context.Context, pid int) error {
	root, ok := readProcess(pid)
	if !ok {
		return nil
	}
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for {
		below, err := descendants(pid)
		if err != nil {
			return fmt.Errorf("look for processes below %d: %w", pid, err)
		}
		left := 0
		for _, p := range below {
			if !p.zombie() {
				left++
				_ = p.signal(unix.SIGKILL)
			}
		}
		now, ok := readProcess(pid)
		if !ok || now.zombie() || now.start != root.start {
			return nil
		}
		// A guard inherits its server's orphans: it goes when there is none left.
		if left == 0 {
			if err := root.signal(unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d and those below it do not end: %w", pid, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// postmasterOf picks the process whose parent is not among the others.
func postmasterOf(ps []process) (process, bool) {
	in := map[int]bool{}
	for _, p := range ps {
		in[p.pid] = true
	}
	for _, p := range ps {
		if !in[p.ppid] && !p.logger() {
			return p, true
		}
	}
	return process{}, false
}
