package router_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// one makes all clients share one connection per server.
func one(s *cluster.Router) { s.PoolSize = 1 }

func last(list []string) string { return list[len(list)-2] }

func TestSettingsFollowTheSession(t *testing.T) {
	f := serve(t, one)
	a, b := f.raw(), f.raw()
	a.query("drop table if exists follow; create table follow (id int)")
	show := func(r *raw, name string) string {
		for _, m := range r.query("show " + name) {
			if strings.HasPrefix(m, "D:") {
				return m[2:]
			}
		}
		return "?"
	}
	// on runs the query on the primary, then on the standby: both must know the setting.
	on := func(r *raw, q string) (string, string) {
		p, s := r.query("/* route: primary */ "+q), r.query("/* route: eventual */ "+q)
		return last(without(p, "C:SELECT 1")), last(without(s, "C:SELECT 1"))
	}
	t.Run("on every server, and for nobody else", func(t *testing.T) {
		a.query("set statement_timeout = '150ms'")
		p, s := on(a, "select current_setting('statement_timeout')")
		require.Equal(t, []string{"D:150ms", "D:150ms"}, []string{p, s})
		require.Equal(t, []string{"E:57014", "ZI"}, a.query("/* route: primary */ select pg_sleep(5)"))
		require.Equal(t, []string{"E:57014", "ZI"}, a.query("/* route: eventual */ select pg_sleep(5)"))
		p, s = on(b, "select current_setting('statement_timeout')")
		require.Equal(t, []string{"D:0", "D:0"}, []string{p, s})
		b.query("set search_path = \"My Schema\", public; set datestyle = 'SQL, DMY'")
		require.Equal(t, `"My Schema", public`, show(b, "search_path"))
		require.Equal(t, "150ms", show(a, "statement_timeout"))
		require.Equal(t, `"$user", public`, show(a, "search_path"))
		require.Equal(t, "SQL, DMY", show(b, "datestyle"))
	})
	t.Run("a rollback undoes SET, a commit keeps it", func(t *testing.T) {
		a.query("set work_mem = '1MB'")
		a.query("begin")
		a.query("set work_mem = '2MB'")
		a.query("savepoint s")
		a.query("set work_mem = '3MB'")
		require.Equal(t, "3MB", show(a, "work_mem"))
		a.query("rollback to s")
		require.Equal(t, "2MB", show(a, "work_mem"))
		a.query("rollback")
		b.query("select 1")
		require.Equal(t, "1MB", show(a, "work_mem"))
		a.query("begin; set work_mem = '4MB'; set local work_mem = '5MB'")
		require.Equal(t, "5MB", show(a, "work_mem"))
		a.query("commit")
		b.query("select 1")
		require.Equal(t, "4MB", show(a, "work_mem"))
		a.query("set work_mem = '9MB'; select 1/0")
		b.query("select 1")
		require.Equal(t, "4MB", show(a, "work_mem"), "the implicit transaction was rolled back")
		a.query("begin; set work_mem = '9MB'")
		a.query("select 1/0")
		a.query("commit") // answers ROLLBACK
		b.query("select 1")
		require.Equal(t, "4MB", show(a, "work_mem"))
	})
	t.Run("through the extended protocol", func(t *testing.T) {
		a.send(parse("", "set work_mem = '7MB'"), bind("", ""), execute("", 0), syncMsg)
		a.until(1)
		b.query("select 1")
		require.Equal(t, "7MB", show(a, "work_mem"))
		a.send(parse("", "set work_mem = '8MB'"), bind("", ""), execute("", 0), parse("", "select 1/0"), bind("", ""), execute("", 0), syncMsg)
		a.until(1)
		b.query("select 1")
		require.Equal(t, "7MB", show(a, "work_mem"))
		a.query("select set_config('work_mem', '6MB', false)")
		b.query("select 1")
		require.Equal(t, "6MB", show(a, "work_mem"))
	})
	t.Run("RESET and DISCARD", func(t *testing.T) {
		a.query("reset work_mem")
		require.Equal(t, "4MB", show(a, "work_mem")) // the server's default
		a.query("set work_mem = '1MB'; set statement_timeout = '1h'")
		a.query("reset all")
		require.Equal(t, "0", show(a, "statement_timeout"))
		a.query("set work_mem = '1MB'")
		a.query("discard all")
		require.Equal(t, "4MB", show(a, "work_mem"))
	})
	t.Run("a setting that a server refuses is reported, and the statement not run", func(t *testing.T) {
		d := f.direct(f.primary, "app")
		_, err := d.Exec(ctx(t), "drop role if exists passing; create role passing; grant passing to app")
		require.NoError(t, err)
		a.query("set role passing")
		require.Equal(t, "passing", show(a, "role"))
		b.query("/* route: primary */ select 1")
		_, err = d.Exec(ctx(t), "drop role passing")
		require.NoError(t, err)
		require.Equal(t, []string{"E:22023", "ZI"}, a.query("insert into follow values (1)"))
		require.Equal(t, "D:0", b.query("/* route: primary */ select count(*) from follow")[0])
		a.query("discard all")
	})
}

func TestSessionStateDoesNotLeak(t *testing.T) {
	f := serve(t, func(s *cluster.Router) { s.PoolSize = 2 })
	a, b := f.raw(), f.raw()
	t.Run("temporary tables stay with their session", func(t *testing.T) {
		a.query("create temp table mine (id int)")
		require.Equal(t, "C:INSERT 0 1", last(a.query("insert into mine values (1)")))
		require.Equal(t, []string{"D:1", "C:SELECT 1", "ZI"}, a.query("select count(*) from mine"))
		require.Equal(t, "E:42P01", last(b.query("select * from mine")))
		a.query("discard all")
		require.Equal(t, "E:42P01", last(a.query("select * from mine")))
	})
	t.Run("session advisory locks", func(t *testing.T) {
		a.query("select pg_advisory_lock(42)")
		require.Equal(t, "D:f", b.query("select pg_try_advisory_lock(42)")[0])
		b.query("discard all")
		_ = a.conn.Close()
		eventually(t, func() error {
			if got := b.query("select pg_try_advisory_xact_lock(42)")[0]; got != "D:t" {
				return errors.New(got)
			}
			return nil
		})
	})
	t.Run("SQL-level PREPARE", func(t *testing.T) {
		a = f.raw()
		a.query("prepare q as select 11")
		require.Equal(t, "D:11", a.query("execute q")[0])
		require.Equal(t, "E:26000", last(b.query("execute q")))
		a.send(bind("", "q"), execute("", 0), syncMsg)
		require.Equal(t, []string{"2", "D:11", "C:SELECT 1", "ZI"}, a.until(1))
		require.Equal(t, "C:DEALLOCATE", last(a.query("deallocate q")))
		require.Equal(t, "E:26000", last(a.query("execute q")))
		a.query("discard all")
	})
	t.Run("WITH HOLD", func(t *testing.T) {
		a.query("begin; declare h cursor with hold for select generate_series(1,3); commit")
		require.Equal(t, []string{"D:1", "D:2", "C:FETCH 2", "ZI"}, a.query("fetch 2 from h"))
		require.Equal(t, []string{"D:3", "C:FETCH 1", "ZI"}, a.query("fetch 2 from h"))
		a.query("discard all")
	})
	t.Run("an abandoned transaction reaches nobody", func(t *testing.T) {
		b.query("drop table if exists abandoned; create table abandoned (id int)")
		for range 5 {
			gone := f.raw()
			gone.query("begin; insert into abandoned values (1)")
			_ = gone.conn.Close()
			require.Equal(t, []string{"D:0", "C:SELECT 1", "ZI"}, b.query("/* route: primary */ select count(*) from abandoned"))
		}
		dead := f.raw()
		dead.send(&pgproto3.Query{String: "insert into abandoned select 1 from pg_sleep(60)"})
		d := f.direct(f.primary, "app")
		active := func() (n int) {
			require.NoError(t, d.QueryRow(ctx(t), "select count(*) from pg_stat_activity where query like 'insert into abandoned select%' and state = 'active'").Scan(&n))
			return n
		}
		eventually(t, func() error {
			if active() == 0 {
				return errors.New("not running")
			}
			return nil
		})
		_ = dead.conn.Close()
		eventually(t, func() error {
			if n := active(); n > 0 {
				return fmt.Errorf("%d still running", n)
			}
			return nil
		})
		require.Equal(t, "D:0", b.query("/* route: primary */ select count(*) from abandoned")[0])
	})
	t.Run("currval without a transaction is refused instead of answered wrongly", func(t *testing.T) {
		b.query("drop sequence if exists sq; create sequence sq; select nextval('sq')")
		require.Equal(t, "E:55000", last(b.query("select currval('sq')")))
		require.Contains(t, b.query("begin; select nextval('sq'); select currval('sq'); commit"), "D:2")
	})
}

func TestPreparedStatementsFollowTheSession(t *testing.T) {
	f := serve(t)
	r := f.raw()
	r.query("drop table if exists prep; create table prep (id int); insert into prep values (1)")
	t.Run("on every server", func(t *testing.T) {
		c := f.client()
		for i := range 20 {
			consistency := []string{"strong", "eventual"}[i%2]
			_, err := c.Exec(ctx(t), "set multicoord.consistency = '"+consistency+"'", pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err)
			var port int
			require.NoError(t, c.QueryRow(ctx(t), "select inet_server_port() + $1::int", 0).Scan(&port))
			require.Equal(t, []int{f.primary.port, f.standby.port}[i%2], port)
		}
	})
	t.Run("a name is taken until it is closed", func(t *testing.T) {
		r.send(parse("n", "select 1"), syncMsg)
		require.Equal(t, []string{"1", "ZI"}, r.until(1))
		r.send(parse("n", "select 2"), syncMsg)
		require.Equal(t, []string{"E:42P05", "ZI"}, r.until(1))
		r.send(&pgproto3.Close{ObjectType: 'S', Name: "n"}, parse("n", "select 2"), bind("", "n"), execute("", 0), syncMsg)
		require.Equal(t, []string{"3", "1", "2", "D:2", "C:SELECT 1", "ZI"}, r.until(1))
		require.Equal(t, []string{"C:DEALLOCATE", "ZI"}, r.query("deallocate n"))
		require.Equal(t, []string{"E:26000", "ZI"}, r.query("deallocate n"))
		r.send(bind("", "n"), syncMsg)
		require.Equal(t, []string{"E:26000", "ZI"}, r.until(1))
		r.send(parse("n", "select 3"), parse("m", "syntax error here"), syncMsg)
		require.Equal(t, []string{"1", "E:42601", "ZI"}, r.until(1))
		r.send(parse("m", "select 4"), &pgproto3.Describe{ObjectType: 'S', Name: "m"}, syncMsg)
		require.Equal(t, []string{"1", "t", "T", "ZI"}, r.until(1))
		require.Equal(t, []string{"C:DEALLOCATE ALL", "ZI"}, r.query("deallocate all"))
	})
	t.Run("an error in a transaction is the server's, so that the transaction fails", func(t *testing.T) {
		r.query("begin")
		r.send(parse("tx", "select 1"), syncMsg)
		require.Equal(t, []string{"1", "ZT"}, r.until(1))
		r.send(parse("tx", "select 1"), syncMsg)
		require.Equal(t, []string{"E:42P05", "ZE"}, r.until(1))
		r.query("rollback")
	})
	t.Run("the unnamed statement survives a change of the server", func(t *testing.T) {
		r.send(parse("", "select 7"), syncMsg)
		require.Equal(t, []string{"1", "ZI"}, r.until(1))
		r.query("insert into prep values (2)")
		r.send(bind("", ""), execute("", 0), syncMsg)
		require.Equal(t, []string{"2", "D:7", "C:SELECT 1", "ZI"}, r.until(1))
	})
	t.Run("a statement that a server has lost is prepared again", func(t *testing.T) {
		r.send(parse("lost", "select 8 from prep limit 1 for update"), bind("", "lost"), execute("", 0), syncMsg)
		require.Equal(t, []string{"1", "2", "D:8", "C:SELECT 1", "ZI"}, r.until(1))
		r.query("do $$ begin execute 'deallocate all'; end $$")
		r.send(bind("", "lost"), execute("", 0), syncMsg)
		require.Equal(t, []string{"2", "D:8", "C:SELECT 1", "ZI"}, r.until(1))
	})
	t.Run("a result that has changed its shape", func(t *testing.T) {
		r.send(parse("shape", "select * from prep limit 1 for update"), bind("", "shape"), execute("", 0), syncMsg)
		require.Equal(t, []string{"1", "2", "D:1", "C:SELECT 1", "ZI"}, r.until(1))
		r.query("alter table prep add column more text default 'm'")
		// Somebody who prepares it now is not told about the old shape.
		n := f.raw()
		n.send(parse("s", "select * from prep limit 1 for update"), &pgproto3.Describe{ObjectType: 'S', Name: "s"}, syncMsg)
		require.Equal(t, []string{"1", "t", "T", "ZI"}, n.until(1))
		n.send(bind("", "s"), execute("", 0), syncMsg)
		require.Equal(t, []string{"2", "D:1,m", "C:SELECT 1", "ZI"}, n.until(1))
	})
	t.Run("more statements than a connection keeps", func(t *testing.T) {
		for i := range 450 {
			name := fmt.Sprintf("many%d", i%300)
			if i >= 300 {
				r.send(bind("", name), execute("", 0), syncMsg)
				require.Equal(t, []string{"2", fmt.Sprintf("D:%d", i%300), "C:SELECT 1", "ZI"}, r.until(1))
				continue
			}
			r.send(parse(name, fmt.Sprintf("select %d", i)), bind("", name), execute("", 0), syncMsg)
			require.Equal(t, []string{"1", "2", fmt.Sprintf("D:%d", i), "C:SELECT 1", "ZI"}, r.until(1))
		}
	})
}

func TestRouterSettings(t *testing.T) {
	f := serve(t)
	r := f.raw()
	require.Equal(t, "D:session", r.query("show multicoord.consistency")[0])
	require.Equal(t, []string{"C:SET", "ZI"}, r.query("set multicoord.consistency = 'strong'"))
	require.Equal(t, fmt.Sprintf("D:%d", f.primary.port), r.query("select inet_server_port()")[0])
	require.Equal(t, "D:coord-1: consistency is strong", r.query("show multicoord.route")[0])
	require.Equal(t, []string{"C:BEGIN", "ZT"}, r.query("begin"))
	r.query("set multicoord.consistency = eventual")
	r.query("rollback")
	require.Equal(t, "D:strong", r.query("show multicoord.consistency")[0])
	r.query("begin; savepoint s")
	r.query("set local multicoord.consistency = eventual")
	require.Equal(t, "D:eventual", r.query("show multicoord.consistency")[0])
	r.query("commit")
	require.Equal(t, "D:strong", r.query("show multicoord.consistency")[0])
	r.query("reset multicoord.consistency")
	require.Equal(t, "D:session", r.query("show multicoord.consistency")[0])
	require.Equal(t, []string{"E:22023", "ZI"}, r.query("set multicoord.consistency = 'always'"))
	require.Equal(t, []string{"E:42704", "ZI"}, r.query("show multicoord.nothing"))
	r.query("set multicoord.notice_route = on")
	require.True(t, strings.HasPrefix(r.query("select 1")[0], "N:route: coord-2: "))
	opt := f.raw("options", "-c multicoord.consistency=strong")
	require.Equal(t, fmt.Sprintf("D:%d", f.primary.port), opt.query("select inet_server_port()")[0])
	d := f.direct(f.primary, "app")
	_, err := d.Exec(ctx(t), "alter role other set multicoord.consistency = 'strong'")
	require.NoError(t, err)
	other, err := connect(ctx(t), f.addr, "other", "other", "app", "")
	require.NoError(t, err)
	defer other.Close(ctx(t))
	var v string
	require.NoError(t, other.QueryRow(ctx(t), "show multicoord.consistency").Scan(&v))
	require.Equal(t, "strong", v)
	require.Equal(t, []string{"C:BEGIN", "ZT"}, opt.query("begin read only"))
	opt.query("rollback")
	require.Equal(t, []string{"C:BEGIN", "ZT"}, r.query("begin read only")[1:])
	require.Equal(t, fmt.Sprintf("D:%d", f.standby.port), r.query("select inet_server_port()")[1])
	require.Equal(t, "E:25006", last(r.query("create table never (a int)")))
	r.query("rollback")
}
