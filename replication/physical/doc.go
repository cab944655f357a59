// Package physical is a PostgreSQL server on this host: its folder, its configuration, its start and stop through a guard,
// its streaming from another server.
//
// Level: adapter. It runs PostgreSQL's own programs as the server's OS account, writes files, and asks the server over its
// private socket. It imports the pure core, package sql, and failover/guard (the process that keeps the server).
//
// Duties: create a server (initdb, base backup) so that a kill at any moment leaves either nothing or a whole data
// directory; configure it wholly; start, stop, reload, promote, observe it; keep physical slots; recognize its own folder and
// its own running server by marker, data directory and guard, never by host and port.
//
// It never decides what a server should be, restarts nothing by itself, talks to no etcd, and touches no folder without its
// marker. Passwords go through files that only the account can read, never through a command line or the environment.
//
// The folder of a node:
//
//	marker.json    cluster id and node: makes the folder ours
//	data/          PGDATA; appears by renaming, complete and synced
//	data.partial/  where initdb and pg_basebackup work; leftovers are removed by the next one
//	pgpass         password for streaming from the upstream (owned by the account)
//	log/           the server's log files
//	guard.log      the guard's log, and what postgres says before its logging collector runs
//	guard.lock     held by the guard as long as it lives
//	work.lock      held by initdb and pg_basebackup and their children
//	state.json     how the server last ended (guard.Exit)
//	run/           guard.sock, and pg/ (0700) for the server's sockets; elsewhere if the path is too long
package physical
