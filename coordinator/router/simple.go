package router

import (
	"strings"

	"github.com/multicoord/multicoord/coordinator/statement"
	"github.com/multicoord/multicoord/coordinator/wire"
)

// query handles a Query message: one text with any number of statements.
func (s *session) query(f wire.Frame) error {
	text, err := wire.QueryText(f.Body())
	if err != nil {
		return s.farewell(asFatal(err))
	}
	s.counters.queries.Add(1)
	info := s.r.cache.Analyze(text)
	if s.ghost {
		return s.ghostQuery(info)
	}
	if len(info.Statements) == 1 {
		if a := s.localAnswer(info); a != nil {
			return s.localQuery(a)
		}
	}
	if len(info.Statements) > 1 && s.status != 'E' {
		if e := s.misused(info); e != nil {
			return s.localQuery(&answer{err: e})
		}
	}
	p := s.newPlan()
	s.add(&p, info, true)
	s.batch.query, s.batch.info = f.Raw, info
	err = s.run(&p)
	s.batch.query, s.batch.info = nil, nil
	return err
}

func (s *session) localQuery(a *answer) error {
	if s.status == 'E' {
		return s.refuse(abortedTransaction())
	}
	if a.wouldFail() != nil && s.status == 'T' {
		return s.failed(a)
	}
	var out []byte
	if a.columns != nil && a.err == nil {
		out = a.describe(out)
	}
	out, _ = a.execute(out)
	return s.send(wire.AppendReady(out, s.status))
}

// failed answers a Query with an error of ours within a transaction, which the server must abort.
func (s *session) failed(a *answer) error {
	s.lend()
	s.batch.items = append(s.batch.items, item{kind: 'E', local: a})
	s.batch.sync = true
	p := s.newPlan()
	return s.run(&p)
}

// misused gives the error of the first of several statements that gives one of the router's settings a value that it
// cannot have; the server, which takes any, would not object.
func (s *session) misused(info *statement.Info) *wire.Error {
	for i := range info.Statements {
		st := &info.Statements[i]
		if (st.Kind == statement.Set || st.Kind == statement.Reset) && strings.HasPrefix(st.Name, own) {
			if e := s.ownSetting(st).wouldFail(); e != nil {
				return e
			}
		}
	}
	return nil
}

// ghostQuery answers for a transaction whose server connection is lost, as PostgreSQL does for one that has failed.
func (s *session) ghostQuery(info *statement.Info) error {
	if !endsTransaction(info) {
		return s.refuse(abortedTransaction())
	}
	s.ghost, s.status = false, 'I'
	return s.send(wire.AppendReady(wire.AppendCommandComplete(nil, "ROLLBACK"), 'I'))
}

func endsTransaction(info *statement.Info) bool {
	if len(info.Statements) != 1 {
		return false
	}
	k := info.Statements[0].Kind
	if info.Statements[0].Chain {
		return false // there is no server to begin the next one on
	}
	return k == statement.Commit || k == statement.Rollback || k == statement.PrepareTransaction
}

// functionCall handles the old interface for calling functions, which large objects still use.
func (s *session) functionCall(f wire.Frame) error {
	s.counters.queries.Add(1)
	if s.ghost {
		return s.refuse(abortedTransaction())
	}
	p := plan{wrote: true, reason: "function call", consistency: s.consistency()}
	s.batch.query = f.Raw
	err := s.run(&p)
	s.batch.query = nil
	return err
}

func asFatal(err error) *wire.Error {
	e := asError(err)
	e.Severity, e.SeverityV = wire.SeverityFatal, wire.SeverityFatal
	return e
}
