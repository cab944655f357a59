package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/multicoord/multicoord/failover"
)

// Config is what a guard is started with: JSON on its standard input, without secrets. All paths are absolute.
type Config struct {
	// Node names the server in messages.
	Node string `json:"node"`
	// Socket is the unix socket (at most 103 bytes) on which the guard answers. Its folder must be private.
	Socket string `json:"socket"`
	// Postgres is the command line of the server; Env its whole environment.
	Postgres []string `json:"postgres"`
	Env      []string `json:"env,omitempty"`
	// Credential is the account that the server runs as; nil for the guard's own.
	Credential *Credential `json:"credential,omitempty"`
	// DataDir is PGDATA.
	DataDir string `json:"data_dir"`
	// SocketDir is the folder of the server's unix sockets, which belongs to this server alone; "" for none.
	SocketDir string `json:"socket_dir,omitempty"`
	// LockFile is held (flock) as long as the guard lives. StateFile receives the exit record. LogFile receives the
	// guard's own log and what postgres writes before its logging collector runs; at LogSize bytes (default 1 MiB) it is
	// moved to LogFile + ".1".
	LockFile  string `json:"lock_file"`
	StateFile string `json:"state_file"`
	LogFile   string `json:"log_file"`
	LogSize   int64  `json:"log_size,omitempty"`
	// Term and Deadline are the right to be primary to begin with; zero for a standby.
	Term     uint64           `json:"term,omitempty"`
	Deadline failover.Instant `json:"deadline,omitempty"`
	// KillAfter is the time between SIGQUIT and SIGKILL (default failover.KillAfter).
	KillAfter time.Duration `json:"kill_after,omitempty"`
	// StopTimeout bounds the fast stop on SIGTERM before it becomes an immediate one (default 30 s).
	StopTimeout time.Duration `json:"stop_timeout,omitempty"`
	// ImmediateTimeout bounds an immediate stop that was asked for before SIGKILL (default 6 s: PostgreSQL itself kills what
	// has not ended after 5 s, SIGKILL_CHILDREN_AFTER_SECS in src/backend/postmaster/postmaster.c).
	ImmediateTimeout time.Duration `json:"immediate_timeout,omitempty"`
}

// Credential is an OS account by numbers.
type Credential struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
}

// maxConfig bounds the configuration on standard input, in bytes.
const maxConfig = 1 << 20

// ReadConfig reads a Config, up to the end of r.
func ReadConfig(r io.Reader) (Config, error) {
	var cfg Config
	raw, err := io.ReadAll(io.LimitReader(r, maxConfig+1))
	if err != nil {
		return cfg, fmt.Errorf("read the guard's configuration: %w", err)
	}
	if len(raw) > maxConfig {
		return cfg, errors.New("the guard's configuration on standard input is longer than 1 MiB")
	}
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return cfg, fmt.Errorf("read the guard's configuration (the agent starts this command; it is not for use by hand): %w", err)
	}
	return cfg, nil
}

func (c Config) complete() (Config, error) {
	for _, p := range []struct{ name, path string }{
		{"socket", c.Socket},
		{"data_dir", c.DataDir},
		{"lock_file", c.LockFile},
		{"state_file", c.StateFile},
		{"log_file", c.LogFile},
	} {
		if !filepath.IsAbs(p.path) {
			return c, fmt.Errorf("guard's configuration: %s %q is not an absolute path", p.name, p.path)
		}
	}
	if len(c.Postgres) == 0 || !filepath.IsAbs(c.Postgres[0]) {
		return c, errors.New("guard's configuration: postgres is not a command with an absolute path")
	}
	if len(c.Socket) > 103 {
		return c, fmt.Errorf("guard's configuration: the socket path %s is longer than 103 bytes", c.Socket)
	}
	if c.LogSize <= 0 {
		c.LogSize = 1 << 20
	}
	if c.KillAfter <= 0 {
		c.KillAfter = failover.KillAfter
	}
	if c.StopTimeout <= 0 {
		c.StopTimeout = 30 * time.Second
	}
	if c.ImmediateTimeout <= 0 {
		c.ImmediateTimeout = 6 * time.Second
	}
	return c, nil
}
