package reconcile

import (
	"maps"
	"slices"
	"strings"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// metadata looks for contradictions within what has been agreed and reported.
func (c *check) metadata() {
	before := len(c.rows)
	if c.snap.Leader == nil {
		c.add(Metadata, Error, about{}, "start `orchestrator serve` (or `orchestrator up`)", "no orchestrator leads: nothing is decided")
	}
	for _, id := range slices.Sorted(maps.Keys(c.snap.Groups)) {
		c.agreement(c.snap.Groups[id])
	}
	for _, name := range slices.Sorted(maps.Keys(c.snap.Nodes)) {
		if _, _, ok := c.spec.NodeOf(name); !ok {
			n := c.snap.Nodes[name]
			c.add(Metadata, Warning, about{node: name, host: n.Host}, "", "node %s is no longer in the spec; host %s still has it%s", name, n.Host, because(n.Reason))
		}
	}
	c.systemIDs()
	for _, p := range slices.Sorted(maps.Keys(c.spec.PostgreSQL.Parameters)) {
		switch value := strings.ToLower(c.spec.PostgreSQL.Parameters[p]); {
		case !slices.Contains([]string{"fsync", "full_page_writes"}, strings.ToLower(p)):
		case slices.Contains([]string{"off", "false", "no", "0", "f", "n"}, value):
			c.add(Metadata, Warning, about{}, "for data that matter, run `orchestrator config set postgresql.parameters."+p+"=`",
				"%s is off: a crash of a machine can destroy data", p)
		}
	}
	if c.worstSince(before) == OK {
		c.add(Metadata, OK, about{}, "", "metadata is OK: spec at revision %d, leader is %s", c.snap.SpecRevision, c.snap.Leader.ID)
	}
}

// agreement compares a group's agreed state with the spec.
func (c *check) agreement(st cluster.GroupState) {
	g, ok := c.spec.GroupOf(st.ID)
	switch {
	case !ok:
		c.add(Metadata, Error, ofGroup(st.ID), "put the group back into the spec; it may go when its data have moved",
			"group %d has data on %s, but is not in the spec", st.ID, st.Primary)
	case !hasNode(g, st.Primary):
		c.add(Metadata, Error, about{group: &st.ID, node: st.Primary}, "put the node back into the spec, switch the primary, then remove it",
			"node %s is the primary of group %d, but is not in the spec", st.Primary, st.ID)
	}
}

// systemIDs reports two groups with one system identifier: one was copied from the other, and nothing that tells them
// apart by it is safe.
func (c *check) systemIDs() {
	owner := map[string]int{}
	for _, id := range slices.Sorted(maps.Keys(c.snap.Groups)) {
		sysid := c.snap.Groups[id].SystemID
		if other, ok := owner[sysid]; ok && sysid != "" {
			c.add(Metadata, Error, ofGroup(id), "one of them is a copy of the other: remove the one that was made by copying",
				"groups %d and %d have the same system identifier %s", other, id, sysid)
			continue
		}
		owner[sysid] = id
	}
}
