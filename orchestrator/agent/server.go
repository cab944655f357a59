package agent

import (
	"context"
	"errors"
	"time"

	"github.com/multicoord/multicoord/failover"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// Disk is what the node's directory holds.
type Disk struct {
	// Present: there is a complete data directory with our marker.
	Present bool
	// Foreign says why the directory must not be touched; empty when it may be.
	Foreign  string
	SystemID string
	// StandbySignal: the server would start as a standby.
	StandbySignal bool
	// Configured: there is a configuration of ours, perhaps an old one.
	Configured bool
}

// Upstream is the server that a standby streams from.
type Upstream struct {
	Node    string
	Address string
	Port    int
	// Slot is the physical replication slot on the upstream that is this standby's.
	Slot string
}

// Settings is what a server's configuration is generated from.
type Settings struct {
	Role       cluster.Role
	Parameters map[string]string
	HBA        []string
	// Upstream is nil for a primary.
	Upstream *Upstream
	// Standbys is the number of the group's nodes beside the primary.
	Standbys int
	// Database is the one that clients get by default; a primary makes it.
	Database string
}

// Running is what the guard tells of a server process.
type Running struct {
	// Alive: there is a process of this node under a guard; the rest is zero when there is none, but for LastExit.
	Alive bool
	// Ended is closed when the process has ended; nil if nobody watches it.
	Ended <-chan struct{}
	// LastExit tells why the last process ended; empty when it was asked to, or never ran.
	LastExit  string
	PID       int
	StartedAt time.Time
	// Right is what the guard knows of the right to be primary; zero for a standby.
	Right failover.Right
}

// Observation is what a server that accepts connections says of itself.
type Observation struct {
	InRecovery bool
	SystemID   string
	Timeline   uint32
	// LSN is the write position of a primary, the replayed position of a standby; Received is what a standby has
	// received and flushed.
	LSN, Received cluster.LSN
	// UpstreamAddress is host:port of the server that the WAL receiver streams from; empty while it does not.
	UpstreamAddress string
	PendingRestart  []string
	Version         string
	// Slots are the nodes for which the server has physical slots, Retained the bytes of log that it keeps for each, and
	// Lost those whose log is gone.
	Slots    []string
	Retained map[string]int64
	Lost     []string
}

// StopMode is PostgreSQL's shutdown mode.
type StopMode string

// The shutdown modes that the agent uses.
const (
	StopFast      StopMode = "fast"
	StopImmediate StopMode = "immediate"
)

// ErrRefused means that the settings would keep the server from starting.
var ErrRefused = errors.New("PostgreSQL refuses the settings")

// Data is the node's directory.
type Data interface {
	Inspect(ctx context.Context) (Disk, error)
	InitDB(ctx context.Context) error
	BaseBackup(ctx context.Context, from Upstream) error
	// Configure writes the configuration; changed tells that a running server must reload it. ErrRefused: PostgreSQL
	// would not take the settings, and the old configuration is still in place.
	Configure(ctx context.Context, s Settings) (changed bool, err error)
	// Remove deletes the directory of a stopped server.
	Remove(ctx context.Context) error
}

// Process is the server's process under its guard.
type Process interface {
	// Running finds the process of this node. An error means that it is not known whether there is one.
	Running(ctx context.Context) (Running, error)
	// Start returns when the process has been started under a guard, not when it accepts connections. A standby
	// is started with a zero right.
	Start(ctx context.Context, r failover.Right) error
	// Extend tells the guard until when the server may be primary.
	Extend(ctx context.Context, r failover.Right) error
	Reload(ctx context.Context) error
	// Stop returns when the process is gone. It escalates within the time given. StopImmediate is for fencing: it asks
	// nobody, and needs less than a second.
	Stop(ctx context.Context, mode StopMode, within time.Duration) error
}

// SQL speaks to the running server as superuser over its private socket. Calls fail while the server does not
// accept connections.
type SQL interface {
	Observe(ctx context.Context) (Observation, error)
	// Prepare makes the roles, the database and the functions that the cluster needs on a primary; it can be repeated.
	Prepare(ctx context.Context, database string) error
	// EnsureSlots makes the physical slots of the given nodes and drops those of ours that are not in the list
	// and not in use.
	EnsureSlots(ctx context.Context, nodes []string) error
	Close()
}

// Server is one node's server on this host.
type Server struct {
	Data    Data
	Process Process
	SQL     SQL
}
