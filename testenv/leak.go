package testenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Found is a process of this machine, as /proc shows it.
type Found struct {
	PID, PPID int
	// State is /proc's letter: R running, S sleeping, T stopped, Z zombie, …
	State   string
	Command string
}

func (f Found) String() string {
	return fmt.Sprintf("pid %d (parent %d, state %s): %s", f.PID, f.PPID, f.State, f.Command)
}

// Processes lists the processes that belong to the Env: those that know its folder through their arguments,
// their environment, or their working directory. Zombies are not counted: they are their parent's affair.
func (e *Env) Processes() []Found {
	e.TB.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		e.TB.Fatal(err)
	}
	var found []Found
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if f, ok := e.owns(pid); ok {
			found = append(found, f)
		}
	}
	return found
}

func (e *Env) owns(pid int) (Found, bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	// Errors mean that the process has ended meanwhile.
	cmdline, _ := os.ReadFile(dir + "/cmdline")
	environ, _ := os.ReadFile(dir + "/environ")
	cwd, _ := os.Readlink(dir + "/cwd")
	ours := below(e.Dir, cwd)
	for _, word := range strings.Split(string(cmdline)+"\x00"+string(environ), "\x00") {
		ours = ours || mentions(word, e.Dir)
	}
	f, ok := Stat(pid)
	if !ours || !ok || f.State == "Z" {
		return Found{}, false
	}
	f.Command = strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))
	return f, true
}

// mentions tells whether a path that is dir or lies below it occurs in the word.
func mentions(word, dir string) bool {
	for rest := word; ; {
		i := strings.Index(rest, dir)
		if i < 0 {
			return false
		}
		rest = rest[i+len(dir):]
		if rest == "" || !isNameByte(rest[0]) {
			return true
		}
	}
}

func isNameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func below(dir, path string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// Stat reads a process's parent and state; false when there is no such process.
func Stat(pid int) (Found, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Found{}, false
	}
	// The command in parentheses may hold anything, parentheses too: what counts comes after the last one.
	text := string(b)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return Found{}, false
	}
	ppid, err := strconv.Atoi(fields[1])
	if err != nil {
		return Found{}, false
	}
	return Found{PID: pid, PPID: ppid, State: fields[0]}, true
}

// goneWithin is how long what was stopped may take to disappear.
const goneWithin = 5 * time.Second

// checkProcesses fails the test if a process is left, and ends it.
func (e *Env) checkProcesses() {
	var left []Found
	err := poll(goneWithin, 20*time.Millisecond, func() error {
		if left = e.Processes(); len(left) > 0 {
			return errors.New("processes are left")
		}
		return nil
	})
	if err == nil {
		return
	}
	for _, f := range left {
		e.TB.Errorf("left behind by the test, and killed now: %s", f)
	}
	// Guards start nothing new and postmasters end with their guard, but a backend may be forked meanwhile.
	_ = poll(goneWithin, 20*time.Millisecond, func() error {
		left = e.Processes()
		for _, f := range left {
			_ = syscall.Kill(f.PID, syscall.SIGKILL)
		}
		if len(left) > 0 {
			return errors.New("still there")
		}
		return nil
	})
}

// foreignFiles lists what lies where the orchestrator might put something outside of its data folder, with a
// name that is ours.
func (e *Env) foreignFiles() []string {
	var all []string
	for _, pattern := range []string{
		filepath.Join(os.TempDir(), "multicoord*"), filepath.Join(os.TempDir(), "orchestrator*"),
		"/run/multicoord*", "/run/multicoord*/*", "/var/lib/multicoord*/*", "/run/orchestrator*",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			e.TB.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

// checkFiles fails the test if a file outside of the test's folder is left that names the folder.
func (e *Env) checkFiles(before []string) {
	for _, path := range e.foreignFiles() {
		if !slices.Contains(before, path) && e.ownsFile(path) {
			e.TB.Errorf("left behind by the test: %s", path)
			_ = os.RemoveAll(path)
		}
	}
}

// ownsFile tells whether a file or link, or one directly in a folder, mentions the test's folder. Other tests
// make files in the same places at the same time, which are none of our business.
func (e *Env) ownsFile(path string) bool {
	if target, err := os.Readlink(path); err == nil && below(e.Dir, target) {
		return true
	}
	paths := []string{path}
	if entries, err := os.ReadDir(path); err == nil {
		for _, entry := range entries {
			paths = append(paths, filepath.Join(path, entry.Name()))
		}
	}
	for _, p := range paths {
		if st, err := os.Lstat(p); err != nil || !st.Mode().IsRegular() || st.Size() > 1<<20 {
			continue
		}
		if b, err := os.ReadFile(p); err == nil && mentions(string(b), e.Dir) {
			return true
		}
	}
	return false
}
