// Package failover holds the rules of the right to be primary as pure functions: when it may be used, when it ends,
// and (later) who gets it next.
//
// Level: pure core. It imports the standard library only. It reads no clock, writes no log, does no I/O.
//
// # The right to be primary
//
// Four things make the promise that at most one server of a group accepts writes:
//
//   - The grant is a key in etcd (groups/<id>/grant) on a lease of TTL seconds. It carries a term. The leader of the
//     control plane decides who may ask for it; the primary's agent creates it and renews it. Renewing is a compare on
//     the agent's own lease and revision: a grant that was lost is never taken back, a new one has a higher term.
//   - The term is the fencing number. It grows with every change of the primary and is never used twice. Nobody
//     follows, rewinds to or obeys a lower one.
//   - The deadline is when the primary must be dead unless the grant is renewed: Deadline(began, ttl, margin), where
//     began was read just BEFORE the renewal was sent. etcd counts the lease's life from a moment after that, so the
//     lease outlives the deadline by at least the margin, whatever the network did to the request and its answer.
//   - The guard is the parent of the postmaster and the only one who can be relied upon to act: the agent may be dead, hung
//     or cut off. It compares the deadline with CLOCK_BOOTTIME, which all processes of one boot share, which does not
//     jump when somebody sets the wall clock, and which counts the time that a machine is suspended.
//
// # What the guard may do when
//
//	                       no right,          now < deadline      now ≥ deadline
//	                       or fenced
//	standby.signal there   leave it alone     leave it alone      leave it alone
//	standby.signal gone    stop immediately   leave it alone      stop immediately
//
// "standby.signal gone" is what makes a server a primary: PostgreSQL removes the file at the end of recovery before it lets
// the first write in (StartupXLOG in src/backend/access/transam/xlog.c), however the promotion was asked for. The agent
// therefore sets a deadline before it promotes, and a server that somebody promotes by hand is stopped. Once seen as a
// primary, a server counts as one until it ends: putting the file back does not help it.
//
// Stopping immediately means SIGQUIT to the postmaster and, after a bound that the margin has room for, SIGKILL to it and
// to every process below it. A smart or a fast stop would let sessions commit until they are done.
//
// # Why it is safe
//
// Let r be the moment at which the last successful renewal was begun, on the primary's host, and m the margin. The lease
// ends at r + TTL or later by etcd's clock. The server is told to end at r + TTL − m by the host's clock, and its
// processes are killed StopBound later at most. As long as the clocks' rates differ by less than (m − StopBound) / TTL (12 %
// with the defaults; real ones differ by 0.02 %), the last write of the old primary comes before the end of the lease, and
// a new grant, with a higher term, is created only after that end, or after the old primary's agent has stopped the server
// and revoked the lease itself.
//
// What each failure does:
//
//   - agent killed, hung, or cut off from etcd: no renewals; the guard stops the primary at the deadline. An agent that is
//     restarted in time finds the guard by its socket, proves its lease, and goes on renewing.
//   - guard killed: the kernel sends SIGQUIT to the postmaster (PR_SET_PDEATHSIG).
//   - postmaster stopped (SIGSTOP) or hung: SIGQUIT does nothing, SIGKILL after the bound does; its children are killed by pid.
//   - host suspended and resumed: the guard's timer is on CLOCK_BOOTTIME and fires at once. Between the resumption and the
//     signal, a commit that was under way may still be acknowledged; only synchronous replication (the commit needs a
//     standby that meanwhile follows somebody else) closes that gap of some milliseconds. The same holds if the guard and
//     the server are stopped with SIGSTOP and continued together.
//   - guard stopped (SIGSTOP) while the agent lives: the agent, which cannot set a deadline any more, kills the server by
//     itself (replication/physical Server.Fence), within StopBound.
//   - a late or repeated message of an older agent: a lower term is refused; within a term a deadline only moves later, and
//     each one was earned by a renewal that began TTL − margin before it.
//   - the right was given up (Fence): it cannot be renewed under the same term.
package failover
