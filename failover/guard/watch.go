package guard

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// signalFile is what makes PostgreSQL a standby.
const signalFile = "standby.signal"

// isPrimary tells whether a server in this data directory is a primary, or about to be one: everything except a
// standby.signal that is surely there counts as primary.
func isPrimary(dataDir string) bool {
	_, err := os.Lstat(filepath.Join(dataDir, signalFile))
	return err != nil
}

// watchPromotion closes the channel that it returns once the server is a primary. It looks on every change in the data
// directory (inotify) and at every tick. The goroutine ends with ctx.
func watchPromotion(ctx context.Context, dataDir string) <-chan struct{} {
	promoted := make(chan struct{})
	events, every := make(chan struct{}, 1), 250*time.Millisecond
	in, err := watchRemovals(dataDir)
	if err != nil {
		every = 25 * time.Millisecond // no inotify: look more often
	}
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		if in != nil {
			defer in.Close()
			go forward(in, events)
		}
		for !isPrimary(dataDir) {
			select {
			case <-ctx.Done():
				return
			case <-events:
			case <-tick.C:
			}
		}
		close(promoted)
	}()
	return promoted
}

func watchRemovals(dir string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_DELETE|unix.IN_MOVED_FROM|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("inotify: %w", err)
	}
	return os.NewFile(uintptr(fd), "inotify"), nil
}

// forward turns readable data into events until f is closed.
func forward(f *os.File, events chan<- struct{}) {
	buf := make([]byte, 4096)
	for {
		if _, err := f.Read(buf); err != nil {
			return
		}
		select {
		case events <- struct{}{}:
		default:
		}
	}
}

// alarm is a timer on CLOCK_BOOTTIME. Go's timers stand still while the machine is suspended.
type alarm struct {
	C    chan struct{}
	file *os.File
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create a timer: %w", err)
	}
	a := &alarm{C: make(chan struct{}, 1), file: os.NewFile(uintptr(fd), "timerfd")}
	go forward(a.file, a.C)
	return a, nil
}

// set arms the alarm for an instant (a past one fires at once); zero disarms it.
func (a *alarm) set(at Instant) error {
	raw, err := a.file.SyscallConn()
	if err != nil {
		return err
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(at))}
	var setErr error
	if err := raw.Control(func(fd uintptr) {
		setErr = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &spec, nil)
	}); err != nil {
		return err
	}
	return setErr
}

func (a *alarm) close() { a.file.Close() }
