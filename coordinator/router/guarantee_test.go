package router_test

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/coordinator/route"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// gate passes connections on to a server until it is shut: then new ones are refused, and those it has go on.
type gate struct {
	l    net.Listener
	to   string
	mu   sync.Mutex
	open []net.Conn
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := &gate{l: l, to: to}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			g.mu.Lock()
			g.open = append(g.open, c, d)
			g.mu.Unlock()
			wg.Add(2)
			go func() { defer wg.Done(); _, _ = io.Copy(c, d); _ = c.Close() }()
			go func() { defer wg.Done(); _, _ = io.Copy(d, c); _ = d.Close() }()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		g.mu.Lock()
		for _, c := range g.open {
			_ = c.Close()
		}
		g.mu.Unlock()
		wg.Wait()
	})
	return g
}

// A read that has only the primary left, which cannot be reached, waits: it can be cancelled, and its patience ends.
func TestAReadThatCannotReachThePrimaryCanBeCancelled(t *testing.T) {
	f := serve(t, func(s *cluster.Router) { s.WaitTimeout = cluster.Duration(2 * time.Second) })
	g := newGate(t, f.primary.address())
	f.topologies <- topology([]route.Member{
		{Name: f.primary.name, Address: g.l.Addr().String(), Role: f.members()[0].Role, Term: 1},
	}, f.settings)
	eventually(t, func() error {
		if s := f.r.Stats().Table; s.Primary == nil || s.Primary.Address != g.l.Addr().String() || len(s.Standbys) != 0 {
			return io.EOF
		}
		return nil
	})
	a, b := f.raw(), f.raw()
	a.query("begin; lock pg_class in access share mode") // holds the only connection there is
	require.NoError(t, g.l.Close())
	b.send(&pgproto3.Query{String: "select 1"})
	answered := make(chan struct{})
	var cancels sync.WaitGroup
	cancels.Add(1)
	go func() {
		defer cancels.Done()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-answered:
				return
			case <-tick.C:
				f.cancel(b)
			}
		}
	}()
	got := b.until(1)
	close(answered)
	cancels.Wait()
	require.Equal(t, []string{"E:57014", "ZI"}, got)
	b.send(&pgproto3.Query{String: "select 1"})
	require.Equal(t, []string{"E:08006", "ZI"}, b.until(1), "patience ends")
}

func TestAnErrorOfTheRouterAbortsTheTransaction(t *testing.T) {
	f := serve(t)
	r := f.raw()
	for _, q := range []string{
		"set multicoord.consistency = 'bogus'", "show multicoord.nothing", "deallocate nothing",
		"set multicoord.notice_route = 'perhaps'; select 1",
	} {
		require.Equal(t, []string{"C:BEGIN", "ZT"}, r.query("begin"))
		require.Equal(t, "ZE", r.query(q)[1], q)
		require.Equal(t, []string{"E:25P02", "ZE"}, r.query("select 1"), q)
		require.Equal(t, []string{"C:ROLLBACK", "ZI"}, r.query("commit"), q)

		r.query("begin")
		r.send(parse("", "deallocate nothing"), bind("", ""), execute("", 0), syncMsg)
		require.Equal(t, []string{"1", "2", "E:26000", "ZE"}, r.until(1))
		require.Equal(t, []string{"C:ROLLBACK", "ZI"}, r.query("commit"))
	}
}

func TestAWrongValueAmongSeveralStatementsIsAnError(t *testing.T) {
	f := serve(t)
	r := f.raw()
	require.Equal(t, []string{"E:22023", "ZI"}, r.query("set multicoord.consistency = 'bogus'; select 1"))
	require.Equal(t, []string{"E:42704", "ZI"}, r.query("select 1; set multicoord.consistencyy = 'strong'"))
	require.Equal(t, []string{"C:SET", "D:1", "C:SELECT 1", "ZI"}, r.query("set multicoord.consistency = 'strong'; select 1"))
	require.Equal(t, "D:strong", r.query("show multicoord.consistency")[0])
}

// What a standby refuses because a view hides a function that writes is a write of the session.
func TestAWriteHiddenInAViewIsReadByItsSession(t *testing.T) {
	f := serve(t)
	r := f.raw()
	r.query("drop table if exists hidden cascade; create table hidden (n int); insert into hidden values (0)")
	r.query("create or replace function hide() returns int language sql volatile as 'update hidden set n = n + 1 returning n'")
	r.query("create or replace view hiding as select hide() as n")
	eventually(t, func() error {
		if last(r.query("/* route: eventual */ select count(*) from pg_views where viewname = 'hiding'")[:2]) != "D:1" {
			return io.EOF
		}
		return nil
	})
	_ = f.pauseReplay()
	for _, q := range []string{"/* route: eventual */ select n from hiding", "/* route: standby */ select hide()"} {
		before := r.query("/* route: primary */ select n from hidden")[0]
		require.Equal(t, "C:SELECT 1", r.query(q)[1])
		require.NotEqual(t, before, r.query("select n from hidden")[0], "%s, then on %s", q, r.query("show multicoord.route"))
	}
}

// A session that has seen something on the primary does not see less afterwards.
func TestReadsDoNotGoBackInTimeAfterThePrimary(t *testing.T) {
	f := serve(t)
	a, b := f.raw(), f.raw()
	a.query("drop table if exists forth; create table forth (n int); insert into forth values (0)")
	eventually(t, func() error {
		if b.query("select count(*) from forth")[0] != "D:1" {
			return io.EOF
		}
		return nil
	})
	_ = f.pauseReplay()
	a.query("update forth set n = 1")
	b.query("begin")
	require.Equal(t, "D:1", b.query("select n from forth")[0])
	b.query("commit")
	require.Equal(t, "D:1", b.query("select n from forth")[0])
}

func TestChainingOnALostConnectionIsAnError(t *testing.T) {
	f := serve(t)
	r := f.raw()
	r.query("begin")
	pid := r.query("select pg_backend_pid()")[0][2:]
	_, err := f.direct(f.primary, "postgres").Exec(ctx(t), "select pg_terminate_backend("+pid+")")
	require.NoError(t, err)
	require.Equal(t, "ZE", r.query("select 1")[1])
	require.Equal(t, []string{"E:25P02", "ZE"}, r.query("rollback and chain"))
	require.Equal(t, []string{"C:ROLLBACK", "ZI"}, r.query("rollback"))
}
