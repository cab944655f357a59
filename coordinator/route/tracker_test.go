package route_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/coordinator/route"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

const (
	check = 200 * time.Millisecond
	lag   = 5 * time.Second
	bytes = 1000
)

// scene feeds a tracker: c1 is the agreed primary, c2 and c3 are standbys.
type scene struct {
	t   *testing.T
	now time.Time
	tr  *route.Tracker
}

func reads() cluster.Reads {
	return cluster.Reads{MaxLag: cluster.Duration(lag), MaxLagBytes: bytes, Check: cluster.Duration(check)}
}

func members(primary string, term uint64) []route.Member {
	var ms []route.Member
	for _, n := range []string{"c1", "c2", "c3"} {
		m := route.Member{Name: n, Address: n + ":5432", Role: cluster.Standby}
		if n == primary {
			m.Role, m.Term = cluster.Primary, term
		}
		ms = append(ms, m)
	}
	return ms
}

func newScene(t *testing.T, p cluster.Reads) *scene {
	t.Helper()
	s := &scene{t: t, now: time.Unix(1000, 0), tr: route.NewTracker(p)}
	s.tr.Members(members("c1", 3), s.now)
	return s
}

func (s *scene) pass(d time.Duration) { s.now = s.now.Add(d) }

// sample is a good one that took no time; change alters it.
func (s *scene) sample(node string, role cluster.Role, lsn cluster.LSN, change ...func(*route.Sample)) {
	m := route.Sample{
		Node: node, Began: s.now, At: s.now, Role: role, SystemID: "7", Timeline: 1, LSN: lsn,
		Receiving: role == cluster.Standby,
	}
	for _, f := range change {
		f(&m)
	}
	s.tr.Observe(m)
}

// round samples all three servers: the primary at p, the standbys at r.
func (s *scene) round(p, r2, r3 cluster.LSN) {
	s.pass(check)
	s.sample("c1", cluster.Primary, p)
	s.sample("c2", cluster.Standby, r2)
	s.sample("c3", cluster.Standby, r3)
}

func (s *scene) server(name string) route.Server {
	s.t.Helper()
	for _, v := range s.tr.Table(s.now).Servers {
		if v.Name == name {
			return v
		}
	}
	require.Fail(s.t, "no such server", name)
	return route.Server{}
}

func (s *scene) eligible(name string) bool { return s.server(name).Eligible }

func timeline(n uint32) func(*route.Sample) { return func(s *route.Sample) { s.Timeline = n } }
func failed(err string) func(*route.Sample) { return func(s *route.Sample) { s.Err = err } }
func receiverDown(s *route.Sample)          { s.Receiving = false }

func TestAnIdlePrimaryShowsNoLag(t *testing.T) {
	s := newScene(t, reads())
	for range 100 {
		s.round(500, 500, 500)
		v := s.server("c2")
		require.True(t, v.Eligible, v.Reason)
		require.True(t, v.LagKnown)
		require.Zero(t, v.LagBytes)
		require.Zero(t, v.LagTime)
		require.Zero(t, v.LagBound)
		require.Zero(t, v.Stalled)
	}
}

func TestLagInTimeIsHowLongAgoThePrimaryWasThere(t *testing.T) {
	s := newScene(t, reads())
	s.round(100, 100, 100)
	for range 10 { // 2 s of idleness at 100, which cost nothing
		s.round(100, 100, 100)
	}
	for i := range 10 {
		s.round(cluster.LSN(110+10*i), cluster.LSN(110+10*i), 100)
	}
	v := s.server("c3")
	require.Equal(t, uint64(100), v.LagBytes)
	require.Equal(t, 2*time.Second, v.LagBound, "10 samples of 200 ms since the primary left 100")
	require.Equal(t, 2*time.Second, v.LagTime)
	require.Equal(t, 2*time.Second, v.Stalled)
	require.True(t, v.Eligible)
	require.Zero(t, s.server("c2").LagBound)
}

func TestTheEstimateLiesBetweenTwoSamples(t *testing.T) {
	s := newScene(t, reads())
	s.round(100, 100, 100)
	s.round(200, 190, 200)
	v := s.server("c2")
	require.Equal(t, check, v.LagBound)
	require.Equal(t, 20*time.Millisecond, v.LagTime)
}

func TestOverEitherLimitIsOut(t *testing.T) {
	for _, c := range []struct {
		rule   string
		policy func(*cluster.Reads)
		behind cluster.LSN
		since  time.Duration
		in     bool
	}{
		{"at the limit of bytes", nil, bytes, check, true},
		{"over the limit of bytes", nil, bytes + 1, check, false},
		{"at the limit of time", nil, 1, lag, true},
		{"over the limit of time", nil, 1, lag + check, false},
		{"an override that is wider", func(p *cluster.Reads) {
			p.Overrides = map[string]cluster.ReadOverride{"c2": {MaxLagBytes: 10 * bytes}}
		}, bytes + 1, check, true},
		{"an override that is stricter", func(p *cluster.Reads) {
			p.Overrides = map[string]cluster.ReadOverride{"c2": {MaxLag: cluster.Duration(time.Second)}}
		}, 1, 2 * time.Second, false},
		{"an override of another node", func(p *cluster.Reads) {
			p.Overrides = map[string]cluster.ReadOverride{"c3": {MaxLag: cluster.Duration(time.Second)}}
		}, 1, 2 * time.Second, true},
	} {
		p := reads()
		if c.policy != nil {
			c.policy(&p)
		}
		s := newScene(t, p)
		s.round(10_000, 10_000, 10_000)
		require.True(t, s.eligible("c2"))
		for range int(c.since / check) {
			s.round(10_000+c.behind, 10_000, 10_000+c.behind)
		}
		v := s.server("c2")
		require.Equal(t, c.in, v.Eligible, "%s: %s", c.rule, v.Reason)
		if !c.in {
			require.Contains(t, v.Reason, "limit", c.rule)
		}
	}
}

func TestBackAtHalfTheLimitForSomeSamples(t *testing.T) {
	s := newScene(t, reads())
	s.round(10_000, 10_000, 10_000)
	s.round(20_000, 10_000, 20_000)
	require.False(t, s.eligible("c2"))
	for range 5 {
		s.round(20_000, 20_000-bytes/2-1, 20_000)
		require.False(t, s.eligible("c2"), "within the limit, but not within half of it")
	}
	s.round(20_000, 19_900, 20_000)
	require.False(t, s.eligible("c2"))
	s.round(20_000, 19_950, 20_000)
	require.Contains(t, s.server("c2").Reason, "coming back: 2 of 3")
	s.round(20_000, 19_000, 20_000) // the row is broken
	for range 2 {
		s.round(20_000, 20_000, 20_000)
		require.False(t, s.eligible("c2"))
	}
	s.round(20_000, 20_000, 20_000)
	require.True(t, s.eligible("c2"))
}

func TestWeightGrowsAfterComingBack(t *testing.T) {
	p := reads()
	p.Overrides = map[string]cluster.ReadOverride{"c2": {Weight: 200}}
	s := newScene(t, p)
	s.round(10_000, 10_000, 10_000)
	require.Equal(t, 200, s.server("c2").Weight, "at first sight it is no newcomer")
	s.round(20_000, 10_000, 20_000)
	require.False(t, s.eligible("c2"))
	last := 0
	for range 3 {
		s.round(20_000, 20_000, 20_000)
	}
	for range 60 {
		v := s.server("c2")
		require.True(t, v.Eligible, v.Reason)
		require.GreaterOrEqual(t, v.Weight, last)
		if last == 0 {
			require.Equal(t, 20, v.Weight)
		}
		last = v.Weight
		s.round(20_000, 20_000, 20_000)
	}
	require.Equal(t, 200, last)
	require.Equal(t, 100, s.server("c3").Weight)
}

func TestWhatIsNotKnownIsNotEligible(t *testing.T) {
	for _, c := range []struct {
		rule, reason string
		play         func(*scene)
	}{
		{"never sampled", "has not answered yet", func(s *scene) { s.sample("c1", cluster.Primary, 100) }},
		{"never reached", "cannot be reached: refused", func(s *scene) {
			s.sample("c1", cluster.Primary, 100)
			s.sample("c2", cluster.Standby, 0, failed("refused"))
		}},
		{"the primary was never sampled", "the primary's position is not known", func(s *scene) {
			s.sample("c2", cluster.Standby, 100)
		}},
		{"behind all that is known of the primary", "for longer than the primary has been watched", func(s *scene) {
			s.round(100, 99, 100)
		}},
		{"the standby's sample is old", "has not answered for", func(s *scene) {
			s.round(100, 100, 100)
			s.pass(2 * time.Second)
			s.sample("c1", cluster.Primary, 100)
		}},
		{"the standby cannot be reached any more", "cannot be reached for 2s: gone", func(s *scene) {
			s.round(100, 100, 100)
			s.pass(2 * time.Second)
			s.sample("c1", cluster.Primary, 100)
			s.sample("c2", cluster.Standby, 0, failed("gone"))
		}},
		{"the primary's samples are old", "limit 5s", func(s *scene) {
			s.round(100, 100, 100)
			for range 60 {
				s.pass(check)
				s.sample("c2", cluster.Standby, 100, receiverDown)
			}
		}},
		{"the primary's samples are old although WAL is received", "position is not known since", func(s *scene) {
			s.round(100, 100, 100)
			for range 60 {
				s.pass(check)
				s.sample("c2", cluster.Standby, 100)
			}
		}},
		{"another timeline", "is on timeline 1, the primary on 2", func(s *scene) {
			s.round(100, 100, 100)
			s.pass(check)
			s.sample("c1", cluster.Primary, 120, timeline(2))
			s.sample("c2", cluster.Standby, 120)
		}},
		{"another system", "belongs to another database system", func(s *scene) {
			s.round(100, 100, 100)
			s.pass(check)
			s.sample("c2", cluster.Standby, 100, func(m *route.Sample) { m.SystemID = "8" })
		}},
		{"nothing replayed", "has replayed nothing", func(s *scene) {
			s.sample("c1", cluster.Primary, 100)
			s.sample("c2", cluster.Standby, 0)
		}},
		{"a second primary", "calls itself primary, but is not the agreed one (c1, term 3)", func(s *scene) {
			s.round(100, 100, 100)
			s.pass(check)
			s.sample("c2", cluster.Primary, 100)
		}},
		{"no role", "its role is not known", func(s *scene) {
			s.sample("c1", cluster.Primary, 100)
			s.sample("c2", cluster.RoleUnknown, 100)
		}},
		{"not receiving from the beginning", "WAL receiver is down", func(s *scene) {
			s.sample("c1", cluster.Primary, 100)
			s.sample("c2", cluster.Standby, 100, receiverDown)
		}},
	} {
		s := newScene(t, reads())
		c.play(s)
		v := s.server("c2")
		require.False(t, v.Eligible, c.rule)
		require.Contains(t, v.Reason, c.reason, c.rule)
	}
}

func TestAReceiverThatIsDownIsNotZeroLag(t *testing.T) {
	s := newScene(t, reads())
	s.round(100, 100, 100)
	require.True(t, s.eligible("c2"))
	for i := range 25 {
		s.pass(check)
		s.sample("c1", cluster.Primary, 100)
		s.sample("c2", cluster.Standby, 100, receiverDown)
		s.pass(check / 2)
		v := s.server("c2")
		require.Equal(t, check/2, v.LagBound, "what a sample proves, %d", i)
		require.True(t, v.Eligible, v.Reason)
	}
	// The primary goes on: the standby is out when the proof is older than the limit.
	for range 26 {
		s.pass(check)
		s.sample("c1", cluster.Primary, 101)
		s.sample("c2", cluster.Standby, 100, receiverDown)
	}
	require.False(t, s.eligible("c2"))
	// It does not come back on what it had, only when it receives.
	for range 5 {
		s.pass(check)
		s.sample("c1", cluster.Primary, 101)
		s.sample("c2", cluster.Standby, 101, receiverDown)
		require.Equal(t, "its WAL receiver is down", s.server("c2").Reason)
	}
	for range 3 {
		s.round(101, 101, 101)
	}
	require.True(t, s.eligible("c2"))
}

func TestSamplesOutOfOrderAndOfStrangersAreIgnored(t *testing.T) {
	s := newScene(t, reads())
	s.round(100, 100, 100)
	s.round(200, 200, 200)
	s.sample("c2", cluster.Standby, 1, func(m *route.Sample) { m.Began = s.now.Add(-check) })
	s.sample("c9", cluster.Primary, 999)
	s.sample("c1", cluster.Primary, 1, func(m *route.Sample) { m.Began = s.now.Add(-check) })
	require.Equal(t, cluster.LSN(200), s.server("c2").LSN)
	require.Equal(t, cluster.LSN(200), s.server("c1").LSN)
	require.True(t, s.eligible("c2"))
}

func TestANewAddressIsANewServer(t *testing.T) {
	s := newScene(t, reads())
	s.round(100, 100, 100)
	require.True(t, s.eligible("c2"))
	ms := members("c1", 3)
	ms[1].Address = "elsewhere:5432"
	s.tr.Members(ms, s.now)
	require.Equal(t, "has not answered yet", s.server("c2").Reason)
	s.tr.Members(ms[:1], s.now)
	require.Len(t, s.tr.Table(s.now).Servers, 1)
	require.Empty(t, s.tr.Table(s.now).Standbys)
}

func TestAPageHeaderIsNoLag(t *testing.T) {
	s := newScene(t, reads())
	for range 40 {
		s.round(3*8192+24, 3*8192, 3*8192-1)
	}
	v := s.server("c2")
	require.True(t, v.LagKnown)
	require.Zero(t, v.LagBytes)
	require.Zero(t, v.LagBound)
	require.False(t, s.server("c3").LagKnown)
}

func TestLogThatIsNotFlushedIsNoLagButCountsForASessionsWrite(t *testing.T) {
	s := newScene(t, reads())
	var tk route.Token
	tk.Wrote(s.now)
	for range 50 {
		s.pass(check)
		s.sample("c1", cluster.Primary, 150, func(m *route.Sample) { m.Flushed = 100 })
		s.sample("c2", cluster.Standby, 100)
		v := s.server("c2")
		require.True(t, v.Eligible, v.Reason)
		require.Zero(t, v.LagBytes)
		require.Zero(t, v.LagBound)
	}
	r := route.Request{Consistency: cluster.Session, Token: &tk}
	require.Equal(t, "c1", s.tr.Table(s.now).Read(r, cluster.FallbackError).Server.Name)
	s.pass(check)
	s.sample("c1", cluster.Primary, 150, func(m *route.Sample) { m.Flushed = 150 })
	s.sample("c2", cluster.Standby, 150)
	require.Equal(t, "c2", s.tr.Table(s.now).Read(r, cluster.FallbackError).Server.Name)
}

func TestStallCountsOnlyWhileThereIsSomethingToReplay(t *testing.T) {
	s := newScene(t, reads())
	for range 50 {
		s.round(100, 100, 100)
	}
	s.round(200, 100, 200)
	require.Equal(t, check, s.server("c2").Stalled)
	s.round(200, 100, 200)
	require.Equal(t, 2*check, s.server("c2").Stalled)
	s.round(200, 150, 200)
	require.Zero(t, s.server("c2").Stalled)
}

func TestAChangedPolicyCountsAtOnce(t *testing.T) {
	s := newScene(t, reads())
	s.round(100, 100, 100)
	s.round(200, 100, 200)
	require.True(t, s.eligible("c2"))
	p := reads()
	p.MaxLagBytes = 50
	s.tr.Policy(p)
	require.False(t, s.eligible("c2"))
}

func TestTheHistoryIsThinnedNotForgotten(t *testing.T) {
	s := newScene(t, cluster.Reads{MaxLag: cluster.Duration(24 * time.Hour), MaxLagBytes: 1 << 40, Check: cluster.Duration(check)})
	s.round(100, 100, 100)
	began := s.now
	for i := range 20_000 {
		s.pass(check)
		s.sample("c1", cluster.Primary, cluster.LSN(200+i))
		s.sample("c2", cluster.Standby, 100)
	}
	v := s.server("c2")
	require.True(t, v.LagKnown)
	require.GreaterOrEqual(t, v.LagBound, s.now.Sub(began), "over-, never understated")
}
