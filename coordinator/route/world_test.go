package route_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/multicoord/multicoord/coordinator/route"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// world is a cluster with its true state, of which the tracker sees only samples: late, out of order, failed.
type world struct {
	t        *rapid.T
	now      time.Time
	policy   cluster.Reads
	tracker  *route.Tracker
	table    *route.Table
	servers  []*machine
	agreed   int // index of the agreed primary
	term     uint64
	past     []moment // what the line of primaries had written, newest last
	flight   []*query
	sessions []*client
}

// machine is one server. Positions of different timelines are told apart by the writes that they contain.
type machine struct {
	name      string
	up        bool
	primary   bool
	receiving bool
	paused    bool
	timeline  uint32
	lsn       cluster.LSN
}

// moment says that from at on the primary of the timeline was at lsn.
type moment struct {
	at       time.Time
	timeline uint32
	lsn      cluster.LSN
}

type query struct {
	sample route.Sample
	asked  bool // the server has evaluated it
	m      *machine
}

type client struct {
	token route.Token
	// The last write that has survived, as timeline and position.
	timeline uint32
	lsn      cluster.LSN
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, now: time.Unix(1000, 0), term: 1, policy: cluster.Reads{
		MaxLag: cluster.Duration(2 * time.Second), MaxLagBytes: 5000, Check: cluster.Duration(100 * time.Millisecond),
	}}
	w.tracker = route.NewTracker(w.policy)
	for i := range 3 {
		w.servers = append(w.servers, &machine{
			name: fmt.Sprint("c", i+1), up: true, primary: i == 0, receiving: i != 0, timeline: 1, lsn: 1000,
		})
	}
	w.sessions = []*client{{}, {}, {}}
	w.note()
	w.agree()
	w.table = w.tracker.Table(w.now)
	return w
}

func (w *world) leader() *machine { return w.servers[w.agreed] }

func (w *world) note() {
	if l := w.leader(); l.primary {
		w.past = append(w.past, moment{w.now, l.timeline, l.lsn})
	}
}

func (w *world) agree() {
	var ms []route.Member
	for i, m := range w.servers {
		r := route.Member{Name: m.name, Address: m.name, Role: cluster.Standby}
		if i == w.agreed {
			r.Role, r.Term = cluster.Primary, w.term
		}
		ms = append(ms, r)
	}
	w.tracker.Members(ms, w.now)
}

func (w *world) pick(n int, what string) int { return rapid.IntRange(0, n-1).Draw(w.t, what) }

// pass lets time go by: the primary writes, standbys replay.
func (w *world) pass() {
	w.now = w.now.Add(time.Duration(1+w.pick(150, "ms")) * time.Millisecond)
	l := w.leader()
	if l.up && l.primary && w.pick(3, "writes") > 0 {
		l.lsn += cluster.LSN(w.pick(900, "bytes"))
		w.note()
	}
	for _, m := range w.servers {
		if m == l || !m.up || m.primary || m.paused {
			continue
		}
		if m.receiving && l.up && l.primary && m.timeline == l.timeline {
			m.lsn = min(l.lsn, m.lsn+cluster.LSN(w.pick(2000, "replay")))
		}
	}
}

// ask sends a sampling query, evaluates one that is under way, or delivers one that was evaluated.
func (w *world) ask() {
	m := w.servers[w.pick(3, "server")]
	w.flight = append(w.flight, &query{m: m, sample: route.Sample{Node: m.name, Began: w.now}})
}

func (w *world) evaluate() {
	if len(w.flight) == 0 {
		return
	}
	if q := w.flight[w.pick(len(w.flight), "query")]; !q.asked {
		q.evaluate()
	}
}

func (q *query) evaluate() {
	q.asked = true
	s, m := &q.sample, q.m
	if !m.up {
		s.Err = "refused"
		return
	}
	s.Role, s.SystemID, s.Timeline, s.LSN, s.Receiving = cluster.Standby, "7", m.timeline, m.lsn, m.receiving
	if m.primary {
		s.Role, s.Receiving = cluster.Primary, false
	}
}

func (w *world) deliver() {
	if len(w.flight) == 0 {
		return
	}
	i := w.pick(len(w.flight), "delivered")
	if q := w.flight[i]; q.asked {
		q.sample.At = w.now
		w.tracker.Observe(q.sample)
		w.flight = append(w.flight[:i], w.flight[i+1:]...)
		w.table = w.tracker.Table(w.now)
	}
}

// round samples all at once, so that histories get somewhere.
func (w *world) round() {
	for _, m := range w.servers {
		q := &query{m: m, sample: route.Sample{Node: m.name, Began: w.now}}
		q.evaluate()
		q.sample.At = w.now
		w.tracker.Observe(q.sample)
	}
	w.table = w.tracker.Table(w.now)
}

// disturb does something to a standby, or kills the primary and lets another take over.
func (w *world) disturb() {
	m := w.servers[w.pick(3, "disturbed")]
	switch w.pick(5, "disturbance") {
	case 0:
		m.paused = !m.paused
	case 1:
		if !m.primary {
			m.receiving = !m.receiving
		}
	case 2:
		if m != w.leader() {
			m.up = !m.up
		}
	case 3:
		w.failover()
	case 4: // a standby that was left behind is cloned anew
		l := w.leader()
		if m != l && l.up && l.primary {
			*m = machine{name: m.name, up: true, receiving: true, timeline: l.timeline, lsn: l.lsn}
		}
	}
}

func (w *world) failover() {
	old, next := w.leader(), w.pick(3, "next")
	n := w.servers[next]
	if n == old || !n.up || n.timeline != old.timeline || n.primary {
		return
	}
	old.up = w.pick(2, "old lives") == 0 // it may go on thinking that it is primary for a while
	at, lost := n.lsn, old.timeline
	w.agreed = next
	w.term++
	w.agree()
	n.primary, n.receiving, n.paused = true, false, false
	n.timeline++
	n.lsn += 100
	// Who is not past the fork follows; who is past it has to be cloned.
	for _, m := range w.servers {
		if m != n && m != old && m.timeline == lost && m.lsn <= at && m.up {
			m.timeline, m.receiving = n.timeline, true
		}
	}
	// What was written and not replayed by the new primary is lost.
	for _, c := range w.sessions {
		if c.timeline == lost && c.lsn > at {
			c.lsn = 0
		}
	}
	w.note()
}

// write commits in a session on the primary and tells its token.
func (w *world) write() {
	c := w.sessions[w.pick(len(w.sessions), "writer")]
	ch := w.table.Write()
	l := w.leader()
	if ch.Server == nil {
		return
	}
	if w.table.Term == w.term {
		require.Equal(w.t, l.name, ch.Server.Name, "writes go to the agreed primary")
	}
	if ch.Server.Name != l.name || !l.up || !l.primary {
		return
	}
	l.lsn += cluster.LSN(1 + w.pick(200, "size"))
	w.note()
	c.timeline, c.lsn = l.timeline, l.lsn
	if w.pick(2, "slow answer") == 0 {
		w.now = w.now.Add(time.Millisecond)
	}
	c.token.Wrote(w.now)
}

// read checks the choice of a server against the truth.
func (w *world) read() {
	c := w.sessions[w.pick(len(w.sessions), "reader")]
	level := rapid.SampledFrom([]cluster.Consistency{cluster.Session, cluster.Session, cluster.Eventual, cluster.Strong}).Draw(w.t, "level")
	fb := rapid.SampledFrom([]cluster.Fallback{cluster.FallbackPrimary, cluster.FallbackWait, cluster.FallbackError}).Draw(w.t, "fallback")
	ch := w.table.Read(route.Request{Consistency: level, Token: &c.token, Now: w.now}, fb)
	s := ch.Server
	if s == nil {
		require.Error(w.t, ch.Err)
		require.NotEmpty(w.t, ch.Reason)
		return
	}
	require.True(w.t, s.Eligible)
	if s.Role == cluster.Primary {
		require.Same(w.t, w.table.Primary, s)
		return
	}
	require.NotEqual(w.t, cluster.Strong, level)
	require.True(w.t, s.LagKnown)
	require.LessOrEqual(w.t, s.LagBound, w.policy.MaxLag.D())
	require.LessOrEqual(w.t, s.LagBytes, uint64(w.policy.MaxLagBytes))
	require.Empty(w.t, s.Reason)
	var m *machine
	for _, x := range w.servers {
		if x.name == s.Name {
			m = x
		}
	}
	if m.timeline != s.Timeline || m.primary { // it was promoted or cloned since its sample
		return
	}
	// What is behind the promise: the server has all that the primary of its timeline had so long ago, and the samples' and
	// the table's age on top.
	floor := w.now.Add(-w.policy.MaxLag.D() - 2*time.Second)
	for _, p := range w.past {
		if p.timeline == m.timeline && !p.at.After(floor) {
			require.GreaterOrEqual(w.t, m.lsn, p.lsn, "%s lacks what was written %s ago", m.name, w.now.Sub(p.at))
		}
	}
	if level == cluster.Session && c.lsn > 0 {
		if c.timeline == m.timeline {
			require.GreaterOrEqual(w.t, m.lsn, c.lsn, "a session's read on %s does not see its own write", m.name)
		} else {
			require.Greater(w.t, m.timeline, c.timeline, "a session's read on %s of a lost timeline", m.name)
		}
	}
	if level == cluster.Session {
		c.token.Saw(s)
	}
}

// TestWhateverHappensReadsKeepTheirPromise: a read never goes to a server whose lag is unknown or over the limit, and
// never to one that has not replayed the session's last write.
func TestWhateverHappensReadsKeepTheirPromise(t *testing.T) {
	standbys := 0
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		steps := rapid.IntRange(20, 250).Draw(t, "steps")
		for range steps {
			switch k := w.pick(40, "step"); {
			case k < 8:
				w.pass()
			case k < 12:
				w.ask()
			case k < 16:
				w.evaluate()
			case k < 20:
				w.deliver()
			case k < 26:
				w.round()
			case k < 27:
				w.disturb()
			case k < 31:
				w.write()
			case k < 33:
				w.table = w.tracker.Table(w.now)
			default:
				w.read()
			}
			for i := range w.table.Standbys {
				s := &w.table.Standbys[i]
				if s.Eligible {
					standbys++
				}
				require.Equal(t, s.Eligible, s.Reason == "", "what is not eligible says why")
			}
		}
	})
	require.Greater(t, standbys, 1000, "the histories must get somewhere")
}
