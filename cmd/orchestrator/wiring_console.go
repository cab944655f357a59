package main

import (
	"time"

	"github.com/multicoord/multicoord/coordinator/console"
	"github.com/multicoord/multicoord/coordinator/pool"
	"github.com/multicoord/multicoord/coordinator/router"
)

// viewOf puts a router's numbers into the form that the console shows.
func viewOf(id string, s router.Stats) console.View {
	v := console.View{ID: id, Settings: console.Settings(s.Settings)}
	inFlight := map[string]int{}
	for _, p := range s.Pools {
		inFlight[p.Node] += p.Active
		v.Pools = append(v.Pools, poolOf(p, s.Settings.PoolSize))
		for _, c := range p.Servers {
			v.Connections = append(v.Connections, connectionOf(p, c))
		}
	}
	if s.Table != nil {
		for _, t := range s.Table.Servers {
			v.Servers = append(v.Servers, console.Server{
				Name: t.Name, Address: t.Address, Role: t.Role, Says: t.Says, Eligible: t.Eligible, Reason: t.Reason,
				LagKnown: t.LagKnown, LagBytes: t.LagBytes, LagTime: t.LagTime, Stalled: t.Stalled, SystemID: t.SystemID,
				Timeline: t.Timeline, LSN: t.LSN, Receiving: t.Receiving, Weight: t.Weight, InFlight: inFlight[t.Name], SampledAt: t.SampledAt,
			})
		}
	}
	for _, c := range s.Clients {
		v.Clients = append(v.Clients, clientOf(c))
	}
	v.Stats = []console.Stat{{
		Database: "*", Transactions: s.Totals.Primary + s.Totals.Standby, Queries: s.Totals.Queries,
		ReadsStandby: s.Totals.Standby, ReadsPrimary: s.Totals.ReadsPrimary, Writes: s.Totals.Primary - s.Totals.ReadsPrimary, Received: s.Totals.ReceivedBytes, Sent: s.Totals.SentBytes,
	}}
	return v
}

func poolOf(p pool.Stat, size int) console.Pool {
	return console.Pool{
		Node: p.Node, Database: p.Database, User: p.User, ClientsActive: p.Active, ClientsWaiting: p.Waiting,
		ServersActive: p.Active, ServersIdle: p.Idle, ServersLogin: p.Opening, Size: size, Mode: "transaction",
	}
}

func connectionOf(p pool.Stat, c pool.ServerStat) console.Connection {
	out := console.Connection{
		Node: p.Node, Address: p.Address, User: p.User, Database: p.Database, State: "idle", ConnectedAt: c.Made,
		RequestedAt: c.IdleSince, PID: c.PID, Statements: c.Statements,
	}
	if c.Active {
		out.State, out.RequestedAt = "active", time.Time{}
	}
	return out
}

func clientOf(c router.Client) console.Client {
	out := console.Client{
		ID: uint64(c.ID), User: c.User, Database: c.Database, State: c.State, Address: c.Address, ConnectedAt: c.Since, Node: c.Node,
		ServerPID: c.ServerPID, Transaction: c.Transaction, Pinned: c.Pinned, LastRoute: c.LastRoute, Application: c.Application,
	}
	if c.TLS {
		out.TLS = "TLS"
	}
	return out
}
