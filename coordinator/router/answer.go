package router

import (
	"fmt"

	"github.com/multicoord/multicoord/coordinator/pool"
	"github.com/multicoord/multicoord/coordinator/statement"
	"github.com/multicoord/multicoord/coordinator/wire"
)

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
	case 'A': // whatever is under way, it is for the client
		return pass, nil
	case 'N':
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
	case 't':
		if st.kind == 'D' && st.what == 'S' && st.st != nil && !r.retry && r.settings == nil {
			s.resolved(st.st, f.Body())
		}
	case 'V', 'H', 'c':
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
	if f.Type == 'C' && st.info != nil && st.info.Err != nil {
		r.undone = string(f.Body()) == "ROLLBACK\x00"
	}
	switch st.kind {
	case 'Q':
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
	case 'E':
		r.executed = true
		if f.Type != 'I' && st.info != nil { // a suspended portal may never be resumed
			if len(st.info.Statements) == 1 {
				body := f.Body()
				if f.Type == 's' {
					body = nil
				}
				s.succeeded(st.info, 0, body)
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
		if defines(st) {
			s.catalog.generation.Add(1)
			s.tx.redefined = true
		}
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

// defines tells that a statement may change what a text means: it is DDL of objects that others see too.
func defines(st *statement.Statement) bool {
	if st.Kind != statement.Write || st.Pin != "" {
		return false
	}
	switch st.Tag {
	case "INSERT", "UPDATE", "DELETE", "MERGE", "SELECT", "TRUNCATE", "VACUUM", "ANALYZE", "CHECKPOINT", "REINDEX":
		return false
	}
	return true
}

// fail takes an error of the server in.
func (s *session) fail(f wire.Frame, st *step) (verdict, error) {
	r := &s.reply
	severity, code := brief(f.Body())
	if fatal(severity) {
		r.lost = true
		return hide, fmt.Errorf("%w: %w", errServerLost, said(f.Body()))
	}
	if st.kind == 'Q' && st.hidden {
		r.settings = settingsFailed(said(f.Body()), s.srv.Node())
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
	s.keepLocks(st)
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

// keepLocks pins the session when a statement has failed that may have taken what no rollback gives back.
func (s *session) keepLocks(st *step) {
	n := 0
	if st.kind == 'Q' {
		n = s.reply.completed
	} else if st.kind != 'E' {
		return
	}
	if st.info != nil && n < len(st.info.Statements) && st.info.Statements[n].Pin == sessionLock {
		s.pin(sessionLock)
	}
}

// sessionLock is the reason (statement.Statement.Pin) of what survives a rollback.
const sessionLock = "session advisory lock"

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
	if s.tellRefusal() {
		return hide, nil
	}
	return pass, nil
}

// tellRefusal answers the client's statement with the error of its session's settings, if that is how it went.
func (s *session) tellRefusal() bool {
	r := &s.reply
	if r.settings == nil {
		return false
	}
	r.out = wire.AppendReady(r.settings.Append(r.out), r.ready)
	r.settings = nil
	s.tx.have = pool.Unknown()
	r.failed = true
	return true
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
