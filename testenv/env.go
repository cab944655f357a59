package testenv

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Env is the ground of one test: a folder, and all that runs in it.
type Env struct {
	TB testing.TB
	// Dir is an empty folder with a short path (unix sockets in it stay below 104 bytes), which every user may
	// pass through. It is removed when the test ends, unless TESTENV_KEEP is set.
	Dir string
}

// New makes the ground of one test. What is left when the test ends, after everything that was started through
// the Env has been stopped, fails the test.
func New(tb testing.TB) *Env {
	tb.Helper()
	dir, err := os.MkdirTemp("/tmp", "mc") //nolint:usetesting // TempDir's paths are long, and closed to the servers' user
	if err != nil {
		tb.Fatalf("make a folder for the test: %v", err)
	}
	// The servers' user has to get through, and only through: what is inside has modes of its own.
	if err := os.Chmod(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	e := &Env{TB: tb, Dir: dir}
	outside := e.foreignFiles()
	tb.Cleanup(func() {
		e.checkProcesses()
		e.checkFiles(outside)
		e.removeDir()
	})
	return e
}

// In is the Env for a subtest: what fails, fails the subtest, and what is started or opened ends with it.
func (e *Env) In(tb testing.TB) *Env {
	sub := *e
	sub.TB = tb
	return &sub
}

// Path joins elements to the Env's folder.
func (e *Env) Path(elem ...string) string {
	return filepath.Join(append([]string{e.Dir}, elem...)...)
}

// Mkdir makes a folder in the Env's folder, for the servers' user if it is given to them.
func (e *Env) Mkdir(name string, mode fs.FileMode, owner *syscall.Credential) string {
	e.TB.Helper()
	dir := e.Path(name)
	if err := os.MkdirAll(dir, mode); err != nil {
		e.TB.Fatal(err)
	}
	if owner != nil {
		if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
			e.TB.Fatal(err)
		}
	}
	return dir
}

// WriteFile writes a file into the Env's folder and gives its path.
func (e *Env) WriteFile(name, content string, mode fs.FileMode) string {
	e.TB.Helper()
	path := e.Path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		e.TB.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		e.TB.Fatal(err)
	}
	return path
}

func (e *Env) removeDir() {
	if os.Getenv("TESTENV_KEEP") != "" {
		e.TB.Logf("kept as TESTENV_KEEP asks: %s", e.Dir)
		return
	}
	if err := os.RemoveAll(e.Dir); err != nil {
		e.TB.Errorf("remove the test's folder: %v", err)
	}
}

// ServerCredential is the user under whom PostgreSQL has to run: "postgres" when the tests run as root (it
// refuses root), nil for whoever runs them otherwise.
func (e *Env) ServerCredential() *syscall.Credential {
	e.TB.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		e.TB.Fatalf("the tests run as root and PostgreSQL refuses to: %v; install the server packages with .ci/packages.sh test", err)
	}
	uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(uerr, gerr); err != nil {
		e.TB.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// pollEvery is how often Until looks.
const pollEvery = 10 * time.Millisecond

// Until calls f every 10 ms until it returns nil. After the deadline the test fails with f's last error.
func (e *Env) Until(within time.Duration, what string, f func() error) {
	e.TB.Helper()
	if err := poll(within, pollEvery, f); err != nil {
		e.TB.Fatalf("%s: not within %s: %v", what, within, err)
	}
}

// Await is Until for moments that pass quickly: it looks every millisecond.
func (e *Env) Await(within time.Duration, what string, f func() error) {
	e.TB.Helper()
	if err := poll(within, time.Millisecond, f); err != nil {
		e.TB.Fatalf("%s: not within %s: %v", what, within, err)
	}
}

// hopeless is an error that waiting cannot mend.
type hopeless struct{ error }

// poll calls f on a ticker until it returns nil or the time is over, and gives its last error then. A hopeless
// error is returned at once.
func poll(within, every time.Duration, f func() error) error {
	deadline := time.After(within)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := f()
		if err == nil || errors.As(err, &hopeless{}) {
			return err
		}
		select {
		case <-deadline:
			return err
		case <-tick.C:
		}
	}
}
