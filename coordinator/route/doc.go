// Package route decides which server answers: writes go to the agreed primary, reads to a standby that is fresh enough.
//
// Level: pure core. It imports orchestrator/cluster only. It reads no clock, does no I/O and logs nothing: moments come in
// as arguments, and what it has decided comes out as an immutable [Table] that says of each server why it may serve reads
// or why not.
//
// # What a caller has to do
//
//  1. One goroutine owns a [Tracker]: it passes on the agreed members ([Tracker.Members]), every sample that was taken of a
//     server ([Tracker.Observe]), and after each of these, and at least once per check interval, publishes a new
//     [Tracker.Table] behind an atomic pointer.
//  2. A session keeps a [Token] and calls [Token.Wrote] when a write (or a transaction that may have written) has
//     completed; [Token.Saw] after a read.
//  3. For each transaction or single statement it takes the current table once and calls [Table.Write] or [Table.Read].
//     Neither allocates.
//
// # Lag
//
// A sample of the primary is taken between Began and At and gives what it has flushed, P. A sample of a standby gives what it
// has replayed, R. Positions are comparable only if system identifier and timeline are the same.
//
//   - In bytes the lag is P − R for the newest P.
//   - In time it is read off a ring of the primary's samples: the newest sample with P ≤ R proves that the standby has all that
//     the primary had at that sample's Began. The lag is the distance from there to the newest sample, so it is zero when the
//     standby has replayed all that is known of, however long ago that was written. The first sample that a router takes
//     proves nothing about a standby behind it: the lag is unknown until the standby has passed it.
//   - A sample that is too old counts for nothing: the lag is unknown. Unknown is not eligible.
//   - While the standby's WAL receiver is down the lag in time counts up to now instead of to the newest sample, so it is never zero:
//     it is how long ago a sample proves that the standby had everything. It may stay until that exceeds the limit, so
//     that reads go on while a new primary is elected; it cannot come in.
//   - The same holds when the primary's samples stop: what was proved stays true and grows older.
//
// # In and out
//
//	      within both limits (a server that was never out), or
//	      within half of both for [backAfter] samples in a row, receiving
//	out ───────────────────────────────────────────────────────────────► in   (weight grows over [ramp])
//	    ◄───────────────────────────────────────────────────────────────
//	      over a limit, or unknown
//
// # Two primaries
//
// The agreed state says who is primary. If that server's own sample says that it is in recovery there is no primary (it has not
// been promoted yet, or no longer is one). A server that calls itself primary without being the agreed one gets
// neither reads nor writes.
//
// # A session's own writes
//
// No position is asked for after a write. A write that completed at moment w is contained in every position of the primary
// that was sampled by a query that began after w. Until such a sample is in the table the session reads from the primary; its
// position L is then the token, and any standby that has replayed L on the same timeline will do. When the timeline has
// changed since (failover), L means nothing any more: the session reads from the primary until a sample of the new timeline takes
// L's place. L is the insert position, so that it covers commits that were acknowledged before they were flushed
// (synchronous_commit = off); lag, which is measured from what was flushed, does not count those.
package route
