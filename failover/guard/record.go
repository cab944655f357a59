package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// writeExit writes the exit record so that readers see the old one or the new one, whole.
func writeExit(path string, e Exit) error {
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	// One guard at a time: its lock is held.
	tmp, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(b, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// ReadExit reads the exit record of a node's last server; an error that is os.ErrNotExist if there is none.
func ReadExit(path string) (Exit, error) {
	var e Exit
	raw, err := os.ReadFile(path)
	if err != nil {
		return e, fmt.Errorf("read the exit record: %w", err)
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return e, fmt.Errorf("read the exit record %s: %w", path, err)
	}
	return e, nil
}

// clearLeftovers ends processes that still work in the data directory (their guard was killed, or somebody started a server
// by hand), and then removes what PostgreSQL would take for a sign of another server: the lock files of its sockets, and a
// postmaster.pid whose pid is a stranger's now, or that of a zombie which nobody has collected.
func clearLeftovers(ctx context.Context, cfg Config, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	pids, err := Processes(cfg.DataDir)
	if err != nil {
		return err
	}
	if len(pids) > 0 {
		log.Warn("ending processes of an earlier server", "pids", pids)
		if err := EndProcesses(ctx, cfg.DataDir, time.Second); err != nil {
			return err
		}
	}
	if err := clearSockets(cfg.SocketDir); err != nil {
		return err
	}
	path := filepath.Join(cfg.DataDir, "postmaster.pid")
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil // none, or the server will say what is wrong
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 0 {
		return nil
	}
	if _, there := readProcess(pid); there && !runsPostgres(pid) {
		log.Warn("removing a stale postmaster.pid: its pid is not a server's", "pid", pid)
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove the stale %s: %w", path, err)
		}
	}
	return nil
}

func clearSockets(dir string) error {
	if dir == "" {
		return nil
	}
	stale, err := filepath.Glob(filepath.Join(dir, ".s.PGSQL.*"))
	if err != nil {
		return fmt.Errorf("look for stale sockets: %w", err)
	}
	for _, path := range stale {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove a stale socket: %w", err)
		}
	}
	return nil
}
