package console

import (
	"sort"
	"strings"

	"github.com/multicoord/multicoord/coordinator/wire"
)

// verb is what a command does.
type verb int

const (
	verbShow    verb = iota // a table of the console
	verbValue               // SHOW of a session's parameter
	verbRoute               // SHOW route
	verbReload              // RELOAD
	verbSet                 // SET, RESET: nothing but perhaps application_name
	verbBegin               // BEGIN, START TRANSACTION
	verbEnd                 // COMMIT, END
	verbAbort               // ROLLBACK, ABORT
	verbForget              // DISCARD ALL, DEALLOCATE ALL
	verbNothing             // savepoints and other statements without an effect here
)

// command is one statement, understood.
type command struct {
	verb  verb
	show  *show
	name  string // parameter, or prepared statement to forget
	value string // of SET; statement of SHOW route
	param bool   // the statement of SHOW route is $1
	tag   string
	keep  bool // verbForget: only the statements go
}

// columns of the command's answer; nil when it has none.
func (c command) columns() []column {
	switch c.verb {
	case verbShow:
		return c.show.columns
	case verbValue:
		return []column{{c.name, text}}
	case verbRoute:
		return routeColumns()
	default:
		return nil
	}
}

// understand makes a command of a statement's tokens.
func (g grammar) understand(ts []token) (command, *wire.Error) {
	words := make([]string, len(ts))
	for i, t := range ts {
		words[i] = t.text
		if t.quoted {
			words[i] = "'" + t.text // no keyword
		}
	}
	rest := words[1:]
	switch words[0] {
	case "show":
		return g.understandShow(ts[1:])
	case "help":
		if len(rest) == 0 {
			return g.understandShow([]token{{text: "help"}})
		}
	case "reload":
		if len(rest) == 0 {
			return command{verb: verbReload, tag: "RELOAD"}, nil
		}
	case "set":
		return g.understandSet(ts[1:])
	case "reset":
		return command{verb: verbNothing, tag: "RESET"}, nil
	case "begin":
		return command{verb: verbBegin, tag: "BEGIN"}, nil
	case "start":
		if len(rest) > 0 && rest[0] == "transaction" {
			return command{verb: verbBegin, tag: "START TRANSACTION"}, nil
		}
	case "commit", "end":
		return command{verb: verbEnd, tag: "COMMIT"}, nil
	case "rollback", "abort":
		if len(rest) > 0 && (rest[0] == "to" || len(rest) > 1 && rest[1] == "to") {
			return command{verb: verbNothing, tag: "ROLLBACK"}, nil
		}
		return command{verb: verbAbort, tag: "ROLLBACK"}, nil
	case "savepoint", "release":
		return command{verb: verbNothing, tag: strings.ToUpper(words[0])}, nil
	case "close", "unlisten":
		return command{verb: verbNothing, tag: strings.ToUpper(words[0])}, nil
	case "discard":
		if len(rest) == 1 && rest[0] == "all" {
			return command{verb: verbForget, tag: "DISCARD ALL"}, nil
		}
		return command{verb: verbNothing, tag: "DISCARD"}, nil
	case "deallocate":
		if len(rest) > 0 && rest[0] == "prepare" {
			rest, ts = rest[1:], ts[1:]
		}
		if len(rest) == 1 {
			c := command{verb: verbForget, keep: true, tag: "DEALLOCATE"}
			if rest[0] != "all" {
				c.name = ts[1].text
			}
			return c, nil
		}
	}
	return command{}, g.unknown("syntax error: %s is not a command of this console", quoteTokens(ts))
}

func (g grammar) understandShow(ts []token) (command, *wire.Error) {
	if len(ts) == 0 {
		return command{}, g.unknown("syntax error: SHOW what?")
	}
	name := strings.ToLower(ts[0].text)
	if name == "route" {
		if len(ts) != 2 || !ts[1].quoted && ts[1].text != "$1" {
			e := wire.Errorf("42601", "syntax error in SHOW route")
			e.Hint = "Write SHOW route '<statement>'; quotes within the statement are doubled, or use $$<statement>$$."
			return command{}, e
		}
		return command{verb: verbRoute, value: ts[1].text, param: !ts[1].quoted, tag: "SHOW"}, nil
	}
	if len(ts) == 1 {
		if s, ok := g.shows[name]; ok {
			return command{verb: verbShow, show: s, tag: "SHOW"}, nil
		}
		if _, ok := g.settings[name]; ok {
			return command{verb: verbValue, name: name, tag: "SHOW"}, nil
		}
	}
	if name == "transaction" && len(ts) == 3 { // SHOW TRANSACTION ISOLATION LEVEL
		return command{verb: verbValue, name: "transaction_isolation", tag: "SHOW"}, nil
	}
	return command{}, g.unknown("SHOW %s is not a command of this console", quoteTokens(ts))
}

// understandSet takes what drivers set on their own. A setting that would change an answer is refused unless it asks
// for what the console does anyway.
func (g grammar) understandSet(ts []token) (command, *wire.Error) {
	words := make([]string, 0, len(ts))
	for _, t := range ts {
		words = append(words, strings.ToLower(t.text))
	}
	if len(words) > 1 && (words[0] == "session" || words[0] == "local") {
		words, ts = words[1:], ts[1:]
	}
	set := command{verb: verbSet, tag: "SET"}
	switch {
	case len(words) > 1 && (words[0] == "transaction" || words[0] == "characteristics"):
		return set, nil
	case len(words) > 2 && words[0] == "time" && words[1] == "zone":
		return set, nil
	case len(words) == 2 && words[0] == "names":
		set.name, set.value = "client_encoding", ts[1].text
	case len(words) > 2 && (words[1] == "to" || words[1] == "="):
		set.name = words[0]
		var b strings.Builder
		for _, t := range ts[2:] {
			b.WriteString(t.text)
		}
		set.value = b.String()
	default:
		return command{}, g.unknown("syntax error in SET %s", quoteTokens(ts))
	}
	accepts, ok := g.settings[set.name]
	if !ok {
		e := wire.Errorf("42704", "unrecognized configuration parameter %q", set.name)
		e.Hint = "The router's settings are changed in the spec: orchestrator config set router.<name>=<value>; SHOW config lists them."
		return command{}, e
	}
	if accepts != nil && !strings.EqualFold(set.value, "default") && !accepts(strings.ToLower(set.value)) {
		e := wire.Errorf("0A000", "this console does not support %s = %q", set.name, set.value)
		e.Hint = "It answers in UTF8, with ISO dates and times in UTC."
		return command{}, e
	}
	return set, nil
}

// grammar is what the console understands.
type grammar struct {
	shows map[string]*show
	// settings are those that drivers set and ask for, with what is accepted (nil: anything).
	settings map[string]func(string) bool
}

func newGrammar() grammar {
	g := grammar{shows: map[string]*show{}, settings: map[string]func(string) bool{
		"client_encoding":             oneOf("utf8", "utf-8", "unicode", "sql_ascii"),
		"datestyle":                   func(v string) bool { return strings.HasPrefix(v, "iso") },
		"standard_conforming_strings": oneOf("on", "true", "yes", "1"),
		"transaction_read_only":       nil,
		"transaction_isolation":       nil,
	}}
	for _, name := range []string{
		"application_name", "bytea_output", "client_min_messages", "default_transaction_isolation", "default_transaction_read_only",
		"extra_float_digits", "idle_in_transaction_session_timeout", "in_hot_standby", "integer_datetimes", "intervalstyle", "is_superuser", "jit",
		"lock_timeout", "row_security", "search_path", "server_encoding", "server_version", "server_version_num", "session_authorization",
		"statement_timeout", "synchronize_seqscans", "timezone",
	} {
		g.settings[name] = nil
	}
	for _, s := range shows() {
		g.shows[s.name] = s
	}
	return g
}

func oneOf(values ...string) func(string) bool {
	return func(v string) bool {
		for _, allowed := range values {
			if v == allowed {
				return true
			}
		}
		return false
	}
}

// unknown is the error for what is not understood, with all commands as its hint.
func (g grammar) unknown(format string, args ...any) *wire.Error {
	e := wire.Errorf("42601", format, args...)
	e.Hint = "The commands are: " + strings.Join(g.commands(), ", ") + "."
	return e
}

func (g grammar) commands() []string {
	var names []string
	for name := range g.shows {
		names = append(names, "SHOW "+name)
	}
	sort.Strings(names)
	return append(names, "SHOW route '<statement>'", "RELOAD")
}

// quoteTokens shows the beginning of a statement in a message.
func quoteTokens(ts []token) string {
	var b strings.Builder
	for _, t := range ts {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(t.text)
		if b.Len() > 60 {
			return `"` + strings.ToValidUTF8(b.String()[:60], "") + `…"`
		}
	}
	return `"` + b.String() + `"`
}
