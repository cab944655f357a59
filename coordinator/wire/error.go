package wire

import (
	"bytes"
	"fmt"
	"strconv"
)

// The severities of errors and notices that are made here.
const (
	SeverityError   = "ERROR"
	SeverityFatal   = "FATAL"
	SeverityWarning = "WARNING"
	SeverityNotice  = "NOTICE"
)

// Error is an ErrorResponse or NoticeResponse: either one that a server has sent, or one that is to be sent to a
// client. Empty fields are not sent. The fields are those of "Error and Notice Message Fields" in the protocol's
// documentation.
type Error struct {
	// Severity as shown to people; a server may have translated it.
	Severity string
	// SeverityV is the untranslated severity (field V, since PostgreSQL 9.6). Append uses Severity when it is empty.
	SeverityV string
	Code      string // SQLSTATE, five characters
	Message   string
	Detail    string
	Hint      string
	// Position and InternalPosition count characters from 1; 0 means "not given".
	Position         int
	InternalPosition int
	InternalQuery    string
	Where            string
	Schema           string
	Table            string
	Column           string
	DataType         string
	Constraint       string
	File             string
	Line             int
	Routine          string
}

// Fatal makes an error that ends the connection.
func Fatal(code, format string, args ...any) *Error {
	return &Error{Severity: SeverityFatal, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Errorf makes an error that ends the statement.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Severity: SeverityError, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error gives severity, message and SQLSTATE.
func (e *Error) Error() string {
	s := e.Severity
	if s == "" {
		s = SeverityError
	}
	if e.Code == "" {
		return s + ": " + e.Message
	}
	return s + ": " + e.Message + " (SQLSTATE " + e.Code + ")"
}

// IsFatal tells whether the server closes the connection after this error.
func (e *Error) IsFatal() bool {
	s := e.SeverityV
	if s == "" {
		s = e.Severity
	}
	return s == SeverityFatal || s == "PANIC"
}

// Append adds the ErrorResponse frame.
func (e *Error) Append(dst []byte) []byte { return e.appendFrame(dst, 'E') }

// AppendNotice adds e as a NoticeResponse frame.
func AppendNotice(dst []byte, e *Error) []byte { return e.appendFrame(dst, 'N') }

func (e *Error) appendFrame(dst []byte, typ byte) []byte {
	severity, code := e.Severity, e.Code
	if severity == "" {
		severity = SeverityError
	}
	if code == "" {
		code = "XX000"
	}
	raw := e.SeverityV
	if raw == "" {
		raw = severity
	}
	dst, start := begin(dst, typ)
	dst = appendField(dst, 'S', severity)
	dst = appendField(dst, 'V', raw)
	dst = appendField(dst, 'C', code)
	dst = append(append(dst, 'M'), cut(e.Message)...) // the message is always sent, empty or not
	dst = append(dst, 0)
	dst = appendField(dst, 'D', e.Detail)
	dst = appendField(dst, 'H', e.Hint)
	dst = appendNumber(dst, 'P', e.Position)
	dst = appendNumber(dst, 'p', e.InternalPosition)
	dst = appendField(dst, 'q', e.InternalQuery)
	dst = appendField(dst, 'W', e.Where)
	dst = appendField(dst, 's', e.Schema)
	dst = appendField(dst, 't', e.Table)
	dst = appendField(dst, 'c', e.Column)
	dst = appendField(dst, 'd', e.DataType)
	dst = appendField(dst, 'n', e.Constraint)
	dst = appendField(dst, 'F', e.File)
	dst = appendNumber(dst, 'L', e.Line)
	dst = appendField(dst, 'R', e.Routine)
	return finish(append(dst, 0), start)
}

func appendField(dst []byte, field byte, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, field)
	dst = append(dst, cut(value)...)
	return append(dst, 0)
}

func appendNumber(dst []byte, field byte, n int) []byte {
	if n == 0 {
		return dst
	}
	return append(strconv.AppendInt(append(dst, field), int64(n), 10), 0)
}

// ParseError reads the body of an ErrorResponse or NoticeResponse. Unknown fields are skipped, as the protocol
// asks; a number that is none reads as 0. A body that is not of that form is an error.
func ParseError(body []byte) (*Error, error) {
	e := &Error{}
	for {
		if len(body) == 0 {
			return nil, malformed("ErrorResponse")
		}
		field := body[0]
		if field == 0 {
			return e, nil
		}
		end := bytes.IndexByte(body[1:], 0)
		if end < 0 {
			return nil, malformed("ErrorResponse")
		}
		e.set(field, string(body[1:1+end]))
		body = body[end+2:]
	}
}

func (e *Error) set(field byte, value string) {
	switch field {
	case 'S':
		e.Severity = value
	case 'V':
		e.SeverityV = value
	case 'C':
		e.Code = value
	case 'M':
		e.Message = value
	case 'D':
		e.Detail = value
	case 'H':
		e.Hint = value
	case 'P':
		e.Position = number(value)
	case 'p':
		e.InternalPosition = number(value)
	case 'q':
		e.InternalQuery = value
	case 'W':
		e.Where = value
	case 's':
		e.Schema = value
	case 't':
		e.Table = value
	case 'c':
		e.Column = value
	case 'd':
		e.DataType = value
	case 'n':
		e.Constraint = value
	case 'F':
		e.File = value
	case 'L':
		e.Line = number(value)
	case 'R':
		e.Routine = value
	}
}

func number(s string) int {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0
	}
	return int(n)
}

// malformed is the error for a message whose body is not of the form that its type asks for.
func malformed(message string) *Error {
	return &Error{
		Severity: SeverityFatal, Code: "08P01", Message: "invalid message format",
		Detail: "The " + message + " message is malformed.",
	}
}
