package physical

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// openBy lists the processes that have a file open, this one included.
func openBy(f *os.File) []int {
	mine, err := f.Stat()
	if err != nil {
		return nil
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is well formed
	var pids []int
	last := ""
	for _, fd := range fds {
		pid := strings.Split(fd, "/")[2]
		if pid == last {
			continue
		}
		if target, err := os.Readlink(fd); err != nil || filepath.Base(target) != filepath.Base(f.Name()) {
			continue
		}
		if st, err := os.Stat(fd); err != nil || !os.SameFile(st, mine) {
			continue
		}
		if n, err := strconv.Atoi(pid); err == nil {
			pids, last = append(pids, n), pid
		}
	}
	return pids
}

// holders lists the other processes that have a file open: PostgreSQL's programs, and the rest.
func holders(f *os.File) (others, programs []int) {
	for _, pid := range openBy(f) {
		if pid == os.Getpid() {
			continue
		}
		exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
		switch filepath.Base(exe) {
		case "initdb", "pg_basebackup", "postgres":
			programs = append(programs, pid)
		default:
			if err == nil { // not gone meanwhile
				others = append(others, pid)
			}
		}
	}
	return others, programs
}

// below tells whether a process descends from another.
func below(pid, ancestor int) bool {
	for range 64 {
		if pid == ancestor {
			return true
		}
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		// "pid (name) state ppid …": the name may contain anything.
		f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		if len(f) < 2 {
			return false
		}
		if pid, err = strconv.Atoi(f[1]); err != nil || pid <= 1 {
			return pid == ancestor
		}
	}
	return false
}
