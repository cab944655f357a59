// Package workload writes through a connection string while things break, and proves afterwards that what was
// acknowledged is there.
//
// Level: wiring, for tests only. It knows PostgreSQL's protocol through pgx and nothing of the cluster.
//
// The proof has three sets. Acknowledged: the commit's answer arrived; the row must be there. Uncertain: the
// connection broke before the answer; the row may be there or not. Everything else was never sent: a row of
// that kind is as bad as a lost one. Pairs prove another promise, that a session's read sees the session's
// own writes.
package workload
