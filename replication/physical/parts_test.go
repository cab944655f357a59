package physical

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/failover/guard"
)

func itoa(n int) string { return strconv.Itoa(n) }

func atoi(s string) int {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		return -1
	}
	return n
}

func TestTheErrorListsWhereProgramsWereLookedFor(t *testing.T) {
	dir := t.TempDir()
	fake := func(name, version string) string {
		d := filepath.Join(dir, name)
		require.NoError(t, os.Mkdir(d, 0o755))
		for _, p := range programs() {
			require.NoError(t, os.WriteFile(filepath.Join(d, p), []byte("#!/bin/sh\necho 'postgres (PostgreSQL) "+version+"'\n"), 0o755))
		}
		return d
	}
	old, good, newer := fake("old", "14.2"), fake("good", "16.4 (Debian 16.4-1)"), fake("newer", "99devel")
	half := fake("half", "16.1")
	require.NoError(t, os.Remove(filepath.Join(half, "pg_basebackup")))
	find := func(o FindOptions) (Binaries, error) { return FindBinaries(t.Context(), o) }

	b, err := find(FindOptions{PGBin: good})
	require.NoError(t, err)
	require.Equal(t, Binaries{Dir: good, Major: 16, Version: "16.4"}, b)
	for bin, want := range map[string]string{
		old: "version 14.2 is not supported", newer: "version 99devel is not supported", half: "there is no pg_basebackup", filepath.Join(dir, "none"): "there is no postgres",
	} {
		_, err := find(FindOptions{PGBin: bin})
		require.ErrorContains(t, err, bin+" (--pg-bin): "+want)
		require.ErrorContains(t, err, "apt-get install postgresql")
	}
	_, err = find(FindOptions{PGBin: good, Major: 17})
	require.ErrorContains(t, err, "version 16.4, not 17")
	require.ErrorContains(t, err, "apt-get install postgresql-17")
	env := func(name string) string {
		return map[string]string{"PATH": strings.Join([]string{old, half, good}, ":"), "PG_CONFIG": filepath.Join(newer, "pg_config")}[name]
	}
	b, err = find(FindOptions{Major: 16, Getenv: env})
	require.NoError(t, err)
	require.Equal(t, good, b.Dir)
	_, err = find(FindOptions{Major: 18, Getenv: env})
	for _, want := range []string{old + " (PATH): ", half + " (PATH): ", good + " (PATH): ", newer + " (PG_CONFIG="} {
		require.ErrorContains(t, err, want)
	}
}

func TestAccounts(t *testing.T) {
	_, err := LookupAccount("no-such-user", 0)
	require.ErrorContains(t, err, `OS user "no-such-user" does not exist`)
	require.ErrorContains(t, err, "useradd --system")
	require.ErrorContains(t, err, "--os-user")
	_, err = LookupAccount("root", 0)
	require.ErrorContains(t, err, "is root")
	a, err := LookupAccount("", 65534)
	require.NoError(t, err)
	require.False(t, a.Switch)
	require.Equal(t, uint32(65534), a.UID)
	_, err = LookupAccount("postgres", 65534)
	require.ErrorContains(t, err, "only root can switch")
}

func TestProgressIsRead(t *testing.T) {
	done, total, ok := parseProgress("  1024/40960 kB (2%), 0/1 tablespace (.../data.partial/base/1/2619 )")
	require.True(t, ok)
	require.Equal(t, []int64{1 << 20, 40 << 20}, []int64{done, total})
	for _, line := range []string{"", "pg_basebackup: initiating base backup", "waiting for checkpoint", "99999999999999999999/1 kB (2%)"} {
		_, _, ok := parseProgress(line)
		require.False(t, ok, line)
	}
}

func TestControlFilesThatCannotBeReadAreErrors(t *testing.T) {
	for _, out := range []string{"", "Database system identifier: 7", "Database system identifier: 7\nLatest checkpoint's TimeLineID: x", "Database system identifier: 7\nLatest checkpoint's TimeLineID: 1\n"} {
		_, err := parseControl(out)
		require.Error(t, err)
	}
}

// sink is a buffer for two goroutines.
type sink struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) { s.mu.Lock(); defer s.mu.Unlock(); return s.b.Write(p) }

func (s *sink) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

func TestLogsAreShownInOrderOfTimeAndFollowedThroughRotation(t *testing.T) {
	dir := t.TempDir()
	require.ErrorIs(t, Logs(t.Context(), dir, LogOptions{Lines: 10}, &sink{}), os.ErrNotExist)
	write := func(name, text string) {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		defer f.Close()
		_, err = f.WriteString(text)
		require.NoError(t, err)
	}
	write(markerFile, "{}")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "log"), 0o700))
	write("guard.log", "time=2026-01-01T00:00:01.000Z level=INFO msg=one\n2026-01-01 00:00:02.000 UTC [1] LOG:  two\n\tcontinued\ntime=2026-01-01T00:00:05.000Z level=INFO msg=five\n")
	write("log/postgresql-1.log", "2026-01-01 00:00:03.000 UTC [1] LOG:  three\n")
	write("log/postgresql-2.log", "2026-01-01 00:00:04.000 UTC [1] LOG:  four\nhalf")
	shown := func(n int) []string {
		var s sink
		require.NoError(t, Logs(t.Context(), dir, LogOptions{Lines: n}, &s))
		return strings.Split(strings.TrimSpace(s.String()), "\n")
	}
	all := shown(100)
	require.Len(t, all, 6)
	for i, want := range []string{"one", "two", "continued", "three", "four", "five"} {
		require.Contains(t, all[i], want)
	}
	require.Equal(t, all[4:], shown(2))

	ctx, cancel := context.WithCancel(t.Context())
	var s sink
	done := make(chan error, 1)
	go func() { done <- Logs(ctx, dir, LogOptions{Lines: 1, Follow: true}, &s) }()
	eventually(t, 5*time.Second, "the last line", func() bool { return strings.Contains(s.String(), "five") })
	write("log/postgresql-2.log", " a line\n")
	write("guard.log", "time=2026-01-01T00:00:06.000Z level=INFO msg=six\n")
	require.NoError(t, os.Rename(filepath.Join(dir, "guard.log"), filepath.Join(dir, "guard.log.1")))
	write("guard.log", "time=2026-01-01T00:00:07.000Z level=INFO msg=seven\n")
	write("log/postgresql-3.log", "2026-01-01 00:00:08.000 UTC [1] LOG:  eight\n")
	for _, want := range []string{"half a line\n", "msg=six\n", "msg=seven\n", "eight\n"} {
		eventually(t, 5*time.Second, want, func() bool { return strings.Contains(s.String(), want) })
	}
	cancel()
	require.NoError(t, <-done)
	require.Equal(t, 1, strings.Count(s.String(), "five"))
	require.Equal(t, 1, strings.Count(s.String(), "six"))
}

func TestTheEndOfALargeLogIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var b strings.Builder
	for i := range 50000 {
		b.WriteString("line " + itoa(i) + "\n")
	}
	require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o600))
	lines := tail(path, 20000)
	require.Len(t, lines, 20000)
	require.Equal(t, "line 30000", lines[0])
	require.Equal(t, "line 49999", lines[19999])
}

func TestOldLogFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	for i := range 5 {
		path := filepath.Join(dir, "postgresql-"+itoa(i)+".log")
		require.NoError(t, os.WriteFile(path, make([]byte, 100), 0o600))
		at := time.Unix(int64(1000+i), 0)
		require.NoError(t, os.Chtimes(path, at, at))
	}
	names := func() (all []string) {
		for _, f := range logFiles(dir) {
			all = append(all, filepath.Base(f.path))
		}
		return all
	}
	require.NoError(t, pruneLogs(dir, 4, 1000))
	require.Equal(t, []string{"postgresql-4.log", "postgresql-3.log", "postgresql-2.log", "postgresql-1.log"}, names())
	require.NoError(t, pruneLogs(dir, 4, 250))
	require.Equal(t, []string{"postgresql-4.log", "postgresql-3.log"}, names())
	require.NoError(t, pruneLogs(dir, 4, 1))
	require.Equal(t, []string{"postgresql-4.log"}, names(), "the newest stays")
	require.NoError(t, pruneLogs(filepath.Join(dir, "none"), 1, 1))
}

func TestLogsOfARealServer(t *testing.T) {
	l := newLab(t)
	p := l.primary("a-1")
	_, err := l.connect(p).Exec(l.ctx(), "SELECT nonsense")
	require.Error(t, err)
	require.NoError(t, p.Stop(l.ctx(), guard.Fast, 10*time.Second))
	var s sink
	require.NoError(t, Logs(l.ctx(), p.cfg.Dir, LogOptions{Lines: 100}, &s))
	for _, want := range []string{"database system is ready", `column "nonsense" does not exist`, "server started", "asked to stop (fast)", "database system is shut down", "server ended"} {
		require.Contains(t, s.String(), want)
	}
	require.Less(t, strings.Index(s.String(), "server started"), strings.Index(s.String(), "database system is ready"))
	require.Less(t, strings.Index(s.String(), "asked to stop"), strings.Index(s.String(), "database system is shut down"))
}
