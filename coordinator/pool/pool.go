package pool

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/multicoord/multicoord/coordinator/wire"
)

// ErrGone says that the pool was closed: the node has left the topology or changed its role, or nobody had used the
// pool for long. The caller chooses a node anew.
var ErrGone = errors.New("the server has left the topology")

// ErrTimeout says that no connection became free until the deadline.
var ErrTimeout = errors.New("no server connection became free in time")

// DialError says that a connection could not be made; a server's own refusal is the *wire.Error within.
type DialError struct {
	Node, Address string
	Err           error
}

func (e *DialError) Error() string {
	return fmt.Sprintf("connect to %s at %s: %v", e.Node, e.Address, e.Err)
}

func (e *DialError) Unwrap() error { return e.Err }

// restless is how long a connection may have been idle and still be handed out without a look whether it lives: a
// server that ended it since did so practically while it was in use.
const restless = 500 * time.Microsecond

// Pool holds the connections of one user to one database on one node. Safe for concurrent use.
type Pool struct {
	User, Database string

	owner *Pools
	node  *node

	mu         sync.Mutex
	idle       []*Conn   // the most recently used is the last
	open       int       // connections and connections being made
	waiters    list.List // of *waiter, in order of arrival
	generation uint64    // connections of an earlier one are closed when they come back
	closed     bool
	used       time.Time
	inUse      map[*Conn]struct{}
}

type waiter struct {
	ready chan grant // capacity 1
}

// grant is a connection, or the right to make one, or an error.
type grant struct {
	conn *Conn
	dial bool
	err  error
}

// Take hands out an idle connection; nil when there is none. It never waits.
func (p *Pool) Take() *Conn {
	now := time.Now()
	p.mu.Lock()
	c := p.take(now)
	p.mu.Unlock()
	return c
}

// take is Take with the lock held.
func (p *Pool) take(now time.Time) *Conn {
	for {
		n := len(p.idle)
		if n == 0 {
			return nil
		}
		c := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		if c.generation == p.generation && (now.Sub(c.since) < restless || c.alive(now)) {
			p.inUse[c] = struct{}{}
			p.node.inflight.Add(1)
			return c
		}
		c.close()
		p.release(1)
		p.probe(now)
	}
}

// Get hands out a connection: an idle one, or a new one while there are fewer than the limit, or the next that comes
// back. It waits for so long at most (ErrTimeout), or until the end of ctx.
func (p *Pool) Get(ctx context.Context, patience time.Duration) (*Conn, error) {
	now := time.Now()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrGone
	}
	if c := p.take(now); c != nil {
		p.mu.Unlock()
		return c, nil
	}
	p.used = now
	if p.open < p.owner.limits.Load().Size {
		p.open++
		p.mu.Unlock()
		return p.dial(ctx, now.Add(patience))
	}
	return p.wait(ctx, now.Add(patience))
}

// wait queues up; the lock is held on entry.
func (p *Pool) wait(ctx context.Context, deadline time.Time) (*Conn, error) {
	w := &waiter{ready: make(chan grant, 1)}
	e := p.waiters.PushBack(w)
	p.mu.Unlock()
	p.owner.waiting.Add(1)
	began := time.Now()
	defer func() {
		p.owner.waiting.Add(-1)
		p.owner.waited(time.Since(began))
	}()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	var err error
	select {
	case g := <-w.ready:
		return p.accept(ctx, deadline, g)
	case <-timer.C:
		err = ErrTimeout
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	p.mu.Lock()
	select {
	case g := <-w.ready: // it came in the same moment
		p.mu.Unlock()
		return p.accept(ctx, deadline, g)
	default:
	}
	p.waiters.Remove(e)
	p.mu.Unlock()
	return nil, err
}

func (p *Pool) accept(ctx context.Context, deadline time.Time, g grant) (*Conn, error) {
	switch {
	case g.err != nil:
		return nil, g.err
	case g.dial:
		return p.dial(ctx, deadline)
	}
	p.node.inflight.Add(1)
	return g.conn, nil
}

// dial makes a connection in the place that was reserved for it.
func (p *Pool) dial(ctx context.Context, deadline time.Time) (*Conn, error) {
	p.mu.Lock()
	generation := p.generation
	p.mu.Unlock()
	timeout := min(p.owner.limits.Load().Connect, time.Until(deadline))
	s, err := p.connect(ctx, max(timeout, time.Millisecond))
	if err != nil {
		p.free(nil)
		if errors.Is(err, wire.ErrStaleKeys) && p.owner.cfg.Stale != nil {
			p.owner.cfg.Stale(p.User)
		}
		return nil, &DialError{Node: p.node.name, Address: p.node.address, Err: err}
	}
	c := newConn(p, s, generation, time.Now())
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		c.close()
		return nil, ErrGone
	}
	p.inUse[c] = struct{}{}
	p.mu.Unlock()
	p.node.inflight.Add(1)
	return c, nil
}

func (p *Pool) connect(ctx context.Context, timeout time.Duration) (*wire.Server, error) {
	cred, ok := p.owner.credentials(p.User)
	if !ok {
		return nil, fmt.Errorf("nobody has logged in as %q yet", p.User)
	}
	return p.owner.cfg.Dial(ctx, wire.ServerConfig{
		Network: "tcp", Address: p.node.address, Params: map[string]string{"database": p.Database},
		Credentials: cred, Timeout: timeout, TLS: p.owner.cfg.TLS,
	})
}

// put makes a connection idle, or gives it to the first who waits.
func (p *Pool) put(c *Conn) {
	now := time.Now()
	p.mu.Lock()
	if p.closed || c.Expired() || c.generation != p.generation || p.open > p.owner.limits.Load().Size {
		p.mu.Unlock()
		c.close()
		p.free(c)
		return
	}
	c.since = now
	if e := p.waiters.Front(); e != nil {
		p.waiters.Remove(e)
		e.Value.(*waiter).ready <- grant{conn: c}
		p.mu.Unlock()
		return
	}
	delete(p.inUse, c)
	p.idle = append(p.idle, c)
	p.used = now
	p.mu.Unlock()
}

// free gives a place up, or the right to it to the first who waits. c is the connection that held it, if any.
func (p *Pool) free(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c != nil {
		delete(p.inUse, c)
	}
	if e := p.waiters.Front(); e != nil && !p.closed && p.open <= p.owner.limits.Load().Size {
		p.waiters.Remove(e)
		e.Value.(*waiter).ready <- grant{dial: true}
		return
	}
	p.open--
}

// probe looks at all idle connections and closes the dead; the lock is held.
func (p *Pool) probe(now time.Time) {
	closed := 0
	kept := p.idle[:0]
	for _, c := range p.idle {
		if c.generation == p.generation && c.alive(now) {
			kept = append(kept, c)
			continue
		}
		c.close()
		closed++
	}
	clear(p.idle[len(kept):])
	p.idle = kept
	p.release(closed)
}

// release takes n places back and lets waiters make connections in them; the lock is held.
func (p *Pool) release(n int) {
	p.open -= n
	for p.open < p.owner.limits.Load().Size {
		e := p.waiters.Front()
		if e == nil {
			return
		}
		p.waiters.Remove(e)
		p.open++
		e.Value.(*waiter).ready <- grant{dial: true}
	}
}

// sweep closes what is dead or has been idle for too long, and tells whether the pool itself may go.
func (p *Pool) sweep(now time.Time, idle time.Duration) (unused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := 0
	if idle > 0 {
		for old < len(p.idle) && now.Sub(p.idle[old].since) > idle {
			p.idle[old].close()
			old++
		}
	}
	if old > 0 {
		p.idle = append(p.idle[:0:0], p.idle[old:]...)
	}
	p.release(old)
	p.probe(now)
	return p.open == 0 && p.waiters.Len() == 0 && now.Sub(p.used) > forget
}

// forget is how long a pool without connections is kept.
const forget = 10 * time.Minute

// retire closes the idle connections; those in use are closed when they come back.
func (p *Pool) retire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.generation++
	for _, c := range p.idle {
		c.close()
	}
	n := len(p.idle)
	p.idle = nil
	p.release(n)
}

// expire ends what is under way on the pool's connections and closes the idle ones.
func (p *Pool) expire() {
	p.retire()
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.inUse {
		c.Expire()
	}
}

// shut closes the pool for good.
func (p *Pool) shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		c.close()
	}
	p.open -= len(p.idle)
	p.idle = nil
	for e := p.waiters.Front(); e != nil; e = p.waiters.Front() {
		p.waiters.Remove(e)
		e.Value.(*waiter).ready <- grant{err: ErrGone}
	}
}
