package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// Change is one group's state to be written.
type Change struct {
	Group cluster.GroupState
	// IfRevision is the revision of the group's key that the decision was made from; 0 means that it must not exist.
	IfRevision int64
	// Event is the line of the history that goes with the change.
	Event *cluster.Event
}

// Decide gives the changes that follow from the snapshot, ordered by group id; none when nothing is to be decided. Once
// its changes are in the snapshot, Decide gives none for it: it has reached its fixpoint.
func Decide(snap cluster.Snapshot, now time.Time) []Change {
	if snap.Spec == nil {
		return nil
	}
	var changes []Change
	for _, g := range snap.Spec.Groups {
		state, exists := snap.Groups[g.ID]
		next := state
		var message string
		switch {
		case !exists && waitsFor(snap, g) == nil:
			next = cluster.GroupState{ID: g.ID, Phase: cluster.Initializing, Primary: g.Nodes[0].Name, Term: 1}
			message = fmt.Sprintf("group %d is created with %s as primary", g.ID, next.Primary)
		case exists && state.Phase == cluster.Initializing && established(snap, g, state):
			next.Phase, next.SystemID = cluster.Running, snap.Nodes[state.Primary].SystemID
			message = fmt.Sprintf("group %d is running, %s is primary under term %d", g.ID, next.Primary, next.Term)
		default:
			continue
		}
		next.At = now
		changes = append(changes, Change{
			Group:      next,
			IfRevision: snap.GroupRevision[g.ID],
			Event:      event(next, state, message),
		})
	}
	slices.SortFunc(changes, func(a, b Change) int { return a.Group.ID - b.Group.ID })
	return changes
}

// waitsFor says what keeps a group without state from being created; nil if nothing does.
func waitsFor(snap cluster.Snapshot, g cluster.Group) *Finding {
	id := g.ID
	waits := func(level Level, n cluster.Node, remedy, format string, args ...any) *Finding {
		return &Finding{Kind: Groups, Level: level, Group: &id, Node: n.Name, Host: n.Host, Message: fmt.Sprintf(format, args...), Remedy: remedy}
	}
	if len(g.Nodes) == 0 {
		return waits(Error, cluster.Node{}, "give it nodes in the spec", "group %d has no nodes", id)
	}
	for _, n := range g.Nodes {
		if snap.Nodes[n.Name].HasData() {
			return waits(Error, n, "restore the newest copy of etcd's data, and leave the data directories as they are",
				"node %s has data, but nothing is agreed about group %d: the agreed state was lost, or is an old copy", n.Name, id)
		}
	}
	first := g.Nodes[0]
	if _, alive := snap.Agents[first.Host]; !alive {
		return waits(Error, first, startAgent(*snap.Spec, first.Host),
			"group %d waits for the agent of host %s, where its first node %s is to be made", id, first.Host, first.Name)
	}
	for _, n := range g.Nodes {
		_, alive := snap.Agents[n.Host]
		if _, reported := snap.Nodes[n.Name]; alive && !reported {
			return waits(Warning, n, "", "group %d waits for host %s to report about node %s", id, n.Host, n.Name)
		}
	}
	if status := snap.Nodes[first.Name]; status.State != cluster.NodeAbsent {
		return waits(Error, first, seeLogs(first.Name), "group %d waits for its first node %s, which is %s%s",
			id, first.Name, status.State, because(status.Reason))
	}
	return nil
}

// established tells whether a new group's primary is there.
func established(snap cluster.Snapshot, g cluster.Group, state cluster.GroupState) bool {
	n := snap.Nodes[state.Primary]
	return hasNode(g, state.Primary) && n.Group == g.ID && n.RunsAs(cluster.Primary) && n.Term == state.Term && n.SystemID != ""
}

func hasNode(g cluster.Group, name string) bool {
	return slices.ContainsFunc(g.Nodes, func(n cluster.Node) bool { return n.Name == name })
}

func event(next, was cluster.GroupState, message string) *cluster.Event {
	id := next.ID
	e := &cluster.Event{At: next.At, Kind: "group-" + string(next.Phase), Group: &id, Node: next.Primary, Message: message}
	if !was.At.IsZero() && next.At.After(was.At) {
		e.Duration = cluster.Duration(next.At.Sub(was.At))
	}
	return e
}
