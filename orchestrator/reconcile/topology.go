package reconcile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// StoreMember is a server of the store as far as somebody could see it.
type StoreMember struct {
	Name string
	// Err says why the member is not healthy; empty if it is.
	Err string
}

// StoreHealth makes the findings about the store from its members; err is why they could not be listed.
func StoreHealth(members []StoreMember, err error) []Finding {
	c := &check{}
	if err != nil {
		c.add(Store, Error, about{}, "start etcd, and look at --etcd", "the store does not answer: %v", err)
		return c.rows
	}
	for _, m := range members {
		if m.Err != "" {
			c.add(Store, Error, about{}, "restart or replace this member of etcd", "store member %s is not healthy: %s", m.Name, m.Err)
		}
	}
	switch {
	case len(members) == 1:
		c.add(Store, Warning, about{}, "run three members of etcd and name them in --etcd", "the store has only one member: if it is lost, so is what has been agreed")
	case len(members)%2 == 0:
		c.add(Store, Warning, about{}, "add or remove a member of etcd", "the store has %d members, which stand no more losses than %d do", len(members), len(members)-1)
	}
	if len(c.rows) == 0 {
		c.add(Store, OK, about{}, "", "the store is OK: %d members", len(members))
	}
	return c.rows
}

// topology looks at how the spec places nodes: what a single loss would take away.
func (c *check) topology() {
	policy := string(c.spec.Placement.Policy)
	if c.spec.Placement.Policy == cluster.Cross && c.spec.Placement.Repfactor != nil {
		policy += fmt.Sprintf(" with repfactor %d", *c.spec.Placement.Repfactor)
	}
	c.add(Topology, OK, about{}, "", "placement policy is %s", policy)
	machines := map[string]bool{}
	for _, h := range c.spec.Hosts {
		machines[h.Machine()] = true
	}
	if len(machines) == 1 {
		c.add(Topology, Warning, about{}, "for data that matter, list hosts on different machines",
			"all hosts are one machine: its loss is the loss of the cluster")
	}
	for _, g := range c.spec.Groups {
		c.spread(g, len(machines) == 1)
	}
}

// spread looks at one group's redundancy.
func (c *check) spread(g cluster.Group, oneMachine bool) {
	addStandby := fmt.Sprintf("add one with `orchestrator group add-standby %d -n HOST`", g.ID)
	if len(g.Nodes) == 0 {
		return // Groups says so
	}
	if len(g.Nodes) == 1 {
		what := "its data are"
		if g.ID == cluster.CoordinatorGroup {
			what = "the only coordinator is"
		}
		c.add(Topology, Warning, ofGroup(g.ID), addStandby, "group %d has no standby: if node %s is lost, %s", g.ID, g.Nodes[0].Name, what)
		return
	}
	on := map[string]bool{}
	var hosts []string
	for _, n := range g.Nodes {
		if h, ok := c.spec.HostOf(n.Host); ok {
			on[h.Machine()] = true
		}
		if !slices.Contains(hosts, n.Host) {
			hosts = append(hosts, n.Host)
		}
	}
	if len(on) == 1 && !oneMachine {
		c.add(Topology, Warning, ofGroup(g.ID), addStandby, "all %d nodes of group %d are on one machine (%s)", len(g.Nodes), g.ID, strings.Join(hosts, ", "))
	}
	primary := c.snap.Groups[g.ID].Primary
	if !slices.ContainsFunc(g.Nodes, func(n cluster.Node) bool { return n.Name != primary && !n.NoFailover }) {
		c.add(Topology, Warning, ofGroup(g.ID), "remove nofailover from one of them", "no standby of group %d may be promoted: all have nofailover", g.ID)
	}
}
