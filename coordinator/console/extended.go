package console

import (
	"context"
	"slices"

	"github.com/multicoord/multicoord/coordinator/wire"
)

// portal is a bound statement. Its rows are made at the first Execute.
type portal struct {
	command *command // nil: the empty statement
	formats []int16
	begun   bool
	rows    [][]any // those left
	tag     string
}

// The most statements and portals of a session.
const (
	maxStatements = 1000
	maxPortals    = 100
)

// extended answers a message of the extended protocol. The first error is for the client, the second ends the session.
func (s *session) extended(ctx context.Context, f wire.Frame) (*wire.Error, error) {
	switch f.Type {
	case 'P':
		m, err := wire.DecodeParse(f.Body())
		if err != nil {
			return nil, err
		}
		return s.prepare(m), nil
	case 'B':
		m, err := wire.DecodeBind(f.Body())
		if err != nil {
			return nil, err
		}
		return s.bind(m), nil
	case 'D':
		kind, name, err := wire.DecodeDescribe(f.Body())
		if err != nil {
			return nil, err
		}
		return s.describe(kind, name), nil
	case 'C':
		kind, name, err := wire.DecodeClose(f.Body())
		if err != nil {
			return nil, err
		}
		if kind == 'S' {
			delete(s.statements, name)
		} else {
			delete(s.portals, name)
		}
		s.out = wire.AppendCloseComplete(s.out)
		return nil, nil
	default:
		name, limit, err := wire.DecodeExecute(f.Body())
		if err != nil {
			return nil, err
		}
		return s.execute(ctx, name, limit)
	}
}

func (s *session) prepare(m wire.Parse) *wire.Error {
	commands, e := s.parse(m.Query)
	switch {
	case e != nil:
		return e
	case len(commands) > 1:
		return wire.Errorf("42601", "cannot insert multiple commands into a prepared statement")
	}
	if m.Name != "" {
		if _, ok := s.statements[m.Name]; ok {
			return wire.Errorf("42P05", "prepared statement %q already exists", m.Name)
		}
		if len(s.statements) >= maxStatements {
			return wire.Errorf("53400", "more than %d prepared statements in a console session", maxStatements)
		}
	}
	s.statements[m.Name] = nil
	if len(commands) == 1 {
		s.statements[m.Name] = &commands[0]
	}
	s.out = wire.AppendParseComplete(s.out)
	return nil
}

func noStatement(name string) *wire.Error {
	if name == "" {
		return wire.Errorf("26000", "unnamed prepared statement does not exist")
	}
	return wire.Errorf("26000", "prepared statement %q does not exist", name)
}

func (s *session) bind(m wire.Bind) *wire.Error {
	c, ok := s.statements[m.Statement]
	if !ok {
		return noStatement(m.Statement)
	}
	want, columns := 0, 0
	if c != nil {
		columns = len(c.columns())
		if c.param {
			want = 1
		}
	}
	if len(m.Params) != want {
		return wire.Errorf("08P01", "bind message supplies %d parameters, but prepared statement %q requires %d", len(m.Params), m.Statement, want)
	}
	if len(m.FormatCodes) > 1 && len(m.FormatCodes) != want {
		return wire.Errorf("08P01", "bind message has %d parameter formats but %d parameters", len(m.FormatCodes), want)
	}
	if len(m.ResultFormats) > 1 && len(m.ResultFormats) != columns {
		return wire.Errorf("08P01", "bind message has %d result formats but query has %d columns", len(m.ResultFormats), columns)
	}
	for _, f := range slices.Concat(m.ResultFormats, m.FormatCodes) {
		if f != 0 && f != 1 {
			return wire.Errorf("22023", "unsupported format code: %d", f)
		}
	}
	if _, ok := s.portals[m.Portal]; ok && m.Portal != "" {
		return wire.Errorf("42P03", "cursor %q already exists", m.Portal)
	}
	if len(s.portals) >= maxPortals {
		return wire.Errorf("53400", "more than %d portals in a console session", maxPortals)
	}
	if want == 1 {
		bound := *c
		if m.Params[0] == nil {
			return wire.Errorf("22004", "the statement of SHOW route cannot be null")
		}
		bound.value, bound.param = string(m.Params[0]), false // text is the same in both formats
		c = &bound
	}
	s.portals[m.Portal] = &portal{command: c, formats: m.ResultFormats}
	s.out = wire.AppendBindComplete(s.out)
	return nil
}

func (s *session) describe(kind byte, name string) *wire.Error {
	var c *command
	var formats []int16
	if kind == 'S' {
		statement, ok := s.statements[name]
		if !ok {
			return noStatement(name)
		}
		c = statement
		var params []uint32
		if c != nil && c.param {
			params = []uint32{25}
		}
		s.out = wire.AppendParameterDescription(s.out, params)
	} else {
		p, ok := s.portals[name]
		if !ok {
			return wire.Errorf("34000", "portal %q does not exist", name)
		}
		c, formats = p.command, p.formats
	}
	if c == nil || c.columns() == nil {
		s.out = wire.AppendNoData(s.out)
		return nil
	}
	s.out = wire.AppendRowDescription(s.out, describe(c.columns(), formats))
	return nil
}

func (s *session) execute(ctx context.Context, name string, limit uint32) (*wire.Error, error) {
	p, ok := s.portals[name]
	switch {
	case !ok:
		return wire.Errorf("34000", "portal %q does not exist", name), nil
	case p.command == nil:
		s.out = wire.AppendEmptyQuery(s.out)
		return nil, nil
	case p.begun && p.command.columns() == nil:
		return wire.Errorf("55000", "portal %q cannot be run anymore", name), nil
	}
	if !p.begun {
		rows, tag, e := s.do(ctx, *p.command)
		if e != nil {
			return e, nil
		}
		p.begun, p.rows, p.tag = true, rows, tag
	}
	if p.command.columns() == nil {
		s.out = wire.AppendCommandComplete(s.out, p.tag)
		return nil, nil
	}
	n := len(p.rows)
	if limit > 0 && int64(limit) < int64(n) {
		n = int(limit)
	}
	if err := s.rows(p.rows[:n], p.formats); err != nil {
		return nil, err
	}
	p.rows = p.rows[n:]
	if len(p.rows) > 0 {
		s.out = wire.AppendPortalSuspended(s.out)
		return nil, nil
	}
	s.out = wire.AppendCommandComplete(s.out, p.tag)
	return nil, nil
}
