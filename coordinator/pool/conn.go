package pool

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multicoord/multicoord/coordinator/wire"
)

// Conn is a connection to a server. Between Get and Put (or Discard) it belongs to the caller alone, who keeps the
// fields below in step with what the server session holds.
type Conn struct {
	Net net.Conn
	// In reads the server's messages.
	In *wire.Reader
	// Key cancels what the connection is doing.
	Key wire.CancelKey
	// Have are the settings that the session was given.
	Have *Settings
	// Params are the parameters that the server has reported.
	Params *Params
	// Statements are the named prepared statements of the session.
	Statements Statements
	// Unnamed identifies what the unnamed statement was parsed from; 0 when it is not known.
	Unnamed uint64

	pool       *Pool
	node       *node
	generation uint64
	made       time.Time
	since      time.Time // when it became idle

	expired atomic.Bool // nobody may wait for the server any more

	raw  syscall.RawConn
	look func(fd uintptr)
	one  [1]byte
	seen int
	err  error
}

func newConn(p *Pool, s *wire.Server, generation uint64, now time.Time) *Conn {
	c := &Conn{
		Net: s.Conn, In: wire.NewReader(s.Conn, maxKept), Key: wire.CancelKey{PID: s.PID, Secret: s.Secret},
		Params: NewParams(s.Params), pool: p, node: p.node, generation: generation, made: now,
	}
	watchPeer(s.Conn)
	if sc, ok := s.Conn.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn()
		c.look = c.peek
	}
	return c
}

// vanished is how long a server's host may leave what was sent to it unacknowledged before the connection is lost, and
// about how long it may leave keepalives unanswered.
const vanished = 30 * time.Second

// watchPeer sets what the kernel does for a connection to a server: small answers must not wait for more, and a host that
// has vanished is to be noticed, whether something was sent to it (TCP_USER_TIMEOUT) or not (keepalives).
func watchPeer(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	t, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	_ = t.SetNoDelay(true)
	_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: vanished / 3, Interval: vanished / 3, Count: 2})
	if raw, err := t.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(vanished/time.Millisecond))
		})
	}
}

// maxKept bounds a message of the server that is taken whole (errors, reported parameters, descriptions); what is
// larger is relayed in pieces.
const maxKept = 1 << 24

// Node is the name of the connection's node, Address where it is.
func (c *Conn) Node() string { return c.node.name }

// Address is the node's host:port.
func (c *Conn) Address() string { return c.node.address }

func (c *Conn) peek(fd uintptr) {
	c.seen, _, c.err = syscall.Recvfrom(int(fd), c.one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
}

// alive tells whether an idle connection may be handed out. It costs one system call when nothing has come. What a
// server may send at any time (NOTICE, ParameterStatus after a reload) is taken in; anything else, such as the 57P01
// of a session that was ended, means that the connection cannot be used any more.
func (c *Conn) alive(now time.Time) bool {
	if c.raw == nil {
		return true
	}
	c.seen, c.err = 0, nil
	if err := c.raw.Control(c.look); err != nil {
		return false
	}
	switch {
	case errors.Is(c.err, syscall.EAGAIN) || errors.Is(c.err, syscall.EINTR):
		return true
	case c.err != nil || c.seen == 0:
		return false
	}
	return c.takeIn(now)
}

func (c *Conn) takeIn(now time.Time) bool {
	if err := c.Net.SetReadDeadline(now.Add(100 * time.Millisecond)); err != nil {
		return false
	}
	for {
		f, err := c.In.Next()
		if err != nil {
			return false
		}
		switch f.Type {
		case 'S':
			if name, value, ok := ParameterStatus(f.Body()); ok {
				c.Params = c.Params.With(name, value)
			}
		case 'N', 'A':
		default:
			return false
		}
		if c.In.Buffered() == 0 {
			break
		}
	}
	c.In.Release()
	return c.Net.SetReadDeadline(time.Time{}) == nil
}

// ParameterStatus decodes the body of a ParameterStatus message.
func ParameterStatus(body []byte) (name, value string, ok bool) {
	n, rest, ok := bytes.Cut(body, []byte{0})
	if !ok {
		return "", "", false
	}
	v, _, ok := bytes.Cut(rest, []byte{0})
	return string(n), string(v), ok
}

// Put hands the connection back. The server must have said that it is idle, and nothing may be outstanding; Have,
// Params and Statements must be true.
func (c *Conn) Put() {
	c.In.Release()
	c.node.inflight.Add(-1)
	c.pool.put(c)
}

// Discard closes the connection: it is in a transaction, broken, or nobody knows.
func (c *Conn) Discard() {
	c.node.inflight.Add(-1)
	c.close()
	c.pool.free(c)
}

// Expire ends whatever reads from the connection or writes to it, at once: the server does not answer any more, or must
// not be heard any more. The connection is not handed out again. Unlike the other methods it may be called by anybody.
func (c *Conn) Expire() {
	c.expired.Store(true)
	_ = c.Net.SetDeadline(time.Unix(1, 0))
}

// Expired tells whether Expire was called.
func (c *Conn) Expired() bool { return c.expired.Load() }

// close ends the connection with a Terminate message, so that the server does not log a lost client. The write cannot
// block for long: the deadline has passed for a connection whose buffer is full.
func (c *Conn) close() {
	_ = c.Net.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	_, _ = c.Net.Write(wire.AppendTerminate(nil))
	_ = c.Net.Close()
}
