package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multicoord/multicoord/coordinator/pool"
	"github.com/multicoord/multicoord/coordinator/route"
	"github.com/multicoord/multicoord/coordinator/statement"
	"github.com/multicoord/multicoord/coordinator/wire"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// session is one client. All fields are its goroutine's, except those that say otherwise.
type session struct {
	r    *Router
	log  *slog.Logger
	conn net.Conn
	in   *wire.Reader

	user, database string
	id             uint64
	key            wire.CancelKey // what the client cancels its statements with
	application    string
	since          time.Time
	encrypted      bool
	catalog        *database
	admitted       bool     // it counts as a client
	primaryOnly    []string // defaults of the role or the database that only the primary honours

	status byte // of the transaction, as the client was last told: I, T or E
	// ghost: the transaction has lost its server connection; it only waits for its end.
	ghost  bool
	srv    *pool.Conn // held from the first statement of a transaction to its end, or while pinned
	pinned string     // why srv is kept between transactions
	always string     // why the session is pinned whatever it does, "" when it is not
	// listening: notifications may come at any time.
	listening bool
	// onPrimary: srv is the primary's.
	onPrimary bool
	// wrote: the transaction may have written, or has seen what standbys may not have yet.
	wrote bool
	// server is the route's entry of srv; diverted: srv is the primary's because no standby was eligible for a read.
	server   *route.Server
	diverted bool
	token    route.Token

	tx   transaction
	told *pool.Params // what the client knows of the reported parameters
	// greeting: the client waits for the answer to its login and must hear of nothing else.
	greeting bool

	named   map[string]*prepared
	unnamed *prepared
	parses  uint32 // of unnamed statements
	portals map[string]*portal
	portal  portal // the unnamed one

	pools []poolOf // few: one per node used

	batch   batch
	reply   relay
	scratch *scratch
	last    lastRoute

	// cancelMu guards what another goroutine may do to us: cancel, and the end of a drain.
	cancelMu sync.Mutex
	current  *pool.Conn // srv while it may be cancelled
	waiting  context.CancelCauseFunc
	abandon  bool // the client has gone: stop at once

	// turn is odd while a batch is under way.
	turn atomic.Uint64
	// gaveUp is the turn whose server did not react to a cancel request: it is not run again elsewhere.
	gaveUp   atomic.Uint64
	counters counters
	shown    shown
}

// poolOf remembers where the session gets its connections to a node.
type poolOf struct {
	node string
	pool *pool.Pool
}

// portal is what is known about a portal: the statement that it runs.
type portal struct {
	info  *statement.Info
	local *answer
}

// lastRoute is the answer to SHOW multicoord.route.
type lastRoute struct{ node, reason string }

func (l lastRoute) String() string {
	if l.node == "" {
		return l.reason
	}
	return l.node + ": " + l.reason
}

func (s *session) consistency() cluster.Consistency {
	switch {
	case s.tx.current().consistency != "":
		return s.tx.current().consistency
	default:
		return s.r.view.Load().settings.Reads.Consistency
	}
}

// serve runs the session until the client ends it, the connection is lost or the router drains.
func (s *session) serve() (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a session has failed; its client was disconnected", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			_ = s.farewell(wire.Fatal("XX000", "internal error of the router"))
			err = nil
		}
	}()
	for {
		l := s.listen()
		f, err := s.in.Next()
		if l.stop() {
			e := s.deaf()
			s.drop()
			return s.farewell(e)
		}
		if err != nil {
			again, err := s.readFailed(err)
			if again {
				continue
			}
			return err
		}
		if f.Type == 'X' {
			return nil
		}
		if s.pinned == "" {
			s.pinned = s.always
		}
		if err := s.message(f); err != nil {
			return err
		}
		if s.status == 'I' && len(s.batch.items) == 0 && s.r.draining.Load() {
			return s.farewell(shuttingDown())
		}
	}
}

func shuttingDown() *wire.Error {
	return wire.Fatal("57P01", "terminating connection because the router is shutting down")
}

// readFailed decides whether to go on after a failed read: deadlines are set from outside to wake the session up.
func (s *session) readFailed(err error) (again bool, _ error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if s.r.draining.Load() && (s.status == 'I' || s.r.hurry.Load()) {
			return false, s.farewell(shuttingDown())
		}
		return true, s.conn.SetReadDeadline(time.Time{})
	}
	var long *wire.MessageTooLongError
	if errors.As(err, &long) {
		e := wire.Fatal("54000", "message of %d bytes is longer than the router takes (%d bytes)", long.Size, long.Max)
		return false, s.farewell(e)
	}
	var e *wire.Error
	if errors.As(err, &e) {
		return false, s.farewell(e)
	}
	return false, nil // the client has gone without a Terminate; that is its right
}

func (s *session) message(f wire.Frame) error {
	switch f.Type {
	case 'Q':
		if len(s.batch.items) > 0 {
			return s.farewell(wire.Fatal("08P01", "a Query message within an extended-query batch: send Sync first"))
		}
		return s.query(f)
	case 'P', 'B', 'D', 'E', 'C', 'S', 'H':
		return s.extended(f)
	case 'F':
		if len(s.batch.items) > 0 {
			return s.farewell(wire.Fatal("08P01", "a FunctionCall message within an extended-query batch: send Sync first"))
		}
		return s.functionCall(f)
	case 'd', 'c', 'f':
		return nil // what a client still sends after its COPY has failed; PostgreSQL ignores it too
	}
	return s.farewell(wire.Fatal("08P01", "invalid frontend message type %d", f.Type))
}

// farewell tells the client why its connection ends. A client that does not read is not waited for.
func (s *session) farewell(e *wire.Error) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = s.conn.Write(e.Append(nil))
	return e
}

// close gives up what the session holds. A server connection in a transaction, or in the middle of an answer, is
// cancelled and closed: nobody else gets it.
func (s *session) close() {
	if c := s.srv; c != nil {
		clean := s.status == 'I' && !s.reply.busy
		s.detach()
		switch {
		case clean:
			s.r.cleanPinned(c)
		default:
			if s.reply.busy && !s.r.hurry.Load() { // leave has cancelled it
				s.r.cancelServer(c)
			}
			c.Discard()
		}
	}
	s.forgetStatements()
	s.r.catalogs.close(s.catalog)
	_ = s.conn.Close()
}

// attach makes c the session's server connection, which CancelRequests go to.
func (s *session) attach(c *pool.Conn, primary bool) {
	s.cancelMu.Lock()
	s.current = c
	s.cancelMu.Unlock()
	s.srv, s.onPrimary = c, primary
	s.tx.have = c.Have
}

// detach takes the connection away from the session. It waits for a cancel that is under way, so that it cannot hit
// whoever uses the connection next.
func (s *session) detach() {
	s.cancelMu.Lock()
	s.current = nil
	s.cancelMu.Unlock()
	s.srv = nil
	s.undivert()
}

// release hands the server connection back after the end of a transaction.
func (s *session) release() {
	c := s.srv
	c.Have = s.tx.have
	s.detach()
	c.Put()
}

// drop closes the server connection, whose state is not known.
func (s *session) drop() {
	c := s.srv
	s.detach()
	c.Discard()
	s.pinned, s.listening = "", false
	s.reply.busy = false
}

// send writes to the client.
func (s *session) send(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	n, err := s.conn.Write(b)
	s.counters.sent.Add(uint64(n))
	if err != nil {
		return fmt.Errorf("%w: %w", errClientLost, err)
	}
	return nil
}
