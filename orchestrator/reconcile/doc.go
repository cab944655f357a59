// Package reconcile decides what the leader commits next, from the agreed state alone.
//
// Level: pure core. It imports orchestrator/cluster only, does no I/O, and its only clock is the `now` that it is given.
//
// Duties: Decide looks at one Snapshot and returns the changes of groups' states that follow from it. The caller (the
// leader's loop) commits each of them fenced by its leadership and by IfRevision, and calls Decide again with the state
// that results; a change that lost a race is thereby dropped, never forced.
//
// A group's life:
//
//	(no state) ──first listed node's agent is alive, nobody has data──► Initializing, term 1
//	Initializing ──that node runs as primary under the term──► Running, with its system id
//
// Rules:
//
//   - Only Initializing permits initdb, and a group is in it once: never after Running, and never while a node of the
//     group reports data. A lost agreed state is therefore never taken for a new cluster.
//   - The first primary is the first listed node. While its agent is absent the group waits: without memory of time
//     one cannot tell late from never, and the operator's preference costs a message in `status`, not data.
//   - A term never falls and never names two primaries.
//   - What does not fit (a primary that is no longer in the spec, a group that is no longer in it, another system id)
//     is left as it is, because it is somebody's data. Package health reports it.
//
// It never removes a group's state, and does not fail over.
package reconcile
