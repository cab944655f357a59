package route_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/coordinator/route"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

func TestReadsGoOnForAWhileWhenThePrimaryDies(t *testing.T) {
	s := newScene(t, reads())
	s.round(100, 100, 100)
	died := s.now
	require.True(t, s.eligible("c2"))
	for s.now.Sub(died) <= lag {
		require.True(t, s.eligible("c2"), "%s after", s.now.Sub(died))
		s.pass(check)
		s.sample("c1", cluster.Primary, 0, failed("refused"))
		s.sample("c2", cluster.Standby, 100, receiverDown)
	}
	require.False(t, s.eligible("c2"))
}

func TestAgreedPrimary(t *testing.T) {
	for _, c := range []struct {
		rule, reason string
		play         func(*scene)
	}{
		{"is primary by its own word", "", func(s *scene) { s.round(100, 100, 100) }},
		{"one that is slow is still offered", "", func(s *scene) {
			s.round(100, 100, 100)
			s.pass(1500 * time.Millisecond)
			s.sample("c1", cluster.Primary, 0, failed("timeout"))
		}},
		{"is in recovery", "c1 is to be primary (term 3), but is in recovery", func(s *scene) {
			s.round(100, 100, 100)
			s.pass(check)
			s.sample("c1", cluster.Standby, 100)
		}},
		{"has not answered", "has not answered yet", func(s *scene) { s.sample("c2", cluster.Primary, 100) }},
		{"never answered", "cannot be reached: refused", func(s *scene) { s.sample("c1", cluster.Primary, 0, failed("refused")) }},
		{"is gone", "cannot be reached for 3s: refused", func(s *scene) {
			s.round(100, 100, 100)
			s.pass(3 * time.Second)
			s.sample("c1", cluster.Primary, 0, failed("refused"))
		}},
		{"is silent", "has not answered for 3s", func(s *scene) {
			s.round(100, 100, 100)
			s.pass(3 * time.Second)
		}},
		{"nobody is agreed on", "no primary is agreed on", func(s *scene) {
			s.round(100, 100, 100)
			s.tr.Members(members("", 0), s.now)
		}},
		{"another was agreed on and is not promoted yet", "c2 is to be primary (term 4), but is in recovery", func(s *scene) {
			s.round(100, 100, 100)
			s.tr.Members(members("c2", 4), s.now)
		}},
	} {
		s := newScene(t, reads())
		c.play(s)
		tb := s.tr.Table(s.now)
		w := tb.Write()
		if c.reason == "" {
			require.NotNil(t, tb.Primary, "%s: %s", c.rule, tb.PrimaryReason)
			require.Equal(t, "c1", w.Server.Name)
			require.NoError(t, w.Err)
			continue
		}
		require.Nil(t, tb.Primary, c.rule)
		require.Contains(t, tb.PrimaryReason, c.reason, c.rule)
		require.ErrorIs(t, w.Err, route.ErrNoPrimary)
		require.True(t, w.Wait)
		require.Equal(t, tb.PrimaryReason, w.Reason)
	}
}

func TestTheHigherTermCountsOfTwoAgreedPrimaries(t *testing.T) {
	s := newScene(t, reads())
	ms := members("c1", 3)
	ms[1].Role, ms[1].Term = cluster.Primary, 4
	s.tr.Members(ms, s.now)
	s.sample("c1", cluster.Primary, 100)
	s.sample("c2", cluster.Primary, 100, timeline(2))
	tb := s.tr.Table(s.now)
	require.Equal(t, "c2", tb.Primary.Name)
	require.Equal(t, uint64(4), tb.Term)
	require.Contains(t, s.server("c1").Reason, "calls itself primary")
}

func TestFailover(t *testing.T) {
	s := newScene(t, reads())
	for range 5 {
		s.round(1000, 1000, 1000)
	}
	s.tr.Members(members("c2", 4), s.now)
	s.pass(check)
	s.sample("c2", cluster.Primary, 1100, timeline(2))
	s.sample("c3", cluster.Standby, 1000, receiverDown)
	tb := s.tr.Table(s.now)
	require.Equal(t, "c2", tb.Primary.Name)
	require.False(t, s.eligible("c3"), "LSNs mean nothing across timelines")
	for range 3 {
		s.pass(check)
		s.sample("c2", cluster.Primary, 1100, timeline(2))
		s.sample("c3", cluster.Standby, 1100, timeline(2))
		s.sample("c1", cluster.Primary, 5000)
	}
	require.True(t, s.eligible("c3"))
	require.False(t, s.eligible("c1"), "the old primary is no standby")
	require.Equal(t, "c2", s.tr.Table(s.now).Primary.Name)
}

func TestAPrimaryWhoseUnflushedEndWasLost(t *testing.T) {
	s := newScene(t, reads())
	s.round(900, 900, 900)
	for i := range 5 {
		s.round(cluster.LSN(1000+10*i), 900, 900) // that was never flushed, no standby has it
	}
	s.round(950, 950, 900)
	v := s.server("c2")
	require.Zero(t, v.LagBound)
	require.True(t, v.LagKnown)
	s.round(1050, 1050, 1050)
	require.Zero(t, s.server("c2").LagBytes)
}
