package route

import (
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// Sample is what one query found out about a server, or that it could not be asked.
type Sample struct {
	Node string
	// Began and At are when the query was sent and when its answer was there, both with this process' monotonic clock.
	Began, At time.Time
	// Role is the server's own word (pg_is_in_recovery).
	Role     cluster.Role
	SystemID string
	Timeline uint32
	// LSN is the primary's current position, or what the standby has replayed. To cover commits that were acknowledged before
	// they were written out (synchronous_commit = off) the primary's has to be its insert position.
	LSN cluster.LSN
	// Flushed is what the primary has flushed (pg_current_wal_flush_lsn), which is all that a standby can have: lag is measured
	// from there. Log that no commit waits for (pruning, hint bits) may stay unflushed for seconds on an idle primary, and would
	// look like lag. Zero means that it is not known, and LSN is taken.
	Flushed cluster.LSN
	// Receiving tells that the standby's WAL receiver is streaming.
	Receiving bool
	// Err says why the server could not be asked; all but Node, Began and At mean nothing then.
	Err string
}

// Member is a server as agreed in the control plane.
type Member struct {
	Name string
	// Address is host:port.
	Address string
	// Role is Primary for the one node that the group's state names, Standby for the others.
	Role cluster.Role
	// Term is the term under which the primary was agreed.
	Term uint64
}

// limits are what one standby must keep to.
type limits struct {
	bytes  uint64
	lag    time.Duration
	weight int
}

// The defaults of cluster.Reads, for a policy that was not completed.
const (
	defaultBytes  = 16 << 20
	defaultLag    = 5 * time.Second
	defaultCheck  = 200 * time.Millisecond
	defaultWeight = 100
)

func limitsOf(p cluster.Reads, node string) limits {
	l := limits{bytes: defaultBytes, lag: defaultLag, weight: defaultWeight}
	set := func(bytes cluster.Bytes, lag cluster.Duration, weight int) {
		if bytes > 0 {
			l.bytes = uint64(bytes)
		}
		if lag > 0 {
			l.lag = lag.D()
		}
		if weight > 0 {
			l.weight = weight
		}
	}
	set(p.MaxLagBytes, p.MaxLag, 0)
	o := p.Overrides[node]
	set(o.MaxLagBytes, o.MaxLag, o.Weight)
	return l
}
