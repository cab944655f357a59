package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// Kind is what a finding is about; the words are those of Shardman's status.
type Kind string

// The kinds, in the order in which they are shown. Findings about the Store come from who can ask it: see StoreHealth.
const (
	Store     Kind = "store"
	Topology  Kind = "topology"
	Metadata  Kind = "metadata"
	Agents    Kind = "agents"
	Groups    Kind = "groups"
	Primaries Kind = "primaries"
	Routers   Kind = "routers"
)

// Kinds lists all kinds in the order in which they are shown.
func Kinds() []Kind {
	return []Kind{Store, Topology, Metadata, Agents, Groups, Primaries, Routers}
}

// Level says how bad a finding is.
type Level int

// The levels.
const (
	// OK: as it should be.
	OK Level = iota
	// Warning: it works, but less well or less safely than the spec asks for, or it is on its way.
	Warning
	// Error: something that the spec asks for does not work.
	Error
)

// String gives Shardman's words.
func (l Level) String() string {
	switch l {
	case OK:
		return "OK"
	case Warning:
		return "Warning"
	default:
		return "Error"
	}
}

// MarshalText makes a level a word in JSON and YAML.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Finding is one row of the status.
type Finding struct {
	Kind  Kind  `json:"kind" yaml:"kind"`
	Level Level `json:"level" yaml:"level"`
	// Group, Node and Host say what it is about, as far as it is about one.
	Group   *int   `json:"group,omitempty" yaml:"group,omitempty"`
	Node    string `json:"node,omitempty" yaml:"node,omitempty"`
	Host    string `json:"host,omitempty" yaml:"host,omitempty"`
	Message string `json:"message" yaml:"message"`
	// Remedy is what the operator can do; empty when there is nothing to do but wait.
	Remedy string `json:"remedy,omitempty" yaml:"remedy,omitempty"`
}

// Worst is the highest level among findings; OK if there are none.
func Worst(findings []Finding) Level {
	worst := OK
	for _, f := range findings {
		worst = max(worst, f.Level)
	}
	return worst
}

// Check lists what is well and what is not: of each kind but Store at least one row, ordered by kind, then by host or
// group. It looks at the agreed state only: what is not reported there it cannot see.
func Check(snap cluster.Snapshot, now time.Time) []Finding {
	if snap.Spec == nil {
		return []Finding{{
			Kind: Metadata, Level: Error, Message: "the cluster has no spec",
			Remedy: "write one with `orchestrator config generate` and store it with `orchestrator init -f FILE`",
		}}
	}
	c := &check{snap: snap, spec: *snap.Spec, now: now}
	c.spec.Groups = slices.SortedFunc(slices.Values(c.spec.Groups), func(a, b cluster.Group) int { return a.ID - b.ID })
	c.topology()
	c.metadata()
	c.agents()
	c.groups()
	c.primaries()
	c.routers()
	return c.rows
}

// check collects findings.
type check struct {
	snap cluster.Snapshot
	// spec is the snapshot's, with the groups ordered by id.
	spec cluster.Spec
	now  time.Time
	rows []Finding
}

// about is what a finding is about.
type about struct {
	group      *int
	node, host string
}

func ofGroup(id int) about { return about{group: &id} }

func ofNode(id int, n cluster.Node) about { return about{group: &id, node: n.Name, host: n.Host} }

func ofHost(name string) about { return about{host: name} }

func (c *check) add(kind Kind, level Level, a about, remedy, format string, args ...any) {
	c.rows = append(c.rows, Finding{
		Kind: kind, Level: level, Group: a.group, Node: a.node, Host: a.host,
		Message: fmt.Sprintf(format, args...), Remedy: remedy,
	})
}

// worstSince is the highest level of the rows added since there were n.
func (c *check) worstSince(n int) Level { return Worst(c.rows[n:]) }

// The remedies that several findings share.

func startAgent(s cluster.Spec, host string) string {
	if h, ok := s.HostOf(host); ok && len(s.Hosts) == 1 && h.Machine() == "loopback" {
		return "run `orchestrator up`"
	}
	return fmt.Sprintf("start `orchestrator agent --name %s` there", host)
}

func seeLogs(node string) string {
	return fmt.Sprintf("see the reason, and `orchestrator logs %s` on its host", node)
}

// because appends a reason to a message.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
