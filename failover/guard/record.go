package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
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
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
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
// by hand), and removes a postmaster.pid whose pid now belongs to a stranger, at which PostgreSQL would stop.
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
	if _, alive := readProcess(pid); alive && !slices.Contains(pids, pid) && unix.Kill(pid, 0) == nil {
		log.Warn("removing a stale postmaster.pid: its pid belongs to another program now", "pid", pid)
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove the stale %s: %w", path, err)
		}
	}
	return nil
}
