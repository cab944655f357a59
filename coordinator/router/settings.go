package router

import (
	"strings"

	"github.com/multicoord/multicoord/coordinator/pool"
	"github.com/multicoord/multicoord/coordinator/statement"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// options are the session's own settings of the router, which no server knows.
type options struct {
	// consistency is empty while the router's default holds.
	consistency cluster.Consistency
	// notice sends a NOTICE with the route of each statement.
	notice bool
}

// state is what SET changes and a rollback restores: what the session wants, what its server connection has (only
// while one is held), and the router's options.
type state struct {
	want, have *pool.Settings
	options    options
}

// transaction follows the session's settings through transactions and savepoints, statement by statement as the server
// completes them. It mirrors what guc.c does: settings of a transaction that rolls back, explicit or implicit, are
// undone.
//
// begin is nil until something changes, so that a transaction without SET costs nothing.
type transaction struct {
	state
	started state    // what RESET and DISCARD ALL go back to
	begin   *state   // before the first change of the transaction
	local   *options // of SET LOCAL, until the end of the transaction
	saves   []savepoint
	// localScope is what SET LOCAL has made of the transaction's search_path and role; redefined tells that the
	// transaction has changed definitions.
	localScope string
	redefined  bool
	// murky: code that cannot be looked into has run, which may have changed settings of the server session.
	murky bool
}

type savepoint struct {
	name string
	state
}

// change is called before state is changed.
func (t *transaction) change() {
	if t.begin == nil {
		s := t.state
		t.begin = &s
	}
}

// rollback undoes the transaction's changes.
func (t *transaction) rollback() {
	if t.begin != nil {
		t.state = *t.begin
	}
	t.end()
}

// current are the options in force.
func (t *transaction) current() options {
	if t.local != nil {
		return *t.local
	}
	return t.options
}

// murk tells whether a text runs code that may change settings unseen: functions of the database's own that are volatile,
// procedures, DO, and what was not understood.
func (s *session) murk(info *statement.Info) bool {
	if info.Err != nil {
		return true
	}
	for i := range info.Statements {
		st := &info.Statements[i]
		if st.Kind == statement.Call || st.Kind == statement.Do {
			return true
		}
		for _, f := range st.Functions {
			if !f.Operator && f.Schema != "pg_catalog" && s.ownVolatile(f) {
				return true
			}
		}
	}
	return false
}

// ownVolatile tells whether f may be a volatile function that is not PostgreSQL's.
func (s *session) ownVolatile(f statement.Function) bool {
	c := s.catalog.catalog.Load()
	if c == nil {
		return true
	}
	if volatile, known := c.Volatile(f); known && !volatile {
		return false
	}
	f.Schema = "pg_catalog"
	volatile, known := c.Volatile(f)
	return !known || !volatile
}

// surelyMade tells that the server session can be given its settings without a chance of an error: it is reset, and
// what is set is checked by its form alone.
func (t *transaction) surelyMade() bool {
	if t.have.Key() != pool.Unknown().Key() {
		return false
	}
	for _, e := range t.want.List() {
		switch e.Name {
		case "application_name", "client_encoding", "datestyle", "timezone", "extra_float_digits", "search_path",
			"client_min_messages", "statement_timeout":
		default:
			return false
		}
	}
	return true
}

// end keeps the transaction's changes.
func (t *transaction) end() {
	t.begin, t.local, t.localScope = nil, nil, ""
	t.saves = t.saves[:0]
}

// complete takes one statement's success in; tag is the server's command tag.
func (t *transaction) complete(st *statement.Statement, tag string) {
	switch st.Kind {
	case statement.Commit, statement.PrepareTransaction:
		if tag == "ROLLBACK" { // the transaction had failed
			t.rollback()
			return
		}
		t.end()
	case statement.Rollback:
		t.rollback()
	case statement.Savepoint:
		t.saves = append(t.saves, savepoint{name: st.Name, state: t.state})
	case statement.RollbackTo:
		if i := t.find(st.Name); i >= 0 {
			t.change()
			t.state = t.saves[i].state
			t.saves = t.saves[:i+1]
		}
	case statement.Release:
		if i := t.find(st.Name); i >= 0 {
			t.saves = t.saves[:i]
		}
	case statement.Discard:
		if st.Unpin {
			t.change()
			t.want, t.have, t.options = t.started.want, nil, t.started.options
		}
	default:
		if st.Local {
			switch st.Name {
			case "search_path", "role", "session_authorization":
				t.localScope += st.Name + "=" + st.Value + ";"
			}
		}
		for i := range st.Settings {
			t.set(&st.Settings[i])
		}
		if st.Kind == statement.Reset && len(st.Settings) == 0 && st.Name == "all" {
			t.resetAll()
		}
	}
}

func (t *transaction) find(name string) int {
	for i := len(t.saves) - 1; i >= 0; i-- {
		if t.saves[i].name == name {
			return i
		}
	}
	return -1
}

// own is the prefix of the router's settings.
const own = "multicoord."

func (t *transaction) set(s *statement.Setting) {
	switch {
	case strings.HasPrefix(s.Name, own):
		t.change()
		_ = t.options.set(s.Name, s.Value, s.Default, t.started.options)
	case s.Name == "all":
		t.resetAll()
	case s.Default:
		t.change()
		t.have = t.have.Without(s.Name)
		t.want = t.want.Without(s.Name)
		if sql, ok := t.started.want.Lookup(s.Name); ok {
			t.want = t.want.With(pool.Setting{Name: s.Name, SQL: sql})
		}
	default:
		t.change()
		e := pool.Setting{Name: s.Name, SQL: s.SQL, Primary: s.PrimaryOnly()}
		t.have, t.want = t.have.With(e), t.want.With(e)
		if s.Name == "session_authorization" { // it resets the role
			t.have, t.want = t.have.Without("role"), t.want.Without("role")
		}
	}
}

func (t *transaction) resetAll() {
	t.change()
	kept := t.want.Reset()
	t.have = t.have.Reset()
	for _, e := range t.started.want.List() {
		if _, ok := kept.Lookup(e.Name); !ok && e.Name != "role" && e.Name != "session_authorization" {
			kept = kept.With(e)
		}
	}
	t.want, t.options = kept, t.started.options
}

// set changes one of the router's settings; it reports an unknown name or value.
func (o *options) set(name, value string, reset bool, start options) error {
	v := strings.ToLower(strings.TrimSpace(value))
	switch strings.TrimPrefix(name, own) {
	case "consistency":
		c := cluster.Consistency(v)
		switch {
		case reset || v == "default":
			o.consistency = start.consistency
		case c == cluster.Eventual || c == cluster.Session || c == cluster.Strong:
			o.consistency = c
		default:
			return invalidValue(name, value, "Available values: eventual, session, strong.")
		}
	case "notice_route":
		on, ok := parseBool(v)
		switch {
		case reset || v == "default":
			o.notice = start.notice
		case ok:
			o.notice = on
		default:
			return invalidValue(name, value, "Available values: on, off.")
		}
	default:
		return unknownParameter(name)
	}
	return nil
}

// parseBool follows parse_bool (src/backend/utils/adt/bool.c) for lower-case values.
func parseBool(v string) (on, ok bool) {
	switch {
	case v == "":
		return false, false
	case v == "1", v == "on", beginsWith("true", v), beginsWith("yes", v):
		return true, true
	case v == "0", len(v) > 1 && beginsWith("off", v), beginsWith("false", v), beginsWith("no", v):
		return false, true
	}
	return false, false
}

// beginsWith tells whether part is the word or an abbreviation of it.
func beginsWith(word, part string) bool { return strings.HasPrefix(word, part) }
