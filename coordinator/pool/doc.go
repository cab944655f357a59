// Package pool keeps connections to the coordinators' PostgreSQL servers, per user, database and node.
//
// Level: adapter over coordinator/wire.
//
// Duties: make connections lazily with the client's own role (SCRAM pass-through), up to a limit per key; hand the
// most recently used one out first; let callers wait in the order of their arrival, until their deadline; notice that
// an idle connection has died before it is handed out; remember for each connection what its server session holds
// (settings, reported parameters, prepared statements), so that the next session pays only for the difference; close
// what belongs to a node that has left the topology or changed its role.
//
// Life of a connection:
//
//	          dial                Get                  Put (idle, clean)
//	(nothing) ────► new ────► in use ◄──────────────────────────► idle
//	                             │  Discard (in a transaction,       │ EOF, idle too long,
//	                             ▼  broken, node gone)               ▼ node gone
//	                          closed                              closed
//
// A connection is handed back with Put only when its server has said that it is idle; whoever cannot prove that calls
// Discard. So an abandoned transaction never reaches another client.
//
// It never looks into a statement and never chooses a node.
package pool
