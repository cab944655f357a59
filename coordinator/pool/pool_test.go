package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/multicoord/multicoord/coordinator/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// far is the servers' side of the connections.
type far struct {
	l     net.Listener
	mu    sync.Mutex
	conns []net.Conn
	dials atomic.Int32
	fail  atomic.Bool
}

func newFar(t *testing.T) *far {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &far{l: l}
	t.Cleanup(func() {
		_ = l.Close()
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, c := range f.conns {
			_ = c.Close()
		}
	})
	return f
}

func (f *far) dial(ctx context.Context, cfg wire.ServerConfig) (*wire.Server, error) {
	if f.fail.Load() {
		return nil, errors.New("refused")
	}
	n := f.dials.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := net.Dial("tcp", f.l.Addr().String())
	if err != nil {
		return nil, err
	}
	s, err := f.l.Accept()
	if err != nil {
		return nil, err
	}
	f.conns = append(f.conns, s)
	return &wire.Server{Conn: c, PID: uint32(n), Secret: []byte("1234"), Params: map[string]string{"TimeZone": "UTC", "in_hot_standby": "on"}}, nil
}

func (f *far) end(n uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.conns[n-1].Close()
}

func fixed(t *testing.T, size int) (*Pools, *far) {
	t.Helper()
	f := newFar(t)
	p := New(Config{Dial: f.dial}, Limits{Size: size, Idle: time.Hour})
	p.SetNodes([]Node{{Name: "a", Address: "a:1", Primary: true}, {Name: "b", Address: "b:1"}})
	p.SetCredentials(wire.Credentials{User: "u"}, time.Now())
	t.Cleanup(p.close)
	return p, f
}

func get(t *testing.T, p *Pool) *Conn {
	t.Helper()
	c, err := p.Get(t.Context(), time.Second)
	require.NoError(t, err)
	return c
}

func TestTheMostRecentlyUsedConnectionComesFirst(t *testing.T) {
	p, f := fixed(t, 3)
	pl := p.Pool("a", "u", "d")
	x, y := get(t, pl), get(t, pl)
	require.Equal(t, 2, p.InFlight("a"))
	x.Put()
	y.Put()
	require.Same(t, y, get(t, pl))
	require.Same(t, x, get(t, pl))
	require.EqualValues(t, 2, f.dials.Load())
	require.Equal(t, "UTC", x.Params.Get("TimeZone"))
	require.Empty(t, x.Params.Get("in_hot_standby"), "a server's role is nothing to tell a client")
	x.Discard()
	y.Discard()
	require.Zero(t, p.InFlight("a"))
}

func TestADeadConnectionIsNeverHandedOutAndTheOthersAreProbed(t *testing.T) {
	p, f := fixed(t, 5)
	pl := p.Pool("a", "u", "d")
	var all []*Conn
	for range 5 {
		all = append(all, get(t, pl))
	}
	for _, c := range all {
		c.Put()
	}
	f.end(5)
	f.end(2)
	f.end(1)
	require.Eventually(t, func() bool { return dead(all[4]) && dead(all[1]) && dead(all[0]) }, time.Second, time.Millisecond)
	for _, c := range all {
		c.since = c.since.Add(-time.Second)
	}
	require.Same(t, all[3], get(t, pl))
	require.Equal(t, 1, pl.stat().Idle, "two of the others were found dead as well")
	all[3].Put()
}

func dead(c *Conn) bool {
	c.seen, c.err = -1, nil
	_ = c.raw.Control(c.look)
	return c.seen == 0 || c.err != nil && c.err.Error() != "resource temporarily unavailable"
}

func TestMessagesOfAnIdleServerAreTakenIn(t *testing.T) {
	p, f := fixed(t, 1)
	pl := p.Pool("a", "u", "d")
	c := get(t, pl)
	c.Put()
	_, err := f.conns[0].Write(wire.AppendParameterStatus(nil, "TimeZone", "Asia/Tokyo"))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		p.sweep(time.Now())
		return c.Params.Get("TimeZone") == "Asia/Tokyo"
	}, time.Second, time.Millisecond)
	require.Same(t, c, get(t, pl))
	c.Put()
	// Anything else means that the session is over.
	_, err = f.conns[0].Write(wire.Fatal("57P01", "bye").Append(nil))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		p.sweep(time.Now())
		return pl.stat().Idle == 0
	}, time.Second, time.Millisecond)
}

func TestWaitersComeInOrderAndGiveUpInTime(t *testing.T) {
	p, _ := fixed(t, 1)
	pl := p.Pool("a", "u", "d")
	c := get(t, pl)
	_, err := pl.Get(t.Context(), 10*time.Millisecond)
	require.ErrorIs(t, err, ErrTimeout)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = pl.Get(ended, time.Second)
	require.ErrorIs(t, err, context.Canceled)
	var order []int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c, err := pl.Get(t.Context(), 5*time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			if i%2 == 0 {
				c.Put()
			} else {
				c.Discard() // the next one makes a connection in its place
			}
		}()
		require.Eventually(t, func() bool { return p.Waiting() == i+1 }, time.Second, time.Millisecond)
	}
	c.Put()
	wg.Wait()
	require.Equal(t, []int{0, 1, 2, 3, 4}, order)
	require.Zero(t, p.InFlight("a"))
}

func TestAFailedDialGivesItsPlaceUp(t *testing.T) {
	p, f := fixed(t, 1)
	pl := p.Pool("a", "u", "d")
	f.fail.Store(true)
	_, err := pl.Get(t.Context(), time.Second)
	var dial *DialError
	require.ErrorAs(t, err, &dial)
	require.Equal(t, "a", dial.Node)
	f.fail.Store(false)
	get(t, pl).Put()
	_, err = p.Pool("a", "stranger", "d").Get(t.Context(), time.Second)
	require.ErrorAs(t, err, &dial)
}

func TestConnectionsOfANodeThatChangesAreClosed(t *testing.T) {
	p, f := fixed(t, 2)
	a, b := p.Pool("a", "u", "d"), p.Pool("b", "u", "d")
	used := get(t, a)
	get(t, a).Put()
	get(t, b).Put()
	// b is primary now, a is not: whatever is idle goes at once, the rest when it comes back.
	p.SetNodes([]Node{{Name: "a", Address: "a:1"}, {Name: "b", Address: "b:1", Primary: true}})
	require.Equal(t, 0, a.stat().Idle)
	require.Equal(t, 0, b.stat().Idle)
	used.Put()
	require.Equal(t, 0, a.stat().Idle)
	n := f.dials.Load()
	get(t, a).Put()
	require.Equal(t, n+1, f.dials.Load())
	// a leaves.
	waiting := make(chan error, 1)
	x, y := get(t, a), get(t, a)
	go func() {
		_, err := a.Get(t.Context(), 5*time.Second)
		waiting <- err
	}()
	require.Eventually(t, func() bool { return p.Waiting() == 1 }, time.Second, time.Millisecond)
	p.SetNodes([]Node{{Name: "b", Address: "b:1", Primary: true}})
	require.ErrorIs(t, <-waiting, ErrGone)
	x.Put()
	y.Discard()
	_, err := a.Get(t.Context(), time.Second)
	require.ErrorIs(t, err, ErrGone)
	require.Nil(t, p.Pool("a", "u", "d"))
	// Another address is another server.
	p.SetNodes([]Node{{Name: "b", Address: "b:2", Primary: true}})
	_, err = b.Get(t.Context(), time.Second)
	require.ErrorIs(t, err, ErrGone)
}

func TestIdleConnectionsAndUnusedPoolsGo(t *testing.T) {
	p, _ := fixed(t, 2)
	pl := p.Pool("a", "u", "d")
	get(t, pl).Put()
	p.sweep(time.Now().Add(30 * time.Minute))
	require.Equal(t, 1, pl.stat().Idle)
	p.sweep(time.Now().Add(2 * time.Hour))
	require.Equal(t, 0, pl.stat().Idle)
	require.Empty(t, p.Stats())
	_, err := pl.Get(t.Context(), time.Second)
	require.ErrorIs(t, err, ErrGone)
	get(t, p.Pool("a", "u", "d")).Put()
}

// Whatever happens, no more than the limit are open, and every place comes back.
func TestThePlacesAddUp(t *testing.T) {
	p, f := fixed(t, 4)
	pl := p.Pool("a", "u", "d")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range 100 {
				f.fail.Store((i+n)%17 == 0)
				c, err := pl.Get(t.Context(), time.Duration(n%5+1)*time.Millisecond)
				if err != nil {
					continue
				}
				if s := pl.stat(); s.Active > 4 {
					t.Errorf("%d in use", s.Active)
				}
				if n%7 == 0 {
					c.Discard()
				} else {
					c.Put()
				}
			}
		}()
	}
	wg.Wait()
	f.fail.Store(false)
	s := pl.stat()
	require.Zero(t, s.Active+s.Opening+s.Waiting, "%+v", s)
	require.LessOrEqual(t, s.Idle, 4)
	require.Zero(t, p.InFlight("a"))
}

// Diff brings a session from any settings to any others.
func TestDiffBringsASessionToWhatIsWanted(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(label string) *Settings {
			var s *Settings
			for _, n := range rapid.SliceOfN(rapid.IntRange(0, 5), 0, 6).Draw(rt, label) {
				name := []string{"work_mem", "search_path", "role", "timezone", "my.own", "session_authorization"}[n]
				s = s.With(Setting{Name: name, SQL: fmt.Sprintf("SET %s TO %d", name, rapid.IntRange(1, 3).Draw(rt, "v"))})
			}
			return s
		}
		have, want := draw("have"), draw("want")
		model := map[string]string{}
		for _, e := range have.List() {
			model[e.Name] = e.SQL
		}
		if rapid.Bool().Draw(rt, "unknown") {
			have = Unknown()
			model["left"] = "over"
		}
		for _, q := range splitSQL(have.Diff(want)) {
			var name string
			switch {
			case q == "RESET SESSION AUTHORIZATION":
				delete(model, "session_authorization")
				delete(model, "role")
			case q == "RESET ROLE":
				delete(model, "role")
			case q == "RESET ALL":
				for k := range model {
					if rank(k) == 2 {
						delete(model, k)
					}
				}
			case len(q) > 6 && q[:6] == "RESET ":
				for k := range model {
					if QuoteName(k) == q[6:] {
						name = k
					}
				}
				delete(model, name)
				if name == "session_authorization" {
					delete(model, "role")
				}
			default:
				_, err := fmt.Sscanf(q, "SET %s TO", &name)
				require.NoError(rt, err)
				model[name] = q
				if name == "session_authorization" {
					delete(model, "role")
				}
			}
		}
		got := map[string]string{}
		for _, e := range want.List() {
			got[e.Name] = e.SQL
		}
		require.Equal(rt, got, model)
	})
}

func splitSQL(s string) []string {
	var out []string
	start := 0
	for i := range s {
		if s[i] == ';' {
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	if s != "" {
		out = append(out, s[start:])
	}
	return out
}

func TestStatementsAreForgottenInOrderOfUse(t *testing.T) {
	var s Statements
	for i := range 4 {
		s.Add(fmt.Sprint(i), 1)
	}
	require.True(t, s.Has("0", 1))
	require.False(t, s.Has("0", 2))
	require.True(t, s.Stale("0", 2))
	name, ok := s.Oldest(3)
	require.True(t, ok)
	require.Equal(t, "1", name)
	s.Remove(name)
	_, ok = s.Oldest(3)
	require.False(t, ok)
	s.Add("2", 5)
	require.True(t, s.Has("2", 5))
	require.Equal(t, 3, s.Len())
}
