package testenv

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// buildOnce is the one build of a test process: a package-level value because the tests of a process share
// nothing else.
var buildOnce = sync.OnceValues(build)

// Binary gives the path of an orchestrator built from the current source (under the race detector when the test
// is). Its name carries the hash of its content, so that a build for another test run cannot replace it under a
// running process. ORCHESTRATOR_TEST_BINARY names a finished one instead.
func (e *Env) Binary() string {
	e.TB.Helper()
	path, err := buildOnce()
	if err != nil {
		e.TB.Fatal(err)
	}
	return path
}

func build() (string, error) {
	if path := os.Getenv("ORCHESTRATOR_TEST_BINARY"); path != "" {
		return filepath.Abs(path)
	}
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "bin", "testenv")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	args := []string{"build", "-o", filepath.Join(dir, "orchestrator"), "./cmd/orchestrator"}
	if raceEnabled {
		args = []string{"build", "-race", "-o", filepath.Join(dir, "orchestrator-race"), "./cmd/orchestrator"}
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the orchestrator: %w\n%s", err, out)
	}
	return keepByContent(dir, args[len(args)-2])
}

// copyBinary puts a copy of the orchestrator into the Env's folder.
func (e *Env) copyBinary() string {
	e.TB.Helper()
	b, err := os.ReadFile(e.Binary())
	if err != nil {
		e.TB.Fatal(err)
	}
	path := e.Path("orchestrator")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		e.TB.Fatal(err)
	}
	return path
}

// keepByContent gives the binary a second name made from its content, and removes such names that nobody has
// used for a day.
func keepByContent(dir, path string) (string, error) {
	src, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer src.Close()
	h := sha256.New()
	if _, err := io.Copy(h, src); err != nil {
		return "", err
	}
	kept := filepath.Join(dir, "orchestrator."+hex.EncodeToString(h.Sum(nil))[:16])
	now := time.Now()
	if os.Chtimes(kept, now, now) != nil {
		if err := os.Link(path, kept); err != nil {
			return "", err
		}
		// A link will do: the go command removes an old output before it writes a new one.
		if err := os.Chtimes(kept, now, now); err != nil {
			return "", err
		}
	}
	old, err := filepath.Glob(filepath.Join(dir, "orchestrator.*"))
	if err != nil {
		return "", err
	}
	for _, o := range old {
		if st, err := os.Stat(o); err == nil && now.Sub(st.ModTime()) > 24*time.Hour {
			os.Remove(o)
		}
	}
	return kept, nil
}

// ModuleRoot finds the folder of go.mod above the working directory, which for a test is its package's.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", fmt.Errorf("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}
