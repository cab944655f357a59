package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/multicoord/multicoord/coordinator/roles"
	"github.com/multicoord/multicoord/failover"
	"github.com/multicoord/multicoord/failover/guard"
	"github.com/multicoord/multicoord/orchestrator/agent"
	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/secret"
	"github.com/multicoord/multicoord/replication/physical"
	"github.com/multicoord/multicoord/sql"
	"github.com/multicoord/multicoord/worker"
)

// serverWiring makes the servers of a host for its agent.
type serverWiring struct {
	log     *slog.Logger
	self    string // path of this program, for the guards
	bin     physical.Binaries
	account physical.Account
	dir     string // the data folder
	id      string // the cluster's
	name    string
	secrets secret.Secrets
}

// nodesDir is the folder of the nodes' folders.
func nodesDir(dir string) string { return filepath.Join(dir, "nodes") }

// nodesIn lists the nodes whose folders exist.
func nodesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(nodesDir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the nodes of this host: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (w serverWiring) physical(p agent.Place) *physical.Server {
	return physical.New(physical.Config{
		Log: w.log, Self: w.self, Bin: w.bin, Account: w.account, Dir: filepath.Join(nodesDir(w.dir), p.Node.Name),
		ClusterID: w.id, ClusterName: w.name, Node: p.Node.Name, Group: p.Group, Host: p.Host, Address: p.Address, Port: p.Node.Port,
	})
}

// server makes the agent's view of a server.
func (w serverWiring) server(life context.Context, p agent.Place) (agent.Server, error) {
	if err := os.MkdirAll(nodesDir(w.dir), 0o711); err != nil {
		return agent.Server{}, fmt.Errorf("make the folder of the nodes: %w", err)
	}
	s := &nodeServer{life: life, log: w.log.With("node", p.Node.Name), s: w.physical(p), group: p.Group, secrets: w.secrets}
	s.check = func(ctx context.Context, params map[string]string) error {
		return physical.CheckParameters(ctx, w.bin, w.account, params)
	}
	return agent.Server{Data: s, Process: s, SQL: s}, nil
}

// left lists the places whose folders exist here.
func (w serverWiring) left() ([]agent.Place, error) {
	names, err := nodesIn(w.dir)
	if err != nil {
		return nil, err
	}
	var places []agent.Place
	for _, n := range names {
		p, err := physical.PlaceOf(filepath.Join(nodesDir(w.dir), n))
		if err != nil {
			w.log.Warn("a folder among the nodes is not a node's and is left alone", "folder", n, "err", err)
			continue
		}
		places = append(places, agent.Place{Node: cluster.Node{Name: p.Node}, Group: p.Group, Host: p.Host})
	}
	return places, nil
}

// nodeServer adapts a physical.Server to what the agent asks for.
type nodeServer struct {
	life    context.Context // bounds the watch of the running server
	log     *slog.Logger
	s       *physical.Server
	group   int
	secrets secret.Secrets
	// check asks PostgreSQL whether it would take these parameters; checked are those that it took last.
	check   func(ctx context.Context, params map[string]string) error
	checked map[string]string

	mu     sync.Mutex // held while a query runs
	conn   *pgx.Conn
	pruned time.Time
	// live is conn's socket, which can be closed under a query that hangs.
	live atomic.Pointer[net.Conn]

	// guard is the guard that was found last, watched until its server ends.
	guardMu  sync.Mutex
	guarded  *guard.Client
	watching *watchedServer
}

var (
	_ agent.Data    = (*nodeServer)(nil)
	_ agent.Process = (*nodeServer)(nil)
	_ agent.SQL     = (*nodeServer)(nil)
)

func (n *nodeServer) Inspect(ctx context.Context) (agent.Disk, error) {
	d, err := n.s.Inspect(ctx)
	if err != nil {
		return agent.Disk{}, err
	}
	out := agent.Disk{Present: d.State == physical.Ours, SystemID: d.SystemID, StandbySignal: d.StandbySignal}
	out.Configured = out.Present && n.s.Configured()
	if d.State == physical.Foreign || (out.Present && d.SystemID == "") {
		out.Foreign = d.Reason
	}
	return out, nil
}

func (n *nodeServer) InitDB(ctx context.Context) error { return n.s.InitDB(ctx, n.secrets.Superuser) }

func (n *nodeServer) BaseBackup(ctx context.Context, from agent.Upstream) error {
	return n.s.BaseBackup(ctx, *n.upstream(&from), func(done, total int64) {
		n.log.Debug("base backup", "done_bytes", done, "total_bytes", total)
	})
}

func (n *nodeServer) upstream(u *agent.Upstream) *physical.Upstream {
	if u == nil {
		return nil
	}
	return &physical.Upstream{
		Address: u.Address, Port: u.Port, User: secret.ReplicationRole, Password: n.secrets.Replication,
		Slot: physical.SlotName(u.Slot),
	}
}

// Configure leaves the old configuration in place when PostgreSQL would not take the new one.
func (n *nodeServer) Configure(ctx context.Context, s agent.Settings) (bool, error) {
	if n.checked == nil || !maps.Equal(n.checked, s.Parameters) {
		if err := n.check(ctx, s.Parameters); err != nil {
			return false, fmt.Errorf("%w: %w; change it with `orchestrator config set`", agent.ErrRefused, err)
		}
		n.checked = maps.Clone(s.Parameters)
		if n.checked == nil {
			n.checked = map[string]string{}
		}
	}
	return n.s.Configure(ctx, physical.Settings{Role: s.Role, Parameters: s.Parameters, HBA: s.HBA, Upstream: n.upstream(s.Upstream), Standbys: s.Standbys})
}

func (n *nodeServer) Remove(ctx context.Context) error { return n.s.Remove(ctx) }

func (n *nodeServer) Running(ctx context.Context) (agent.Running, error) {
	client, err := n.client(ctx)
	if err != nil {
		return agent.Running{}, err
	}
	if client == nil {
		return agent.Running{LastExit: n.lastExit()}, nil
	}
	st, err := client.Status(ctx)
	if errors.Is(err, guard.ErrNotRunning) {
		n.forget(client)
		return agent.Running{LastExit: n.lastExit()}, nil
	}
	if err != nil {
		return agent.Running{}, err
	}
	return agent.Running{
		Alive: true, Ended: n.ended(client), PID: st.PostmasterPID, StartedAt: st.StartedAt,
		Right: failover.Right{Term: st.Term, Deadline: st.DeadlineNanos, Fenced: st.Fenced},
	}, nil
}

func (n *nodeServer) lastExit() string {
	e, err := n.s.LastExit()
	if err != nil || e.Requested {
		return ""
	}
	return n.s.Explain(e)
}

func (n *nodeServer) Start(ctx context.Context, r failover.Right) error {
	n.hangUp()
	client, err := n.s.Launch(ctx, r.Term, r.Deadline)
	if errors.Is(err, physical.ErrRunning) {
		return nil
	}
	if err == nil {
		n.remember(client)
	}
	return err
}

func (n *nodeServer) Extend(ctx context.Context, r failover.Right) error {
	client, err := n.client(ctx)
	if client == nil {
		return err // or nil: nothing runs that could be primary
	}
	err = client.SetDeadline(ctx, r.Term, r.Deadline)
	if errors.Is(err, guard.ErrNotRunning) {
		n.forget(client)
		return nil
	}
	return err
}

func (n *nodeServer) Reload(ctx context.Context) error { return n.s.Reload(ctx) }

func (n *nodeServer) Stop(ctx context.Context, mode agent.StopMode, within time.Duration) error {
	n.hangUp()
	if mode == agent.StopImmediate {
		return n.s.Fence(ctx)
	}
	err := n.s.Stop(ctx, guard.StopMode(mode), within)
	if errors.Is(err, guard.ErrNoAnswer) {
		n.log.Warn("the guard does not answer; killing the server", "err", err)
		return n.s.Kill(ctx)
	}
	if errors.Is(err, physical.ErrNotRunning) {
		return nil
	}
	return err
}

// session gives the kept connection, or makes one.
func (n *nodeServer) session(ctx context.Context) (*pgx.Conn, error) {
	if n.conn != nil && !n.conn.IsClosed() {
		return n.conn, nil
	}
	conn, err := n.s.Connect(ctx, n.secrets.Superuser, "postgres")
	if err != nil {
		return nil, err
	}
	n.conn = conn
	socket := conn.PgConn().Conn()
	n.live.Store(&socket)
	return conn, nil
}

// with runs f on the kept connection, which is dropped when f fails.
func (n *nodeServer) with(ctx context.Context, f func(*pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, queryWithin)
	defer cancel()
	n.mu.Lock()
	defer n.mu.Unlock()
	conn, err := n.session(ctx)
	if err != nil {
		return err
	}
	if err := f(conn); err != nil {
		n.drop(ctx)
		return err
	}
	return nil
}

func (n *nodeServer) drop(ctx context.Context) {
	if n.conn != nil {
		_ = n.conn.Close(ctx) // it failed already
		n.conn = nil
	}
}

// queryWithin bounds what is asked of a server.
const queryWithin = 30 * time.Second

// hangUp closes the kept connection's socket. It waits for nobody: a query that is under way fails.
func (n *nodeServer) hangUp() {
	if c := n.live.Swap(nil); c != nil {
		_ = (*c).Close() // it may be closed already
	}
}

// Close gives up what is kept.
func (n *nodeServer) Close() {
	n.hangUp()
	n.guardMu.Lock()
	w := n.watching
	n.guarded, n.watching = nil, nil
	n.guardMu.Unlock()
	if w != nil {
		w.stop()
	}
}

func (n *nodeServer) Observe(ctx context.Context) (agent.Observation, error) {
	var out agent.Observation
	err := n.with(ctx, func(conn *pgx.Conn) error {
		o, err := n.s.Observe(ctx, conn)
		if err != nil {
			return err
		}
		slots, err := n.s.SlotStates(ctx, conn)
		if err != nil {
			return err
		}
		out = observation(o, slots)
		n.pruneLogs()
		return nil
	})
	return out, err
}

// pruneLogs removes old log files, now and then. The caller holds mu.
func (n *nodeServer) pruneLogs() {
	if time.Since(n.pruned) < time.Hour {
		return
	}
	n.pruned = time.Now()
	if err := n.s.PruneLogs(); err != nil {
		n.log.Warn("old log files stay", "err", err)
	}
}

func observation(o physical.Observation, slots []physical.SlotState) agent.Observation {
	out := agent.Observation{
		InRecovery: o.Role == cluster.Standby, SystemID: o.SystemID, Timeline: o.Timeline, LSN: o.LSN, Received: o.Received,
		PendingRestart: o.PendingRestart, Version: o.Version,
	}
	if out.InRecovery {
		out.LSN = o.Replayed
	}
	if o.Receiver.Status == "streaming" {
		out.UpstreamAddress = net.JoinHostPort(o.Receiver.Host, strconv.Itoa(o.Receiver.Port))
	}
	for _, s := range slots {
		node := nodeOfSlot(s.Name)
		out.Slots = append(out.Slots, node)
		if s.WALStatus == "lost" {
			out.Lost = append(out.Lost, node)
		}
		if s.RetainedBytes > 0 {
			if out.Retained == nil {
				out.Retained = map[string]int64{}
			}
			out.Retained[node] = s.RetainedBytes
		}
	}
	return out
}

// nodeOfSlot turns a slot's name back into the node's: the names of nodes hold no '_'.
func nodeOfSlot(slot string) string {
	return strings.ReplaceAll(strings.TrimPrefix(slot, physical.SlotName("")), "_", "-")
}

func (n *nodeServer) Prepare(ctx context.Context, database string) error {
	return n.with(ctx, func(conn *pgx.Conn) error {
		if err := roles.Ensure(ctx, conn, map[string]string{
			secret.SuperuserRole: n.secrets.Superuser, secret.ReplicationRole: n.secrets.Replication,
			secret.RouterRole: n.secrets.Router, secret.OwnerRole: n.secrets.Owner,
		}); err != nil {
			return err
		}
		if err := roles.EnsureDatabase(ctx, conn, database); err != nil {
			return err
		}
		if n.group != cluster.CoordinatorGroup {
			return worker.Prepare(ctx, conn)
		}
		if _, err := conn.Exec(ctx, sql.RouterBootstrap); err != nil {
			return fmt.Errorf("prepare what the routers need: %w", err)
		}
		return nil
	})
}

func (n *nodeServer) EnsureSlots(ctx context.Context, nodes []string) error {
	want := make([]string, len(nodes))
	for i, name := range nodes {
		want[i] = physical.SlotName(name)
	}
	return n.with(ctx, func(conn *pgx.Conn) error {
		created, dropped, err := n.s.EnsureSlots(ctx, conn, want)
		if len(created)+len(dropped) > 0 {
			n.log.Info("slots", "created", created, "dropped", dropped)
		}
		return err
	})
}
