package pool

import (
	"cmp"
	"slices"
	"time"
)

// Stat describes one pool at one moment.
type Stat struct {
	Node, Address, User, Database string
	// Active connections are in use, Idle ones are not, Opening ones are being made.
	Active, Idle, Opening int
	// Waiting counts those who wait for a connection.
	Waiting int
	// Servers are the connections.
	Servers []ServerStat
}

// ServerStat describes one connection.
type ServerStat struct {
	PID        uint32
	Active     bool
	Made       time.Time
	IdleSince  time.Time // zero while active
	Statements int       // known only while idle
}

// Stats describes all pools, in the order of node, database and user.
func (p *Pools) Stats() []Stat {
	p.mu.RLock()
	pools := make([]*Pool, 0, len(p.pools))
	for _, pool := range p.pools {
		pools = append(pools, pool)
	}
	p.mu.RUnlock()
	stats := make([]Stat, 0, len(pools))
	for _, pool := range pools {
		stats = append(stats, pool.stat())
	}
	slices.SortFunc(stats, func(a, b Stat) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Database, b.Database), cmp.Compare(a.User, b.User))
	})
	return stats
}

// Waiting is the number of callers that wait for a connection.
func (p *Pools) Waiting() int { return int(p.waiting.Load()) }

func (p *Pool) stat() Stat {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stat{
		Node: p.node.name, Address: p.node.address, User: p.User, Database: p.Database,
		Active: len(p.inUse), Idle: len(p.idle), Opening: p.open - len(p.inUse) - len(p.idle), Waiting: p.waiters.Len(),
	}
	for c := range p.inUse {
		s.Servers = append(s.Servers, ServerStat{PID: c.Key.PID, Active: true, Made: c.made})
	}
	for _, c := range p.idle {
		s.Servers = append(s.Servers, ServerStat{
			PID: c.Key.PID, Made: c.made, IdleSince: c.since, Statements: c.Statements.Len(),
		})
	}
	slices.SortFunc(s.Servers, func(a, b ServerStat) int { return cmp.Compare(a.PID, b.PID) })
	return s
}
