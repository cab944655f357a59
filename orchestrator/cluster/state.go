package cluster

import "time"

// Phase is a group's stage of life.
type Phase string

// The phases of a group.
const (
	// Initializing: the first primary is being created. Only in this phase may a data directory be made by
	// initdb; it ends when the primary has reported its system identifier.
	Initializing Phase = "initializing"
	// Running: the group has data. A member without data is cloned from the primary, never initialized.
	Running Phase = "running"
)

// GroupState is what the leader has decided about a group (key groups/<id>).
type GroupState struct {
	ID    int   `json:"id"`
	Phase Phase `json:"phase"`
	// Primary is the node that may be primary under Term.
	Primary string `json:"primary"`
	// Term is the fencing number: it grows with every change of the primary, and is never used twice.
	Term uint64 `json:"term"`
	// SystemID is the group's PostgreSQL system identifier, known once the phase is Running.
	SystemID string `json:"system_id,omitempty"`
	// Sync is the set of nodes of which one has every acknowledged commit (synchronous replication).
	Sync []string  `json:"sync,omitempty"`
	At   time.Time `json:"at"`
}

// Grant is the right to be primary (key groups/<id>/grant), held by the primary's agent on a lease.
type Grant struct {
	Group int    `json:"group"`
	Node  string `json:"node"`
	Host  string `json:"host"`
	Term  uint64 `json:"term"`
	// Machine tells in which boot and which process namespace the holder runs, as an agent's does, and DataDir which
	// folder on it the holder keeps: together they tell its heir from an agent of the same name elsewhere.
	Machine string `json:"machine,omitempty"`
	DataDir string `json:"data_dir,omitempty"`
}

// NodeState is where a server is in its life.
type NodeState string

// The states of a node.
const (
	NodeAbsent   NodeState = "absent"   // no data directory yet
	NodeCreating NodeState = "creating" // initdb or base backup under way
	NodeStopped  NodeState = "stopped"
	NodeStarting NodeState = "starting" // started, does not yet accept connections
	NodeRunning  NodeState = "running"
	NodeFailed   NodeState = "failed" // does not run; Reason says why, NextTry when it is tried again
)

// Role is PostgreSQL's: primary or standby.
type Role string

// The roles.
const (
	Primary     Role = "primary"
	Standby     Role = "standby"
	RoleUnknown Role = ""
)

// NodeStatus is what a node's agent reports (key nodes/<name>).
type NodeStatus struct {
	Name    string    `json:"name"`
	Group   int       `json:"group"`
	Host    string    `json:"host"`
	Address string    `json:"address"`
	Port    int       `json:"port"`
	State   NodeState `json:"state"`
	Role    Role      `json:"role,omitempty"`
	// Reason explains a state other than running, or a problem of a running server; empty when all is well.
	Reason   string `json:"reason,omitempty"`
	Term     uint64 `json:"term,omitempty"`
	SystemID string `json:"system_id,omitempty"`
	Timeline uint32 `json:"timeline,omitempty"`
	// LSN is the primary's current write position, or what the standby has replayed.
	LSN LSN `json:"lsn,omitempty"`
	// Received is what the standby has received and flushed.
	Received LSN `json:"received,omitempty"`
	// LagMS is how long ago the primary was where this standby's replay is now, in milliseconds; nil when it is
	// not known (and on a primary).
	LagMS *int64 `json:"lag_ms,omitempty"`
	// Upstream is the node from which the standby streams, empty while its WAL receiver is down.
	Upstream string `json:"upstream,omitempty"`
	// Slots are the nodes for which the server holds physical replication slots.
	Slots []string `json:"slots,omitempty"`
	// Retained is how many bytes of WAL the server keeps for the slot of each node.
	Retained map[string]int64 `json:"retained,omitempty"`
	// LostSlots are the nodes whose slots have lost WAL that they need (max_slot_wal_keep_size).
	LostSlots []string `json:"lost_slots,omitempty"`
	// PendingRestart lists settings that a restart would apply.
	PendingRestart []string `json:"pending_restart,omitempty"`
	// SpecRevision is the revision of the spec that the server's configuration was made from.
	SpecRevision int64     `json:"spec_revision,omitempty"`
	PID          int       `json:"pid,omitempty"`
	Restarts     int       `json:"restarts,omitempty"`
	Version      string    `json:"version,omitempty"`
	StartedAt    time.Time `json:"started_at,omitzero"`
	NextTry      time.Time `json:"next_try,omitzero"`
	At           time.Time `json:"at"`
}

// AgentStatus is what an agent says of itself (key agents/<host>), on its lease.
type AgentStatus struct {
	Host string `json:"host"`
	PID  int    `json:"pid"`
	// Machine tells in which boot and which process namespace PID counts.
	Machine string `json:"machine,omitempty"`
	Version string `json:"version"`
	// PostgreSQL is the version of the binaries that it uses, DataDir its folder.
	PostgreSQL   string    `json:"postgresql,omitempty"`
	DataDir      string    `json:"data_dir,omitempty"`
	SpecRevision int64     `json:"spec_revision,omitempty"`
	Reason       string    `json:"reason,omitempty"`
	At           time.Time `json:"at"`
}

// RouterStatus is what a router says of itself (key routers/<id>), on its lease.
type RouterStatus struct {
	ID     string `json:"id"`
	Listen string `json:"listen"`
	Admin  string `json:"admin,omitempty"`
	// PID and Machine tell which process it is, as an agent's do.
	PID     int    `json:"pid,omitempty"`
	Machine string `json:"machine,omitempty"`
	Version string `json:"version"`
	// Epoch is the epoch of the placements that the router works with.
	Epoch uint64    `json:"epoch"`
	At    time.Time `json:"at"`
}

// LeaderStatus names the elected leader (key leader).
type LeaderStatus struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
}

// Snapshot is the agreed state at one revision of the store. Maps are keyed by the id or the name.
type Snapshot struct {
	Revision int64
	// Spec is nil until init; SpecRevision is the revision at which it was last changed.
	Spec         *Spec
	SpecRevision int64
	Leader       *LeaderStatus
	Groups       map[int]GroupState
	// GroupRevision is the revision at which a group's state was last changed; a commit compares on it.
	GroupRevision map[int]int64
	Grants        map[int]Grant
	Nodes         map[string]NodeStatus
	Agents        map[string]AgentStatus
	Routers       map[string]RouterStatus
}

// Event is one line of the history (key history/<time>-<seq>): what, why, how long, with what result.
type Event struct {
	At       time.Time `json:"at"`
	Kind     string    `json:"kind"`
	Group    *int      `json:"group,omitempty"`
	Node     string    `json:"node,omitempty"`
	Message  string    `json:"message"`
	Duration Duration  `json:"duration,omitempty"`
}
