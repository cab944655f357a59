package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// groups looks at the members of each group. What concerns a group's primary as such is said under Primaries.
func (c *check) groups() {
	for _, g := range c.spec.Groups {
		before := len(c.rows)
		st, ok := c.snap.Groups[g.ID]
		switch {
		case !ok:
			c.unborn(g)
			continue
		case st.Phase == cluster.Initializing:
			c.add(Groups, Warning, ofGroup(g.ID), "", "group %d is being created, for %s so far", g.ID, c.since(st.At))
		}
		for _, n := range g.Nodes {
			c.member(g, st, n)
		}
		c.slots(g, st)
		if c.worstSince(before) == OK {
			c.add(Groups, OK, ofGroup(g.ID), "", "group %d is OK: %s", g.ID, strength(len(g.Nodes)-1))
		}
	}
}

func strength(standbys int) string {
	switch standbys {
	case 0:
		return "a primary"
	case 1:
		return "a primary and 1 standby"
	default:
		return fmt.Sprintf("a primary and %d standbys", standbys)
	}
}

func (c *check) since(t time.Time) time.Duration { return max(0, c.now.Sub(t)).Round(time.Second) }

// unborn says why a group has no state yet.
func (c *check) unborn(g cluster.Group) {
	if w := waitsFor(c.snap, g); w != nil {
		c.rows = append(c.rows, *w)
		return
	}
	c.add(Groups, Warning, ofGroup(g.ID), "", "group %d is about to be created on %s", g.ID, g.Nodes[0].Host)
}

// member looks at one node of a group with state.
func (c *check) member(g cluster.Group, st cluster.GroupState, n cluster.Node) {
	status, reported := c.snap.Nodes[n.Name]
	if _, alive := c.snap.Agents[n.Host]; !reported {
		switch {
		case !alive:
			c.add(Groups, Error, ofNode(g.ID, n), startAgent(c.spec, n.Host), "nothing is known of node %s: the agent of host %s is not running", n.Name, n.Host)
		default:
			c.add(Groups, Warning, ofNode(g.ID, n), "", "host %s has not yet reported about node %s", n.Host, n.Name)
		}
		return
	}
	if st.SystemID != "" && status.SystemID != "" && status.SystemID != st.SystemID {
		c.add(Groups, Error, ofNode(g.ID, n), "move its data directory away, and the node is made anew from the primary",
			"node %s has data of another database system (%s, the group's is %s)", n.Name, status.SystemID, st.SystemID)
		return
	}
	if status.State != cluster.NodeRunning {
		c.notRunning(g, st, n, status)
		return
	}
	c.role(g, st, n, status)
	if status.Reason != "" {
		c.add(Groups, Warning, ofNode(g.ID, n), "", "node %s: %s", n.Name, status.Reason)
	}
	if len(status.PendingRestart) > 0 {
		c.add(Groups, Warning, ofNode(g.ID, n), "when it suits, stop and start its agent (or, for a cluster on one machine, `orchestrator down` and `up`)",
			"node %s has to be restarted for %s to take effect", n.Name, strings.Join(status.PendingRestart, ", "))
	}
	if status.SpecRevision < c.snap.SpecRevision {
		c.add(Groups, Warning, ofNode(g.ID, n), "", "node %s has not yet the configuration of the newest spec (revision %d of %d)", n.Name, status.SpecRevision, c.snap.SpecRevision)
	}
}

// notRunning reports a node that does not accept connections.
func (c *check) notRunning(g cluster.Group, st cluster.GroupState, n cluster.Node, status cluster.NodeStatus) {
	why := because(status.Reason)
	switch status.State {
	case cluster.NodeFailed:
		again := ""
		if status.NextTry.After(c.now) {
			again = fmt.Sprintf(" (next try in %s)", status.NextTry.Sub(c.now).Round(time.Second))
		}
		c.add(Groups, Error, ofNode(g.ID, n), seeLogs(n.Name), "node %s does not run%s%s", n.Name, why, again)
	case cluster.NodeStopped:
		c.add(Groups, Error, ofNode(g.ID, n), seeLogs(n.Name), "node %s is stopped%s", n.Name, why)
	case cluster.NodeAbsent:
		if n.Name == st.Primary && st.Phase == cluster.Running {
			c.add(Groups, Error, ofNode(g.ID, n), "bring its data directory back", "the data of %s, the primary of group %d, are gone%s", n.Name, g.ID, why)
			return
		}
		c.add(Groups, Warning, ofNode(g.ID, n), "", "node %s is still to be made%s", n.Name, why)
	default:
		c.add(Groups, Warning, ofNode(g.ID, n), "", "node %s is %s%s", n.Name, status.State, why)
	}
}

// role looks at a running node as what it is meant to be.
func (c *check) role(g cluster.Group, st cluster.GroupState, n cluster.Node, status cluster.NodeStatus) {
	if n.Name == st.Primary {
		return // Primaries says it
	}
	if status.Role == cluster.Primary {
		c.add(Groups, Error, ofNode(g.ID, n), "do not write to it; its agent stops it, or stop it by hand",
			"node %s runs as a primary, but %s is the primary of group %d", n.Name, st.Primary, g.ID)
		return
	}
	primary, ok := c.snap.Nodes[st.Primary]
	if !ok || !primary.RunsAs(cluster.Primary) {
		return // it cannot stream from what is not there
	}
	switch {
	case status.Upstream == "" && slices.Contains(primary.LostSlots, n.Name):
		return // slots says why
	case status.Upstream == "":
		c.add(Groups, Warning, ofNode(g.ID, n), seeLogs(n.Name), "standby %s does not stream from %s", n.Name, st.Primary)
	case status.Upstream != st.Primary:
		c.add(Groups, Warning, ofNode(g.ID, n), "", "standby %s streams from %s instead of %s", n.Name, status.Upstream, st.Primary)
	case status.Timeline != primary.Timeline:
		c.add(Groups, Warning, ofNode(g.ID, n), "", "standby %s is on timeline %d, its primary %s on %d", n.Name, status.Timeline, st.Primary, primary.Timeline)
	default:
		c.lag(g, n, status, primary)
	}
}

// retainedMuch is how much WAL a primary may keep for a node that does not stream before it is worth a warning.
const retainedMuch = cluster.Bytes(1 << 30)

// slots looks at what the primary keeps for nodes that do not stream: WAL without end, or not enough of it any more.
func (c *check) slots(g cluster.Group, st cluster.GroupState) {
	primary, ok := c.snap.Nodes[st.Primary]
	if !ok || !primary.RunsAs(cluster.Primary) {
		return
	}
	for _, n := range g.Nodes {
		status := c.snap.Nodes[n.Name]
		streams := status.State == cluster.NodeRunning && status.Upstream == st.Primary
		if n.Name == st.Primary || streams || status.State == cluster.NodeCreating {
			continue
		}
		remove := fmt.Sprintf("`orchestrator group rm-standby %d -n %s`", g.ID, n.Name)
		if slices.Contains(primary.LostSlots, n.Name) {
			c.add(Groups, Error, ofNode(g.ID, n),
				fmt.Sprintf("make it anew: %s, and when it is gone `orchestrator group add-standby %d -n %s`", remove, g.ID, n.Host),
				"the WAL that standby %s needs is gone from the primary %s; it cannot catch up", n.Name, st.Primary)
			continue
		}
		if kept := cluster.Bytes(primary.Retained[n.Name]); kept > retainedMuch {
			c.add(Groups, Warning, ofNode(g.ID, n), fmt.Sprintf("bring it back, or remove it with %s", remove),
				"the primary %s keeps %.1f GB of WAL for standby %s, which does not stream; it fills the primary's disk",
				st.Primary, float64(kept)/(1<<30), n.Name)
		}
	}
}

// lag compares a standby's lag with the limits for reads. Positions are reported about once a second, so a little lag
// in bytes is a matter of when each of both reported.
func (c *check) lag(g cluster.Group, n cluster.Node, status, primary cluster.NodeStatus) {
	maxBytes, maxLag := c.spec.Router.Reads.ReadLimits(n.Name)
	bytes := cluster.Bytes(status.LSN.Behind(primary.LSN))
	var span cluster.Duration
	if status.LagMS != nil {
		span = cluster.Duration(time.Duration(*status.LagMS) * time.Millisecond)
	}
	if bytes > maxBytes || span > maxLag {
		c.add(Groups, Warning, ofNode(g.ID, n), "look at the load of its host, and for long queries on it that hold replay up",
			"standby %s lags by %d bytes and %s (the limits for reads are %s and %s)", n.Name, int64(bytes), span, maxBytes, maxLag)
	}
}
