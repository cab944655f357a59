package router

import (
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
	var out []byte
	if a.columns != nil && a.err == nil {
		out = a.describe(out)
	}
	out, _ = a.execute(out)
	return s.send(wire.AppendReady(out, s.status))
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
