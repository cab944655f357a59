// Package router is the data path: it accepts clients, runs their sessions, and relays what servers answer.
//
// Level: service. It uses coordinator/wire (protocol), statement (what a text does), route (which server may run it)
// and pool (connections), and is told by the control plane, through a channel, which coordinators there are.
//
// # A session
//
// One goroutine per client. The server connection is held from the first statement of a transaction to the
// ReadyForQuery that says "idle" (transaction pooling), or for longer while the session is pinned to it.
//
//	            Query, or messages up to Sync
//	idle ───────────────────────────────────────► choose a server ──► get a connection ──► make its settings
//	 ▲                                                  ▲                                        │
//	 │ ReadyForQuery 'I': connection back to its pool   │ a standby failed a read,               ▼
//	 ├──────────────────────────────────────────────────┴── and the client saw nothing ◄── relay answers
//	 │                                                                                           │
//	 │ ReadyForQuery 'I'                                          ReadyForQuery 'T' or 'E'       │
//	 └───────────────────────────── in transaction, connection held ◄────────────────────────────┘
//	                                      │ connection lost
//	                                      ▼
//	                                ghost: 'E' without a connection; ROLLBACK or COMMIT ends it
//
// The states of the last line are what a driver knows: a transaction that has lost its server looks like one that has
// failed, so that whatever the client still sends for it is refused (25P02) instead of being committed piece by piece.
//
// # Answers
//
// What is sent to a server leaves a list of steps, one per answer that is owed. The relay looks at the header of each
// message of the server and at the first step: the message is passed on, or hidden because the request was ours (settings,
// a statement prepared on demand); answers that we owe ourselves (ParseComplete of a statement that the connection has
// already, SHOW multicoord.route) are put in when their step is the first. An error forgets all steps up to the next
// Sync and takes back what was assumed for them, as the server ignores their requests. Rows are never looked into: one
// read of the server becomes one write to the client.
//
// The batch is kept until the first byte has gone to the client, so a read that a standby fails (connection lost,
// conflict with recovery, something not replayed yet) can be run elsewhere. A write is never run twice.
//
// COPY FROM STDIN, Flush and batches of more than 1 MiB are passed on while they come, by a second goroutine which
// exists only for so long (duplex).
//
// # What a session carries from server to server
//
// SET (by the difference, before the first statement), prepared statements of the protocol (under names made from text and
// types, prepared on demand), and its read-your-writes token. What cannot be carried pins the session to its
// connection: temporary tables, LISTEN, session advisory locks, cursors WITH HOLD, SQL-level PREPARE. A pinned connection
// is closed at the end of the session.
//
// It never decodes a row, never invents an error that the server would give, never hands a connection to another client
// unless the server has said that it is idle, and never stores a password.
package router
