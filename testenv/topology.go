package testenv

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// Topology is what `orchestrator topology -o json` shows.
type Topology struct {
	Cluster string  `json:"cluster"`
	Groups  []Group `json:"groups"`
	Routers []struct {
		ID     string `json:"id"`
		Listen string `json:"listen"`
	} `json:"routers"`
}

// Group is a group of the topology.
type Group struct {
	ID      int    `json:"id"`
	Phase   string `json:"phase"`
	Primary string `json:"primary"`
	Term    uint64 `json:"term"`
	Nodes   []Node `json:"nodes"`
}

// Node is a node of the topology.
type Node struct {
	Name     string            `json:"node"`
	Host     string            `json:"host"`
	Address  string            `json:"address"`
	Port     int               `json:"port"`
	Role     cluster.Role      `json:"role"`
	Agreed   cluster.Role      `json:"agreed_role"`
	State    cluster.NodeState `json:"state"`
	Timeline uint32            `json:"timeline"`
	LSN      cluster.LSN       `json:"lsn"`
	LagBytes *uint64           `json:"lag_bytes"`
	LagMS    *int64            `json:"lag_ms"`
	Upstream string            `json:"upstream"`
	Reason   string            `json:"reason"`
	InSpec   bool              `json:"in_spec"`
	// Group is the node's group; it is not part of the output.
	Group int `json:"-"`
}

// Nodes lists all nodes, the coordinators first.
func (t Topology) Nodes() []Node {
	var all []Node
	for _, g := range t.Groups {
		all = append(all, g.Nodes...)
	}
	return all
}

// Group finds a group by id; its zero value if there is none.
func (t Topology) Group(id int) Group {
	for _, g := range t.Groups {
		if g.ID == id {
			return g
		}
	}
	return Group{}
}

// Node finds a node by name; its zero value if there is none.
func (t Topology) Node(name string) Node {
	for _, n := range t.Nodes() {
		if n.Name == name {
			return n
		}
	}
	return Node{}
}

// Standbys are the nodes of a group that are not its primary.
func (g Group) Standbys() []Node {
	var standbys []Node
	for _, n := range g.Nodes {
		if n.Name != g.Primary {
			standbys = append(standbys, n)
		}
	}
	return standbys
}

// ready tells why a node does not do yet what it is there for.
func (n Node) ready() error {
	switch {
	case !n.InSpec:
		return fmt.Errorf("node %s is leaving", n.Name)
	case n.State != cluster.NodeRunning || n.Role != n.Agreed || n.Role == cluster.RoleUnknown:
		return fmt.Errorf("node %s is %s as %q, to be %q: %s", n.Name, n.State, n.Role, n.Agreed, n.Reason)
	case n.Role == cluster.Standby && n.Upstream == "":
		return fmt.Errorf("node %s does not stream: %s", n.Name, n.Reason)
	}
	return nil
}

func parseTopology(r Result) (Topology, error) {
	var t Topology
	if r.Code != 0 {
		return t, errors.New(r.String())
	}
	if err := json.Unmarshal([]byte(r.Stdout), &t); err != nil {
		return t, fmt.Errorf("read the topology: %w in %s", err, r.Stdout)
	}
	for i, g := range t.Groups {
		for j := range g.Nodes {
			t.Groups[i].Nodes[j].Group = g.ID
		}
	}
	if len(t.Groups) == 0 {
		return t, errors.New("the topology has no groups yet")
	}
	return t, nil
}
