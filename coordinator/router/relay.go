package router

import (
	"errors"
	"fmt"

	"github.com/multicoord/multicoord/coordinator/pool"
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
	r.executed, r.here, r.hiding = false, false, false
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

// lock guards the steps while another goroutine adds to them; without one it costs nothing.
func (s *session) lock() {
	if d := s.batch.duplex; d != nil {
		d.mu.Lock()
	}
}

func (s *session) unlock() {
	if d := s.batch.duplex; d != nil {
		d.mu.Unlock()
	}
}

// answer takes one message of the server in and says what becomes of it.
func (s *session) answer(f wire.Frame) (verdict, error) {
	r := &s.reply
	if f.Type == 'D' || f.Type == 'd' {
		if r.settings != nil || r.hiding {
			return hide, nil
		}
		return pass, nil
	}
	s.lock()
	defer s.unlock()
	var st *step
	if r.head < len(r.steps) {
		st = &r.steps[r.head]
	}
	switch f.Type {
	case 'N', 'A':
		if st != nil && st.hidden {
			return hide, nil
		}
		return pass, nil
	case 'S':
		return s.parameter(f, st), nil
	}
	if st == nil {
		if f.Type == 'E' {
			return s.fail(f, &step{kind: 'S'})
		}
		return hide, fmt.Errorf("%w: unexpected message %q", errServerLost, f.Type)
	}
	v := pass
	if st.hidden {
		v = hide
	}
	switch f.Type {
	case '1':
		s.pop(st, 'P')
	case '2':
		s.pop(st, 'B')
	case '3':
		if st.carried {
			r.head++
			r.instead, _ = s.locally(r.instead[:0], st)
			return replace, nil
		}
		s.pop(st, 'C')
	case 'T', 'n':
		if st.kind == 'D' {
			r.head++
		}
	case 't', 'V', 'H', 'c':
	case 'G':
		s.copyWanted(st)
	case 'C', 'I', 's':
		s.completed(st, f)
	case 'E':
		return s.fail(f, st)
	case 'Z':
		return s.readyForQuery(st, f)
	default: // 'W' (only with replication), 'K', 'R', 'v' and what does not exist
		return hide, fmt.Errorf("%w: unexpected message %q", errServerLost, f.Type)
	}
	if r.settings != nil {
		return hide, nil
	}
	return v, nil
}

// pop ends a step that must be of the given kind.
func (s *session) pop(st *step, kind byte) {
	if st.kind == kind {
		s.reply.head++
	}
}

// described ends a Describe whose RowDescription was relayed unseen.
func (s *session) described() {
	s.lock()
	defer s.unlock()
	r := &s.reply
	if r.head < len(r.steps) && r.steps[r.head].kind == 'D' {
		r.head++
	}
}

func (s *session) parameter(f wire.Frame, st *step) verdict {
	name, value, ok := pool.ParameterStatus(f.Body())
	if !ok || name == "in_hot_standby" {
		return hide
	}
	c := s.srv
	c.Params = c.Params.With(name, value)
	if st != nil && st.hidden || s.reply.retry {
		return hide
	}
	s.told = c.Params
	if name == "application_name" {
		s.application = value
	}
	return pass
}

// completed takes the success of one statement in.
func (s *session) completed(st *step, f wire.Frame) {
	r := &s.reply
	switch {
	case st.kind == 'Q':
		if st.hidden {
			return
		}
		if f.Type == 'C' && st.info != nil && r.completed < len(st.info.Statements) {
			s.succeeded(st.info, r.completed, f.Body())
		}
		if f.Type == 'C' && st.info != nil && st.info.Err != nil && st.info.PinIfAccepted != "" {
			s.pin(st.info.PinIfAccepted)
		}
		r.completed++
	case st.kind == 'E':
		r.executed = true
		if f.Type == 'C' && st.info != nil {
			if len(st.info.Statements) == 1 {
				s.succeeded(st.info, 0, f.Body())
			} else if st.info.Err != nil && st.info.PinIfAccepted != "" {
				s.pin(st.info.PinIfAccepted)
			}
		}
		r.head++
	}
}

func (s *session) pin(reason string) {
	if s.pinned == "" {
		s.pinned = reason
	}
}

// succeeded follows what a statement has done to the session.
func (s *session) succeeded(info *statement.Info, n int, body []byte) {
	st := &info.Statements[n]
	switch st.Kind {
	case statement.Read, statement.Write:
		if st.Pin == "" && len(st.Settings) == 0 && !st.ChangesFunctions {
			return
		}
	}
	tag := ""
	if len(body) > 0 {
		tag = string(body[:len(body)-1])
	}
	s.tx.complete(st, tag)
	if st.Pin != "" && (!st.PinOutsideBlock || s.status == 'I') {
		s.pin(st.Pin)
	}
	c := s.srv
	switch {
	case st.Kind == statement.Listen:
		s.listening = true
	case st.Unpin:
		s.pinned, s.listening = "", false
		s.forgetStatements()
		c.Statements.Clear()
		c.Unnamed = 0
	case st.Kind == statement.Deallocate && st.All:
		s.forgetStatements()
		c.Statements.Clear()
	}
	if st.ChangesFunctions {
		s.r.catalogs.changed(s.catalog)
	}
}

// fail takes an error of the server in.
func (s *session) fail(f wire.Frame, st *step) (verdict, error) {
	r := &s.reply
	severity, code := brief(f.Body())
	if fatal(severity) {
		r.lost = true
		e, _ := wire.ParseError(f.Body())
		if e == nil {
			return hide, errServerLost
		}
		return hide, fmt.Errorf("%w: %w", errServerLost, e)
	}
	if st.kind == 'Q' && st.hidden {
		e, _ := wire.ParseError(f.Body())
		if e != nil {
			r.settings = settingsFailed(e, s.srv.Node())
		}
		r.retry = r.mayRetry && !r.written && s.worthRetry(code, f.Body())
		return hide, nil
	}
	if r.settings != nil {
		if st.kind != 'Q' && st.kind != 'F' {
			s.skip()
		}
		return hide, nil
	}
	if r.mayRetry && !r.written && s.worthRetry(code, f.Body()) {
		r.retry = true
	}
	if s.replan(s.srv, st, code, f.Body()) {
		r.retry, r.here = true, true
	}
	if s.onPrimary && string(code) == "25006" {
		s.r.sampler.hasten() // perhaps it is not the primary any more
	}
	r.failed = true
	v := pass
	if st.instead != nil {
		r.instead = st.instead.Append(r.instead[:0])
		v = replace
	}
	if st.kind != 'Q' && st.kind != 'F' {
		s.skip()
	}
	return v, nil
}

func settingsFailed(e *wire.Error, node string) *wire.Error {
	c := *e
	c.Detail = "A setting of the session could not be made on server " + node + "; the statement was not run. " + c.Detail
	c.Position = 0
	return &c
}

// skip forgets all steps up to the next Sync, as the server ignores their requests.
func (s *session) skip() {
	r := &s.reply
	end := r.head
	for end < len(r.steps) && r.steps[end].kind != 'S' {
		end++
	}
	for i := end - 1; i >= r.head; i-- {
		s.undo(&r.steps[i])
	}
	r.skipping = end == len(r.steps)
	r.head = end
}

// undo takes back what was assumed when the request was sent.
func (s *session) undo(st *step) {
	c := s.srv
	if st.local == nil && st.st != nil && c != nil {
		switch {
		case st.kind == 'P' && st.st.name != "":
			c.Statements.Remove(st.st.name)
		case st.kind == 'P':
			c.Unnamed = 0
		case st.kind == 'C':
			c.Statements.Add(st.st.name, st.st.generation.Load())
		}
	}
	if st.undo {
		s.setNamed(st.name, st.before)
	}
}

func (s *session) readyForQuery(st *step, f wire.Frame) (verdict, error) {
	r := &s.reply
	if st.kind != 'Q' && st.kind != 'S' && st.kind != 'F' || len(f.Raw) != 6 {
		return hide, fmt.Errorf("%w: ReadyForQuery without a request", errServerLost)
	}
	hidden := st.hidden
	r.head++
	r.skipping = false
	if hidden {
		r.hiding = false
		if r.settings == nil {
			s.settingsMade()
		}
		return hide, nil
	}
	r.ready = f.Raw[5]
	if r.settings != nil {
		r.out = wire.AppendReady(r.settings.Append(r.out), r.ready)
		r.settings = nil
		s.tx.have = pool.Unknown()
		r.failed = true
		return hide, nil
	}
	return pass, nil
}

// pendingLocal tells whether it is the turn of an answer of our own.
func (s *session) pendingLocal() bool {
	r := &s.reply
	s.lock()
	defer s.unlock()
	return r.head < len(r.steps) && r.steps[r.head].local != nil && !r.steps[r.head].carried
}

// locals gives our own answers whose turn it is.
func (s *session) locals() {
	r := &s.reply
	s.lock()
	defer s.unlock()
	for r.head < len(r.steps) && r.steps[r.head].local != nil && !r.steps[r.head].carried {
		st := &r.steps[r.head]
		r.head++
		if r.settings != nil {
			continue
		}
		var failed bool
		if r.out, failed = s.locally(r.out, st); failed {
			r.failed = true
			s.skip()
		}
	}
}

// locally adds our answer to one request.
func (s *session) locally(dst []byte, st *step) (out []byte, failed bool) {
	switch st.as {
	case 'P':
		return wire.AppendParseComplete(dst), false
	case 'B':
		return wire.AppendBindComplete(dst), false
	case 'C':
		return wire.AppendCloseComplete(dst), false
	case 'D':
		if st.what == 'S' {
			dst = wire.AppendParameterDescription(dst, nil)
		}
		return st.local.describe(dst), false
	case 'S':
		s.reply.ready = s.status
		return wire.AppendReady(dst, s.status), false
	}
	return st.local.execute(dst)
}
