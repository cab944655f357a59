package router_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
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
