package router

import (
	"bytes"
	"errors"

	"github.com/multicoord/multicoord/coordinator/wire"
)

func invalidValue(name, value, hint string) *wire.Error {
	e := wire.Errorf("22023", "invalid value for parameter %q: %q", name, value)
	e.Hint = hint
	return e
}

func unknownParameter(name string) *wire.Error {
	e := wire.Errorf("42704", "unrecognized configuration parameter %q", name)
	e.Hint = "The router knows multicoord.consistency, multicoord.notice_route and (to show only) multicoord.route."
	return e
}

func abortedTransaction() *wire.Error {
	return wire.Errorf("25P02", "current transaction is aborted, commands ignored until end of transaction block")
}

// errServerLost says that the connection to a server ended while it was in use.
var errServerLost = errors.New("the connection to the server was lost")

// errClientLost says that the client has gone, or cannot be written to.
var errClientLost = errors.New("the connection to the client was lost")

// asError turns what went wrong on the way to a server into what the client is told.
func asError(err error) *wire.Error {
	var e *wire.Error
	if errors.As(err, &e) {
		c := *e
		// The client's own connection goes on.
		c.Severity, c.SeverityV = wire.SeverityError, wire.SeverityError
		return &c
	}
	return wire.Errorf("08006", "%v", err)
}

// brief reads severity and SQLSTATE from an error's body without decoding the rest.
func brief(body []byte) (severity, code []byte) {
	for len(body) > 1 {
		i := bytes.IndexByte(body[1:], 0)
		if i < 0 {
			return severity, code
		}
		value := body[1 : 1+i]
		switch body[0] {
		case 'V':
			severity = value
		case 'S':
			if severity == nil {
				severity = value
			}
		case 'C':
			code = value
		}
		body = body[i+2:]
	}
	return severity, code
}

func fatal(severity []byte) bool {
	return string(severity) == "FATAL" || string(severity) == "PANIC"
}

// transient tells whether an error that a standby gave to a read is the standby's rather than the statement's, so that
// another server may well answer: it is shutting down or starting, replay is in the way, the statement turned out to
// write, or what it names has not been replayed yet.
func transient(code, body []byte) bool {
	switch string(code) {
	case "57P01", "57P02", "57P03", "25006", "40001", "40P01":
		return true
	case "42P01", "42703", "3F000", "42883", "42704", "42P02", "3D000", "42501", "28000", "28P01", "22P02", "22023", "XX002":
		// Missing relation, column, schema, function, type, parameter, database, privilege, role, enum value, and a
		// setting that names one of them.
		return true
	case "55000", "0A000", "58P01", "XX000", "25001":
		return containsText(body, "recovery") || bytes.Contains(body, []byte("hot standby")) ||
			containsText(body, "could not open file")
	}
	return false
}

func containsText(body []byte, text string) bool { return bytes.Contains(body, []byte(text)) }

// said decodes a server's error.
func said(body []byte) *wire.Error {
	e, err := wire.ParseError(body)
	if err != nil {
		return wire.Errorf("08P01", "the server has sent an error that cannot be read: %v", err)
	}
	return e
}
