// Package reconcile decides what the leader commits next, and finds what an operator should know, both from the agreed
// state alone.
//
// Level: pure core. It imports orchestrator/cluster only, does no I/O, and its only clock is the `now` that it is given.
//
// Duties: Decide looks at one Snapshot and returns the changes of groups' states that follow from it. The caller (the
// leader's loop) commits each of them fenced by its leadership and by IfRevision, and calls Decide again with the state
// that results; a change that lost a race is thereby dropped, never forced. Check looks at the same Snapshot and lists
// what is well and what is not, for `orchestrator status`.
//
// A group's life:
//
//	(no state) ──the first listed node's agent reports that it has no data, nor has any other──► Initializing, term 1
//	Initializing ──that node runs as primary under the term──► Running, with its system id
//
// Rules:
//
//   - Only Initializing permits initdb, and a group is in it once: never after Running, and never while a node of the
//     group has data, or has a live agent that has not yet said whether it has. A lost agreed state is therefore not
//     taken for a new cluster.
//   - The first primary is the first listed node. While its agent is absent the group waits: without memory of time
//     one cannot tell late from never, and the operator's preference costs a row in `status`, not data.
//   - A term never falls and never names two primaries.
//   - What does not fit (a primary that is no longer in the spec, a group that is no longer in it, another system id)
//     is left as it is, because it is somebody's data. Check reports it.
//
// It never removes a group's state, and does not fail over.
package reconcile
