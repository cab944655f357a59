package guard

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestStopLadders(t *testing.T) {
	const wait = 7 * time.Second
	signals := func(rungs []rung) (all []string) {
		for _, r := range rungs {
			all = append(all, unix.SignalName(r.signal)+" "+r.wait.String())
		}
		return all
	}
	require.Equal(t, []string{"SIGTERM 7s", "SIGINT 7s", "SIGQUIT 6s", "SIGKILL 20ms"}, signals(ladder(Smart, wait, 6*time.Second)))
	require.Equal(t, []string{"SIGINT 7s", "SIGQUIT 6s", "SIGKILL 20ms"}, signals(ladder(Fast, wait, 6*time.Second)))
	require.Equal(t, []string{"SIGQUIT 6s", "SIGKILL 20ms"}, signals(ladder(Immediate, wait, 6*time.Second)))
	require.Equal(t, []string{"SIGQUIT 200ms", "SIGKILL 20ms"}, signals(fenceLadder(200*time.Millisecond)))
}

func TestProcessesAreReadWhateverTheirNamesAre(t *testing.T) {
	rest := " S 42 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 10 11"
	for _, name := range []string{"postgres", "a) S 1 (b", "", "x y"} {
		p, ok := parseStat(77, []byte("77 ("+name+")"+rest))
		require.True(t, ok)
		require.Equal(t, process{pid: 77, ppid: 42, state: 'S', start: 987654}, p)
	}
	for _, bad := range []string{"", "77 (x", "77 (x) S", "77 (x) S a 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 10 11"} {
		_, ok := parseStat(77, []byte(bad))
		require.False(t, ok, bad)
	}
}

func TestAPidThatBelongsToAnotherProcessNowIsNotSignalled(t *testing.T) {
	me, ok := readProcess(os.Getpid())
	require.True(t, ok)
	me.start++
	require.ErrorIs(t, me.signal(unix.SIGKILL), unix.ESRCH)
}

func TestTheLogIsRotatedBySize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "guard.log")
	l, err := openLog(path, 100, false)
	require.NoError(t, err)
	defer l.Close()
	line := strings.Repeat("x", 39) + "\n"
	for range 5 {
		_, err := l.Write([]byte(line))
		require.NoError(t, err)
	}
	now, err := os.ReadFile(path)
	require.NoError(t, err)
	before, err := os.ReadFile(path + ".1")
	require.NoError(t, err)
	require.Equal(t, line, string(now))
	require.Equal(t, line+line, string(before))
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
}

func TestAnAlarmForThePastGoesOffAtOnce(t *testing.T) {
	a, err := newAlarm()
	require.NoError(t, err)
	defer a.close()
	require.NoError(t, a.set(1))
	<-a.C
	require.NoError(t, a.set(Now().Add(10*time.Millisecond)))
	<-a.C
}

func TestConfigurationsThatCannotBeRight(t *testing.T) {
	good := Config{Socket: "/s", Postgres: []string{"/p"}, DataDir: "/d", LockFile: "/l", StateFile: "/t", LogFile: "/g"}
	_, err := good.complete()
	require.NoError(t, err)
	for want, change := range map[string]func(*Config){
		"data_dir":                func(c *Config) { c.DataDir = "d" },
		"socket \"\"":             func(c *Config) { c.Socket = "" },
		"longer than 103":         func(c *Config) { c.Socket = "/" + strings.Repeat("x", 103) },
		"postgres is not":         func(c *Config) { c.Postgres = []string{"postgres"} },
		"postgres is not a":       func(c *Config) { c.Postgres = nil },
		"state_file \"relative\"": func(c *Config) { c.StateFile = "relative" },
	} {
		c := good
		change(&c)
		_, err := c.complete()
		require.ErrorContains(t, err, want)
	}
	_, err = ReadConfig(strings.NewReader("{"))
	require.ErrorContains(t, err, "not for use by hand")
	_, err = ReadConfig(strings.NewReader(strings.Repeat(" ", maxConfig+1)))
	require.ErrorContains(t, err, "longer than 1 MiB")
}

func TestTheGuardsEnvironmentHoldsNothingOfTheAgents(t *testing.T) {
	env := environment(func(name string) string {
		return map[string]string{"PATH": "/bin", "ORCHESTRATOR_ETCD_PASSWORD": "secret"}[name]
	})
	require.Equal(t, []string{"PATH=/bin"}, env)
}
