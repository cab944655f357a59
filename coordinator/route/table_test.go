package route_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/coordinator/route"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// standby makes an eligible one.
func standby(name string, weight int, lsn cluster.LSN) route.Server {
	return route.Server{
		Name: name, Role: cluster.Standby, Eligible: true, Weight: weight, SystemID: "7", Timeline: 1, LSN: lsn, LagKnown: true,
	}
}

func table(lsn cluster.LSN, standbys ...route.Server) *route.Table {
	return &route.Table{
		At: time.Unix(1000, 0),
		Primary: &route.Server{
			Name: "c1", Role: cluster.Primary, Eligible: true, SystemID: "7", Timeline: 1, LSN: lsn, SampleBegan: time.Unix(1000, 0),
		},
		Standbys: standbys,
	}
}

func name(c route.Choice) string {
	if c.Server == nil {
		return ""
	}
	return c.Server.Name
}

func TestTheLeastBusyRelativeToItsWeightIsChosen(t *testing.T) {
	tb := table(100, standby("c2", 100, 100), standby("c3", 200, 100), standby("c4", 100, 100))
	tb.Standbys[2].Eligible = false
	for _, c := range []struct {
		busy map[string]int
		want string
	}{
		{map[string]int{"c2": 1, "c3": 0}, "c3"},
		{map[string]int{"c2": 0, "c3": 1}, "c2"},
		{map[string]int{"c2": 5, "c3": 9}, "c3"},
		{map[string]int{"c2": 5, "c3": 11}, "c2"},
		{map[string]int{"c2": 5, "c3": -3}, "c3"},
	} {
		r := route.Request{InFlight: func(n string) int { return c.busy[n] }, Rand: rand.IntN}
		for range 10 {
			require.Equal(t, c.want, name(tb.Read(r, cluster.FallbackPrimary)), "%v", c.busy)
		}
	}
}

func TestEqualsAreChosenInProportionToTheirWeights(t *testing.T) {
	tb := table(100, standby("c2", 100, 100), standby("c3", 300, 100), standby("c4", 600, 100))
	counts := map[string]int{}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		counts[name(tb.Read(route.Request{Rand: rnd.IntN}, cluster.FallbackPrimary))]++
	}
	require.InDelta(t, 1000, counts["c2"], 150)
	require.InDelta(t, 3000, counts["c3"], 250)
	require.InDelta(t, 6000, counts["c4"], 250)
}

func TestWhereAReadGoes(t *testing.T) {
	none := table(100)
	gone := table(100)
	gone.Primary, gone.PrimaryReason = nil, "c1 cannot be reached"
	one := table(100, standby("c2", 100, 100))
	alone := table(100, standby("c2", 100, 100))
	alone.Primary, alone.PrimaryReason = nil, "c1 cannot be reached"
	wrote := func() *route.Token {
		var tk route.Token
		tk.Wrote(time.Unix(2000, 0))
		return &tk
	}
	for _, c := range []struct {
		rule     string
		table    *route.Table
		r        route.Request
		fallback cluster.Fallback
		want     string
		err      error
		wait     bool
		diverted bool
	}{
		{rule: "a standby", table: one, want: "c2"},
		{rule: "a standby without a primary", table: alone, want: "c2"},
		{rule: "strong", table: one, r: route.Request{Consistency: cluster.Strong}, want: "c1"},
		{rule: "strong without a primary", table: alone, r: route.Request{Consistency: cluster.Strong}, err: route.ErrNoPrimary, wait: true},
		{rule: "hint", table: one, r: route.Request{PrimaryOnly: true}, want: "c1"},
		{rule: "fallback to the primary", table: none, fallback: cluster.FallbackPrimary, want: "c1", diverted: true},
		{rule: "the default is the primary", table: none, want: "c1", diverted: true},
		{rule: "fallback to the primary without one", table: gone, fallback: cluster.FallbackPrimary, err: route.ErrNoPrimary, wait: true},
		{rule: "wait", table: none, fallback: cluster.FallbackWait, err: route.ErrNoStandby, wait: true},
		{rule: "error", table: none, fallback: cluster.FallbackError, err: route.ErrNoStandby},
		{rule: "excluded", table: one, r: route.Request{Exclude: []string{"c2"}}, want: "c1", diverted: true},
		{rule: "another one excluded", table: one, r: route.Request{Exclude: []string{"c3"}}, want: "c2"},
		{rule: "own write not located", table: one, r: route.Request{Consistency: cluster.Session, Token: wrote()}, want: "c1"},
		{
			rule: "own write not located, whatever the fallback", table: one,
			r: route.Request{Consistency: cluster.Session, Token: wrote()}, fallback: cluster.FallbackError, want: "c1",
		},
		{rule: "own write not located, no primary", table: alone, r: route.Request{Token: wrote()}, err: route.ErrNoPrimary, wait: true},
		{rule: "eventual does not care", table: one, r: route.Request{Consistency: cluster.Eventual, Token: wrote()}, want: "c2"},
		{rule: "a table that nobody renews", table: one, r: route.Request{Now: time.Unix(1100, 0)}, want: "c1", diverted: true},
	} {
		got := c.table.Read(c.r, c.fallback)
		require.Equal(t, c.want, name(got), c.rule)
		require.ErrorIs(t, got.Err, c.err, c.rule)
		require.Equal(t, c.wait, got.Wait, c.rule)
		require.Equal(t, c.diverted, got.Diverted, c.rule)
		require.NotEmpty(t, got.Reason, c.rule)
	}
}

func TestASessionsOwnWrite(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(1000+int64(s), 0) }
	sampled := func(began int, lsn, replayed cluster.LSN) *route.Table {
		tb := table(lsn, standby("c2", 100, replayed))
		tb.Primary.SampleBegan, tb.At = at(began), at(began)
		return tb
	}
	var tk route.Token
	read := func(tb *route.Table) string {
		return name(tb.Read(route.Request{Consistency: cluster.Session, Token: &tk}, cluster.FallbackError))
	}
	require.Equal(t, "c2", read(sampled(0, 100, 50)), "nothing written yet")
	tk.Wrote(at(5))
	require.Equal(t, "c1", read(sampled(4, 200, 200)), "the sample is older than the write")
	require.Equal(t, "c1", read(sampled(5, 200, 200)), "the sample began at the same moment")
	require.Equal(t, "c1", read(sampled(6, 250, 249)), "located at 250, not replayed")
	require.Equal(t, "c1", read(sampled(7, 900, 249)), "the primary's later positions are others' writes")
	require.Equal(t, "c2", read(sampled(8, 900, 250)))
	tk.Wrote(at(3))
	require.Equal(t, "c1", read(sampled(2, 900, 900)), "told late")
	require.Equal(t, "c2", read(sampled(9, 950, 950)))
	tk.Wrote(at(12))
	tk.Wrote(at(11))
	require.Equal(t, "c1", read(func() *route.Table { tb := sampled(12, 990, 990); return tb }()), "the later of two writes counts")
}

func TestATokenOfALostTimelineGoesToThePrimaryUntilTheNewOneIsKnown(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(1000+int64(s), 0) }
	on := func(tl uint32, began, made int, lsn, replayed cluster.LSN) *route.Table {
		tb := table(lsn, standby("c2", 100, replayed))
		tb.Primary.SampleBegan, tb.At = at(began), at(made)
		tb.Primary.Timeline, tb.Standbys[0].Timeline = tl, tl
		return tb
	}
	var tk route.Token
	read := func(tb *route.Table) string {
		return name(tb.Read(route.Request{Consistency: cluster.Session, Token: &tk}, cluster.FallbackError))
	}
	tk.Wrote(at(1))
	require.Equal(t, "c2", read(on(1, 2, 2, 500, 500)))
	require.Equal(t, "c1", read(on(2, 3, 4, 400, 400)), "the timeline is another one")
	require.Equal(t, "c1", read(on(2, 4, 5, 400, 400)), "its sample began before that was known")
	require.Equal(t, "c1", read(on(2, 5, 6, 420, 410)), "located at 420")
	require.Equal(t, "c2", read(on(2, 6, 7, 430, 420)))

	// While there is no primary, standbys of the token's timeline will do, others not.
	tb := on(2, 6, 8, 430, 420)
	tb.Primary = nil
	require.Equal(t, "c2", read(tb))
	tb.Standbys[0].Timeline = 3
	c := tb.Read(route.Request{Token: &tk}, cluster.FallbackPrimary)
	require.ErrorIs(t, c.Err, route.ErrNoPrimary)
	require.True(t, c.Wait)
}

func TestAReadDoesNotGoBackFromAFreshStandbyToOneThatLags(t *testing.T) {
	tb := table(1000, standby("c2", 100, 990), standby("c3", 100, 500))
	var tk route.Token
	r := route.Request{Token: &tk}
	tk.Saw(&tb.Standbys[1])
	counts := map[string]bool{}
	r.Rand = rand.IntN
	for range 100 {
		counts[name(tb.Read(r, cluster.FallbackPrimary))] = true
	}
	require.Len(t, counts, 2)
	tk.Saw(&tb.Standbys[0])
	for range 100 {
		require.Equal(t, "c2", name(tb.Read(r, cluster.FallbackPrimary)))
	}
	r.Exclude = []string{"c2"}
	require.Equal(t, "c1", name(tb.Read(r, cluster.FallbackError)), "better the primary than the past")
	tk.Saw(tb.Primary)
	r.Exclude = nil
	require.Equal(t, "c2", name(tb.Read(r, cluster.FallbackError)), "what the primary showed does not keep a session there")
}

func TestChoosingAllocatesNothing(t *testing.T) {
	tb := table(100, standby("c2", 100, 100), standby("c3", 200, 100))
	var tk route.Token
	inFlight := func(string) int { return 1 }
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		tk.Wrote(time.Unix(999, 0))
		c := tb.Read(route.Request{Consistency: cluster.Session, Token: &tk, InFlight: inFlight, Rand: rand.IntN}, cluster.FallbackPrimary)
		if c.Server == nil || tb.Write().Server == nil {
			panic("no server")
		}
		tk.Saw(c.Server)
	}))
}

func BenchmarkRead(b *testing.B) {
	tb := table(100, standby("c2", 100, 100), standby("c3", 200, 100))
	var tk route.Token
	tk.Wrote(time.Unix(999, 0))
	r := route.Request{Consistency: cluster.Session, Token: &tk, InFlight: func(string) int { return 1 }, Rand: rand.IntN}
	b.ReportAllocs()
	for b.Loop() {
		if tb.Read(r, cluster.FallbackPrimary).Server == nil {
			b.Fatal("no server")
		}
	}
}

func BenchmarkTable(b *testing.B) {
	tr := route.NewTracker(reads())
	now := time.Unix(1000, 0)
	tr.Members(members("c1", 1), now)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now = now.Add(check)
		for _, n := range []string{"c1", "c2", "c3"} {
			s := route.Sample{Node: n, Began: now, At: now, Role: cluster.Standby, SystemID: "7", Timeline: 1, LSN: cluster.LSN(i), Receiving: true}
			if n == "c1" {
				s.Role = cluster.Primary
			}
			tr.Observe(s)
		}
		tr.Table(now)
	}
}
