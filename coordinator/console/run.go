package console

import (
	"context"
	"errors"

	"github.com/multicoord/multicoord/coordinator/wire"
)

// do carries out a command and gives its rows and its tag.
func (s *session) do(ctx context.Context, c command) ([][]any, string, *wire.Error) {
	if s.status == 'E' && c.verb != verbEnd && c.verb != verbAbort {
		return nil, "", wire.Errorf("25P02", "current transaction is aborted, commands ignored until end of transaction block")
	}
	switch c.verb {
	case verbShow:
		in := input{snap: s.cfg.Source.Snapshot(), view: s.cfg.Source.Router(), version: s.cfg.Version}
		return c.show.rows(in), c.tag, nil
	case verbValue:
		return [][]any{{s.params[c.name]}}, c.tag, nil
	case verbRoute:
		return s.route(ctx, c)
	case verbReload:
		return nil, c.tag, s.reload(ctx)
	case verbSet:
		s.set(c)
	case verbForget:
		return nil, c.tag, s.forget(c)
	case verbBegin, verbEnd, verbAbort:
		return nil, s.transaction(c), nil
	}
	return nil, c.tag, nil
}

func (s *session) route(ctx context.Context, c command) ([][]any, string, *wire.Error) {
	explain := s.cfg.Source.Router().Route
	if explain == nil {
		return nil, "", wire.Errorf("0A000", "this router cannot tell where a statement would go")
	}
	ctx, cancel := context.WithTimeout(ctx, actionTimeout)
	defer cancel()
	routed, err := explain(ctx, c.value)
	if err != nil {
		return nil, "", asError(err, "XX000")
	}
	return routeRows(routed), c.tag, nil
}

func (s *session) reload(ctx context.Context) *wire.Error {
	if s.cfg.Reload == nil {
		return wire.Errorf("0A000", "there is nothing to reload: this router follows the agreed state by itself")
	}
	ctx, cancel := context.WithTimeout(ctx, actionTimeout)
	defer cancel()
	if err := s.cfg.Reload(ctx); err != nil {
		s.cfg.Log.WarnContext(ctx, "reload asked for in the console went wrong", "user", s.user, "err", err)
		return asError(err, "F0000") // config_file_error
	}
	s.cfg.Log.InfoContext(ctx, "reloaded, as asked for in the console", "user", s.user)
	return nil
}

func asError(err error, code string) *wire.Error {
	var e *wire.Error
	if errors.As(err, &e) && !e.IsFatal() {
		return e
	}
	return wire.Errorf(code, "%s", err)
}

// set keeps a setting for SHOW; only the application's name is told back, as PostgreSQL does.
func (s *session) set(c command) {
	if c.name == "application_name" {
		s.params[c.name] = c.value
		s.out = wire.AppendParameterStatus(s.out, c.name, c.value)
	}
}

func (s *session) forget(c command) *wire.Error {
	switch {
	case c.name != "":
		if _, ok := s.statements[c.name]; !ok {
			return noStatement(c.name)
		}
		delete(s.statements, c.name)
	case c.keep:
		clear(s.statements)
	default:
		clear(s.statements)
		clear(s.portals)
	}
	return nil
}

// transaction keeps the status that drivers expect: transactions do nothing here.
func (s *session) transaction(c command) (tag string) {
	switch {
	case c.verb == verbBegin:
		if s.status == 'T' {
			s.warn("25001", "there is already a transaction in progress")
		}
		s.status = 'T'
		return c.tag
	case s.status == 'I':
		s.warn("25P01", "there is no transaction in progress")
	case s.status == 'E':
		c.tag = "ROLLBACK"
	}
	s.status = 'I'
	return c.tag
}

func (s *session) warn(code, message string) {
	s.out = wire.AppendNotice(s.out, &wire.Error{Severity: wire.SeverityWarning, Code: code, Message: message})
}
