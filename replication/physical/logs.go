package physical

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/multicoord/multicoord/failover/guard"
)

const (
	keepLogs     = 14
	keepLogBytes = 1 << 30
)

// logFiles lists the server's log files by time of last change, newest first.
func logFiles(dir string) []logEntry {
	names, _ := filepath.Glob(filepath.Join(dir, "postgresql-*.log")) // the pattern is well formed
	var files []logEntry
	for _, name := range names {
		if st, err := os.Lstat(name); err == nil && st.Mode().IsRegular() {
			files = append(files, logEntry{name, st.ModTime(), st.Size()})
		}
	}
	slices.SortFunc(files, func(a, b logEntry) int {
		if c := b.at.Compare(a.at); c != 0 {
			return c
		}
		return strings.Compare(b.path, a.path)
	})
	return files
}

type logEntry struct {
	path string
	at   time.Time
	size int64
}

// pruneLogs removes the oldest log files beyond a number or a total size; the newest always stays.
func pruneLogs(dir string, files int, size int64) error {
	total := int64(0)
	for i, f := range logFiles(dir) {
		total += f.size
		if i > 0 && (i >= files || total > size) {
			if err := os.Remove(f.path); err != nil {
				return err
			}
		}
	}
	return nil
}

// tail gives the last n lines of a file, of at most 64 KiB.
func tail(path string, n int) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil
	}
	from := max(0, st.Size()-64<<10)
	raw, err := io.ReadAll(io.NewSectionReader(f, from, st.Size()-from))
	if err != nil {
		return nil
	}
	lines := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	if from > 0 && len(lines) > 0 {
		lines = lines[1:]
	}
	return lines[max(0, len(lines)-n):]
}

// lastWords are the last lines that a server wrote which has just ended: of its log, and of what it wrote before its logging
// collector ran.
func (s *Server) lastWords(exit guard.Exit) string {
	var said []string
	for _, line := range tail(s.path("guard.log"), 20) {
		if !strings.HasPrefix(line, "time=") { // the guard's own lines
			said = append(said, line)
		}
	}
	said = said[max(0, len(said)-6):]
	if files := logFiles(s.path("log")); len(files) > 0 && !files[0].at.Before(exit.StartedAt.Add(-time.Second)) {
		said = append(said, tail(files[0].path, 8)...)
	}
	if len(said) == 0 {
		return ""
	}
	return "; its last words:\n  " + strings.Join(said, "\n  ")
}
