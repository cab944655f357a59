package router_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
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

// patient is until with the time that a router needs to give a silent server up.
func (r *raw) patient(n int) []string {
	r.t.Helper()
	require.NoError(r.t, r.conn.SetReadDeadline(time.Now().Add(25*time.Second)))
	var got []string
	for n > 0 {
		m, err := r.fe.Receive()
		require.NoError(r.t, err)
		got = append(got, show(m))
		if got[len(got)-1][0] == 'Z' {
			n--
		}
	}
	return got
}

// cancelOf sends a CancelRequest to the router and waits until it has been dealt with.
func (r *raw) cancelOf(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	b := binary.BigEndian.AppendUint32(nil, uint32(12+len(r.key)))
	b = binary.BigEndian.AppendUint32(b, 1234<<16|5678)
	b = binary.BigEndian.AppendUint32(b, r.pid)
	if _, err := c.Write(append(b, r.key...)); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(25 * time.Second))
	_, err = c.Read(make([]byte, 1))
	return err
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

func TestReadsOnAFrozenStandbyAreRunElsewhere(t *testing.T) {
	f := serve(t)
	w, r := f.raw(), f.raw()
	w.query("drop table if exists frozen; create table frozen as select 7 as n")
	eventually(t, func() error {
		if got := r.query("/* route: standby */ select n, inet_server_port() from frozen")[0]; got != fmt.Sprintf("D:7,%d", f.standby.port) {
			return errors.New(got)
		}
		return nil
	})
	within, stuck := f.raw(), f.raw()
	within.query("/* route: standby */ begin read only; select n from frozen")
	r.send(&pgproto3.Query{String: "/* route: standby */ select n, pg_sleep(3) from frozen -- thaws"})
	stuck.send(&pgproto3.Query{String: "/* route: standby */ select n, pg_sleep(4) from frozen -- thaws"})
	f.active(f.standby, "%-- thaws")
	thaw := freeze(t, f.standby)
	within.send(&pgproto3.Query{String: "select n from frozen"})
	cancelled := make(chan struct{})
	go func() {
		defer close(cancelled)
		_ = stuck.cancelOf(f.addr)
	}()
	require.Equal(t, []string{"D:7,", "C:SELECT 1", "ZI"}, without(r.patient(1), "T"))
	require.Equal(t, []string{"E:08006", "ZE"}, within.until(1), "a transaction cannot go on elsewhere")
	require.Equal(t, []string{"E:08006", "ZI"}, stuck.until(1), "the client did not want it any more")
	<-cancelled
	thaw()
	f.ready()
}
