// Package agent keeps the PostgreSQL servers of one host as the control plane has decided.
//
// Level: service. It uses the agreed state through store and session, and declares the interfaces (Data,
// Process, SQL) through which it handles a server; the adapter is replication/physical, wired in cmd.
//
// # One keeper per node
//
// For each node that the spec places on this host one keeper runs a loop:
//
//	agreed state (watch)        the host (inspect, guard, SQL)
//	         │ View                        │ Seen
//	         └────────────► Plan ◄─────────┘
//	                          │ Step (one at a time)
//	                          ▼
//	            do it, look again, publish nodes/<name>
//
// Plan is pure and decides a single next step; every step can be repeated, so the agent may be killed at any
// moment. A step that fails is tried again after a back-off that grows from 0.2 s to 15 s; the reason stands in
// the node's status until it is over.
//
// # The right to be primary
//
// The keeper of the node that groups/<id> names primary holds groups/<id>/grant on a lease of its own (right.go).
// After every renewal it tells the server's guard the new deadline. When the lease is lost, the server is
// stopped before anything else happens, and the grant is acquired anew. An agent that was killed and comes back
// in time adopts the lease that its predecessor on this host left behind, and the running server with it.
//
// # What it never does
//
// It never decides who is primary. It never runs initdb for a group that has data, never overwrites or removes
// a directory that does not carry its own marker, and never removes the data of a node that was primary last.
package agent
