package testenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a test that is looked at from outside: it collects what would have failed it.
type recorder struct {
	testing.TB
	errors   []string
	cleanups []func()
}

func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}
func (r *recorder) Cleanup(f func())    { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Failed() bool        { return false }
func (r *recorder) Logf(string, ...any) {}

// end runs the cleanups as the testing package does: last first.
func (r *recorder) end() {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
}

func TestProcessLeftBehindFailsTheTestAndIsEnded(t *testing.T) {
	rec := &recorder{TB: t}
	env := New(rec)
	// The shell ends at once; what it started lives on with the test's folder in its environment only.
	r := env.Run(10*time.Second, Command{Argv: []string{"sh", "-c", "cd /; setsid sleep 600 >/dev/null 2>&1 & echo $!"}}, "")
	require.Zero(t, r.Code, r)
	// The shell does not wait until the program has taken its child's place.
	require.NoError(t, poll(10*time.Second, pollEvery, func() error {
		if found := fmt.Sprint(env.Processes()); !strings.Contains(found, "sleep 600") {
			return errors.New(found)
		}
		return nil
	}))
	require.Len(t, env.Processes(), 1)
	rec.end()
	require.Len(t, rec.errors, 1)
	require.Contains(t, rec.errors[0], "sleep 600")
	require.Empty(t, env.Processes())
	require.NoDirExists(t, env.Dir)
}

func TestFileLeftOutsideFailsTheTest(t *testing.T) {
	rec := &recorder{TB: t}
	env := New(rec)
	stray := filepath.Join(os.TempDir(), "multicoord-stray-"+filepath.Base(env.Dir))
	require.NoError(t, os.WriteFile(stray, []byte("socket in "+env.Dir+"/run\n"), 0o600))
	rec.end()
	require.Len(t, rec.errors, 1)
	require.Contains(t, rec.errors[0], stray)
	require.NoFileExists(t, stray)
}

func TestStartedProcessesAreStoppedWithTheTest(t *testing.T) {
	rec := &recorder{TB: t}
	env := New(rec)
	p := env.Start(Command{Name: "sleeper", Argv: []string{"sh", "-c", "echo begun; exec sleep 600"}})
	env.Until(5*time.Second, "output", func() error {
		if !strings.Contains(p.Output(), "begun") {
			return fmt.Errorf("output is %q", p.Output())
		}
		return nil
	})
	p.Signal(syscall.SIGSTOP) // a frozen process is ended too
	rec.end()
	require.Empty(t, rec.errors)
	require.False(t, p.Running())
}

func TestPortsAreReservedOnce(t *testing.T) {
	seen := map[int]bool{}
	for range 20 {
		first := New(t).Block(5)
		for port := first; port < first+5; port++ {
			require.False(t, seen[port], "port %d was given twice", port)
			seen[port] = true
		}
	}
}

func TestFolderIsShortAndOpenToTheServersUser(t *testing.T) {
	env := New(t)
	require.Less(t, len(env.Dir), 20)
	st, err := os.Stat(env.Dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), st.Mode().Perm())
}

func TestMentionsKnowsWherePathsEnd(t *testing.T) {
	for word, want := range map[string]bool{
		"/tmp/mc1": true, "--data-dir=/tmp/mc1/data": true, "/tmp/mc12/data": false, "/tmp/mc12:/tmp/mc1": true, "": false,
	} {
		require.Equal(t, want, mentions(word, "/tmp/mc1"), word)
	}
}
