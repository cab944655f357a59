package physical

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"

	"github.com/multicoord/multicoord/failover/guard"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// The names of the cluster's roles that this package uses.
const (
	Superuser   = "postgres"
	Replicator  = "multicoord_replicator"
	slotPrefix  = "multicoord_"
	likePrefix  = `multicoord\_%`
	maxPathLen  = 103 // of a unix socket, in bytes, with its end (sun_path has 108 on Linux, 104 elsewhere)
	maxPortName = ".s.PGSQL.65535.lock"
)

// Config says which server is meant. All paths are absolute.
type Config struct {
	Log *slog.Logger
	// Self is the path of the orchestrator, which has the command "guard".
	Self    string
	Bin     Binaries
	Account Account
	// Dir is the node's folder.
	Dir                    string
	ClusterID, ClusterName string
	Node                   string
	Group                  int
	// Host is the name of the host that keeps the node; it goes into the marker. It may be empty.
	Host string
	// Address is the host's address under which the server listens and is reached.
	Address string
	Port    int
}

// Server is a PostgreSQL server on this host, running or not. Its methods are safe for concurrent use; those that change
// the folder exclude each other.
type Server struct {
	cfg Config
	run runDir

	work sync.Mutex // held by calls that change the folder or start the server

	mu     sync.Mutex
	guards []int // pids of guards that we have launched and not yet collected
}

// What callers branch on.
var (
	// ErrNotRunning: no server of this folder is running.
	ErrNotRunning = guard.ErrNotRunning
	// ErrStarting: the server runs but does not accept connections yet (crash recovery, catching up).
	ErrStarting = errors.New("the server is still starting")
	// ErrForeign: the folder is not this node's. Nothing was changed.
	ErrForeign = errors.New("foreign folder")
	// ErrExists: there already is a data directory.
	ErrExists = errors.New("there already is a data directory")
	// ErrRunning: this needs a stopped server.
	ErrRunning = errors.New("the server is running")
)

// New describes a server. It touches nothing.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, run: runDirOf(cfg.Dir)}
}

func (s *Server) path(name string) string { return filepath.Join(s.cfg.Dir, name) }

// DataDir is PGDATA.
func (s *Server) DataDir() string { return s.path("data") }

// SocketDir is the private folder with the server's unix socket.
func (s *Server) SocketDir() string { return s.run.postgres() }

// SlotName is the name of the physical slot through which a node streams: our prefix, and the node's name with what a slot's name
// may not contain (ReplicationSlotValidateName: a-z, 0-9, _) replaced. Node names have at most 40 of a-z, 0-9 and '-', so
// the result is valid and unique.
func SlotName(node string) string {
	return slotPrefix + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(node))
}

// Upstream is the server that a standby streams from.
type Upstream struct {
	Address  string
	Port     int
	User     string // default Replicator
	Password string
	// Slot is the standby's physical slot on the upstream.
	Slot string
}

func (u Upstream) user() string {
	if u.User == "" {
		return Replicator
	}
	return u.User
}

// Settings is what a server's configuration is made from.
type Settings struct {
	Role cluster.Role
	// Parameters are the spec's; they override our defaults, and may not name what is managed.
	Parameters map[string]string
	// HBA are lines put before ours in pg_hba.conf.
	HBA []string
	// Upstream is where a standby streams from. A primary keeps it nil. A standby without one waits for WAL that does not come.
	Upstream *Upstream
	// Standbys is how many nodes the group has beside its primary: each may need a slot and a WAL sender of it.
	Standbys int
}

func (s *Server) errorf(format string, args ...any) error {
	return fmt.Errorf("node %s: "+format, append([]any{s.cfg.Node}, args...)...)
}
