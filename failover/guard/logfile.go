package guard

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// logFile is an append-only file that is moved to path + ".1" when it has grown to size bytes.
type logFile struct {
	path   string
	size   int64
	stderr bool // keep file descriptor 2 on it, for what the Go runtime writes

	mu   sync.Mutex
	file *os.File
	have int64
}

func openLog(path string, size int64, stderr bool) (*logFile, error) {
	l := &logFile{path: path, size: size, stderr: stderr}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open the guard's log: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("open the guard's log: %w", err)
	}
	if l.stderr {
		if err := unix.Dup3(int(f.Fd()), 2, 0); err != nil {
			f.Close()
			return fmt.Errorf("point standard error at the guard's log: %w", err)
		}
	}
	if l.file != nil {
		l.file.Close()
	}
	l.file, l.have = f, st.Size()
	return nil
}

// Write appends p, whole; rotation happens between writes. If the new file cannot be opened, the old one is written on. What
// cannot be written (the disk is full, say) is lost, and that is no error: whoever writes must not stop.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.have > 0 && l.have+int64(len(p)) > l.size {
		if err := os.Rename(l.path, l.path+".1"); err == nil {
			_ = l.open()
		}
	}
	n, _ := l.file.Write(p)
	l.have += int64(n)
	return len(p), nil
}

func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// lateWriter hands lines to a goroutine that writes them, so that a hung disk never holds up the loop. Lines that do not
// fit into its queue are dropped.
type lateWriter struct {
	lines chan []byte
	done  chan struct{}
}

func writeLate(to *logFile) *lateWriter {
	w := &lateWriter{lines: make(chan []byte, 256), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for line := range w.lines {
			_, _ = to.Write(line)
		}
	}()
	return w
}

func (w *lateWriter) Write(p []byte) (int, error) {
	select {
	case w.lines <- append([]byte(nil), p...):
	default:
	}
	return len(p), nil
}
