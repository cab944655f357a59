package router

import (
	"time"

	"github.com/multicoord/multicoord/coordinator/pool"
)

// listener passes notifications on while its session is idle: PostgreSQL sends them whenever they come. It exists only
// for a session that has used LISTEN, and only while the session waits for its client; so nobody else reads from the
// server or writes to the client meanwhile.
type listener struct {
	c    *pool.Conn
	done chan struct{}
}

// listen starts to listen, if there is a reason to.
func (s *session) listen() *listener {
	if !s.listening || s.srv == nil || s.in.Ready() {
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
		// Nothing is consumed but what is passed on: if the connection has ended, the next statement finds out.
		typ, _, err := l.c.In.Peek()
		if err != nil || typ != 'A' && typ != 'N' && typ != 'S' {
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

// stop ends it before the session goes on.
func (l *listener) stop() {
	if l == nil {
		return
	}
	_ = l.c.Net.SetReadDeadline(time.Unix(1, 0))
	<-l.done
	_ = l.c.Net.SetReadDeadline(time.Time{})
}
