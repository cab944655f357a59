package route

import (
	"errors"
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// Why there is no server for a statement. Choice.Reason says more.
var (
	ErrNoPrimary = errors.New("there is no primary at the moment")
	ErrNoStandby = errors.New("no standby may serve reads at the moment")
)

// Server is a coordinator with what is known of it at a table's moment.
type Server struct {
	Name, Address string
	// Role is the agreed one; Says is the server's own word, RoleUnknown if it could not be asked.
	Role, Says cluster.Role
	// Eligible: it may serve reads (a standby), or writes (the primary).
	Eligible bool
	// Reason says in words why it is not eligible; of an eligible server it is empty.
	Reason string
	// LagKnown tells that LagBytes, LagTime and LagBound hold; otherwise they are what was last known, or zero.
	LagKnown bool
	// LagBytes is how far the standby's replay is behind the primary's newest known position.
	LagBytes uint64
	// LagTime is the best estimate of the lag; LagBound is what is proved, and what the limit is held against. Their
	// difference is at most about one check interval.
	LagTime, LagBound time.Duration
	// Stalled is for how long replay has not moved although there was something to replay.
	Stalled time.Duration
	// SystemID, Timeline and LSN (position, or what is replayed) come from the last good sample, taken between SampleBegan and
	// SampledAt.
	SystemID               string
	Timeline               uint32
	LSN                    cluster.LSN
	Receiving              bool
	SampleBegan, SampledAt time.Time
	// Weight is the share of reads relative to the others', small for a while after coming in.
	Weight int
}

// Table is the state of the servers at one moment. It is immutable.
type Table struct {
	At time.Time
	// Term is the term under which the primary was agreed.
	Term uint64
	// Primary accepts writes; nil when there is none at the moment, which PrimaryReason explains.
	Primary       *Server
	PrimaryReason string
	// Standbys are the agreed standbys, eligible or not, by name.
	Standbys []Server
	// Servers are all members, the agreed primary first, for display.
	Servers []Server

	staleAfter time.Duration
}

// Choice is where a statement goes, or why it goes nowhere.
type Choice struct {
	Server *Server
	// Reason says why this server, or why none.
	Reason string
	// Diverted: a read that goes to the primary because no standby is eligible. Its number has to be capped.
	Diverted bool
	// Err is ErrNoPrimary or ErrNoStandby when Server is nil.
	Err error
	// Wait: another table may have a server; try again until the time for waiting is over, then report Err.
	Wait bool
}

// Write gives the primary.
func (t *Table) Write() Choice {
	if t.Primary == nil {
		return Choice{Reason: t.PrimaryReason, Err: ErrNoPrimary, Wait: true}
	}
	return Choice{Server: t.Primary, Reason: "writes go to the primary"}
}

// Request says what a read needs.
type Request struct {
	Consistency cluster.Consistency
	// Token is the session's; nil for none. Read resolves it when it can.
	Token *Token
	// Exclude names servers that have just failed this read.
	Exclude []string
	// InFlight counts the statements that this router has under way on a node; nil means none anywhere.
	InFlight func(node string) int
	// Rand gives a number from 0 to n-1; nil takes the first of equals.
	Rand func(n int) int
	// Now, if set, is held against the table's age: a table that nobody has renewed proves nothing.
	Now time.Time
	// PrimaryOnly: the primary is asked for (a hint, or a setting that no standby honours).
	PrimaryOnly bool
}

// Read chooses the server for a read: among the standbys that are eligible and recent enough for the session, the
// one with the fewest statements in flight relative to its weight.
func (t *Table) Read(r Request, fb cluster.Fallback) Choice {
	if r.Consistency == cluster.Strong || r.PrimaryOnly {
		return t.primaryFor("the read asks for the primary")
	}
	session := r.Token
	if r.Consistency == cluster.Eventual {
		session = nil
	}
	if session != nil {
		session.Resolve(t)
		if session.pending() {
			return t.primaryFor("the session's last write is not located yet")
		}
	}
	if !r.Now.IsZero() && r.Now.Sub(t.At) > t.staleAfter {
		return t.fallback(fb, "the table of servers is out of date")
	}
	best, behind := t.leastBusy(r, session)
	switch {
	case best != nil:
		return Choice{Server: best, Reason: "least busy of the eligible standbys"}
	case behind:
		return t.primaryFor("no eligible standby has replayed what the session wrote or saw")
	}
	return t.fallback(fb, "no standby is eligible")
}

// leastBusy picks by in-flight/weight; equals by chance, in proportion to their weights. behind tells that some standby was left
// out for the session's sake only.
func (t *Table) leastBusy(r Request, session *Token) (best *Server, behind bool) {
	bestLoad, sum := 0, 0
	for i := range t.Standbys {
		s := &t.Standbys[i]
		if !s.Eligible || excluded(r.Exclude, s.Name) {
			continue
		}
		if session != nil && !session.satisfied(s) {
			behind = true
			continue
		}
		load := 0
		if r.InFlight != nil {
			load = max(r.InFlight(s.Name), 0)
		}
		if best != nil {
			switch a, b := load*best.Weight, bestLoad*s.Weight; {
			case a > b:
				continue
			case a == b:
				sum += s.Weight
				if r.Rand == nil || r.Rand(sum) >= s.Weight {
					continue
				}
				best, bestLoad = s, load
				continue
			}
		}
		best, bestLoad, sum = s, load, s.Weight
	}
	return best, behind
}

func excluded(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// primaryFor sends a read to the primary that no standby may answer, whatever the fallback is.
func (t *Table) primaryFor(reason string) Choice {
	if t.Primary == nil {
		return Choice{Reason: t.PrimaryReason, Err: ErrNoPrimary, Wait: true}
	}
	return Choice{Server: t.Primary, Reason: reason}
}

func (t *Table) fallback(fb cluster.Fallback, reason string) Choice {
	switch fb {
	case cluster.FallbackWait:
		return Choice{Reason: reason, Err: ErrNoStandby, Wait: true}
	case cluster.FallbackError:
		return Choice{Reason: reason, Err: ErrNoStandby}
	}
	c := t.primaryFor(reason)
	c.Diverted = c.Server != nil
	return c
}
