package physical

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

// InitDB creates the first server of a group: checksums, SCRAM for everything, UTF8 with C.UTF-8 (or C, where the system has
// no C.UTF-8). Killed at any moment, it leaves either no data directory or a whole one. ErrExists if there is one.
func (s *Server) InitDB(ctx context.Context, superPassword string) error {
	if superPassword == "" || strings.ContainsAny(superPassword, "\r\n") {
		return s.errorf("create the data directory: the superuser's password is empty or has more than one line")
	}
	return s.create(ctx, "initdb", func(lock *os.File) error {
		// The password goes in by a file: the file is removed even if we are killed, by the next run.
		pw := s.path("pwfile")
		if _, err := replaceFile(pw, []byte(superPassword+"\n"), &s.cfg.Account); err != nil {
			return fmt.Errorf("write the password file: %w", err)
		}
		defer os.Remove(pw)
		err := s.initdb(ctx, lock, pw, "C.UTF-8")
		if err != nil && strings.Contains(err.Error(), "invalid locale name") {
			s.cfg.Log.Warn("the system has no locale C.UTF-8, using C", "node", s.cfg.Node)
			if err = s.emptyPartial(); err == nil {
				err = s.initdb(ctx, lock, pw, "C")
			}
		}
		return err
	})
}

func (s *Server) initdb(ctx context.Context, lock *os.File, pwfile, locale string) error {
	_, err := command{
		account: s.cfg.Account, lock: lock,
		argv: []string{
			s.cfg.Bin.program("initdb"), "-D", s.partial(), "--username=" + Superuser, "--pwfile=" + pwfile,
			"--auth-local=scram-sha-256", "--auth-host=scram-sha-256", "--data-checksums", "--encoding=UTF8",
			"--locale=" + locale, "--no-sync", "--no-instructions",
		},
	}.run(ctx)
	return err
}

// BaseBackup clones the upstream through a physical slot that exists there. The result is a standby: standby.signal is in it
// before it appears. progress (may be nil) is called with bytes from one goroutine at a time; total is an estimate.
// A page's checksum is verified by PostgreSQL when the upstream reads it and when we do, and the transfer is TCP's, so the
// backup's manifest is not verified on top: that would read everything once more.
func (s *Server) BaseBackup(ctx context.Context, up Upstream, progress func(done, total int64)) error {
	return s.create(ctx, "pg_basebackup", func(lock *os.File) error {
		if err := s.writePassfile(up); err != nil {
			return err
		}
		if progress == nil {
			progress = func(int64, int64) {}
		}
		_, err := command{
			account: s.cfg.Account, lock: lock,
			lines: func(line string) {
				if done, total, ok := parseProgress(line); ok {
					progress(done, total)
				}
			},
			argv: []string{
				s.cfg.Bin.program("pg_basebackup"), "-D", s.partial(), "--dbname=" + s.conninfo(up), "--slot=" + up.Slot,
				"--wal-method=stream", "--checkpoint=fast", "--no-sync", "--no-password", "--progress", "--verbose",
			},
		}.run(ctx)
		if err != nil {
			return fmt.Errorf("from %s:%d: %w", up.Address, up.Port, err)
		}
		// Settings that somebody made on the upstream with ALTER SYSTEM are the upstream's.
		if _, err := replaceFile(filepath.Join(s.partial(), "postgresql.auto.conf"), nil, &s.cfg.Account); err != nil {
			return err
		}
		_, err = replaceFile(filepath.Join(s.partial(), standbySignal), nil, &s.cfg.Account)
		return err
	})
}

// parseProgress reads pg_basebackup's "  1234/5678 kB (21%), 0/1 tablespace".
func parseProgress(line string) (done, total int64, ok bool) {
	numbers, _, found := strings.Cut(line, " kB (")
	left, right, slash := strings.Cut(strings.TrimSpace(numbers), "/")
	d, err1 := strconv.ParseInt(left, 10, 53)
	t, err2 := strconv.ParseInt(right, 10, 53)
	if !found || !slash || err1 != nil || err2 != nil {
		return 0, 0, false
	}
	return d << 10, t << 10, true
}

func (s *Server) partial() string { return s.path("data.partial") }

// create runs fill on an empty data.partial and publishes the result as the data directory.
func (s *Server) create(ctx context.Context, what string, fill func(lock *os.File) error) error {
	s.work.Lock()
	defer s.work.Unlock()
	begun := time.Now()
	if err := s.cfg.Account.CheckReach(ctx, s.cfg.Dir); err != nil {
		return s.errorf("%w", err)
	}
	if err := s.claim(); err != nil {
		return err
	}
	if err := s.cfg.Account.CheckReach(ctx, s.cfg.Dir); err != nil { // our umask may have closed what we made
		return s.errorf("%w", err)
	}
	lock, err := s.lockWork(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := os.Lstat(s.DataDir()); !errors.Is(err, fs.ErrNotExist) {
		return s.errorf("create the data directory: %w (%s)", ErrExists, s.DataDir())
	}
	if err := s.emptyPartial(); err != nil {
		return s.errorf("create the data directory: %w", err)
	}
	if err := fill(lock); err != nil {
		return s.errorf("create the data directory: %w", err)
	}
	if err := publish(s.partial(), s.DataDir()); err != nil {
		return s.errorf("create the data directory: %w", err)
	}
	s.cfg.Log.Info("data directory created", "node", s.cfg.Node, "by", what, "dir", s.DataDir(), "seconds", time.Since(begun).Seconds())
	return nil
}

// emptyPartial removes what an interrupted attempt has left and makes the folder anew, for the account.
func (s *Server) emptyPartial() error {
	if err := os.RemoveAll(s.partial()); err != nil {
		return err
	}
	_ = os.Remove(s.path("pwfile"))
	if err := os.Mkdir(s.partial(), 0o700); err != nil {
		return err
	}
	return s.cfg.Account.chown(s.partial())
}

// lockWork keeps two agents from working on one folder. The programs that an agent starts inherit the lock, so it also tells
// of those that a killed agent has left behind: pg_basebackup's second process goes on receiving WAL. They are killed.
func (s *Server) lockWork(ctx context.Context) (*os.File, error) {
	f, err := os.OpenFile(s.path("work.lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, s.errorf("lock its folder: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return f, nil
		}
		agents, programs := holders(f)
		for _, pid := range programs {
			if len(agents) == 0 && !below(pid, os.Getpid()) {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, s.errorf("lock its folder %s, in which other processes are at work (agents %v, their programs %v): %w",
				s.cfg.Dir, agents, programs, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Remove deletes the node's folder: only one with our marker, and only while the server is stopped. The marker goes last, so
// that an interrupted Remove can be repeated.
func (s *Server) Remove(ctx context.Context) error {
	s.work.Lock()
	defer s.work.Unlock()
	if err := s.checkOurs(); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if err := s.stopped(ctx); err != nil {
		return s.errorf("remove its folder: %w", err)
	}
	lock, err := s.lockWork(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := s.run.remove(); err != nil {
		return s.errorf("remove its folder: %w", err)
	}
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return s.errorf("remove its folder: %w", err)
	}
	for _, e := range entries {
		if e.Name() == markerFile || e.Name() == "lost+found" {
			continue
		}
		if err := os.RemoveAll(s.path(e.Name())); err != nil {
			return s.errorf("remove its folder: %w", err)
		}
	}
	if err := os.Remove(s.path(markerFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.errorf("remove its folder: %w", err)
	}
	if err := os.Remove(s.cfg.Dir); err != nil { // a mount point, perhaps: it is empty, and that is what matters
		s.cfg.Log.Debug("the node's folder stays", "node", s.cfg.Node, "err", err)
	}
	return nil
}
