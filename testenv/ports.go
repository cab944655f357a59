package testenv

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Ports are taken from below the range that Linux hands out for outgoing connections (32768 to 60999), so that
// a connection that happens to be open is never in the way of a server that is about to be started.
const (
	firstPort = 17000
	lastPort  = 31999
)

// loopback are the addresses on which tests listen.
func loopback() []string {
	return []string{"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6"}
}

// Port reserves a port until the test ends; see Block.
func (e *Env) Port() int {
	e.TB.Helper()
	return e.Block(1)
}

// Block reserves n consecutive ports until the test ends and gives the first. A reservation is a lock on bytes of
// a file that all test processes of this machine share, one byte for each port; a process that dies gives its
// own up. Reserved ports are free on every loopback address that tests use.
func (e *Env) Block(n int) int {
	e.TB.Helper()
	for range 200 {
		first := firstPort + rand.IntN(lastPort-firstPort-n)
		lock, err := reserve(first, n)
		if errors.Is(err, errTaken) {
			continue
		}
		if err != nil {
			e.TB.Fatalf("reserve ports: %v", err)
		}
		e.TB.Cleanup(func() { lock.Close() })
		return first
	}
	e.TB.Fatalf("no %d consecutive ports are free between %d and %d", n, firstPort, lastPort)
	return 0
}

var errTaken = errors.New("port taken")

// reserve locks the ports and looks whether somebody who does not reserve has them. Closing the file ends the
// reservation.
func reserve(first, n int) (lock *os.File, err error) {
	lock, err = openLocks(filepath.Join(os.TempDir(), "multicoord-test-ports"))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	// A lock of the open file, not of the process: two tests of one process exclude each other too.
	err = unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: int64(first), Len: int64(n)})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTaken, err)
	}
	for port := first; port < first+n; port++ {
		for _, addr := range loopback() {
			l, err := net.Listen("tcp", net.JoinHostPort(addr, strconv.Itoa(port)))
			if err != nil {
				return nil, fmt.Errorf("%w: %w", errTaken, err)
			}
			l.Close()
		}
	}
	return lock, nil
}

// openLocks opens the shared file for every user. Linux refuses to open somebody else's file in a sticky folder
// for creation (fs.protected_regular), so that it is created only when it is missing.
func openLocks(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666); err == nil {
			err = f.Chmod(0o666)
		}
	}
	return f, err
}
