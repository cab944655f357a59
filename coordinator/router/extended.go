package router

import (
	"bytes"

	"github.com/multicoord/multicoord/coordinator/statement"
	"github.com/multicoord/multicoord/coordinator/wire"
)

// held is the most of a batch that is collected before a server is chosen, in bytes. A larger one goes to the primary,
// for nobody knows what is still to come.
const held = 1 << 20

// batch is what the client has sent and what was not yet run: one Query, or the messages up to a Sync.
type batch struct {
	query []byte          // a Query or FunctionCall message
	info  *statement.Info // of the Query
	items []item
	plan  plan
	size  int
	kept  []byte // copies of messages that would not have outlived the next read
	safe  int    // items before this one are copies
	w     []byte // what is written to the server
	sync  bool   // items end with a Sync
	// duplex is set while the client's messages are passed on as they come.
	duplex *duplex
}

// item is one message of the extended protocol.
type item struct {
	kind byte
	what byte // D and C: 'S' (statement) or 'P' (portal)
	raw  []byte
	st   *prepared // the statement that it names, or makes
	info *statement.Info
	// local is set when the router answers.
	local *answer
	fail  *wire.Error // it must fail with this error
	// undo, name, before: see step.
	undo   bool
	name   string
	before *prepared
}

// extended handles a message of the extended protocol: it is collected until Sync, so that the server can be chosen
// with the whole batch in view and the batch can be sent with one write.
func (s *session) extended(f wire.Frame) error {
	b := &s.batch
	switch f.Type {
	case 'S':
		return s.sync()
	case 'H':
		if len(b.items) == 0 {
			return nil
		}
		return s.open()
	}
	if len(b.items) == 0 {
		b.plan = s.newPlan()
		s.lend()
	}
	it, err := s.collect(f)
	if err != nil {
		return s.farewell(asFatal(err))
	}
	b.items = append(b.items, it)
	b.size += len(f.Raw)
	if b.size > held {
		return s.open()
	}
	if !s.in.Ready() {
		s.secure()
	}
	return nil
}

// secure copies the messages that the next read would overwrite.
func (s *session) secure() {
	b := &s.batch
	for i := b.safe; i < len(b.items); i++ {
		it := &b.items[i]
		start := len(b.kept)
		b.kept = append(b.kept, it.raw...)
		it.raw = b.kept[start:len(b.kept):len(b.kept)]
	}
	b.safe = len(b.items)
}

// collect reads a message as far as it must be understood, and follows what it does to the session's statements and
// portals.
func (s *session) collect(f wire.Frame) (item, error) {
	switch f.Type {
	case 'P':
		return s.collectParse(f)
	case 'B':
		return s.collectBind(f)
	case 'D', 'C':
		return s.collectNamed(f)
	default:
		return s.collectExecute(f)
	}
}

func (s *session) collectParse(f wire.Frame) (item, error) {
	name, query, types, err := wire.SplitParse(f.Body())
	if err != nil {
		return item{}, err
	}
	it := item{kind: 'P', raw: f.Raw}
	if len(name) == 0 {
		it.st = s.newUnnamed(query, types)
	} else {
		if old := s.named[string(name)]; old != nil {
			it.st = old
			it.fail = wire.Errorf("42P05", "prepared statement %q already exists", name)
			s.add(&s.batch.plan, old.info, false)
			return it, nil
		}
		it.st = s.r.library.take(query, types, s.scope(), func() *statement.Info { return s.r.cache.Analyze(query) })
		it.undo, it.name = true, string(name)
		s.named[it.name] = it.st
	}
	if it.local = s.localAnswer(it.st.info); it.local == nil {
		s.add(&s.batch.plan, it.st.info, false)
	}
	return it, nil
}

// newUnnamed makes the session's unnamed statement, in the place of the last one unless the batch still needs that.
func (s *session) newUnnamed(query, types []byte) *prepared {
	p := s.unnamed
	if p != nil {
		for i := range s.batch.items {
			if s.batch.items[i].st == p {
				p = nil
				break
			}
		}
	}
	if p == nil || s.batch.duplex != nil {
		p = new(prepared)
		s.unnamed = p
	}
	s.r.cacheUnnamed(p, query, types)
	s.parses++
	p.id = s.id<<32 | uint64(s.parses)
	return p
}

func (r *Router) cacheUnnamed(p *prepared, query, types []byte) {
	p.info = r.cache.Analyze(query)
	p.text = append(p.text[:0], query...)
	p.types = append(p.types[:0], types...)
}

// statementNamed finds what a name means to the session; nil when it has no such statement.
func (s *session) statementNamed(name []byte) *prepared {
	if len(name) == 0 {
		return s.unnamed
	}
	return s.named[string(name)]
}

func (s *session) collectBind(f wire.Frame) (item, error) {
	portalName, name, _, err := wire.SplitBind(f.Body())
	if err != nil {
		return item{}, err
	}
	it := item{kind: 'B', raw: f.Raw, st: s.statementNamed(name)}
	p := &s.portal
	if len(portalName) > 0 {
		p = new(portal)
		if s.portals == nil {
			s.portals = make(map[string]*portal)
		}
		s.portals[string(portalName)] = p
	}
	*p = portal{}
	if it.st != nil {
		it.local = s.localAnswer(it.st.info)
		p.info, p.local = it.st.info, it.local
	}
	if it.local == nil {
		s.add(&s.batch.plan, p.info, false)
	}
	return it, nil
}

// portalNamed finds a portal; nil when it was not made by Bind.
func (s *session) portalNamed(name []byte) *portal {
	if len(name) == 0 {
		return &s.portal
	}
	return s.portals[string(name)]
}

func (s *session) collectNamed(f wire.Frame) (item, error) {
	body := f.Body()
	if len(body) < 2 || body[0] != 'S' && body[0] != 'P' || bytes.IndexByte(body[1:], 0) != len(body)-2 {
		return item{}, wire.Errorf("08P01", "malformed message of type %q", f.Type)
	}
	name := body[1 : len(body)-1]
	it := item{kind: f.Type, what: body[0], raw: f.Raw}
	switch {
	case it.what == 'P':
		if p := s.portalNamed(name); p != nil {
			it.local = p.local
		}
		if f.Type == 'C' && it.local != nil {
			it.local = trivial
		}
	case f.Type == 'C':
		it.local = trivial
		if st := s.named[string(name)]; st != nil {
			it.undo, it.name, it.before = true, string(name), st
			delete(s.named, it.name)
		}
	default:
		it.st = s.statementNamed(name)
		if it.st != nil {
			it.local = s.localAnswer(it.st.info)
		}
		if it.local == nil && it.st != nil {
			s.add(&s.batch.plan, it.st.info, false)
		}
	}
	return it, nil
}

func (s *session) collectExecute(f wire.Frame) (item, error) {
	body := f.Body()
	i := bytes.IndexByte(body, 0)
	if i < 0 || len(body) != i+5 {
		return item{}, wire.Errorf("08P01", "malformed Execute message")
	}
	s.counters.queries.Add(1)
	it := item{kind: 'E', raw: f.Raw}
	if p := s.portalNamed(body[:i]); p != nil {
		it.info, it.local = p.info, p.local
	}
	if it.local == nil {
		s.add(&s.batch.plan, it.info, true)
	}
	return it, nil
}

// setNamed makes a name mean st again, or nothing.
func (s *session) setNamed(name string, st *prepared) {
	if st == nil {
		delete(s.named, name)
		return
	}
	s.named[name] = st
}

// sync runs what was collected.
func (s *session) sync() error {
	b := &s.batch
	b.sync = true
	if s.ghost {
		return s.ghostBatch()
	}
	for i := range b.items {
		it := &b.items[i]
		if it.local == nil || s.status == 'T' && it.kind == 'E' && it.local.wouldFail() != nil {
			return s.run(&b.plan) // an error of ours aborts the server's transaction too
		}
	}
	if s.status == 'E' && len(b.items) > 0 && !onlyTrivial(b.items) {
		err := s.refuse(abortedTransaction())
		s.giveBack()
		return err
	}
	// The router answers all of it.
	s.lend()
	r := &s.reply
	r.begin()
	for i := range b.items {
		s.addLocal(&b.items[i])
	}
	r.steps = append(r.steps, step{kind: 'S', as: 'S', local: trivial})
	s.locals()
	err := s.flush(nil)
	s.giveBack()
	return err
}

func onlyTrivial(items []item) bool {
	for i := range items {
		if items[i].local != trivial {
			return false
		}
	}
	return true
}

func (s *session) addLocal(it *item) {
	s.reply.steps = append(s.reply.steps, step{
		kind: it.kind, as: it.kind, local: it.local, what: it.what, undo: it.undo, name: it.name, before: it.before,
	})
}

// ghostBatch answers a batch in a transaction whose server connection is lost.
func (s *session) ghostBatch() error {
	b, r := &s.batch, &s.reply
	s.lend()
	defer s.giveBack()
	ends := false
	for i := range b.items {
		it := &b.items[i]
		if it.info != nil && endsTransaction(it.info) || it.st != nil && endsTransaction(it.st.info) {
			ends = true
		}
	}
	if len(b.items) > 0 && !ends {
		return s.refuse(abortedTransaction())
	}
	r.begin()
	done := &answer{tag: "ROLLBACK", apply: func() *wire.Error {
		s.ghost, s.status = false, 'I'
		return nil
	}}
	late := &answer{err: abortedTransaction()}
	for i := range b.items {
		it := b.items[i]
		it.local = late
		switch {
		case it.kind == 'C':
			it.local = trivial
		case it.info != nil && endsTransaction(it.info), it.st != nil && endsTransaction(it.st.info):
			it.local = done
		}
		s.addLocal(&it)
	}
	r.steps = append(r.steps, step{kind: 'S', as: 'S', local: trivial})
	s.locals()
	return s.flush(nil)
}
