package reconcile

import (
	"net"
	"strconv"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// primaries has a row for each group that has a state: who its primary is, or why it has none that works.
func (c *check) primaries() {
	for _, g := range c.spec.Groups {
		st, ok := c.snap.Groups[g.ID]
		if !ok {
			c.add(Primaries, Error, ofGroup(g.ID), "", "group %d has no primary yet", g.ID)
			continue
		}
		c.primary(g, st)
	}
}

func (c *check) primary(g cluster.Group, st cluster.GroupState) {
	status, reported := c.snap.Nodes[st.Primary]
	a := about{group: &st.ID, node: st.Primary, host: status.Host}
	if n, _, ok := c.spec.NodeOf(st.Primary); ok {
		a.host = n.Host
	}
	remedy := seeLogs(st.Primary)
	if _, alive := c.snap.Agents[a.host]; !alive && a.host != "" {
		remedy = startAgent(c.spec, a.host)
	}
	grant, granted := c.snap.Grants[g.ID]
	switch {
	case !reported:
		c.add(Primaries, Error, a, remedy, "the primary of group %d, %s, is not known to run: nothing is reported about it", g.ID, st.Primary)
	case status.State != cluster.NodeRunning && st.Phase == cluster.Initializing && status.State != cluster.NodeFailed:
		c.add(Primaries, Warning, a, "", "the primary of group %d, %s, is being made", g.ID, st.Primary)
	case status.State != cluster.NodeRunning:
		c.add(Primaries, Error, a, remedy, "the primary of group %d, %s, does not run (%s%s)", g.ID, st.Primary, status.State, because(status.Reason))
	case status.Role != cluster.Primary:
		c.add(Primaries, Error, a, remedy, "%s is to be the primary of group %d, but runs as a standby", st.Primary, g.ID)
	case granted && (grant.Node != st.Primary || grant.Term != st.Term):
		c.add(Primaries, Error, a, "", "the right to be primary of group %d is held by %s under term %d, but agreed is %s under term %d",
			g.ID, grant.Node, grant.Term, st.Primary, st.Term)
	case !granted:
		c.add(Primaries, Error, a, remedy, "the primary of group %d, %s, has no right to be it (no grant): its guard is about to stop it", g.ID, st.Primary)
	default:
		c.add(Primaries, OK, a, "", "the primary of group %d, %s, is running on %s", g.ID, st.Primary, net.JoinHostPort(status.Address, strconv.Itoa(status.Port)))
	}
}
