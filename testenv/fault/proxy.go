package fault

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Way is a direction through a Proxy.
type Way int

// The directions.
const (
	ToServer Way = iota
	ToClient
)

// Proxy stands between clients and a server on TCP. A fault set on it holds for open and for new connections
// until Heal.
type Proxy struct {
	listener net.Listener
	target   string
	workers  sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond
	closed  bool
	refuse  bool
	// held tells per direction whether bytes are kept back; they are delivered after Heal, as TCP does when a
	// network comes back before the connection is given up.
	held  [2]bool
	delay [2]time.Duration
	open  map[net.Conn]struct{}
}

// NewProxy listens on address (such as "127.0.0.1:0") and passes connections on to target. It is closed when
// the test ends.
func NewProxy(tb testing.TB, address, target string) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		tb.Fatalf("listen for the proxy to %s: %v", target, err)
	}
	p := &Proxy{listener: l, target: target, open: map[net.Conn]struct{}{}}
	p.changed = sync.NewCond(&p.mu)
	p.workers.Go(p.accept)
	tb.Cleanup(p.Close)
	return p
}

// Address is where clients connect.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Delay holds every piece of data back for d in each direction given (both when none is).
func (p *Proxy) Delay(d time.Duration, ways ...Way) {
	p.set(func() {
		for _, w := range orBoth(ways) {
			p.delay[w] = d
		}
	})
}

// Partition keeps all bytes back in the directions given (both when none is) without closing anything, and
// leaves new connections without an answer. With one direction the connection is half open: one side hears and
// is not heard.
func (p *Proxy) Partition(ways ...Way) {
	p.set(func() {
		for _, w := range orBoth(ways) {
			p.held[w] = true
		}
	})
}

// Refuse closes new connections at once, as a port where nobody listens.
func (p *Proxy) Refuse() { p.set(func() { p.refuse = true }) }

// Heal ends all faults. Bytes that were kept back are delivered.
func (p *Proxy) Heal() {
	p.set(func() { p.held, p.delay, p.refuse = [2]bool{}, [2]time.Duration{}, false })
}

// Break resets all open connections (RST).
func (p *Proxy) Break() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		c.Close()
	}
}

// Connections is the number of connections open through the proxy.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open) / 2
}

// Close ends the proxy and everything that goes through it, and waits for its goroutines.
func (p *Proxy) Close() {
	p.set(func() { p.closed = true })
	p.listener.Close()
	p.Break()
	p.workers.Wait()
}

func (p *Proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.changed.Broadcast()
}

func orBoth(ways []Way) []Way {
	if len(ways) == 0 {
		return []Way{ToServer, ToClient}
	}
	return ways
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.workers.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	p.mu.Lock()
	refuse := p.refuse || p.closed
	p.mu.Unlock()
	if refuse {
		return
	}
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.track(client, server) {
		return
	}
	defer p.forget(client, server)
	var both sync.WaitGroup
	both.Go(func() { p.pipe(server, client, ToServer) })
	both.Go(func() { p.pipe(client, server, ToClient) })
	both.Wait()
}

func (p *Proxy) track(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	for _, c := range conns {
		p.open[c] = struct{}{}
	}
	return true
}

func (p *Proxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.open, c)
	}
}

// pipe passes bytes on until one side ends, and passes the end on too.
func (p *Proxy) pipe(dst, src net.Conn, way Way) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if !p.pass(way) {
				return
			}
			if _, werr := dst.Write(buf[:n]); werr != nil {
				src.Close()
				return
			}
		}
		if err != nil {
			if !p.pass(way) {
				return
			}
			if tcp, ok := dst.(*net.TCPConn); ok && errors.Is(err, io.EOF) {
				_ = tcp.CloseWrite()
			} else {
				dst.Close()
			}
			return
		}
	}
}

// pass waits as long as the faults of this direction ask; false when the proxy is closed.
func (p *Proxy) pass(way Way) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.delay[way]; d > 0 && !p.closed {
		timer := time.AfterFunc(d, func() { p.set(func() {}) })
		defer timer.Stop()
		until := time.Now().Add(d)
		for !p.closed && p.delay[way] > 0 && time.Now().Before(until) {
			p.changed.Wait()
		}
	}
	for p.held[way] && !p.closed {
		p.changed.Wait()
	}
	return !p.closed
}
