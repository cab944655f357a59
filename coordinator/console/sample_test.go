package console

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/multicoord/multicoord/coordinator/wire"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixed is a source that never changes.
type fixed struct {
	snap cluster.Snapshot
	view View
}

func (f fixed) Snapshot() cluster.Snapshot { return f.snap }
func (f fixed) Router() View               { return f.view }

var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// sample is a cluster with a bit of everything.
func sample() fixed {
	lagMS := int64(40)
	snap := cluster.Snapshot{
		Spec: &cluster.Spec{
			Hosts: []cluster.Host{{Name: "h1", Address: "10.0.0.1"}, {Name: "h2", Address: "10.0.0.2"}},
			Groups: []cluster.Group{
				{ID: 0, Nodes: []cluster.Node{{Name: "c1", Host: "h1", Port: 5432}, {Name: "c2", Host: "h2", Port: 5432}, {Name: "c3", Host: "h2", Port: 5433}}},
				{ID: 1, Nodes: []cluster.Node{{Name: "w1", Host: "h1", Port: 5440}}},
			},
		},
		Groups: map[int]cluster.GroupState{0: {
			ID: 0, Phase: cluster.Running, Primary: "c1", Term: 3, SystemID: "7300000000000000001", Sync: []string{"c1", "c2"}, At: noon,
		}},
		Grants: map[int]cluster.Grant{0: {Group: 0, Node: "c1", Host: "h1", Term: 3}},
		Nodes: map[string]cluster.NodeStatus{
			"c1": {
				Name: "c1", Group: 0, Host: "h1", Address: "10.0.0.1", Port: 5432, State: cluster.NodeRunning, Role: cluster.Primary, Term: 3,
				Timeline: 2, LSN: 0x3000200, PID: 4242, Version: "15.18", StartedAt: noon, At: noon, PendingRestart: []string{"max_connections", "shared_buffers"},
			},
			"c2": {
				Name: "c2", Group: 0, Host: "h2", Address: "10.0.0.2", Port: 5432, State: cluster.NodeRunning, Role: cluster.Standby, Term: 3,
				Timeline: 2, LSN: 0x3000100, LagMS: &lagMS, Upstream: "c1", PID: 77, Restarts: 1, Version: "15.18", StartedAt: noon, At: noon,
			},
			"c3": {
				Name: "c3", Group: 0, Host: "h2", Address: "10.0.0.2", Port: 5433, State: cluster.NodeFailed, At: noon,
				Reason: "könnte nicht: address in use",
			},
		},
		Routers: map[string]cluster.RouterStatus{
			"r1": {ID: "r1", Listen: "127.0.0.1:6432", Admin: "127.0.0.1:7432", Version: "1.0", Epoch: 7, At: noon},
			"r2": {ID: "r2", Listen: "10.0.0.2:6432", Version: "1.0", Epoch: 6, At: noon},
		},
	}
	router := cluster.Spec{}.WithDefaults().Router
	router.PoolSize = 33
	view := View{
		ID: "r1",
		Servers: []Server{
			{
				Name: "c2", Address: "10.0.0.2:5432", Role: cluster.Standby, Says: cluster.Standby, Eligible: true, LagKnown: true, LagBytes: 256,
				LagTime: 40 * time.Millisecond, SystemID: "7300000000000000001", Timeline: 2, LSN: 0x3000100, Receiving: true, Weight: 100, InFlight: 2, SampledAt: noon,
			},
			{
				Name: "c1", Address: "10.0.0.1:5432", Role: cluster.Primary, Says: cluster.Primary, Eligible: true, LagKnown: true, LagBytes: 9,
				SystemID: "7300000000000000001", Timeline: 2, LSN: 0x3000200, Weight: 100, InFlight: 1, SampledAt: noon,
			},
			{Name: "c3", Address: "10.0.0.2:5433", Role: cluster.Standby, Reason: "not reachable: connection refused", Weight: 100},
		},
		Pools: []Pool{{
			Node: "c1", Database: "shop", User: "alice", ClientsActive: 2, ClientsWaiting: 1, ServersActive: 2, ServersIdle: 3, ServersLogin: 1,
			Size: 20, MaxWait: 2500 * time.Millisecond, Mode: "transaction",
		}},
		Connections: []Connection{
			{Node: "c1", Address: "10.0.0.1:5432", User: "alice", Database: "shop", State: "active", ConnectedAt: noon, RequestedAt: noon, PID: 991, Statements: 4, Client: 12},
			{Node: "c2", Address: "[::1]:5432", User: "alice", Database: "shop", State: "login", ConnectedAt: noon},
		},
		Clients: []Client{
			{
				ID: 12, User: "alice", Database: "shop", State: "active", Address: "10.1.0.9:40000", ConnectedAt: noon, RequestedAt: noon, Wait: 1500 * time.Microsecond,
				Transaction: 'T', Node: "c1", ServerPID: 991, Pinned: "LISTEN", LastRoute: "c1: writes go to the primary", Statements: 2, TLS: "TLSv1.3", Application: "web",
			},
			{ID: 13, User: "bob", Database: "shop", State: "idle", Address: "10.1.0.10:40001", ConnectedAt: noon, Transaction: 'I'},
		},
		Stats: []Stat{{
			Database: "shop", Transactions: 10, Queries: 20, ReadsStandby: 5, ReadsPrimary: 3, Writes: 2, Received: 1000, Sent: 20000,
		}},
		Settings: Settings(router),
		Route: func(_ context.Context, sql string) ([]Routed, error) {
			if sql == "broken" {
				return nil, errors.New("no table of servers yet")
			}
			return []Routed{{Statement: sql, Class: "read", Node: "c2", Address: "10.0.0.2:5432", Reason: "least busy of the eligible standbys"}}, nil
		},
	}
	return fixed{snap, view}
}

// running is a console under test.
type running struct {
	addr, host, port string
	stop             func() // ends ctx and waits for Serve
	done             <-chan error
}

const adminPassword = "admin pass"

func config(t *testing.T) Config {
	t.Helper()
	v, err := wire.NewVerifier(adminPassword, 0)
	require.NoError(t, err)
	return Config{
		Log: slog.New(slog.DiscardHandler), Source: sample(), Version: "1.0-test",
		Verifier: func(user string) (wire.Verifier, bool) { return v, user == "postgres" },
		Reload:   func(context.Context) error { return nil },
	}
}

func start(t *testing.T, cfg Config) running {
	t.Helper()
	return launch(t, func(ctx context.Context, l net.Listener) error { return Serve(ctx, l, cfg) })
}

func launch(t *testing.T, serve func(context.Context, net.Listener) error) running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l); close(done) }()
	r := running{addr: l.Addr().String(), done: done, stop: func() {
		cancel()
		select {
		case err, ok := <-done:
			if ok {
				require.NoError(t, err)
			}
		case <-time.After(20 * time.Second):
			require.FailNow(t, "it does not end with its context")
		}
	}}
	r.host, r.port, _ = net.SplitHostPort(r.addr)
	t.Cleanup(r.stop)
	return r
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
