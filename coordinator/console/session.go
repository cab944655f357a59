package console

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/multicoord/multicoord/coordinator/wire"
)

// session is a client that has logged in. All fields are its goroutine's but ending.
type session struct {
	*console
	conn net.Conn
	in   *wire.Reader
	out  []byte
	user string
	// params are the settings that it may ask for; reported ones were told at the beginning.
	params map[string]string
	// status of the transaction: 'I', 'T' or 'E'.
	status     byte
	statements map[string]*command // nil value: the empty statement
	portals    map[string]*portal
	// skip: an error in the extended protocol; everything up to Sync is ignored.
	skip bool

	mu     sync.Mutex // guards ending, and with it the deadlines
	ending bool
}

// flushAt is the size at which an answer is sent though more of it follows.
const flushAt = 64 << 10

func newSession(c *console, conn net.Conn, startup wire.Startup) *session {
	s := &session{
		console: c, conn: conn, in: wire.NewReader(conn, maxMessage), user: startup.Params["user"], status: 'I',
		statements: map[string]*command{}, portals: map[string]*portal{},
		params: map[string]string{
			"bytea_output": "hex", "client_min_messages": "notice", "default_transaction_isolation": "read committed", "extra_float_digits": "1",
			"idle_in_transaction_session_timeout": "0", "jit": "off", "lock_timeout": "0", "row_security": "on", "search_path": `"$user", public`,
			"server_version_num": "150000", "statement_timeout": "0", "synchronize_seqscans": "on", "transaction_isolation": "read committed",
			"transaction_read_only": "off",
		},
	}
	s.out = wire.AppendAuthenticationOK(s.out)
	for _, p := range [][2]string{
		{"application_name", startup.Params["application_name"]},
		{"client_encoding", "UTF8"},
		{"datestyle", "ISO, MDY"},
		{"default_transaction_read_only", "off"},
		{"in_hot_standby", "off"},
		{"integer_datetimes", "on"},
		{"intervalstyle", "postgres"},
		{"is_superuser", "on"},
		{"server_encoding", "UTF8"},
		{"server_version", "15.0 (multicoord " + c.cfg.Version + ")"},
		{"session_authorization", s.user},
		{"standard_conforming_strings", "on"},
		{"timezone", "UTC"},
	} {
		s.params[p[0]] = p[1]
		s.out = wire.AppendParameterStatus(s.out, reportedName(p[0]), p[1])
	}
	pid, secret := cancelKey(startup.Protocol)
	s.out = wire.AppendBackendKeyData(s.out, pid, secret)
	s.out = wire.AppendReady(s.out, s.status)
	return s
}

// reportedName is how PostgreSQL writes the names that are not in lower case; drivers look for them as they are.
func reportedName(name string) string {
	switch name {
	case "datestyle":
		return "DateStyle"
	case "intervalstyle":
		return "IntervalStyle"
	case "timezone":
		return "TimeZone"
	}
	return name
}

// run answers messages until the client goes or ctx ends.
func (s *session) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.end)
	defer stop()
	for {
		if !s.in.Ready() {
			if err := s.flush(); err != nil {
				return err
			}
		}
		f, err := s.in.Next()
		if err == nil && ctx.Err() == nil {
			if f.Type == 'X' {
				return nil
			}
			err = s.message(ctx, f)
		}
		if ctx.Err() != nil {
			return s.farewell(wire.Fatal("57P01", "terminating connection because the router is shutting down"))
		}
		var tooLong *wire.MessageTooLongError
		var e *wire.Error
		switch {
		case err == nil:
		case errors.As(err, &tooLong):
			return s.farewell(wire.Fatal("54000", "message of %d bytes is longer than the console takes (%d bytes)", tooLong.Size, tooLong.Max))
		case errors.As(err, &e):
			return s.farewell(e)
		default:
			return err
		}
	}
}

// end interrupts a wait for the client, and gives it a moment to read the rest.
func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
	_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	_ = s.conn.SetWriteDeadline(time.Now().Add(farewellTimeout))
}

func (s *session) farewell(e *wire.Error) error {
	s.out = e.Append(s.out)
	return errors.Join(e, s.flush())
}

func (s *session) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	s.mu.Lock()
	if !s.ending {
		if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			s.mu.Unlock()
			return fmt.Errorf("set deadline: %w", err)
		}
	}
	s.mu.Unlock()
	_, err := s.conn.Write(s.out)
	s.out = s.out[:0]
	if cap(s.out) > 4*flushAt {
		s.out = nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the client does not read its answer: %w", err)
	}
	return err
}

// message answers one message. An error ends the session; one for the client goes into the answer.
func (s *session) message(ctx context.Context, f wire.Frame) error {
	if s.skip && f.Type != 'S' {
		return nil
	}
	switch f.Type {
	case 'Q':
		return s.query(ctx, f.Body())
	case 'P', 'B', 'D', 'E', 'C':
		e, err := s.extended(ctx, f)
		if e != nil {
			s.fail(e)
			s.skip = true
		}
		return err
	case 'S':
		s.skip = false
		s.ready()
		return nil
	case 'H':
		return s.flush()
	case 'F':
		s.fail(wire.Errorf("0A000", "this console has no functions"))
		s.ready()
		return nil
	case 'd', 'c', 'f':
		return nil // what is left of a COPY; PostgreSQL ignores it too
	default:
		return wire.Fatal("08P01", "invalid frontend message type %d", f.Type)
	}
}

// fail tells the client about an error.
func (s *session) fail(e *wire.Error) {
	s.out = e.Append(s.out)
	if s.status == 'T' {
		s.status = 'E'
	}
}

// query answers a Query message: all its statements, up to the first error.
func (s *session) query(ctx context.Context, body []byte) error {
	sql, err := wire.QueryText(body)
	if err != nil {
		return err
	}
	commands, e := s.parse(string(sql))
	switch {
	case e != nil:
		s.fail(e)
	case len(commands) == 0:
		s.out = wire.AppendEmptyQuery(s.out)
	}
	for _, c := range commands {
		if c.param {
			s.fail(wire.Errorf("42P02", "there is no parameter $1"))
			break
		}
		rows, tag, e := s.do(ctx, c)
		if e != nil {
			s.fail(e)
			break
		}
		if cols := c.columns(); cols != nil {
			s.out = wire.AppendRowDescription(s.out, describe(cols, nil))
			if err := s.rows(rows, nil); err != nil {
				return err
			}
		}
		s.out = wire.AppendCommandComplete(s.out, tag)
	}
	s.ready()
	return nil
}

// ready ends a turn. Portals live as long as their transaction.
func (s *session) ready() {
	if s.status == 'I' {
		clear(s.portals)
	}
	s.out = wire.AppendReady(s.out, s.status)
}

// parse understands all the statements of a string, or none of them.
func (s *session) parse(sql string) ([]command, *wire.Error) {
	statements, e := split(sql)
	if e != nil {
		return nil, e
	}
	commands := make([]command, 0, len(statements))
	for _, ts := range statements {
		c, e := s.grammar.understand(ts)
		if e != nil {
			return nil, e
		}
		commands = append(commands, c)
	}
	return commands, nil
}

func (s *session) rows(rows [][]any, formats []int16) error {
	for _, row := range rows {
		s.out = appendRow(s.out, row, formats)
		if len(s.out) >= flushAt {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}
