package router_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// A change of the primary costs idle clients nothing: what they send meanwhile waits.
func TestClientsSurviveAChangeOfThePrimary(t *testing.T) {
	p, err := newPair()
	require.NoError(t, err)
	t.Cleanup(p.close)
	f := serveOn(t, p)
	r, reader, within := f.raw("application_name", "survivor"), f.raw(), f.raw()
	r.query("create table moved (id int)")
	require.Equal(t, []string{"C:INSERT 0 1", "ZI"}, r.query("insert into moved values (1)"))
	within.query("begin; insert into moved values (2)")
	eventually(t, func() error { // the standby has it
		if got := f.raw("options", "-c multicoord.consistency=eventual").query("select count(*) from moved"); got[0] != "D:1" {
			return errors.New(got[0])
		}
		return nil
	})
	f.primary.stop(syscall.SIGKILL)
	eventually(t, func() error {
		if f.r.Stats().Table.Primary != nil {
			return errors.New("the primary is still thought to be there")
		}
		return nil
	})
	r.send(&pgproto3.Query{String: "insert into moved values (3)"})
	require.Equal(t, "D:1", reader.query("select count(*) from moved")[0], "reads go on")
	d := f.direct(f.standby, "postgres")
	_, err = d.Exec(ctx(t), "select pg_promote()")
	require.NoError(t, err)
	f.primary, f.standby = f.standby, f.primary
	members := f.members()
	members[0].Term, members[1].Term = 2, 2
	f.topologies <- topology(members, f.settings)
	require.Equal(t, []string{"C:INSERT 0 1", "ZI"}, r.until(1))
	require.Equal(t, fmt.Sprintf("D:%d", f.primary.port), r.query("/* route: primary */ select inet_server_port()")[0])
	require.Equal(t, []string{"D:2", "C:SELECT 1", "ZI"}, r.query("select count(*) from moved"), "the session's own write is seen on the new timeline")
	require.Equal(t, "D:survivor", r.query("show application_name")[0])
	// The transaction that was under way is over, and says so until it is ended.
	require.Equal(t, "ZE", within.query("insert into moved values (4)")[1])
	require.Equal(t, []string{"E:25P02", "ZE"}, within.query("select 1"))
	require.Equal(t, []string{"C:ROLLBACK", "ZI"}, within.query("rollback"))
	require.Equal(t, "D:2", within.query("select count(*) from moved")[0])
}
