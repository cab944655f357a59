package router

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/multicoord/multicoord/coordinator/pool"
	"github.com/multicoord/multicoord/coordinator/route"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// Stats describes the router at one moment. All of it are copies or immutable.
type Stats struct {
	At, Started time.Time
	// Listen are the clients' addresses.
	Listen []string
	Table  *route.Table
	// Settings are the ones in force.
	Settings cluster.Router
	Pools    []pool.Stat
	Clients  []Client
	Totals   Totals
	// Waiting counts statements that wait for a primary or for a connection, Prepared the different named prepared
	// statements that clients hold.
	Waiting, Prepared int
	Draining          bool
}

// Client describes one session.
type Client struct {
	ID                             uint32 // what pg_backend_pid() of the router would be: the PID of its cancel key
	User, Database, Address, State string // State is idle, active or waiting
	TLS                            bool
	Since                          time.Time
	// Node is the server that the session holds a connection to, "" for none; ServerPID that connection's backend.
	Node      string
	ServerPID uint32
	// Transaction is the status byte that the client was last told (I, T, E), Pinned why the session keeps its server
	// connection, LastRoute where the last statement went and why, Application its application_name: all as of the end
	// of the last batch.
	Transaction                    byte
	Pinned, LastRoute, Application string
	Totals                         Totals
}

// Totals are numbers since the start of the session or of the router.
type Totals struct {
	// Queries counts statements received; Primary and Standby count transactions (or statements outside of one) by
	// where they went; Retries counts reads run again elsewhere.
	Queries, Primary, Standby, Retries uint64
	// ReadsPrimary is the part of Primary that only read.
	ReadsPrimary             uint64
	SentBytes, ReceivedBytes uint64
}

func (c *counters) totals() Totals {
	return Totals{
		Queries: c.queries.Load(), Primary: c.primary.Load(), Standby: c.standby.Load(), Retries: c.retries.Load(),
		ReadsPrimary: c.readsPrimary.Load(),
		SentBytes:    c.sent.Load(), ReceivedBytes: c.received.Load(),
	}
}

// Stats describes the router for the console and the monitor.
func (r *Router) Stats() Stats {
	v := r.view.Load()
	s := Stats{
		At: time.Now(), Started: r.started, Table: v.table, Settings: v.settings, Pools: r.pools.Stats(),
		Totals: r.totals().totals(), Waiting: int(r.metrics.waiting.Load()) + r.pools.Waiting(), Prepared: r.library.size(),
		Draining: r.draining.Load(),
	}
	for _, l := range r.cfg.Listeners {
		s.Listen = append(s.Listen, l.Addr().String())
	}
	r.sessions.each(func(x *session) { s.Clients = append(s.Clients, x.stat()) })
	slices.SortFunc(s.Clients, func(a, b Client) int { return cmp.Compare(a.ID, b.ID) })
	return s
}

func (s *session) stat() Client {
	c := Client{
		ID: s.key.PID, User: s.user, Database: s.database, Address: s.conn.RemoteAddr().String(), TLS: s.encrypted,
		State: "idle", Since: s.since, Totals: s.counters.totals(),
	}
	if s.turn.Load()%2 == 1 {
		c.State = "active"
	}
	// The lock is held while a cancel is under way; the console need not wait for that.
	if s.cancelMu.TryLock() {
		defer s.cancelMu.Unlock()
		if s.current != nil {
			c.Node, c.ServerPID = s.current.Node(), s.current.Key.PID
		}
		if s.waiting != nil {
			c.State = "waiting"
		}
	}
	s.shown.mu.Lock()
	defer s.shown.mu.Unlock()
	c.Transaction, c.Pinned, c.Application = s.shown.status, s.shown.pinned, s.shown.application
	if s.shown.last.node != "" {
		c.LastRoute = s.shown.last.String()
	}
	return c
}

// shown is what the console is shown of a session.
type shown struct {
	mu                  sync.Mutex
	status              byte
	pinned, application string
	last                lastRoute
}

// show notes what the console may see, and the end of the turn.
func (s *session) show() {
	s.shown.mu.Lock()
	s.shown.status, s.shown.pinned, s.shown.application, s.shown.last = s.status, s.pinned, s.application, s.last
	s.shown.mu.Unlock()
	s.turn.Add(1)
}
