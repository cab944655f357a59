// Package integration holds the tests on whole clusters: real PostgreSQL servers, a real etcd, and the
// orchestrator's own binary as a user starts it.
//
// Level: wiring, for tests only. Every test has an Env of its own (ports, folder, processes), so that tests can run
// at the same time and leave nothing behind.
package integration
