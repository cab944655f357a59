package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockFileName is the lock of a data folder. It holds "PID" or "PID PURPOSE" of its holder, and nothing while nobody holds it.
const lockFileName = "lock"

// dirLock is the right to run the servers of a data folder. It ends with the process, however that ends.
type dirLock struct{ f *os.File }

// lockedError: another process holds the data folder.
type lockedError struct {
	dir     string
	pid     int    // 0 when it is not known who holds it
	purpose string // empty for a process that runs servers
}

func (e *lockedError) Error() string {
	if e.pid <= 0 {
		return fmt.Sprintf("the data folder %s is in use by another process", e.dir)
	}
	return fmt.Sprintf("the data folder %s is in use by process %d", e.dir, e.pid)
}

// lockDir takes the data folder, which must exist, for this process; a *lockedError when another one has it.
func lockDir(dir string) (*dirLock, error) { return lockDirFor(dir, "") }

// lockDirFor is lockDir for a process that runs no servers and says what it does instead.
func lockDirFor(dir, purpose string) (*dirLock, error) {
	for {
		f, err := os.OpenFile(filepath.Join(dir, lockFileName), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock the data folder: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			defer f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				pid, purpose := lockHolder(f)
				return nil, &lockedError{dir, pid, purpose}
			}
			return nil, fmt.Errorf("lock the data folder %s: %w", dir, err)
		}
		if !inPlace(f) { // its holder has deleted it while we came: this is nobody's lock any more
			_ = f.Close()
			continue
		}
		text := strings.TrimSpace(strconv.Itoa(os.Getpid())+" "+purpose) + "\n"
		if err := errors.Join(f.Truncate(0), writeAll(f, text)); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("lock the data folder %s: %w", dir, err)
		}
		return &dirLock{f}, nil
	}
}

func writeAll(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// inPlace tells whether f is still the file of its name.
func inPlace(f *os.File) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	st, err := os.Lstat(f.Name())
	return err == nil && os.SameFile(mine, st)
}

// lockHolder reads who has written itself into the lock file, 0 unless that process really has the file open: what a killed
// process has left there may by now be the number of any other.
func lockHolder(f *os.File) (pid int, purpose string) {
	raw := make([]byte, 64)
	n, _ := f.ReadAt(raw, 0)
	number, purpose, _ := strings.Cut(strings.TrimSpace(string(raw[:n])), " ")
	pid, err := strconv.Atoi(number)
	if err != nil || pid <= 1 || !hasOpen(pid, f) {
		return 0, ""
	}
	return pid, purpose
}

// hasOpen tells whether a process has the file open.
func hasOpen(pid int, f *os.File) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if st, err := os.Stat(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name())); err == nil && os.SameFile(mine, st) {
			return true
		}
	}
	return false
}

// release gives the folder up, and takes our number off the lock.
func (l *dirLock) release() {
	_ = l.f.Truncate(0)
	_ = l.f.Close()
}

// waitLock takes the folder as soon as its holder has gone, or gives up with ctx.
func waitLock(ctx context.Context, dir, purpose string) (*dirLock, error) {
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for {
		l, err := lockDirFor(dir, purpose)
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

// endHolder sends SIGTERM to the process that held says it is, and to no other one that has got its number meanwhile.
func (e *lockedError) endHolder() error {
	fd, err := unix.PidfdOpen(e.pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil
	case err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM): // before Linux 5.3, or a sandbox
		return err
	case err == nil:
		defer unix.Close(fd)
	}
	f, openErr := os.Open(filepath.Join(e.dir, lockFileName))
	if errors.Is(openErr, fs.ErrNotExist) {
		return nil
	}
	if openErr != nil {
		return openErr
	}
	defer f.Close()
	if !hasOpen(e.pid, f) {
		return nil // it has ended: whoever has the number now is somebody else
	}
	if err != nil {
		err = unix.Kill(e.pid, unix.SIGTERM)
	} else {
		err = unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0)
	}
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}
