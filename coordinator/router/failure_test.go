package router_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

func (f *fixture) pauseReplay() *pgx.Conn {
	f.t.Helper()
	d := f.direct(f.standby, "app")
	_, err := d.Exec(ctx(f.t), "select pg_wal_replay_pause()")
	require.NoError(f.t, err)
	eventually(f.t, func() error {
		var state string
		if err := d.QueryRow(ctx(f.t), "select pg_get_wal_replay_pause_state()").Scan(&state); err != nil || state != "paused" {
			return errors.New(state)
		}
		return nil
	})
	f.t.Cleanup(func() { _, _ = d.Exec(ctx(f.t), "select pg_wal_replay_resume()") })
	return d
}

func TestAReadThatAStandbyFailsIsRunOnThePrimary(t *testing.T) {
	f := serve(t)
	r, w := f.raw(), f.raw()
	w.query("drop table if exists ahead; create table conflict_seed as select 1 as id; drop table conflict_seed")
	eventually(t, func() error {
		if got := w.query("select inet_server_port()")[0]; got != fmt.Sprintf("D:%d", f.standby.port) {
			return errors.New(got)
		}
		return nil
	})
	d := f.pauseReplay()
	// The table is there on the primary only; another session, which has written nothing, reads.
	w.query("create table ahead (id int); insert into ahead values (5)")
	require.Equal(t, []string{"D:5", "C:SELECT 1", "ZI"}, r.query("select * from ahead"))
	require.Contains(t, r.query("show multicoord.route")[0], "run again on the primary")
	r.send(parse("a", "select id from ahead where id = $1"), &pgproto3.Describe{ObjectType: 'S', Name: "a"}, bind("", "a", "5"), execute("", 0), syncMsg)
	require.Equal(t, []string{"1", "t", "T", "2", "D:5", "C:SELECT 1", "ZI"}, r.until(1))
	w.query("create schema ahead_schema; create function ahead_schema.f() returns int language sql immutable as 'select 6'")
	require.Equal(t, []string{"D:6", "C:SELECT 1", "ZI"}, r.query("select ahead_schema.f()"))
	w.query("drop schema ahead_schema cascade")
	_, err := d.Exec(ctx(t), "select pg_wal_replay_resume()")
	require.NoError(t, err)
	// What nobody has is an error all the same, once.
	require.Equal(t, []string{"E:42P01", "ZI"}, r.query("select * from nowhere"))
	// A function that hides a write is refused by the standby and runs on the primary.
	w.query("create or replace function liar() returns int language plpgsql as $$ begin execute 'insert into ahead values (9)'; return 1; end $$")
	eventually(t, func() error {
		got := r.query("/* route: standby */ select liar()")
		if got[0] != "D:1" {
			return errors.New(got[0])
		}
		return nil
	})
}

func TestRecoveryConflictsAreNotSeen(t *testing.T) {
	f := serve(t)
	w := f.raw()
	w.query("drop table if exists fought; create table fought as select generate_series(1, 100) id")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var errs atomic.Value
	for range 3 {
		r := f.raw("options", "-c multicoord.consistency=eventual")
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				got := r.query("select count(*), pg_sleep(0.4) from fought")
				if got[0][0] == 'E' {
					errs.Store(got[0])
				}
			}
		}()
	}
	for range 4 {
		w.query("truncate fought; insert into fought select generate_series(1, 100)")
		w.query("select pg_sleep(0.3)")
	}
	close(stop)
	wg.Wait()
	require.Nil(t, errs.Load())
	require.Positive(t, f.r.Stats().Totals.Retries)
}

func TestDeadConnectionsAreNoticedBeforeUse(t *testing.T) {
	f := serve(t)
	var clients []*raw
	for range 6 {
		clients = append(clients, f.raw())
	}
	busy := func() {
		for _, c := range clients {
			c.send(&pgproto3.Query{String: "/* route: primary */ select pg_sleep(0.05)"}, &pgproto3.Query{String: "/* route: standby */ select pg_sleep(0.05)"})
		}
		for _, c := range clients {
			for _, m := range c.until(2) {
				require.NotEqual(t, byte('E'), m[0], m)
			}
		}
	}
	for range 3 {
		busy() // several connections to each server
		for _, s := range []*server{f.primary, f.standby} {
			d := f.direct(s, "app")
			_, err := d.Exec(ctx(t), "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app' and pid <> pg_backend_pid()")
			require.NoError(t, err)
			eventually(t, func() error {
				var n int
				if err := d.QueryRow(ctx(t), "select count(*) from pg_stat_activity where usename = 'app'").Scan(&n); err != nil || n > 0 {
					return fmt.Errorf("%d left", n)
				}
				return nil
			})
		}
		for _, c := range clients {
			require.Equal(t, "D:2", c.query("/* route: primary */ select 2")[0])
			require.Equal(t, "D:3", c.query("/* route: standby */ select 3")[0])
		}
	}
	require.NoError(t, f.r.Ready())
}

func TestALostServerConnection(t *testing.T) {
	f := serve(t)
	r := f.raw()
	r.query("drop table if exists lost; create table lost (id int)")
	kill := func(s *server, like string) {
		d := f.direct(s, "app")
		eventually(t, func() error {
			var n int
			if err := d.QueryRow(ctx(t), "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'app' and query like $1", like).Scan(&n); err != nil || n == 0 {
				return fmt.Errorf("nothing to terminate: %w", errors.Join(err))
			}
			return nil
		})
	}
	t.Run("of a read is not seen", func(t *testing.T) {
		reader := f.raw()
		reader.send(&pgproto3.Query{String: "select 1, pg_sleep(1.5) -- read"})
		kill(f.standby, "%pg_sleep(1.5) -- read%")
		require.Equal(t, []string{"D:1,", "C:SELECT 1", "ZI"}, without(reader.until(1), "T"))
	})
	t.Run("of a write is told, with what may have happened", func(t *testing.T) {
		r.send(&pgproto3.Query{String: "insert into lost select 1 from pg_sleep(30)"})
		kill(f.primary, "insert into lost%")
		require.Equal(t, []string{"E:57P01", "ZI"}, r.until(1))
		require.Equal(t, []string{"D:0", "C:SELECT 1", "ZI"}, r.query("select count(*) from lost"))
	})
	t.Run("of a transaction leaves it failed until its end", func(t *testing.T) {
		r.query("begin; insert into lost values (1)")
		kill(f.primary, "begin; insert into lost%")
		require.Contains(t, []string{"E:57P01", "E:08006"}, last(r.query("insert into lost values (2)")))
		require.Equal(t, []string{"E:25P02", "ZE"}, r.query("insert into lost values (3)"))
		r.send(parse("", "select 1"), bind("", ""), execute("", 0), syncMsg)
		require.Equal(t, []string{"E:25P02", "ZE"}, r.until(1))
		r.send(parse("", "rollback"), bind("", ""), execute("", 0), syncMsg)
		require.Equal(t, []string{"1", "2", "C:ROLLBACK", "ZI"}, r.until(1))
		require.Equal(t, []string{"D:0", "C:SELECT 1", "ZI"}, r.query("select count(*) from lost"))
		r.query("begin; insert into lost values (1)")
		kill(f.primary, "begin; insert into lost%")
		require.Equal(t, "ZE", r.query("insert into lost values (2)")[1])
		require.Equal(t, []string{"C:ROLLBACK", "ZI"}, r.query("commit"))
	})
	t.Run("within COPY and after Flush", func(t *testing.T) {
		r.send(&pgproto3.Query{String: "copy lost from stdin"})
		require.Equal(t, "G", r.next())
		kill(f.primary, "copy lost%")
		require.Contains(t, []string{"E:57P01", "E:08006"}, r.next())
		require.Equal(t, "ZI", r.next())
		r.send(parse("", "select pg_sleep(30) -- flushed"), bind("", ""), execute("", 0), flushMsg)
		kill(f.primary, "%-- flushed%") // nothing has come: PostgreSQL sends when it reads the Flush
		require.Contains(t, []string{"E:57P01", "E:08006"}, r.next())
		r.send(parse("", "select 1"), syncMsg)
		require.Equal(t, []string{"ZI"}, r.until(1))
		require.Equal(t, "D:1", r.query("select 1")[0])
	})
}

func TestAStandbyThatFallsBehindLeavesAndComesBack(t *testing.T) {
	f := serve(t, func(s *cluster.Router) { s.Reads.MaxLag = cluster.Duration(300 * time.Millisecond) })
	r, w := f.raw("options", "-c multicoord.consistency=eventual"), f.raw()
	port := func() string { return r.query("select inet_server_port()")[0] }
	require.Equal(t, fmt.Sprintf("D:%d", f.standby.port), port())
	d := f.pauseReplay()
	eventually(t, func() error {
		w.query("drop table if exists lagging; create table lagging (id int)")
		if p := port(); p != fmt.Sprintf("D:%d", f.primary.port) {
			return errors.New(p)
		}
		return nil
	})
	_, err := d.Exec(ctx(t), "select pg_wal_replay_resume()")
	require.NoError(t, err)
	eventually(t, func() error {
		if p := port(); p != fmt.Sprintf("D:%d", f.standby.port) {
			return errors.New(p)
		}
		return nil
	})
}

// A session's read sees what the session has written, however far the standby is behind.
func TestASessionReadsItsOwnWrites(t *testing.T) {
	f := serve(t)
	pairs := 10_000
	if testing.Short() {
		pairs = 1_000
	}
	setup := f.client()
	_, err := setup.Exec(ctx(t), "drop table if exists ryw; create table ryw (id int primary key, n int); insert into ryw select g, 0 from generate_series(1,8) g", pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	stop := make(chan struct{})
	var toggler sync.WaitGroup
	d := f.direct(f.standby, "app")
	toggler.Add(1)
	go func() {
		defer toggler.Done()
		tick := time.NewTicker(60 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				_, _ = d.Exec(ctx(t), "select pg_wal_replay_resume()")
				return
			case <-tick.C:
				_, _ = d.Exec(ctx(t), []string{"select pg_wal_replay_pause()", "select pg_wal_replay_resume()"}[i%2])
			}
		}
	}()
	var misses, standby, done atomic.Int64
	var wg sync.WaitGroup
	for id := 1; id <= 8; id++ {
		c := f.client()
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 1; n <= pairs/8; n++ {
				if _, err := c.Exec(ctx(t), "update ryw set n = $1 where id = $2", n, id); err != nil {
					t.Errorf("update: %v", err)
					return
				}
				reads := 1
				if n%20 == 0 {
					reads = 40 // until the standby has it
				}
				for range reads {
					var got, port int
					if err := c.QueryRow(ctx(t), "select n, inet_server_port() from ryw where id = $1", id).Scan(&got, &port); err != nil {
						t.Errorf("select: %v", err)
						return
					}
					if got != n {
						misses.Add(1)
					}
					if port == f.standby.port {
						standby.Add(1)
					}
				}
				done.Add(1)
			}
		}()
	}
	wg.Wait()
	close(stop)
	toggler.Wait()
	require.Zero(t, misses.Load())
	require.EqualValues(t, pairs/8*8, done.Load())
	t.Logf("%d reads were answered by the standby", standby.Load())
	require.Positive(t, standby.Load(), "reads go back to the standby")
}

func TestStatementsWaitWhileThePrimaryIsAway(t *testing.T) {
	f := serve(t)
	r := f.raw()
	r.query("drop table if exists away; create table away (id int)")
	fresh := f.raw()
	f.primary.stop(syscall.SIGKILL)
	restarted := false
	defer func() {
		if !restarted {
			_ = f.primary.start()
		}
	}()
	r.send(&pgproto3.Query{String: "insert into away values (1)"})
	// Reads of a session that has written nothing go on.
	require.Equal(t, fmt.Sprintf("D:%d", f.standby.port), fresh.query("select inet_server_port()")[0])
	eventually(t, func() error {
		if f.r.Stats().Table.Primary != nil {
			return errors.New("the primary is still thought to be there")
		}
		return nil
	})
	require.NoError(t, f.r.Ready(), "reads can be served")
	// A statement that waits can be cancelled.
	other := f.raw()
	other.send(&pgproto3.Query{String: "insert into away values (2)"})
	eventually(t, func() error {
		if f.r.Stats().Waiting < 2 {
			return fmt.Errorf("does not wait: %+v", f.r.Stats().Clients)
		}
		return nil
	})
	f.cancel(other)
	require.Equal(t, []string{"E:57014", "ZI"}, other.until(1))
	require.NoError(t, f.primary.start())
	restarted = true
	require.Equal(t, []string{"C:INSERT 0 1", "ZI"}, r.until(1))
	require.Equal(t, "D:1", r.query("select count(*) from away")[0])
}

func TestPatienceEnds(t *testing.T) {
	f := serve(t, one, func(s *cluster.Router) { s.WaitTimeout = cluster.Duration(300 * time.Millisecond) })
	a, b := f.raw(), f.raw()
	a.query("begin; select 1 for update")
	began := time.Now()
	got := b.query("/* route: primary */ select 1")
	require.Equal(t, []string{"E:53300", "ZI"}, got)
	require.Greater(t, time.Since(began), 250*time.Millisecond)
	// While it waits for a connection it can be cancelled.
	f.settings.WaitTimeout = cluster.Duration(20 * time.Second)
	f.publish()
	eventually(t, func() error {
		if f.r.Stats().Settings.WaitTimeout != f.settings.WaitTimeout {
			return errors.New("the settings have not arrived")
		}
		return nil
	})
	b.send(&pgproto3.Query{String: "/* route: primary */ select 1"})
	eventually(t, func() error {
		if f.r.Stats().Waiting == 0 {
			return errors.New("does not wait")
		}
		return nil
	})
	f.cancel(b)
	require.Equal(t, []string{"E:57014", "ZI"}, b.until(1))
	a.query("commit")
	require.Equal(t, "D:1", b.query("/* route: primary */ select 1")[0])
}

func TestWaitersAreServedInOrder(t *testing.T) {
	f := serve(t, one)
	holder := f.raw()
	holder.query("drop table if exists queue; create table queue (id serial, who int)")
	holder.query("begin; lock table queue")
	var waiting []*raw
	for i := range 5 {
		w := f.raw()
		w.send(&pgproto3.Query{String: fmt.Sprintf("insert into queue (who) values (%d)", i)})
		eventually(t, func() error {
			if n := f.r.Stats().Waiting; n <= i {
				return fmt.Errorf("%d wait", n)
			}
			return nil
		})
		waiting = append(waiting, w)
	}
	holder.query("commit")
	for _, w := range waiting {
		require.Equal(t, []string{"C:INSERT 0 1", "ZI"}, w.until(1))
	}
	got := holder.query("select string_agg(who::text, '' order by id) from queue")
	require.Equal(t, "D:01234", got[0])
}

func TestTooManyClients(t *testing.T) {
	f := serve(t, func(s *cluster.Router) { s.MaxClients = 2 })
	_, b := f.raw(), f.raw()
	_, err := connect(ctx(t), f.addr, "app", appPassword, "app", "")
	require.Equal(t, "53300", code(err))
	require.ErrorContains(t, err, "too many clients")
	f.settings.MaxClients = 3
	f.publish()
	eventually(t, func() error {
		c, err := connect(ctx(t), f.addr, "app", appPassword, "app", "")
		if err == nil {
			_ = c.Close(ctx(t))
		}
		return err
	})
	require.Equal(t, "D:1", b.query("select 1")[0])
}

func TestDrain(t *testing.T) {
	f := serve(t)
	idle, busy, stuck := f.raw(), f.raw(), f.raw()
	busy.query("drop table if exists drained; create table drained (id int)")
	busy.query("begin; insert into drained values (1)")
	stuck.query("begin")
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		f.stop()
	}()
	require.Equal(t, "E:57P01", idle.next())
	require.Equal(t, []string{"C:COMMIT", "ZI"}, busy.query("commit"))
	require.Equal(t, "E:57P01", busy.next())
	require.Equal(t, "E:57P01", stuck.next())
	<-stopped
	var n int
	require.NoError(t, f.direct(f.primary, "app").QueryRow(ctx(t), "select count(*) from drained").Scan(&n))
	require.Equal(t, 1, n)
}
