package router_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/sql"
)

// login connects as the role through the router and gives the SQLSTATE of what goes wrong.
func (f *fixture) login(user, password, database string) error {
	f.t.Helper()
	c, err := connect(ctx(f.t), f.addr, user, password, database, "")
	if err != nil {
		return err
	}
	return c.Close(ctx(f.t))
}

func (f *fixture) exec(sqls ...string) {
	f.t.Helper()
	d := f.direct(f.primary, "postgres")
	for _, q := range sqls {
		_, err := d.Exec(ctx(f.t), q)
		require.NoError(f.t, err, q)
	}
}

func TestLoginsAreCheckedAgainstThePrimary(t *testing.T) {
	f := serve(t)
	f.exec("drop role if exists turner", "create role turner login password 'first'")
	eventually(t, func() error { return f.login("turner", "first", "app") })
	// While the primary is away a standby is asked; it must not be the one from then on.
	f.primary.stop(syscall.SIGKILL)
	eventually(t, func() error {
		if f.r.Stats().Table.Primary != nil {
			return errors.New("the primary is still thought to be there")
		}
		return nil
	})
	require.NoError(t, f.login("other", "other", "app"), "a standby may be asked")
	require.NoError(t, f.primary.start())
	f.ready()
	f.pauseReplay()
	f.exec("alter role turner password 'second'")
	eventually(t, func() error { return f.login("turner", "second", "app") })
	require.Equal(t, "28P01", code(f.login("turner", "first", "app")))
}

func TestAnOldPasswordDoesNotReplaceANewerOne(t *testing.T) {
	f := serve(t)
	f.exec("drop role if exists keeper", "create role keeper login password 'first'", "grant connect on database postgres, app to keeper")
	eventually(t, func() error { return f.login("keeper", "first", "app") })
	require.NoError(t, f.login("keeper", "first", "postgres"))
	f.exec("alter role keeper password 'second'")
	eventually(t, func() error { return f.login("keeper", "second", "app") })
	require.Equal(t, "28P01", code(f.login("keeper", "first", "postgres")), "the other database's answer was read before")
	c, err := connect(ctx(t), f.addr, "keeper", "second", "app", "")
	require.NoError(t, err)
	defer c.Close(ctx(t))
	f.exec("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'keeper'")
	_, err = c.Exec(ctx(t), "/* route: primary */ select 1")
	require.NoError(t, err, "a new connection logs in with the newer keys")
}

func TestWhatIsTakenFromARoleReachesNewClients(t *testing.T) {
	f := serve(t)
	f.exec("drop database if exists closed", "drop role if exists guest", "create role guest login password 'guest'",
		"create database closed", "revoke connect on database closed from public", "grant connect on database closed to guest")
	eventually(t, func() error { return f.login("guest", "guest", "closed") })
	refused := func(want string) {
		t.Helper()
		eventually(t, func() error {
			if err := f.login("guest", "guest", "closed"); code(err) != want {
				return errors.Join(errors.New("not refused so"), err)
			}
			return nil
		})
	}
	t.Run("CONNECT", func(t *testing.T) {
		f.exec("revoke connect on database closed from guest")
		refused("42501")
		f.exec("grant connect on database closed to guest")
		refused("")
	})
	t.Run("connections to the database", func(t *testing.T) {
		f.exec("alter database closed allow_connections false")
		refused("55000")
		f.exec("alter database closed allow_connections true")
		refused("")
	})
	t.Run("CONNECTION LIMIT", func(t *testing.T) {
		f.exec("alter role guest connection limit 1")
		c, err := connect(ctx(t), f.addr, "guest", "guest", "closed", "")
		require.NoError(t, err)
		refused("53300")
		require.NoError(t, c.Close(ctx(t)))
		f.exec("alter role guest connection limit -1")
		refused("")
	})
	t.Run("settings", func(t *testing.T) {
		f.exec("alter role guest set application_name = 'changed'", "alter role guest set work_mem = '7MB'")
		eventually(t, func() error {
			c, err := connect(ctx(t), f.addr, "guest", "guest", "closed", "")
			if err != nil {
				return err
			}
			defer c.Close(ctx(t))
			var v string
			if err := c.QueryRow(ctx(t), "/* route: primary */ select current_setting('work_mem')").Scan(&v); err != nil {
				return err
			}
			if v += " " + c.PgConn().ParameterStatus("application_name"); v != "7MB changed" {
				return errors.New(v)
			}
			return nil
		})
	})
}

// A cluster that was made by an older version has a function with fewer columns: routers get along with it, and the
// preparation replaces it.
func TestAnOlderRoleVerifierIsReplaced(t *testing.T) {
	f := serve(t)
	f.exec("drop function multicoord.role_verifier(text, text)", `create function multicoord.role_verifier(role_name text,
		database_name text default null, out rolpassword text, out rolcanlogin boolean, out expired boolean,
		out rolconnlimit integer, out settings text[]) returns setof record language sql stable security definer
		as $$ select rolpassword, rolcanlogin, false, -1, null::text[] from pg_authid where rolname = role_name $$`)
	require.NoError(t, f.login("other", "other", "app"))
	d := f.direct(f.primary, "postgres")
	for range 2 {
		_, err := d.Exec(ctx(t), sql.RouterBootstrap)
		require.NoError(t, err)
	}
	var may bool
	require.NoError(t, d.QueryRow(ctx(t), "select may_connect from multicoord.role_verifier('other', 'app')").Scan(&may))
	require.True(t, may)
	require.NoError(t, f.login("app", appPassword, "app"))
}

func TestConnectionsThatDoNotLogInTakeNoPlaces(t *testing.T) {
	f := serve(t, func(s *cluster.Router) { s.MaxClients = 2 })
	for range 20 {
		c, err := net.Dial("tcp", f.addr)
		require.NoError(t, err)
		defer c.Close()
	}
	a, b := f.raw(), f.raw()
	require.Equal(t, "53300", code(f.login("app", appPassword, "app")))
	_ = a.conn.Close()
	eventually(t, func() error { return f.login("app", appPassword, "app") })
	require.Equal(t, "D:1", b.query("select 1")[0])
	f.stop() // which does not wait for those who never said a word
}
