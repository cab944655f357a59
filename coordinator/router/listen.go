package router

import (
	"sync/atomic"
	"time"

	"github.com/multicoord/multicoord/coordinator/pool"
	"github.com/multicoord/multicoord/coordinator/wire"
)

// listener passes notifications on while its session is idle: PostgreSQL sends them whenever they come. It also notices
// that the server connection has ended, of which a client that only listens would never hear. It exists only for a pinned
// session, and only while that waits for its client; so nobody else reads from the server or writes to the client
// meanwhile.
type listener struct {
	c    *pool.Conn
	done chan struct{}
	halt atomic.Bool // stop was called
	lost bool        // the connection has ended; to be read after done
}

// listen starts to listen, if there is a reason to.
func (s *session) listen() *listener {
	if s.srv == nil || !s.listening && (s.pinned == "" || s.status != 'I') || s.in.Ready() {
		return nil
	}
	l := &listener{c: s.srv, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		l.run(s)
	}()
	return l
}

func (l *listener) run(s *session) {
	for {
		// Nothing is consumed but what is passed on: within a transaction the next statement finds out that the
		// connection has ended. A message that is not expected here is the server's farewell.
		typ, _, err := l.c.In.Peek()
		if err != nil || typ != 'A' && typ != 'N' && typ != 'S' {
			if l.lost = s.status == 'I' && (err == nil || l.c.Expired() || !l.halt.Load()); l.lost {
				_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // wakes the session up
			}
			return
		}
		f, err := l.c.In.Next()
		if err != nil {
			return
		}
		if typ == 'S' && s.parameter(f, nil) == hide {
			continue
		}
		if s.send(f.Raw) != nil {
			return
		}
	}
}

// stop ends it before the session goes on, and tells whether the server connection is lost.
func (l *listener) stop() (lost bool) {
	if l == nil {
		return false
	}
	l.halt.Store(true)
	_ = l.c.Net.SetReadDeadline(time.Unix(1, 0))
	<-l.done
	if !l.c.Expired() {
		_ = l.c.Net.SetReadDeadline(time.Time{})
	}
	return l.lost
}

// deaf is what a session is told whose server connection has ended while it was idle.
func (s *session) deaf() *wire.Error {
	what := "kept its state on (" + s.pinned + ")"
	if s.listening {
		what = "listened on"
	}
	return wire.Fatal("57P01", "the server connection that this session %s was lost; connect again", what)
}
