package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// dirLock is the right to run the servers of a data folder. It ends with the process, however that ends.
type dirLock struct{ f *os.File }

// lockedError: another process holds the data folder.
type lockedError struct {
	dir string
	pid int // 0 when it has not yet said
}

func (e *lockedError) Error() string {
	return fmt.Sprintf("the data folder %s is in use by process %d", e.dir, e.pid)
}

// lockDir takes the data folder, which must exist, for this process; a *lockedError when another one has it.
func lockDir(dir string) (*dirLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &lockedError{dir, lockHolder(dir)}
		}
		return nil, fmt.Errorf("lock the data folder %s: %w", dir, err)
	}
	if err := errors.Join(f.Truncate(0), writeAll(f, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock the data folder %s: %w", dir, err)
	}
	return &dirLock{f}, nil
}

func writeAll(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// lockHolder reads who has written itself into the lock file. It is the holder only while the lock is held.
func lockHolder(dir string) int {
	b, err := os.ReadFile(filepath.Join(dir, "lock"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return 0
	}
	return pid
}

// release gives the folder up.
func (l *dirLock) release() { _ = l.f.Close() }

// waitLock takes the folder as soon as its holder has gone, or gives up with ctx.
func waitLock(ctx context.Context, dir string) (*dirLock, error) {
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for {
		l, err := lockDir(dir)
		var held *lockedError
		if !errors.As(err, &held) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w, which did not end in time", err)
		case <-t.C:
		}
	}
}
