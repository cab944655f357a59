package router_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// freeze stops all processes of a server, as a host does whose disk hangs: its kernel still takes connections and
// acknowledges what comes. thaw lets them go on; it may be called twice.
func freeze(t *testing.T, s *server) (thaw func()) {
	t.Helper()
	parent := s.cmd.Process.Pid
	require.NoError(t, syscall.Kill(parent, syscall.SIGSTOP))
	pids := append(childrenOf(parent), parent)
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
	thaw = func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	t.Cleanup(thaw)
	return thaw
}

// active waits until the server runs a statement of app's like this one.
func (f *fixture) active(s *server, like string) {
	f.t.Helper()
	d := f.direct(s, "app")
	eventually(f.t, func() error {
		var n int
		err := d.QueryRow(ctx(f.t), "select count(*) from pg_stat_activity where usename = 'app' and state = 'active' and query like $1", like).Scan(&n)
		if err == nil && n == 0 {
			err = errors.New("not running")
		}
		return err
	})
}

func TestADrainEndsAlthoughServersHang(t *testing.T) {
	f := serve(t)
	var clients []*raw
	for range 8 {
		clients = append(clients, f.raw())
	}
	for _, c := range clients[:4] {
		c.query("begin")
		c.send(&pgproto3.Query{String: "select pg_sleep(60) -- hangs"})
	}
	for _, c := range clients[4:] {
		c.send(&pgproto3.Query{String: "select pg_sleep(60) -- hangs"})
	}
	f.active(f.primary, "%-- hangs")
	f.active(f.standby, "%-- hangs")
	freeze(t, f.primary)
	freeze(t, f.standby)
	began := time.Now()
	f.stop()
	require.Less(t, time.Since(began), 2*time.Second+5*time.Second, "the grace period, and some seconds")
}
