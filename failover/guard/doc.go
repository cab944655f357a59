// Package guard is the small process between the agent and a PostgreSQL server. It is the postmaster's parent, knows until
// when the server may be primary, and ends it when that time is up, whatever has become of the agent.
//
// Level: adapter (processes, signals, one unix socket). The rules are those of package failover.
//
// Duties, in order: take the lock of the node's folder; end whatever an earlier guard left behind; refuse to start a
// primary without a right; start postgres in a session of its own, with PR_SET_PDEATHSIG; answer requests; stop a
// primary past its deadline; on request, on SIGTERM, or when its context ends, stop the server step by step (smart, fast, immediate, SIGKILL);
// when the server has ended, make sure that none of its processes is left, write down how and why, and exit.
//
//	starting ──► running ──(deadline, Fence, Stop, SIGTERM)──► stopping ──► draining ──► exit record, end
//	                └────────────(postgres ends by itself)────────────────────┘
//
// The loop that watches the deadline does no file I/O: a hung disk must not keep it from sending a signal. Looking for
// standby.signal, writing the log and serving connections happen in goroutines beside it.
//
// It never restarts postgres, never talks to etcd or to PostgreSQL, and holds no secret.
package guard
