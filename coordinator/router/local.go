package router

import (
	"strings"

	"github.com/multicoord/multicoord/coordinator/statement"
	"github.com/multicoord/multicoord/coordinator/wire"
)

// answer is what the router itself says to a statement.
type answer struct {
	err *wire.Error
	// columns and rows are nil for a statement without a result.
	columns []wire.Column
	rows    func() [][][]byte
	tag     string
	// check tells, before anything is sent, whether apply would fail. apply is run when the statement is executed.
	check, apply func() *wire.Error
}

// trivial marks requests that the router acknowledges without a server.
var trivial = &answer{}

// wouldFail gives the error that executing the statement now would bring.
func (a *answer) wouldFail() *wire.Error {
	if a.err == nil && a.check != nil {
		return a.check()
	}
	return a.err
}

func (a *answer) describe(dst []byte) []byte {
	if a.columns == nil {
		return wire.AppendNoData(dst)
	}
	return wire.AppendRowDescription(dst, a.columns)
}

// execute adds the rows and the tag, or the error.
func (a *answer) execute(dst []byte) (out []byte, failed bool) {
	e := a.err
	if e == nil && a.apply != nil {
		e = a.apply()
	}
	if e != nil {
		return e.Append(dst), true
	}
	if a.rows != nil {
		for _, row := range a.rows() {
			dst = wire.AppendDataRow(dst, row)
		}
	}
	return wire.AppendCommandComplete(dst, a.tag), false
}

// localAnswer gives the answer to a statement that the router handles itself: its own settings, and DEALLOCATE of a
// statement that was prepared through the protocol; nil for all others.
func (s *session) localAnswer(info *statement.Info) *answer {
	if len(info.Statements) != 1 {
		return nil
	}
	st := &info.Statements[0]
	switch st.Kind {
	case statement.Set, statement.Reset, statement.Show:
		if strings.HasPrefix(st.Name, own) {
			return s.ownSetting(st)
		}
	case statement.Deallocate:
		return s.deallocate(st)
	}
	return nil
}

func (s *session) ownSetting(st *statement.Statement) *answer {
	if st.Kind == statement.Show {
		return s.showOwn(st.Name)
	}
	tag := "SET"
	if st.Kind == statement.Reset {
		tag = "RESET"
	}
	check := func() *wire.Error {
		next := s.tx.current()
		if err := next.set(st.Name, st.Value, st.Default, s.tx.started.options); err != nil {
			return asError(err)
		}
		return nil
	}
	return &answer{tag: tag, check: check, apply: func() *wire.Error {
		next := s.tx.current()
		if !st.Local {
			next = s.tx.options
		}
		if err := next.set(st.Name, st.Value, st.Default, s.tx.started.options); err != nil {
			return asError(err)
		}
		switch {
		case st.Local && s.status == 'I': // nothing, as in PostgreSQL
		case st.Local:
			s.tx.local = &next
		default:
			if s.status != 'I' {
				s.tx.change()
			}
			s.tx.options, s.tx.local = next, nil
		}
		return nil
	}}
}

func (s *session) showOwn(name string) *answer {
	var value func() string
	switch strings.TrimPrefix(name, own) {
	case "consistency":
		value = func() string { return string(s.consistency()) }
	case "notice_route":
		value = func() string {
			if s.tx.current().notice {
				return "on"
			}
			return "off"
		}
	case "route":
		value = func() string { return s.last.String() }
	default:
		return &answer{err: unknownParameter(name)}
	}
	return &answer{
		columns: []wire.Column{{Name: name, OID: 25}}, tag: "SHOW",
		rows: func() [][][]byte { return [][][]byte{{[]byte(value())}} },
	}
}

// deallocate answers DEALLOCATE. Statements of the protocol have other names on the servers, where they belong to all
// sessions; those of SQL-level PREPARE are the server's, and their session is pinned.
func (s *session) deallocate(st *statement.Statement) *answer {
	if st.All {
		if s.pinned != "" {
			return nil
		}
		return &answer{tag: "DEALLOCATE ALL", apply: func() *wire.Error {
			s.forgetStatements()
			return nil
		}}
	}
	if _, ok := s.named[st.Name]; !ok && s.pinned != "" {
		return nil
	}
	missing := func() *wire.Error {
		if _, ok := s.named[st.Name]; !ok {
			return wire.Errorf("26000", "prepared statement %q does not exist", st.Name)
		}
		return nil
	}
	return &answer{tag: "DEALLOCATE", check: missing, apply: func() *wire.Error {
		if err := missing(); err != nil {
			return err
		}
		delete(s.named, st.Name)
		return nil
	}}
}

func (s *session) forgetStatements() { clear(s.named) }
