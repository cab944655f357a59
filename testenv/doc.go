// Package testenv brings up real processes for tests: PostgreSQL, etcd, and the orchestrator's own binary, on
// ports and in folders of their own, several at once.
//
// Level: wiring, for tests only. Nothing that is shipped imports it.
//
// Duties: an Env is the ground of one test. It reserves ports against other tests, also in other packages that
// run at the same time; gives a short folder that the servers' user can reach; builds bin/orchestrator once;
// starts processes with their output kept, and shown when the test fails. When the test ends it stops what was
// started and fails the test if a process that knows the folder, or a file outside of it, is left.
//
//	env := testenv.New(t)
//	c := env.Cluster(testenv.ClusterOptions{})
//	c.Up()
//	c.Psql("-c", "SELECT 1")
//	fault.Kill(c.Postmaster("coordinator-1"))
//
// Sub-packages: fault breaks things, workload writes and proves that what was acknowledged is there, importtest
// keeps the module's imports going one way, integration holds the tests on whole clusters, bench measures.
//
// It never touches a process or a folder that an Env did not make, and never waits without a deadline.
package testenv
