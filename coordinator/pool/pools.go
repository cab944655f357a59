package pool

import (
	"context"
	"crypto/tls"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multicoord/multicoord/coordinator/wire"
)

// Config holds what does not change.
type Config struct {
	Log *slog.Logger
	// Dial makes a connection (default wire.Connect).
	Dial func(context.Context, wire.ServerConfig) (*wire.Server, error)
	// TLS is used towards the servers when set.
	TLS *tls.Config
	// Waited is told how long a caller has waited for a connection; may be nil.
	Waited func(time.Duration)
	// Stale is told that a server does not take a user's keys because the password is another one there; may be nil.
	Stale func(user string)
}

// Limits may change at any time.
type Limits struct {
	// Size is the most connections per user, database and node.
	Size int
	// Idle closes a connection that nobody has used for so long; 0 never does.
	Idle time.Duration
	// Connect bounds the making of a connection.
	Connect time.Duration
}

// Node is a server that connections may be made to.
type Node struct {
	Name, Address string
	// Role and Term tell a change of the primary: a node that stops being what it was loses its connections.
	Primary bool
}

type node struct {
	name, address string
	primary       bool
	inflight      atomic.Int64
}

type key struct{ node, user, database string }

// Pools holds all pools. Safe for concurrent use.
type Pools struct {
	cfg     Config
	limits  atomic.Pointer[Limits]
	waiting atomic.Int64
	nodes   atomic.Pointer[map[string]*node]

	mu    sync.RWMutex
	pools map[key]*Pool
	creds map[string]keyring
	done  bool
}

// New makes an empty set of pools. SetNodes must be called before anything can be had.
func New(cfg Config, limits Limits) *Pools {
	if cfg.Dial == nil {
		cfg.Dial = wire.Connect
	}
	p := &Pools{cfg: cfg, pools: make(map[key]*Pool), creds: make(map[string]keyring)}
	p.nodes.Store(&map[string]*node{})
	p.SetLimits(limits)
	return p
}

// SetLimits replaces the limits.
func (p *Pools) SetLimits(l Limits) {
	l.Size = max(l.Size, 1)
	if l.Connect <= 0 {
		l.Connect = 5 * time.Second
	}
	p.limits.Store(&l)
}

func (p *Pools) waited(d time.Duration) {
	if p.cfg.Waited != nil {
		p.cfg.Waited(d)
	}
}

// SetNodes replaces the set of servers. Pools of a node that has gone, or has another address, are closed; those of a
// node that is no longer primary, or is one now, lose their connections as they become idle; what is still under way on a
// former primary ends at once.
func (p *Pools) SetNodes(list []Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := *p.nodes.Load()
	next := make(map[string]*node, len(list))
	changed := make(map[string]bool)
	was := make(map[string]bool, len(old)) // primary
	for name, n := range old {
		was[name] = n.primary
	}
	for _, n := range list {
		have := old[n.Name]
		switch {
		case have == nil || have.address != n.Address:
			next[n.Name] = &node{name: n.Name, address: n.Address, primary: n.Primary}
		default:
			if have.primary != n.Primary {
				changed[n.Name] = true
				have.primary = n.Primary
			}
			next[n.Name] = have
		}
	}
	p.nodes.Store(&next)
	for k, pool := range p.pools {
		if was[k.node] && (next[k.node] == nil || !next[k.node].primary) {
			pool.expire() // what a former primary still says about a transaction counts no more
		}
		switch {
		case next[k.node] != pool.node:
			pool.shut()
			delete(p.pools, k)
		case changed[k.node]:
			pool.retire()
		}
	}
}

// Retire closes a user's idle connections to a database on all nodes; those in use are closed when they come back.
func (p *Pools) Retire(user, database string) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for k, pool := range p.pools {
		if k.user == user && k.database == database {
			pool.retire()
		}
	}
}

// Expire ends what is under way on a node's connections, and closes the idle ones: the node does not answer.
func (p *Pools) Expire(name string) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for k, pool := range p.pools {
		if k.node == name {
			pool.expire()
		}
	}
}

// keyring holds what a user's connections log in with, and when the verifier was read that it belongs to.
type keyring struct {
	wire.Credentials
	read time.Time
}

// SetCredentials remembers what a user's new connections log in with. read is when the verifier was read that the keys
// were checked against: keys that belong to an older one than those at hand are of a password that has been changed since,
// and change nothing.
func (p *Pools) SetCredentials(c wire.Credentials, read time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if have, ok := p.creds[c.User]; ok && read.Before(have.read) {
		return
	}
	p.creds[c.User] = keyring{c, read}
}

func (p *Pools) credentials(user string) (wire.Credentials, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	c, ok := p.creds[user]
	return c.Credentials, ok
}

// Pool finds or makes the pool of a user's connections to a database on a node; nil when the node is not known.
func (p *Pools) Pool(nodeName, user, database string) *Pool {
	k := key{nodeName, user, database}
	p.mu.RLock()
	pool := p.pools[k]
	p.mu.RUnlock()
	if pool != nil {
		return pool
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if pool := p.pools[k]; pool != nil {
		return pool
	}
	n := (*p.nodes.Load())[nodeName]
	if n == nil || p.done {
		return nil
	}
	pool = &Pool{User: user, Database: database, owner: p, node: n, used: time.Now(), inUse: make(map[*Conn]struct{})}
	p.pools[k] = pool
	return pool
}

// InFlight is the number of a node's connections that are in use.
func (p *Pools) InFlight(name string) int {
	if n := (*p.nodes.Load())[name]; n != nil {
		return int(n.inflight.Load())
	}
	return 0
}

// Run watches the idle connections: those that have died or were idle for too long are closed. At the end of ctx it
// closes everything that is idle, and what comes back later.
func (p *Pools) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.close()
			return nil
		case now := <-tick.C:
			p.sweep(now)
		}
	}
}

func (p *Pools) sweep(now time.Time) {
	idle := p.limits.Load().Idle
	p.mu.RLock()
	pools := maps.Clone(p.pools)
	p.mu.RUnlock()
	for k, pool := range pools {
		if !pool.sweep(now, idle) {
			continue
		}
		p.mu.Lock()
		if p.pools[k] == pool && pool.sweep(now, idle) {
			pool.shut()
			delete(p.pools, k)
		}
		p.mu.Unlock()
	}
}

func (p *Pools) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = true
	for k, pool := range p.pools {
		pool.shut()
		delete(p.pools, k)
	}
}
