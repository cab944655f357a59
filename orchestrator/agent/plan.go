package agent

import (
	"fmt"
	"slices"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// Kind is what a step does.
type Kind string

// The steps of a keeper.
const (
	// Wait: nothing can be done until something changes; Reason says what is missing.
	Wait Kind = "wait"
	// Keep: all is as it should be.
	Keep Kind = "keep"
	// Refuse: what was found must not be touched; an operator has to look.
	Refuse      Kind = "refuse"
	Acquire     Kind = "acquire grant"
	Release     Kind = "release grant"
	InitDB      Kind = "initdb"
	BaseBackup  Kind = "base backup"
	Start       Kind = "start"
	Configure   Kind = "configure"
	Prepare     Kind = "prepare roles"
	EnsureSlots Kind = "ensure slots"
	StopServer  Kind = "stop"
	Remove      Kind = "remove"
)

// acts tells whether a step does something.
func (k Kind) acts() bool { return k != Wait && k != Keep && k != Refuse }

// Step is the next thing to do for a node.
type Step struct {
	Kind   Kind
	Reason string
}

// View is what the agreed state says about a node.
type View struct {
	Node cluster.Node
	// Placed: the spec still places the node on this host.
	Placed bool
	// Group is the leader's decision; nil until it is made.
	Group *cluster.GroupState
	// Primary is what the group's primary reports; nil when it reports nothing.
	Primary *cluster.NodeStatus
	// Peers are the names of the group's other nodes.
	Peers []string
}

// Seen is what the keeper has found on its host.
type Seen struct {
	Disk Disk
	// Running: there is a server process of this node under a guard.
	Running bool
	// Unknown says why it cannot be told whether a server runs; then nothing may be done that depends on it.
	Unknown string
	// Ready: it accepts connections, and Server is what it says.
	Ready  bool
	Server Observation
	// Held: this agent holds a valid grant of the group under HeldTerm.
	Held     bool
	HeldTerm uint64
	// Configured: the configuration on disk is that of the present settings, and the server has loaded it.
	Configured bool
	// Prepared: the roles have been made since this term began.
	Prepared bool
	// BackingOff says what failed last, while its time of rest is not over.
	BackingOff string
}

// Plan decides the next step for a node. Its rules, in order:
//
//  1. A foreign directory is never touched.
//  2. A node that the spec no longer places here is stopped and removed, unless its data are a primary's.
//  3. The server of a node that may not be primary never runs as one: it is stopped, then the grant released.
//  4. A primary is started only while its grant is held, and initdb happens only while the group is new.
//  5. A standby is cloned only from a primary that runs under the group's term and has its slot.
//  6. Data of another system identifier than the group's are never started.
//  7. While it is not known whether a server runs, nothing is done: the right of a server that may run is kept up, for
//     to release it would make room for another primary.
func Plan(v View, s Seen) Step {
	if s.Disk.Foreign != "" {
		return Step{Refuse, s.Disk.Foreign}
	}
	if s.Unknown != "" {
		return Step{Wait, s.Unknown}
	}
	if !v.Placed {
		return planGone(v, s)
	}
	if v.Group == nil {
		if s.Running && s.Ready && !s.Server.InRecovery {
			return Step{StopServer, "no decision about the group is known"}
		}
		return Step{Wait, "the leader has not yet decided about the group; is `orchestrator serve` running?"}
	}
	if s.Disk.Present && v.Group.SystemID != "" && s.Disk.SystemID != v.Group.SystemID {
		if s.Running {
			return Step{StopServer, "the data belong to another database system"}
		}
		return Step{Refuse, fmt.Sprintf("the data directory has system identifier %s, the group's is %s: move the directory away, and it will be cloned anew",
			s.Disk.SystemID, v.Group.SystemID)}
	}
	if v.Group.Primary == v.Node.Name {
		return planPrimary(v, s)
	}
	return planStandby(v, s)
}

func planGone(v View, s Seen) Step {
	primary := v.Group != nil && v.Group.Primary == v.Node.Name
	switch {
	case primary:
		return Step{Refuse, "the spec no longer lists this node, but it is the group's primary: switch the primary first"}
	case s.Running:
		return Step{StopServer, "the node was removed from the spec"}
	case s.Held:
		return Step{Release, "the node was removed from the spec"}
	case s.Disk.Present && !s.Disk.StandbySignal:
		return Step{Refuse, "the node was removed from the spec, but its data are those of a primary: remove the directory by hand when they are no longer needed"}
	default:
		return Step{Remove, "the node was removed from the spec"}
	}
}

func planPrimary(v View, s Seen) Step {
	term := v.Group.Term
	if s.Disk.Present && s.Disk.StandbySignal {
		return Step{Refuse, "the node is named primary, but its data are a standby's"}
	}
	if !s.Disk.Present && v.Group.Phase != cluster.Initializing {
		return Step{Refuse, "the data directory of the group's primary is gone: restore it, or name another node primary"}
	}
	if s.Held && s.HeldTerm != term {
		if s.Running {
			return Step{StopServer, fmt.Sprintf("the grant is of term %d, the group's term is %d", s.HeldTerm, term)}
		}
		return Step{Release, fmt.Sprintf("the group's term is now %d", term)}
	}
	if !s.Held {
		return Step{Acquire, fmt.Sprintf("to be primary under term %d", term)}
	}
	switch {
	case !s.Disk.Present && s.BackingOff != "":
		return Step{Wait, s.BackingOff}
	case !s.Disk.Present:
		return Step{InitDB, "the group is new"}
	case !s.Running && s.BackingOff != "":
		return Step{Wait, s.BackingOff}
	case !s.Running:
		return Step{Start, fmt.Sprintf("as primary under term %d", term)}
	case !s.Ready:
		return Step{Wait, "the server is starting"}
	case s.Server.InRecovery:
		return Step{Refuse, "the server is in recovery although it is the group's primary"}
	case s.BackingOff != "":
		return Step{Wait, s.BackingOff}
	case !s.Configured:
		return Step{Configure, "the settings have changed"}
	case !s.Prepared:
		return Step{Prepare, "a term has begun, or the database is another one"}
	case !sameSlots(s.Server.Slots, v.Peers):
		return Step{EnsureSlots, "the group's nodes have changed"}
	}
	return Step{Kind: Keep}
}

func planStandby(v View, s Seen) Step {
	if s.Running && s.Ready && !s.Server.InRecovery {
		return Step{StopServer, fmt.Sprintf("%s is the group's primary", v.Group.Primary)}
	}
	if s.Running && s.Disk.Present && !s.Disk.StandbySignal {
		return Step{StopServer, fmt.Sprintf("%s is the group's primary", v.Group.Primary)}
	}
	if s.Held {
		return Step{Release, fmt.Sprintf("%s is the group's primary", v.Group.Primary)}
	}
	if s.Disk.Present && !s.Disk.StandbySignal {
		return Step{Refuse, fmt.Sprintf("the data are those of a former primary, and %s is primary now: move the directory away, and the node will be cloned anew", v.Group.Primary)}
	}
	if !s.Disk.Present {
		if v.Group.Phase != cluster.Running || v.Primary == nil || v.Primary.State != cluster.NodeRunning ||
			v.Primary.Role != cluster.Primary || v.Primary.Term != v.Group.Term {
			return Step{Wait, fmt.Sprintf("the primary %s does not run yet", v.Group.Primary)}
		}
		if !slices.Contains(v.Primary.Slots, v.Node.Name) {
			return Step{Wait, fmt.Sprintf("the primary %s has not yet made the replication slot", v.Group.Primary)}
		}
		if s.BackingOff != "" {
			return Step{Wait, s.BackingOff}
		}
		return Step{BaseBackup, "from " + v.Group.Primary}
	}
	switch {
	case !s.Running && s.BackingOff != "":
		return Step{Wait, s.BackingOff}
	case !s.Running:
		return Step{Start, "as standby of " + v.Group.Primary}
	case s.BackingOff != "":
		return Step{Wait, s.BackingOff}
	case !s.Configured:
		return Step{Configure, "the settings or the primary have changed"}
	case !s.Ready:
		return Step{Wait, "the server is starting"}
	}
	return Step{Kind: Keep}
}

// sameSlots tells whether the slots are those of the given nodes, in any order.
func sameSlots(slots, nodes []string) bool {
	if len(slots) != len(nodes) {
		return false
	}
	for _, n := range nodes {
		if !slices.Contains(slots, n) {
			return false
		}
	}
	return true
}
