package router

import (
	"errors"
	"fmt"

	"github.com/multicoord/multicoord/coordinator/statement"
	"github.com/multicoord/multicoord/coordinator/wire"
)

// step is one answer that is still to come, in the order of the requests.
type step struct {
	// kind is the type of the request: Q, P, B, D, E, C, S or F.
	kind byte
	// hidden: the request was ours, the client must not see its answer.
	hidden bool
	// local: the router answers the request (of type as) when its turn comes. The request was not sent; or, if carried,
	// another one was sent in its place whose answer marks the turn.
	local   *answer
	as      byte
	carried bool
	// instead replaces the error with which the server answers (requests that are bound to fail, see assemble).
	instead *wire.Error
	st      *prepared       // P and C: what the connection will hold, or will have lost
	info    *statement.Info // Q and E: what completes
	// undo restores what the session knew of the statement name when the request is not carried out.
	undo   bool
	name   string
	before *prepared
	what   byte // local D: 'S' (statement) or 'P' (portal)
}

// relay is the state of an answer under way.
type relay struct {
	steps []step
	head  int
	// busy: the server still owes us something.
	busy bool
	out  []byte // made for the client and not yet written
	// written: the client has got bytes of this batch, so it cannot be run again elsewhere.
	written bool
	// failed: an error has passed since the last ReadyForQuery.
	failed bool
	// undone: a text that was not understood has rolled its transaction back.
	undone bool
	// completed counts the statements of the Query under way that are done.
	completed int
	// retry: the answer is thrown away up to its end, because the batch will be run again.
	retry    bool
	lost     bool // the connection said that it ends (FATAL)
	mayRetry bool
	// settings: the error of a hidden Query, which keeps the client's statement from counting.
	settings *wire.Error
	ready    byte // the status of the last ReadyForQuery
	skipping bool // in duplex: the server ignores everything up to the next Sync
	copyIn   bool // the server waits for the client's COPY data
	executed bool // an Execute of the batch has been answered
	// replanned: a statement is being prepared anew; once in a batch.
	replanned, here bool // here: the next attempt is for the same connection
	hiding          bool // the answer under way is to our own Query
	instead         []byte
}

func (r *relay) begin() {
	r.steps = r.steps[:0]
	r.head = 0
	r.written, r.failed, r.retry, r.lost, r.skipping, r.copyIn = false, false, false, false, false, false
	r.executed, r.here, r.hiding, r.undone = false, false, false, false
	r.completed, r.settings, r.ready = 0, nil, 0
}

// verdict says what to do with a message of the server.
type verdict uint8

const (
	pass verdict = iota
	hide
	replace // hide, and give the client what is in relay.instead
)

// answers passes the server's messages on to the client until nothing is outstanding. It returns errServerLost when
// the connection ends before, errClientLost when the client cannot be written to.
func (s *session) answers() error {
	c := s.srv
	s.locals()
	for {
		if s.finished() {
			return s.flush(nil)
		}
		typ, size, err := c.In.Peek()
		if err != nil {
			return s.serverFailed(err)
		}
		if size > c.In.Window() && large(typ) {
			if err := s.relayLarge(); err != nil {
				return err
			}
			continue
		}
		if err := s.burst(); err != nil {
			return err
		}
	}
}

// burst handles the messages that have come together and passes them on with one write.
func (s *session) burst() error {
	c, r := s.srv, &s.reply
	c.In.Mark()
	for {
		f, err := c.In.Next()
		if err != nil {
			return s.serverFailed(err)
		}
		if (f.Type == 'D' || f.Type == 'd') && !r.retry && !r.hiding && r.settings == nil {
			if c.In.Ready() {
				continue
			}
			break
		}
		v, err := s.answer(f)
		if err != nil {
			return err
		}
		if v != pass || r.retry {
			m := c.In.Marked()
			r.out = append(r.out, m[:len(m)-len(f.Raw)]...)
			c.In.Mark()
			if v == replace {
				r.out = append(r.out, r.instead...)
			}
		}
		if r.retry {
			r.out = r.out[:0]
		}
		if s.pendingLocal() {
			r.out = append(r.out, c.In.Marked()...)
			c.In.Mark()
			s.locals()
		}
		if s.finished() || !c.In.Ready() || r.copyIn {
			break
		}
	}
	if d := s.batch.duplex; d != nil && d.simple && s.finished() {
		d.interrupt(s) // before the client learns that its next query is welcome
	}
	if err := s.flush(c.In.Marked()); err != nil {
		return err
	}
	if r.copyIn {
		r.copyIn = false
		s.feed()
	}
	return nil
}

// large tells which messages may be passed on in pieces, unseen.
func large(typ byte) bool { return typ == 'D' || typ == 'd' || typ == 'V' || typ == 'T' }

// relayLarge passes one message on in pieces.
func (s *session) relayLarge() error {
	c, r := s.srv, &s.reply
	typ, _, _ := c.In.Peek()
	show := !r.retry && !s.hiddenNow()
	if show {
		if err := s.flush(nil); err != nil {
			return err
		}
	}
	for more := true; more; {
		var piece []byte
		var err error
		if piece, more, err = c.In.Chunk(); err != nil {
			return s.serverFailed(err)
		}
		s.counters.received.Add(uint64(len(piece)))
		if show {
			r.written = true
			if err := s.send(piece); err != nil {
				return err
			}
		}
	}
	if typ == 'T' {
		s.described()
	}
	return nil
}

// flush writes what was made, and the server's bytes behind it.
func (s *session) flush(frames []byte) error {
	r := &s.reply
	s.counters.received.Add(uint64(len(frames)))
	if len(r.out) == 0 {
		if len(frames) == 0 {
			return nil
		}
		r.written = true
		return s.send(frames)
	}
	r.out = append(r.out, frames...)
	r.written = true
	err := s.send(r.out)
	r.out = trimmed(r.out)
	return err
}

func (s *session) serverFailed(err error) error {
	var bad *wire.Error
	if errors.As(err, &bad) {
		return fmt.Errorf("%w: %s", errServerLost, bad.Message)
	}
	if s.srv.Expired() {
		return fmt.Errorf("%w: the server does not answer any more, or is no longer what it was", errServerLost)
	}
	return fmt.Errorf("%w: %w", errServerLost, err)
}

func (s *session) finished() bool {
	if s.batch.duplex != nil {
		return s.batch.duplex.finished(&s.reply)
	}
	return s.reply.head >= len(s.reply.steps)
}

func (s *session) hiddenNow() bool {
	r := &s.reply
	s.lock()
	defer s.unlock()
	return r.head < len(r.steps) && r.steps[r.head].hidden
}
