package guard

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// listen makes the socket, in place of a stale one: the lock says that nobody listens on it.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the stale socket: %w", err)
	}
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false) // by then it may be the next guard's
	return ln, nil
}

// server hands requests from connections to the loop.
type server struct {
	ln       net.Listener
	instance string
	calls    chan call
	ended    chan struct{} // the loop has ended; last answers everything that is still asked
	last     response
	wg       sync.WaitGroup
}

func serve(ln net.Listener, instance string) *server {
	s := &server{ln: ln, instance: instance, calls: make(chan call), ended: make(chan struct{})}
	s.wg.Add(1)
	go s.accept()
	return s
}

func (s *server) accept() {
	defer s.wg.Done()
	slots := make(chan struct{}, maxConnections)
	for {
		conn, err := s.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			t := time.NewTimer(10 * time.Millisecond) // out of file descriptors, perhaps
			select {
			case <-s.ended:
				t.Stop()
				return
			case <-t.C:
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			defer func() { <-slots }()
			defer conn.Close()
			s.handle(conn)
		}()
	}
}

func (s *server) handle(conn net.Conn) {
	if checkPeer(conn, os.Geteuid()) != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(requestTimeout))
	c := call{reply: make(chan response, 1)}
	var resp response
	if err := readLine(conn, &c.req); err != nil {
		resp = failure(fmt.Errorf("read the request: %w", err))
	} else {
		resp = s.ask(c, hangup(conn))
	}
	_ = conn.SetWriteDeadline(time.Now().Add(requestTimeout))
	_ = writeLine(conn, resp)
}

// hangup is closed when the client closes its end, so that those who wait for a server's end and give up leave nothing.
func hangup(conn net.Conn) <-chan struct{} {
	gone := make(chan struct{})
	_ = conn.SetReadDeadline(time.Time{})
	go func() { // ends with the connection, which handle closes
		defer close(gone)
		_, _ = conn.Read(make([]byte, 1))
	}()
	return gone
}

// ask passes a request to the loop. Those who wait for the server's end wait here, not there.
func (s *server) ask(c call, gone <-chan struct{}) response {
	if c.req.Op != "wait" || c.req.Instance != s.instance { // a strange instance is refused by the loop
		select {
		case s.calls <- c:
		case <-s.ended:
			return s.afterEnd(c)
		case <-gone:
			return response{}
		}
		r := <-c.reply // the loop has taken the call and answers before it does anything else
		if c.req.Op != "stop" && c.req.Op != "wait" || r.Error != "" {
			return r
		}
	}
	select {
	case <-s.ended:
		return s.last
	case <-gone:
		return response{}
	}
}

func (s *server) afterEnd(c call) response {
	if c.req.Op == "stop" {
		return s.last
	}
	return failure(fmt.Errorf("%w any more: its server has ended", ErrNotRunning))
}

// close answers everybody with the end of the server and waits for the connections, in bounded time.
func (s *server) close(last response) {
	s.last = last
	s.ln.Close()
	close(s.ended)
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	waitFor(done, time.Second)
}
