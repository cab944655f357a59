package console

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// The reference's own example (references/pgrouter.txt), line for line.
func TestMonitorTextIsPgroutersExample(t *testing.T) {
	up := func(address string, role cluster.Role, lag uint64) Server {
		return Server{Name: address, Address: address, Role: role, Says: role, LagKnown: true, LagBytes: lag, SampledAt: noon}
	}
	v := View{
		Servers: []Server{
			up("10.0.0.1:6432", cluster.Standby, 200), up("10.0.0.2:6432", cluster.Standby, 208), up("10.0.0.3:6432", cluster.Primary, 7),
			{Name: "d", Address: "10.0.0.4:6432", Role: cluster.Standby, SampledAt: noon},
			{Name: "e", Address: "10.0.0.5:6432", Role: cluster.Standby},
		},
		Clients: make([]Client, 32), Connections: make([]Connection, 28),
	}
	require.Equal(t, "backends 3/5\nworkers 64\nclients 32\nconnections 28\n10.0.0.3:6432 master OK 0\n10.0.0.1:6432 slave OK 200\n"+
		"10.0.0.2:6432 slave OK 208\n10.0.0.4:6432 slave FAILED\n10.0.0.5:6432 slave STARTING\n", string(monitorText(cluster.Snapshot{}, v, 64)))
	golden(t, "monitor.txt", monitorText(sample().snap, sample().view, 2))
	require.Equal(t, "backends 0/0\nworkers 2\nclients 0\nconnections 0\n", string(monitorText(cluster.Snapshot{}, View{}, 2)))
}

func TestMonitorStatus(t *testing.T) {
	for _, c := range []struct {
		name     string
		server   Server
		reported cluster.NodeState
		want     string
	}{
		{"a primary that answers", Server{Role: cluster.Primary, Says: cluster.Primary, SampledAt: noon}, "", "OK"},
		{"a primary that says it is none is up all the same", Server{Role: cluster.Primary, Says: cluster.Standby, SampledAt: noon}, "", "OK"},
		{"a standby without lag", Server{Role: cluster.Standby, Says: cluster.Standby, LagKnown: true, SampledAt: noon}, "", "OK"},
		{"a standby over the limit is up", Server{Role: cluster.Standby, Says: cluster.Standby, LagKnown: true, LagBytes: 1 << 40}, "", "OK"},
		{"a standby whose lag was known once", Server{Role: cluster.Standby, Says: cluster.Standby, LagBytes: 5}, "", "OK"},
		{"a standby whose lag was never known does not pass for zero", Server{Role: cluster.Standby, Says: cluster.Standby, SampledAt: noon}, "", "STARTING"},
		{"answered once", Server{Role: cluster.Standby, SampledAt: noon}, cluster.NodeRunning, "FAILED"},
		{"never answered", Server{Role: cluster.Standby}, "", "STARTING"},
		{"never answered, being made", Server{Role: cluster.Standby}, cluster.NodeCreating, "STARTING"},
		{"never answered, failed", Server{Role: cluster.Standby}, cluster.NodeFailed, "FAILED"},
		{"never answered, stopped", Server{Role: cluster.Primary}, cluster.NodeStopped, "FAILED"},
	} {
		require.Equal(t, c.want, monitorStatus(c.server, cluster.NodeStatus{State: c.reported}), c.name)
	}
}

func monitor(t *testing.T, timeout time.Duration) running {
	t.Helper()
	return launch(t, func(ctx context.Context, l net.Listener) error {
		return ServeMonitor(ctx, l, MonitorConfig{Log: discard(), Source: sample(), Timeout: timeout})
	})
}

func TestTheMonitorTellsAndCloses(t *testing.T) {
	r := monitor(t, 0)
	want := string(monitorText(sample().snap, sample().view, runtime.GOMAXPROCS(0)))
	for _, say := range []string{"", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", strings.Repeat("x", 30_000)} {
		conn, err := net.Dial("tcp", r.addr)
		require.NoError(t, err)
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, err = conn.Write([]byte(say))
		require.NoError(t, err)
		got, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
		conn.Close()
	}
}

func TestTheMonitorOutlivesClientsThatStay(t *testing.T) {
	r := monitor(t, 200*time.Millisecond)
	for range 3 * monitorLimit {
		conn, err := net.Dial("tcp", r.addr)
		require.NoError(t, err)
		defer conn.Close()
	}
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", r.addr)
		require.NoError(t, err)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		got, _ := io.ReadAll(conn)
		return strings.HasPrefix(string(got), "backends 2/3\n")
	}, 20*time.Second, 20*time.Millisecond)
	r.stop()
}

func TestTheMonitorIsForThisHostAlone(t *testing.T) {
	ctx := t.Context()
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"} {
		l, err := ListenMonitor(ctx, address, false)
		require.ErrorContains(t, err, "asks for no password", address)
		require.Nil(t, l)
	}
	for _, address := range []string{"127.0.0.1", "127.0.0.1:0:0", "no.such.host.invalid:0"} {
		_, err := ListenMonitor(ctx, address, false)
		require.Error(t, err, address)
	}
	for _, address := range []string{"127.0.0.1:0", "localhost:0", "127.9.9.9:0"} {
		l, err := ListenMonitor(ctx, address, false)
		require.NoError(t, err, address)
		l.Close()
	}
	// A listener that was opened elsewhere is refused too, and closed.
	l, err := net.Listen("tcp", "0.0.0.0:0")
	require.NoError(t, err)
	require.ErrorContains(t, ServeMonitor(ctx, l, MonitorConfig{Log: discard(), Source: sample()}), "asks for no password")
	_, err = l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}
