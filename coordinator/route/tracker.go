package route

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// Tracker turns members and samples into tables. It is a plain value without a lock: one goroutine feeds it.
type Tracker struct {
	policy  cluster.Reads
	check   time.Duration
	nodes   map[string]*node
	primary string // the agreed one
	term    uint64
	// history is the primary's past on the timeline below, of which system and timeline tell.
	history  ring
	systemID string
	timeline uint32
}

// node is what is remembered of one server.
type node struct {
	Member
	limits
	last     Sample    // the newest, good or bad
	good     Sample    // the newest good one
	moved    time.Time // when replay was last seen to move, or to have nothing to do
	in       bool
	wasOut   bool      // it was in, or its lag was known and over a limit: coming in takes more than being within the limits
	since    time.Time // when it came in
	inARow   int       // samples within half of the limits
	slowFrom bool      // its weight grows from since on
}

const (
	// backAfter is how many samples in a row must be within half of the limits before a server comes back.
	backAfter = 3
	// ramp is how long a server that has come back takes to reach its full weight, rampSteps in how many steps.
	ramp      = 10 * time.Second
	rampSteps = 10
)

// NewTracker makes a tracker with the rules of p; zero values in it mean the defaults.
func NewTracker(p cluster.Reads) *Tracker {
	t := &Tracker{nodes: map[string]*node{}}
	t.Policy(p)
	return t
}

// Policy replaces the rules; what is known of the servers stays.
func (t *Tracker) Policy(p cluster.Reads) {
	t.policy, t.check = p, p.Check.D()
	if t.check <= 0 {
		t.check = defaultCheck
	}
	for name, n := range t.nodes {
		n.limits = limitsOf(p, name)
	}
}

// staleAfter is the age above which a sample counts for nothing.
func (t *Tracker) staleAfter() time.Duration { return max(5*t.check, time.Second) }

// goneAfter is for how long an agreed primary that does not answer is still offered for writes.
func (t *Tracker) goneAfter() time.Duration { return max(10*t.check, 2*time.Second) }

// Members replaces the agreed members. Of several that are named primary the one with the highest term counts.
func (t *Tracker) Members(ms []Member, now time.Time) {
	seen := make(map[string]bool, len(ms))
	t.primary, t.term = "", 0
	for _, m := range ms {
		seen[m.Name] = true
		if m.Role == cluster.Primary && (t.primary == "" || m.Term > t.term) {
			t.primary, t.term = m.Name, m.Term
		}
		n, ok := t.nodes[m.Name]
		if !ok || n.Address != m.Address {
			n = &node{limits: limitsOf(t.policy, m.Name), moved: now}
			t.nodes[m.Name] = n
		}
		n.Member = m
	}
	maps.DeleteFunc(t.nodes, func(name string, _ *node) bool { return !seen[name] })
}

// Observe takes a sample. Samples of nodes that are not members, and samples older than one that is known, are ignored.
func (t *Tracker) Observe(s Sample) {
	n, ok := t.nodes[s.Node]
	if !ok || s.Began.Before(n.last.Began) {
		return
	}
	n.last = s
	if s.Err != "" {
		n.inARow = 0
		return
	}
	before := n.good
	n.good = s
	if s.LSN != before.LSN || s.Timeline != before.Timeline || s.SystemID != before.SystemID {
		n.moved = s.At
	}
	if s.Node == t.primary {
		t.observePrimary(s)
		return
	}
	if head, ok := t.history.newest(); ok && reached(s.LSN, head.lsn) {
		n.moved = s.At // nothing to replay is no stall
	}
	if j := t.judge(n, s.At); j.reason == "" && s.Receiving && j.within(n.limits, 2) {
		n.inARow++
	} else {
		n.inARow = 0
	}
}

func (t *Tracker) observePrimary(s Sample) {
	if s.Role != cluster.Primary {
		return
	}
	if s.SystemID != t.systemID || s.Timeline != t.timeline {
		t.systemID, t.timeline, t.history = s.SystemID, s.Timeline, ring{}
	}
	if s.Flushed == 0 {
		s.Flushed = s.LSN
	}
	t.history.add(s.Began, s.Flushed)
}

// Table gives the state at this moment.
func (t *Tracker) Table(now time.Time) *Table {
	tb := &Table{At: now, Term: t.term, staleAfter: t.staleAfter()}
	names := slices.Sorted(maps.Keys(t.nodes))
	tb.Servers = make([]Server, 0, len(names))
	if n, ok := t.nodes[t.primary]; ok {
		tb.Servers = append(tb.Servers, t.primaryServer(n, now))
	}
	for _, name := range names {
		if name != t.primary {
			tb.Servers = append(tb.Servers, t.standbyServer(t.nodes[name], now))
		}
	}
	tb.Standbys = tb.Servers
	if t.primary == "" {
		tb.PrimaryReason = "no primary is agreed on"
		return tb
	}
	tb.Standbys = tb.Servers[1:]
	tb.PrimaryReason = tb.Servers[0].Reason
	if tb.Servers[0].Eligible {
		tb.Primary = &tb.Servers[0]
	}
	return tb
}

func describe(n *node) Server {
	return Server{
		Name: n.Name, Address: n.Address, Role: cluster.Standby, Says: n.good.Role,
		SystemID: n.good.SystemID, Timeline: n.good.Timeline, LSN: n.good.LSN, Receiving: n.good.Receiving,
		SampleBegan: n.good.Began, SampledAt: n.good.At, Weight: n.weight,
	}
}

func (t *Tracker) primaryServer(n *node, now time.Time) Server {
	s := describe(n)
	s.Role = cluster.Primary
	n.in, n.inARow, n.wasOut = false, 0, true // should it become a standby it has to earn its place
	switch {
	case n.good.At.IsZero() && n.last.Err != "":
		s.Reason = fmt.Sprintf("%s is to be primary (term %d), but cannot be reached: %s", n.Name, t.term, n.last.Err)
	case n.good.At.IsZero():
		s.Reason = fmt.Sprintf("%s is to be primary (term %d), but has not answered yet", n.Name, t.term)
	case n.good.Role != cluster.Primary:
		s.Reason = fmt.Sprintf("%s is to be primary (term %d), but is in recovery: it is being promoted, or the agreed state is "+
			"about to change", n.Name, t.term)
	case now.Sub(n.good.At) > t.goneAfter() && n.last.Err != "":
		s.Reason = fmt.Sprintf("%s is primary (term %d), but cannot be reached for %s: %s", n.Name, t.term,
			round(now.Sub(n.good.At)), n.last.Err)
	case now.Sub(n.good.At) > t.goneAfter():
		s.Reason = fmt.Sprintf("%s is primary (term %d), but has not answered for %s", n.Name, t.term, round(now.Sub(n.good.At)))
	default:
		s.Eligible, s.LagKnown = true, true
	}
	return s
}

func (t *Tracker) standbyServer(n *node, now time.Time) Server {
	s := describe(n)
	j := t.judge(n, now)
	s.LagKnown, s.LagBytes, s.LagTime, s.LagBound, s.Stalled = j.known, j.bytes, j.estimate, j.bound, j.stalled
	s.Reason = j.reason
	if s.Reason == "" && !j.within(n.limits, 1) {
		s.Reason = j.over(n.limits)
	}
	switch {
	case s.Reason != "":
		n.wasOut = n.wasOut || n.in || j.known
		n.in, n.inARow = false, 0
	case !n.in && !n.good.Receiving:
		s.Reason = "its WAL receiver is down"
	case !n.in && n.wasOut && n.inARow < backAfter:
		s.Reason = fmt.Sprintf("coming back: %d of %d samples in a row within half of the limits", n.inARow, backAfter)
	case !n.in:
		n.in, n.since, n.slowFrom = true, now, n.wasOut
	}
	s.Eligible = n.in
	if n.in && n.slowFrom {
		steps := 1 + int(now.Sub(n.since)*rampSteps/ramp)
		s.Weight = max(1, n.weight*min(steps, rampSteps)/rampSteps)
	}
	return s
}
