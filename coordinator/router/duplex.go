package router

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multicoord/multicoord/coordinator/wire"
)

// duplex passes the client's messages on as they come, in a goroutine of its own, while the session relays the
// server's answers. It is used for COPY FROM STDIN, after a Flush, and for batches too large to be collected.
//
// It ends with the message that ends the client's part: Sync, or CopyDone and CopyFail when the COPY came in a Query
// (simple).
type duplex struct {
	simple bool
	// mu guards, while the goroutine runs, the session's steps, statements, portals and settings.
	mu     sync.Mutex
	synced bool
	err    error // why the client's part could not be finished
	stop   atomic.Bool
	done   chan struct{}
}

// open begins to pass on what the client sends, before the batch is complete. The server is the primary, because
// nobody knows what is still to come.
func (s *session) open() error {
	b := &s.batch
	s.secure()
	b.duplex = &duplex{}
	if b.plan.read {
		b.plan.read, b.plan.reason = false, "Flush, or a large batch: what follows is not known"
	}
	if s.ghost {
		defer s.giveBack()
		return s.refuse(abortedTransaction())
	}
	return s.run(&b.plan)
}

// stream sends what was built and goes on with what comes.
func (s *session) stream(d *duplex, w []byte) error {
	d.start(s, w)
	return s.joined(s.answers())
}

// copyWanted notes that the server waits for COPY data.
func (s *session) copyWanted(st *step) {
	r := &s.reply
	if st.kind == 'E' && s.batch.duplex == nil {
		// A Sync that the client has sent already is ignored while data is copied (CopyGetData in copyfromparse.c);
		// another one follows the data.
		for i := r.head + 1; i < len(r.steps); i++ {
			if r.steps[i].kind != 'S' {
				return
			}
		}
		r.steps = r.steps[:r.head+1]
	}
	r.copyIn = true
}

// feed starts to pass the client's COPY data on.
func (s *session) feed() {
	b := &s.batch
	if d := b.duplex; d != nil {
		if !d.simple {
			return // it does so already
		}
		<-d.done // an earlier COPY of the same Query
	}
	b.duplex = &duplex{simple: b.query != nil}
	b.duplex.start(s, nil)
}

func (d *duplex) start(s *session, first []byte) {
	d.done = make(chan struct{})
	go func() {
		defer close(d.done)
		defer func() {
			if p := recover(); p != nil {
				d.fail(s, fmt.Errorf("internal error: %v", p))
			}
		}()
		d.pump(s, first)
	}()
}

// pump is the goroutine.
func (d *duplex) pump(s *session, first []byte) {
	c := s.srv
	if len(first) > 0 {
		if _, err := c.Net.Write(first); err != nil {
			return // the session sees it when it reads
		}
	}
	var w []byte
	for {
		f, err := s.in.Next()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				if d.stop.Load() {
					return
				}
				if s.r.hurry.Load() {
					d.fail(s, err)
					return
				}
				_ = s.conn.SetReadDeadline(time.Time{})
				continue
			}
			d.fail(s, err)
			return
		}
		var last bool
		w, last, err = d.take(s, w, f)
		if err != nil {
			d.fail(s, err)
			return
		}
		if last || !s.in.Ready() || len(w) >= small {
			if _, err := c.Net.Write(w); err != nil {
				return
			}
			w = w[:0]
		}
		if last {
			return
		}
	}
}

// take handles one message of the client.
func (d *duplex) take(s *session, w []byte, f wire.Frame) (out []byte, last bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch f.Type {
	case 'd', 'H':
		return append(w, f.Raw...), false, nil
	case 'c', 'f':
		return append(w, f.Raw...), d.simple, nil
	case 'X':
		return w, true, errClientLost
	}
	if d.simple {
		return w, true, fmt.Errorf("message %q in the middle of a COPY", f.Type)
	}
	switch f.Type {
	case 'S':
		s.reply.steps = append(s.reply.steps, step{kind: 'S'})
		d.synced = true
		return append(w, f.Raw...), true, nil
	case 'P', 'B', 'D', 'E', 'C':
		it, err := s.collect(f)
		if err != nil {
			return w, true, err
		}
		if s.reply.skipping {
			if it.undo {
				s.setNamed(it.name, it.before)
			}
			return w, false, nil
		}
		return s.encode(w, &it), false, nil
	}
	return w, true, fmt.Errorf("message %q before Sync", f.Type)
}

// fail notes why the client's part cannot be finished, and wakes the session up.
func (d *duplex) fail(s *session, err error) {
	d.mu.Lock()
	d.err = err
	d.mu.Unlock()
	_ = s.srv.Net.SetReadDeadline(time.Unix(1, 0))
}

func (d *duplex) finished(r *relay) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return r.head >= len(r.steps) && (d.simple || d.synced)
}

// interrupt ends the goroutine although the client has not finished.
func (d *duplex) interrupt(s *session) {
	select {
	case <-d.done:
		return
	default:
	}
	d.stop.Store(true)
	_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	<-d.done
	_ = s.conn.SetReadDeadline(time.Time{})
}

// join waits for the goroutine after the answers have ended with err.
func (d *duplex) join(s *session, err error) error {
	if err != nil {
		_ = s.srv.Net.SetWriteDeadline(time.Unix(1, 0)) // it may be in the middle of a write that nobody reads
		d.interrupt(s)
	} else {
		<-d.done
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return fmt.Errorf("%w: %w", errClientLost, d.err)
	}
	return err
}

// skipToSync ignores the client's messages up to Sync, after an error, as PostgreSQL does.
func (s *session) skipToSync() error {
	for d := s.batch.duplex; !d.synced; {
		f, err := s.in.Next()
		if err != nil {
			again, err := s.readFailed(err)
			if again {
				continue
			}
			return fmt.Errorf("%w: %w", errClientLost, err)
		}
		switch f.Type {
		case 'S':
			d.synced = true
		case 'X':
			return errClientLost
		}
	}
	return s.send(wire.AppendReady(nil, s.status))
}
