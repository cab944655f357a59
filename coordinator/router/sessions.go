package router

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multicoord/multicoord/coordinator/pool"
	"github.com/multicoord/multicoord/coordinator/wire"
)

// sessions holds the clients that are there.
type sessions struct {
	wg    sync.WaitGroup
	mu    sync.Mutex
	m     map[uint32]*session
	next  uint64
	count atomic.Int64 // clients that have logged in
	users map[string]int
	early map[net.Conn]struct{} // connections that have not logged in yet
	past  counters              // of sessions that have ended
}

// enter notes a connection that has not logged in; false when there are too many.
func (l *sessions) enter(c net.Conn, limit int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.early) >= limit {
		return false
	}
	l.early[c] = struct{}{}
	return true
}

// entered takes the connection off again, if it is still there.
func (l *sessions) entered(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.early, c)
}

// shutDoor ends what has not logged in.
func (l *sessions) shutDoor() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.early {
		_ = c.Close()
	}
}

// admit counts a client, and tells how many there are now, and how many of this user.
func (l *sessions) admit(user string) (clients int64, own int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users[user]++
	return l.count.Add(1), l.users[user]
}

// leave is the end of it.
func (l *sessions) leave(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count.Add(-1)
	if l.users[user]--; l.users[user] <= 0 {
		delete(l.users, user)
	}
}

// add gives the session its number and its cancel key. Since protocol 3.2 the secret may be longer than 4 bytes.
func (l *sessions) add(s *session, protocol uint32) {
	size := 4
	if protocol >= wire.Protocol32 {
		size = 32
	}
	secret := make([]byte, size)
	_, _ = rand.Read(secret)
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		l.next++
		pid := uint32(l.next) & 0x7fffffff
		if pid != 0 && l.m[pid] == nil {
			s.id, s.key = l.next, wire.CancelKey{PID: pid, Secret: secret}
			l.m[pid] = s
			return
		}
	}
}

func (l *sessions) remove(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.m, s.key.PID)
	l.past.add(&s.counters)
}

func (l *sessions) find(pid uint32) *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.m[pid]
}

func (l *sessions) each(f func(*session)) {
	l.mu.Lock()
	all := make([]*session, 0, len(l.m))
	for _, s := range l.m {
		all = append(all, s)
	}
	l.mu.Unlock()
	for _, s := range all {
		f(s)
	}
}

// cancelTime bounds a cancel request to a server.
const cancelTime = 5 * time.Second

// cancelRequest cancels what the session with the key is doing. A wrong key is not answered, like a right one.
func (r *Router) cancelRequest(key wire.CancelKey) {
	s := r.sessions.find(key.PID)
	if s == nil || subtle.ConstantTimeCompare(s.key.Secret, key.Secret) != 1 {
		r.log.Debug("a cancel request with a wrong key was ignored")
		return
	}
	turn := s.turn.Load()
	s.cancelMu.Lock()
	c := s.current
	heard := s.cancelLocked()
	s.cancelMu.Unlock()
	if c == nil || turn%2 == 0 {
		return
	}
	if heard {
		r.await(s, turn, reactTime)
	}
	s.cancelMu.Lock()
	defer s.cancelMu.Unlock()
	if s.turn.Load() == turn && s.current == c {
		r.log.Warn("a server does not react to a cancel request; its connection was given up", "node", c.Node(), "user", s.user,
			"database", s.database)
		s.gaveUp.Store(turn)
		c.Expire()
	}
}

// reactTime is how long a server that has taken a cancel request may go on with the statement: what PostgreSQL does without
// looking for cancels, such as the end of a commit or a long sort step, is over by then.
const reactTime = 10 * time.Second

// await waits until the session's batch is over, for so long at most.
func (r *Router) await(s *session, turn uint64, limit time.Duration) {
	end := time.NewTimer(limit)
	defer end.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for s.turn.Load() == turn && !r.hurry.Load() {
		select {
		case <-end.C:
			return
		case <-tick.C:
		}
	}
}

// cancelLocked cancels whatever the session waits for. The lock keeps the server connection with the session until the
// server has taken note. heard is false when the server did not answer.
func (s *session) cancelLocked() (heard bool) {
	if s.waiting != nil {
		s.waiting(wire.Errorf("57014", "canceling statement due to user request"))
	}
	return s.current == nil || s.r.cancelServer(s.current)
}

func (r *Router) cancelServer(c *pool.Conn) (heard bool) {
	ctx, stop := context.WithTimeout(r.ctx, cancelTime)
	defer stop()
	if err := wire.Cancel(ctx, "tcp", c.Address(), c.Key); err != nil {
		r.log.Debug("a statement could not be cancelled", "node", c.Node(), "err", err)
		return false
	}
	return true
}

// leave ends the session from outside: what it is doing is cancelled.
func (s *session) leave() {
	s.cancelMu.Lock()
	s.abandon = true
	s.cancelLocked()
	s.cancelMu.Unlock()
	_ = s.conn.SetDeadline(time.Unix(1, 0))
}

// cut ends whatever the session reads or writes at the moment, of its client and of its server. It waits for nobody: a
// lock that is held while a cancel is under way is not waited for.
func (s *session) cut() {
	_ = s.conn.SetDeadline(time.Unix(1, 0))
	if !s.cancelMu.TryLock() {
		return // the next round finds it free
	}
	defer s.cancelMu.Unlock()
	s.abandon = true
	if s.waiting != nil {
		s.waiting(errClientLost)
	}
	if s.current != nil {
		s.current.Expire()
	}
}

// watchClients looks once a second whether clients whose statements run for longer than that are still there. A
// statement whose client has gone is cancelled, as PostgreSQL does with client_connection_check_interval.
func (r *Router) watchClients(ctx context.Context) error {
	seen := make(map[*session]uint64)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := make(map[*session]uint64, len(seen))
		r.sessions.each(func(s *session) {
			turn := s.turn.Load()
			if turn%2 == 0 {
				return
			}
			now[s] = turn
			if seen[s] == turn && hungUp(s.conn) {
				r.log.Info("a client has gone while its statement was running; the statement was cancelled",
					"client", s.conn.RemoteAddr().String(), "user", s.user, "database", s.database)
				s.leave()
			}
		})
		seen = now
	}
}

// hungUp tells whether the peer has closed its connection.
func hungUp(conn net.Conn) bool {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0 && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return gone || err != nil
}

// cleanPinned gives up a connection that was pinned: the server frees what the session kept when it ends.
func (r *Router) cleanPinned(c *pool.Conn) { c.Discard() }
