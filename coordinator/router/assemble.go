package router

import (
	"github.com/multicoord/multicoord/coordinator/pool"
	"github.com/multicoord/multicoord/coordinator/wire"
)

// nowhere is the name of a prepared statement that never exists: a Describe of it fails, a Close of it does nothing.
const nowhere = "multicoord_nowhere"

// statementsKept is the most named statements that a server connection keeps.
const statementsKept = 200

// build makes what is sent to the server for the batch, behind what is in w, and the steps of its answer.
func (s *session) build(w []byte) []byte {
	b, r, c := &s.batch, &s.reply, s.srv
	if b.query != nil {
		c.Unnamed = 0 // exec_simple_query drops it
		r.steps = append(r.steps, step{kind: b.query[0], info: b.info})
		if len(w) == 0 {
			return b.query
		}
		w = append(w, b.query...)
		b.w = w
		return w
	}
	if s.status == 'I' {
		for {
			name, ok := c.Statements.Oldest(statementsKept)
			if !ok {
				break
			}
			w = s.closeStatement(w, name)
		}
	}
	for i := range b.items {
		w = s.encode(w, &b.items[i])
	}
	if b.sync {
		w = wire.AppendSync(w)
		r.steps = append(r.steps, step{kind: 'S'})
	} else {
		w = wire.AppendFlush(w)
	}
	b.w = w
	return w
}

// closeStatement closes a statement of the server connection that is in the way.
func (s *session) closeStatement(w []byte, name string) []byte {
	s.srv.Statements.Remove(name)
	s.reply.steps = append(s.reply.steps, step{kind: 'C', hidden: true, st: &prepared{name: name}})
	return wire.AppendClose(w, 'S', name)
}

// encode adds one message in the form that the server is to get, and its step.
func (s *session) encode(w []byte, it *item) []byte {
	r := &s.reply
	fail := it.fail
	if it.local != nil && it.kind == 'E' {
		fail = it.local.wouldFail()
	}
	if fail != nil {
		// The error must come from the server, or the server would go on with the rest of the batch.
		r.steps = append(r.steps, step{kind: 'D', instead: fail})
		return wire.AppendDescribe(w, 'S', nowhere)
	}
	if it.local != nil {
		return s.encodeLocal(w, it, it.local)
	}
	switch it.kind {
	case 'P':
		return s.encodeParse(w, it)
	case 'B':
		w = s.provide(w, it.st)
		r.steps = append(r.steps, step{kind: 'B', st: it.st})
		if it.st == nil || it.st.name == "" {
			return append(w, it.raw...)
		}
		portal, _, rest, _ := wire.SplitBind(it.raw[5:])
		return appendBind(w, portal, it.st.name, rest)
	case 'D':
		if it.what == 'S' {
			w = s.provide(w, it.st)
		}
		r.steps = append(r.steps, step{kind: 'D', st: it.st, what: it.what})
		if it.st == nil || it.st.name == "" || it.what != 'S' {
			return append(w, it.raw...)
		}
		return wire.AppendDescribe(w, 'S', it.st.name)
	case 'E':
		r.steps = append(r.steps, step{kind: 'E', info: it.info})
	default:
		r.steps = append(r.steps, step{kind: it.kind})
	}
	return append(w, it.raw...)
}

// appendBind is wire.AppendBind for a statement name that is a string.
func appendBind(dst, portal []byte, statement string, rest []byte) []byte {
	n := 4 + len(portal) + 1 + len(statement) + 1 + len(rest)
	dst = append(dst, 'B', byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	dst = append(append(dst, portal...), 0)
	dst = append(append(dst, statement...), 0)
	return append(dst, rest...)
}

func (s *session) encodeParse(w []byte, it *item) []byte {
	c, r := s.srv, &s.reply
	if it.st.name == "" {
		c.Unnamed = it.st.id
		r.steps = append(r.steps, step{kind: 'P', st: it.st})
		return append(w, it.raw...)
	}
	if c.Statements.Has(it.st.name, it.st.generation.Load()) {
		return s.encodeLocal(w, it, trivial)
	}
	w = s.prepare(w, it.st, false)
	last := &r.steps[len(r.steps)-1]
	last.undo, last.name, last.before = it.undo, it.name, it.before
	return w
}

// encodeLocal adds an answer of our own. While messages are passed on as they come, the answer's turn is marked by
// the server's answer to a Close that closes nothing: the client may be waiting for it.
func (s *session) encodeLocal(w []byte, it *item, a *answer) []byte {
	r := &s.reply
	st := step{
		kind: it.kind, as: it.kind, local: a, what: it.what, undo: it.undo, name: it.name, before: it.before,
	}
	if s.batch.duplex == nil {
		r.steps = append(r.steps, st)
		return w
	}
	st.kind, st.carried = 'C', true
	r.steps = append(r.steps, st)
	return wire.AppendClose(w, 'S', nowhere)
}

// provide makes sure that the server connection has the statement.
func (s *session) provide(w []byte, st *prepared) []byte {
	c := s.srv
	switch {
	case st == nil:
		return w
	case st.name == "" && c.Unnamed == st.id, st.name != "" && c.Statements.Has(st.name, st.generation.Load()):
		return w
	}
	return s.prepare(w, st, true)
}

func (s *session) prepare(w []byte, st *prepared, hidden bool) []byte {
	c, r := s.srv, &s.reply
	if st.name == "" {
		c.Unnamed = st.id
	} else {
		g := st.generation.Load()
		if c.Statements.Stale(st.name, g) {
			w = s.closeStatement(w, st.name)
		}
		c.Statements.Add(st.name, g)
	}
	r.steps = append(r.steps, step{kind: 'P', hidden: hidden, st: st})
	return appendParse(w, st)
}

// appendParse is wire.AppendParse for a statement name that is a string.
func appendParse(dst []byte, st *prepared) []byte {
	n := 4 + len(st.name) + 1 + len(st.text) + 1 + len(st.types)
	dst = append(dst, 'P', byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	dst = append(append(dst, st.name...), 0)
	dst = append(append(dst, st.text...), 0)
	return append(dst, st.types...)
}

// scratch is the memory that a session needs while a batch is under way.
type scratch struct {
	w, kept, out, instead []byte
	items                 []item
	steps                 []step
}

// roomy is the largest buffer that is kept for the next batch.
const roomy = 64 << 10

// lend takes memory for a batch.
func (s *session) lend() {
	if s.scratch != nil {
		return
	}
	c := s.r.scratches.Get().(*scratch)
	s.scratch = c
	b, r := &s.batch, &s.reply
	b.w, b.kept, b.items = c.w[:0], c.kept[:0], c.items[:0]
	r.out, r.instead, r.steps = c.out[:0], c.instead[:0], c.steps[:0]
}

// giveBack ends the batch: an idle session holds no memory for it.
func (s *session) giveBack() {
	b, r := &s.batch, &s.reply
	if c := s.scratch; c != nil {
		clear(b.items)
		clear(r.steps)
		c.w, c.kept, c.out, c.instead = trimmed(b.w), trimmed(b.kept), trimmed(r.out), trimmed(r.instead)
		c.items, c.steps = b.items[:0], r.steps[:0]
		if cap(c.items) > 1024 || cap(c.steps) > 1024 {
			c.items, c.steps = nil, nil
		}
		s.r.scratches.Put(c)
		s.scratch = nil
	}
	*b = batch{}
	r.out, r.instead, r.steps, r.head = nil, nil, nil, 0
}

func trimmed(b []byte) []byte {
	if cap(b) > roomy {
		return nil
	}
	return b[:0]
}

// reapply makes the session's statement names mean again what the batch makes of them, before it is run once more.
func (s *session) reapply() {
	for i := range s.batch.items {
		it := &s.batch.items[i]
		switch {
		case !it.undo:
		case it.kind == 'P':
			s.setNamed(it.name, it.st)
		default:
			s.setNamed(it.name, nil)
		}
	}
}

// replan marks a statement that the server has lost, or whose plan no longer fits, and tells whether the batch may be
// run once more: nothing of it was executed, and the client learns the new shape of the result if it has changed.
func (s *session) replan(c *pool.Conn, st *step, code, body []byte) bool {
	p := st.st
	if p == nil || p.name == "" || st.kind == 'P' || st.kind == 'C' {
		return false
	}
	shape := string(code) == "0A000" && containsText(body, "cached plan must not change result type")
	gone := string(code) == "26000" && containsText(body, p.name)
	switch {
	case gone:
		c.Statements.Remove(p.name)
	case shape:
		p.generation.Add(1)
	default:
		return false
	}
	if s.reply.executed || s.reply.written || s.status != 'I' || s.batch.duplex != nil || s.reply.replanned {
		return false
	}
	if shape {
		described := false
		for i := range s.batch.items {
			it := &s.batch.items[i]
			described = described || it.kind == 'D' && (it.st == p || it.what == 'P')
		}
		if !described {
			return false
		}
	}
	s.reply.replanned = true
	return true
}
