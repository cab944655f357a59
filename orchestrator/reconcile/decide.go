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
		var next cluster.GroupState
		var why string
		var ok bool
		switch {
		case !exists:
			next, why, ok = begin(snap, g)
		case state.Phase == cluster.Initializing:
			next, why, ok = finish(snap, g, state)
		}
		if !ok {
			continue
		}
		next.At = now
		changes = append(changes, Change{
			Group:      next,
			IfRevision: snap.GroupRevision[g.ID],
			Event:      event(next, state, why, now),
		})
	}
	slices.SortFunc(changes, func(a, b Change) int { return a.Group.ID - b.Group.ID })
	return changes
}

// begin decides the first state of a group.
func begin(snap cluster.Snapshot, g cluster.Group) (cluster.GroupState, string, bool) {
	if len(g.Nodes) == 0 {
		return cluster.GroupState{}, "", false
	}
	first := g.Nodes[0]
	if _, alive := snap.Agents[first.Host]; !alive {
		return cluster.GroupState{}, "", false
	}
	for _, n := range g.Nodes {
		if status, ok := snap.Nodes[n.Name]; ok && HasData(status) {
			return cluster.GroupState{}, "", false
		}
	}
	return cluster.GroupState{ID: g.ID, Phase: cluster.Initializing, Primary: first.Name, Term: 1},
		fmt.Sprintf("group %d is created with %s as primary", g.ID, first.Name), true
}

// finish decides whether the first primary is there.
func finish(snap cluster.Snapshot, g cluster.Group, state cluster.GroupState) (cluster.GroupState, string, bool) {
	n, ok := snap.Nodes[state.Primary]
	if !ok || !slices.ContainsFunc(g.Nodes, func(m cluster.Node) bool { return m.Name == state.Primary }) {
		return cluster.GroupState{}, "", false
	}
	if n.Group != g.ID || n.State != cluster.NodeRunning || n.Role != cluster.Primary || n.Term != state.Term || n.SystemID == "" {
		return cluster.GroupState{}, "", false
	}
	state.Phase, state.SystemID = cluster.Running, n.SystemID
	return state, fmt.Sprintf("group %d is running, %s is primary under term %d", g.ID, state.Primary, state.Term), true
}

// HasData tells whether a node has reported a data directory that a server made.
func HasData(n cluster.NodeStatus) bool {
	switch n.State {
	case cluster.NodeStopped, cluster.NodeStarting, cluster.NodeRunning:
		return true
	default:
		return n.SystemID != ""
	}
}

func event(next, was cluster.GroupState, message string, now time.Time) *cluster.Event {
	id := next.ID
	e := &cluster.Event{At: now, Kind: "group-" + string(next.Phase), Group: &id, Node: next.Primary, Message: message}
	if !was.At.IsZero() && now.After(was.At) {
		e.Duration = cluster.Duration(now.Sub(was.At))
	}
	return e
}
