package router

import (
	"errors"
	"fmt"
	"time"

	"github.com/multicoord/multicoord/coordinator/pool"
	"github.com/multicoord/multicoord/coordinator/wire"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// small is the most that is written to a server before its answers are read, in bytes: it always fits into the
// buffers of the sockets, so the server cannot stop reading while we do not read either. Larger batches are written by
// a goroutine of their own.
const small = 32 << 10

// attempts bounds how often a read is run before its error reaches the client.
const attempts = 4

// run runs the batch on a server: on the one that the session holds, or on one chosen by the plan. A read that a
// standby fails is run again elsewhere as long as the client has seen nothing of it.
func (s *session) run(p *plan) error {
	s.turn.Add(1)
	defer s.show()
	s.lend()
	defer s.giveBack()
	s.reply.replanned = false
	for try := 1; ; try++ {
		if err := s.acquire(p); err != nil {
			return s.refuse(err)
		}
		again, err := s.attempt(p, try < attempts)
		if err != nil || !again {
			return err
		}
		s.counters.retries.Add(1)
		s.reapply()
	}
}

// attempt sends the batch and passes the answers on. again tells that the batch has to be run once more.
func (s *session) attempt(p *plan, mayRetry bool) (again bool, err error) {
	r := &s.reply
	r.begin()
	node := s.srv.Node()
	free := s.status == 'I' && s.pinned == ""
	r.mayRetry = mayRetry && free && p.read && !s.onPrimary && s.batch.duplex == nil
	w, err := s.equip(s.batch.w[:0], p)
	if err == nil {
		w = s.build(w)
		r.busy = true
		err = s.exchange(w)
	}
	switch {
	case err == nil && !r.retry:
		s.finish(p)
		return false, nil
	case err == nil && r.here:
		r.busy = false
		s.tx.rollback()
		return true, nil
	case err == nil:
		s.elsewhere(p, node)
		return true, nil
	case errors.Is(err, errClientLost):
		return false, err
	case errors.Is(err, errServerLost):
		return s.serverLost(p, err, node, free && mayRetry)
	default: // the session's settings could not be made
		r.busy = false
		return false, s.settingsRefused(err)
	}
}

// exchange writes what was built and relays the answers.
func (s *session) exchange(w []byte) error {
	if d := s.batch.duplex; d != nil {
		return s.stream(d, w)
	}
	if len(w) <= small {
		if n, err := s.srv.Net.Write(w); err != nil {
			return unsent(n, err)
		}
		return s.joined(s.answers())
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = s.srv.Net.Write(w) // a failure shows when the answers are read
	}()
	err := s.joined(s.answers())
	if err != nil {
		_ = s.srv.Net.SetDeadline(time.Unix(1, 0))
	}
	<-done
	return err
}

// joined waits for the goroutine that feeds a COPY, if there is one.
func (s *session) joined(err error) error {
	if d := s.batch.duplex; d != nil {
		return d.join(s, err)
	}
	return err
}

// notSentError says that a server was lost before it got a byte of the batch.
type notSentError struct{ err error }

func (e *notSentError) Error() string        { return e.err.Error() }
func (e *notSentError) Is(target error) bool { return target == errServerLost }

func unsent(n int, err error) error {
	if n == 0 {
		return &notSentError{err}
	}
	return fmt.Errorf("%w: %w", errServerLost, err)
}

// equip gives the server session the settings that the client's session has. For a read, which does no harm under
// wrong settings as long as nobody sees its answer, they travel in the same write; anything else waits until they are
// made.
func (s *session) equip(w []byte, p *plan) ([]byte, error) {
	c, r := s.srv, &s.reply
	if s.tx.current().notice {
		r.out = wire.AppendNotice(r.out, &wire.Error{
			Severity: wire.SeverityNotice, Code: "00000", Message: "route: " + s.last.String(),
		})
	}
	if s.status == 'E' || s.tx.have.Same(s.tx.want) {
		s.announce()
		return w, nil
	}
	w = wire.AppendQuery(w, s.tx.have.Diff(s.tx.want))
	c.Unnamed = 0
	r.steps = append(r.steps, step{kind: 'Q', hidden: true})
	r.hiding = true
	if (p.read || s.tx.surelyMade()) && s.status == 'I' && s.batch.duplex == nil {
		return w, nil
	}
	r.busy = true
	if n, err := c.Net.Write(w); err != nil {
		return w, unsent(n, err)
	}
	d := s.batch.duplex
	s.batch.duplex = nil
	err := s.answers()
	s.batch.duplex = d
	if err == nil && r.settings != nil {
		err = r.settings
	}
	mayRetry := r.mayRetry
	r.begin()
	r.mayRetry = mayRetry
	return w[:0], err
}

// settingsMade notes that the server session has them now.
func (s *session) settingsMade() {
	if s.status != 'I' {
		s.tx.change()
	}
	s.tx.have = s.tx.want
	s.announce()
}

// announce tells the client which reported parameters differ from what it was told last.
func (s *session) announce() {
	c := s.srv
	if s.greeting || c.Params.Same(s.told) {
		return
	}
	c.Params.Each(s.told, func(name, value string) {
		s.reply.out = wire.AppendParameterStatus(s.reply.out, name, value)
	})
	s.told = c.Params
}

// settingsRefused reports that a setting of the session is refused by the server; the statement was not run.
func (s *session) settingsRefused(err error) error {
	if s.status == 'I' {
		s.tx.have = pool.Unknown()
		s.returnOrKeep()
	} else {
		s.status = 'E'
	}
	return s.refuse(err)
}

func (s *session) returnOrKeep() {
	if s.pinned == "" {
		s.release()
		return
	}
	s.srv.Have = s.tx.have
}

// finish takes the end of the batch in.
func (s *session) finish(p *plan) {
	r := &s.reply
	r.busy = false
	s.status = r.ready
	// The session's next read may show no less than what this one has seen. A read that is on the primary only until a
	// standby has caught up with the session does not put that off, or a busy session would never leave the primary.
	ahead := p.consistency == cluster.Session && (!p.read || s.diverted)
	s.wrote = s.wrote || s.onPrimary && (p.wrote || ahead)
	s.tx.murky = s.tx.murky || p.murky
	if s.status != 'I' {
		return
	}
	if r.failed || r.undone {
		s.tx.rollback()
	} else {
		s.tx.end()
	}
	if s.tx.murky && s.pinned == "" { // a pinned session goes on with what it has
		s.tx.murky = false
		s.tx.have = pool.Unknown()
	}
	if s.tx.redefined { // what others have prepared since was made before the commit
		s.tx.redefined = false
		s.catalog.generation.Add(1)
	}
	if len(s.portals) > 0 {
		clear(s.portals)
	}
	switch {
	case s.wrote:
		s.wrote = false
		s.token.Wrote(time.Now())
	case !s.onPrimary && p.consistency == cluster.Session:
		s.token.Saw(s.server)
	}
	s.returnOrKeep()
}

// elsewhere prepares the next attempt of a read that a standby has failed with an error. The primary has everything.
func (s *session) elsewhere(p *plan, node string) {
	s.reply.busy = false
	if s.reply.lost {
		s.drop()
	} else {
		s.status = 'I'
		s.tx.rollback()
		s.release()
	}
	p.exclude = append(p.exclude, node)
	// What a standby fails may turn out to write on the primary: a view hides what it calls.
	p.read, p.wrote, p.reason = false, true, "run again on the primary after "+node+" failed it"
	s.r.sampler.hasten()
}

func (s *session) worthRetry(code, body []byte) bool {
	return transient(code, body) && s.r.view.Load().table.Primary != nil
}

// serverLost handles the loss of the connection in the middle of a batch. Outside a transaction, what has written nothing
// for sure is run again; in all other cases the client is told, and whether its statement may have taken effect.
func (s *session) serverLost(p *plan, err error, node string, mayRetry bool) (again bool, _ error) {
	r := &s.reply
	inTransaction := s.status != 'I'
	pinned := s.pinned != ""
	notSent := errors.As(err, new(*notSentError))
	mayRetry = mayRetry && s.gaveUp.Load() != s.turn.Load()
	s.drop()
	s.r.sampler.hasten()
	s.tx.rollback()
	clear(s.portals)
	if mayRetry && !r.written && s.batch.duplex == nil && (!p.wrote || notSent) {
		p.exclude = append(p.exclude, node)
		return true, nil
	}
	if p.wrote || s.wrote {
		s.wrote = false
		s.token.Wrote(time.Now())
	}
	e := wire.Errorf("08006", "the connection to server %s was lost", node)
	var cause *wire.Error
	if errors.As(err, &cause) {
		e.Code = cause.Code
		e.Detail = "The server said: " + cause.Message + "."
	} else {
		e.Detail = err.Error()
	}
	switch {
	case inTransaction:
		e.Hint = "The transaction is over; unless COMMIT was under way it has no effect. Run it again."
		s.ghost, s.status = true, 'E'
	case p.wrote && !notSent:
		e.Hint = "The statement may or may not have taken effect. Look before you run it again."
	default:
		e.Hint = "The statement has had no effect and can be run again."
	}
	if pinned {
		e.Hint += " What the session kept on that connection (temporary tables, locks, prepared statements) is gone."
	}
	return false, s.refuse(e)
}

// refuse answers the batch with an error, and with ReadyForQuery.
func (s *session) refuse(err error) error {
	r := &s.reply
	r.busy = false
	if s.status == 'I' {
		clear(s.portals)
	}
	for i := len(s.batch.items) - 1; i >= 0; i-- {
		if it := &s.batch.items[i]; it.undo && !r.written {
			s.setNamed(it.name, it.before)
		}
	}
	e := asError(err)
	if d := s.batch.duplex; d != nil && !d.simple {
		if err := s.send(e.Append(nil)); err != nil {
			return err
		}
		return s.skipToSync()
	}
	return s.send(wire.AppendReady(e.Append(r.out[:0]), s.status))
}
