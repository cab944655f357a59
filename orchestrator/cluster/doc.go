// Package cluster is the vocabulary of the project as plain values: the spec that an operator writes,
// the state that the control plane has agreed on, and what agents and routers report.
//
// Level: leaf. It imports the standard library only, and everything else may import it.
//
// Duties: types with their validation, completion (from a short spec to one in which every node has a
// name, a host and a port), placement policies, and the arithmetic of LSNs.
//
// It never does I/O, reads no clock and holds no state. Values are treated as immutable: a function that
// changes a Spec returns a new one.
package cluster
