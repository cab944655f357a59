// Package election elects the one leader of the control plane.
//
// Level: service on store.Store; it knows the key "leader" and nothing else of the state.
//
// # States
//
//	          key absent, claimed
//	waiting ───────────────────────▶ leading ──── lead returns ───▶ resigned: the lease is revoked, Campaign returns
//	   ▲                               │ │
//	   │    trust window over,         │ └─────── ctx ends ───────▶ lead's ctx ends, lead returns, the lease is
//	   │    lease or key gone          │                            revoked, Campaign returns nil
//	   └────── lead's ctx ends, ◀──────┘
//	           lead returns
//
// # The trust window
//
// A lease that is made or renewed by a call that began at t lives at least until t + TTL on etcd's clock, whenever
// the answer comes. The leader trusts itself until t + TTL − margin by its own monotonic clock (the margin is a tenth
// of the TTL, 100 ms to 1 s). Then lead's ctx ends, whether etcd can be reached or not, and whether a call to it is
// under way or not. The idea is that of River's internal/leadership.
//
// The window keeps an old leader from working beside a new one in all but pathological cases (a process frozen at the
// wrong moment). What makes it safe in those as well is the fence: each write goes through Leadership.Commit, which
// compares the creation revision of the key "leader". A new leader's key has another one, so the writes of a stale
// leader are refused by etcd itself with ErrConflict, however late they come.
//
// # What each failure does
//
//   - etcd unreachable, or without quorum: renewals fail; they are repeated every tenth of the TTL; lead's ctx ends when
//     the window is over. Nobody leads until etcd is back.
//   - the process is killed: the lease runs out after at most TTL, the key goes, and those who wait are woken by their watch.
//   - the process is frozen and resumes: its timer fires at once and ends lead's ctx; a write that is quicker than the
//     timer meets the fence.
//   - the machine is suspended: the monotonic clock may stand still meanwhile, so the window may seem open; writes meet
//     the fence, and the next renewal finds the lease gone.
//   - the claim's outcome is unknown (the answer was lost): the lease is revoked and everything begins anew; if even that
//     fails, the key runs out with its lease, which nobody renews.
//   - somebody deletes the key "leader": commits are refused; the first refusal makes the leader look, and lead's ctx ends.
//   - lead returns with an error of the store while it leads: it resigns and campaigns again after a pause. With any other
//     error, or none: it resigns and Campaign returns that.
//
// It never runs lead twice at the same time in one Campaign, and never returns before lead has.
package election
