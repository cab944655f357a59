package physical

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/multicoord/multicoord/failover/guard"
)

const (
	keepLogs     = 14
	keepLogBytes = 1 << 30
	followEvery  = 200 * time.Millisecond
	// maxTail bounds how much of the end of a file is read for its last lines, in bytes.
	maxTail = 16 << 20
)

// LogOptions says what Logs prints.
type LogOptions struct {
	// Lines is the number of the newest lines to begin with.
	Lines int
	// Follow goes on with new lines, through rotations and restarts, until ctx ends.
	Follow bool
}

// Logs prints the log of the node whose folder this is: what the server and its guard have written, in order of time. It
// works while the server is stopped, too. When ctx ends while following, that is no error.
func Logs(ctx context.Context, nodeDir string, o LogOptions, w io.Writer) error {
	if _, err := os.Stat(filepath.Join(nodeDir, markerFile)); err != nil {
		return fmt.Errorf("read the logs in %s: there is no node's folder: %w", nodeDir, err)
	}
	f := follower{dir: nodeDir, seen: map[uint64]*position{}}
	if err := f.begin(o.Lines, w); err != nil {
		return fmt.Errorf("read the logs in %s: %w", nodeDir, err)
	}
	if !o.Follow {
		return nil
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := f.more(w); err != nil {
			return fmt.Errorf("read the logs in %s: %w", nodeDir, err)
		}
	}
}

// follower remembers how much of each file it has printed; files are known by inode, so that renaming changes nothing.
type follower struct {
	dir  string
	seen map[uint64]*position
}

type position struct {
	offset int64
	rest   []byte // the beginning of a line that is not complete yet
}

func (f *follower) files() []string {
	all := []string{filepath.Join(f.dir, "guard.log.1"), filepath.Join(f.dir, "guard.log")}
	logs := logFiles(filepath.Join(f.dir, "log"))
	slices.Reverse(logs)
	for _, l := range logs {
		all = append(all, l.path)
	}
	return all
}

// begin prints the newest lines of all files and remembers where they end.
func (f *follower) begin(n int, w io.Writer) error {
	all, err := f.gather(func(file *os.File, inode uint64, size int64) ([]string, error) {
		lines, rest := lastLinesOf(file, size, n)
		f.seen[inode] = &position{offset: size, rest: rest}
		return lines, nil
	})
	if err != nil {
		return err
	}
	return printLines(w, all[max(0, len(all)-n):])
}

// more prints what was added since.
func (f *follower) more(w io.Writer) error {
	all, err := f.gather(func(file *os.File, inode uint64, size int64) ([]string, error) {
		p := f.seen[inode]
		if p == nil || size < p.offset { // new, or a new file under an old number
			p = &position{}
			f.seen[inode] = p
		}
		added, err := io.ReadAll(io.NewSectionReader(file, p.offset, min(size-p.offset, maxTail)))
		if err != nil {
			return nil, err
		}
		p.offset += int64(len(added))
		lines, rest := split(append(p.rest, added...))
		p.rest = rest
		return lines, nil
	})
	if err != nil {
		return err
	}
	return printLines(w, all)
}

// gather reads lines from each file that is there, and puts them in the order of their times.
func (f *follower) gather(read func(file *os.File, inode uint64, size int64) ([]string, error)) ([]stamped, error) {
	var all []stamped
	for _, path := range f.files() {
		file, inode, size, err := openInode(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		lines, err := read(file, inode, size)
		file.Close()
		if err != nil {
			return nil, err
		}
		all = append(all, stamp(lines)...)
	}
	slices.SortStableFunc(all, func(a, b stamped) int { return a.at.Compare(b.at) })
	return all, nil
}

func printLines(w io.Writer, lines []stamped) error {
	for _, l := range lines {
		if _, err := fmt.Fprintln(w, l.text); err != nil {
			return err
		}
	}
	return nil
}

func openInode(path string) (file *os.File, inode uint64, size int64, err error) {
	file, err = os.Open(path)
	if err != nil {
		return nil, 0, 0, err
	}
	st, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, 0, 0, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		file.Close()
		return nil, 0, 0, errors.New("no inode numbers on this system")
	}
	return file, sys.Ino, st.Size(), nil
}

// split cuts complete lines from the beginning of raw; a line of more than 1 MiB is cut where it is.
func split(raw []byte) (lines []string, rest []byte) {
	for {
		i := bytes.IndexByte(raw, '\n')
		if i < 0 {
			if len(raw) > 1<<20 {
				return append(lines, string(raw)), nil
			}
			return lines, append([]byte(nil), raw...)
		}
		lines = append(lines, string(raw[:i]))
		raw = raw[i+1:]
	}
}

// lastLinesOf reads the last n complete lines, and what follows them, from blocks at the end of a file.
func lastLinesOf(f io.ReaderAt, size int64, n int) (lines []string, rest []byte) {
	for block := int64(64 << 10); ; block *= 4 {
		from := max(0, size-block)
		raw, err := io.ReadAll(io.NewSectionReader(f, from, size-from))
		if err != nil {
			return nil, nil
		}
		lines, rest = split(raw)
		if from > 0 && len(lines) > 0 {
			lines = lines[1:] // the first may have lost its beginning
		}
		if from == 0 || len(lines) >= n || block >= maxTail {
			return lines[max(0, len(lines)-n):], rest
		}
	}
}

// stamped is a line with its time; a line without one belongs to the line before.
type stamped struct {
	at   time.Time
	text string
}

func stamp(lines []string) []stamped {
	out := make([]stamped, 0, len(lines))
	var at time.Time
	for _, l := range lines {
		if t, ok := lineTime(l); ok {
			at = t
		}
		out = append(out, stamped{at, l})
	}
	return out
}

// lineTime reads the time at the beginning of a line: PostgreSQL's %m in UTC, or slog's.
func lineTime(line string) (time.Time, bool) {
	if rest, ok := strings.CutPrefix(line, "time="); ok {
		text, _, _ := strings.Cut(rest, " ")
		t, err := time.Parse(time.RFC3339Nano, text)
		return t, err == nil
	}
	const layout = "2006-01-02 15:04:05.000"
	if len(line) < len(layout) {
		return time.Time{}, false
	}
	t, err := time.Parse(layout, line[:len(layout)])
	return t, err == nil
}

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

// PruneLogs removes the oldest log files of the server beyond 14 files or 1 GiB; the newest always stays. Starting and
// configuring the server do so too; a server that runs on for long needs it once a day.
func (s *Server) PruneLogs() error {
	if err := pruneLogs(s.path("log"), keepLogs, keepLogBytes); err != nil {
		return s.errorf("remove old log files: %w", err)
	}
	return nil
}

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

func tail(path string, n int) []string {
	f, _, size, err := openInode(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	lines, rest := lastLinesOf(f, size, n)
	if len(rest) > 0 {
		lines = append(lines, string(rest))
	}
	return lines
}

// lastWords are the last lines that a server wrote which has just ended: before its logging collector ran, and in its log.
func (s *Server) lastWords(exit guard.Exit) string {
	since := exit.StartedAt.Add(-time.Second)
	var said []string
	for _, l := range stamp(tail(s.path("guard.log"), 30)) {
		if !strings.HasPrefix(l.text, "time=") && !l.at.Before(since) { // the guard's own lines are in exit
			said = append(said, l.text)
		}
	}
	said = said[max(0, len(said)-6):]
	if files := logFiles(s.path("log")); len(files) > 0 && !files[0].at.Before(since) {
		said = append(said, tail(files[0].path, 8)...)
	}
	if len(said) == 0 {
		return ""
	}
	return "; its last words:\n  " + strings.Join(said, "\n  ")
}
