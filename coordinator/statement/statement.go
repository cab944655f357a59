package statement

import "strings"

// Kind tells what sort of statement it is, as far as a router is concerned.
type Kind uint8

// The kinds. A statement that has no kind of its own is Write when it is known to change data or definitions, and
// Other when nothing is known; both go to the primary.
const (
	Other Kind = iota
	// Read is a SELECT, VALUES or TABLE that by its form changes nothing; its functions may.
	Read
	// Write is INSERT, UPDATE, DELETE, MERGE, a SELECT that holds one of them or locks rows, and all DDL.
	Write
	Begin
	Commit
	Rollback
	Savepoint
	RollbackTo
	Release
	// PrepareTransaction is the first phase of a two-phase commit; it ends the session's transaction.
	PrepareTransaction
	Set
	Reset
	Show
	Discard
	// Prepare, Execute and Deallocate are the SQL statements, not the protocol's messages.
	Prepare
	Execute
	Deallocate
	Explain
	Copy
	// Declare, Fetch (with MOVE) and CloseCursor belong to SQL-level cursors.
	Declare
	Fetch
	CloseCursor
	Listen
	Unlisten
	Notify
	Lock
	Call
	// Do is an anonymous code block.
	Do
)

var kindNames = [...]string{
	"OTHER", "READ", "WRITE", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "ROLLBACK TO", "RELEASE",
	"PREPARE TRANSACTION", "SET", "RESET", "SHOW", "DISCARD", "PREPARE", "EXECUTE", "DEALLOCATE", "EXPLAIN", "COPY",
	"DECLARE", "FETCH", "CLOSE", "LISTEN", "UNLISTEN", "NOTIFY", "LOCK", "CALL", "DO",
}

// String gives the kind in the words of SQL.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Other]
}

// Function is a function or an operator that a statement calls.
type Function struct {
	// Schema is empty when the call is not qualified.
	Schema string
	Name   string
	// Args is the number of arguments written in the call; 0 for operators.
	Args int
	// Operator tells that Name is an operator such as "=".
	Operator bool
}

// String gives the name as it would be called.
func (f Function) String() string {
	s := f.Name
	if f.Schema != "" {
		s = f.Schema + "." + s
	}
	if f.Operator {
		return "operator " + s
	}
	return s + "()"
}

// Setting is a change of one setting of the session.
type Setting struct {
	// Name is in lower case; "all" for RESET ALL.
	Name string
	// Value is the value as text, the elements of a list joined by ", "; empty when Default.
	Value string
	// Default tells that the setting goes back to the session's default (RESET, SET … TO DEFAULT).
	Default bool
	// SQL brings the setting about on another server connection. It is a single statement.
	SQL string
}

// PrimaryOnly tells that as long as the setting is in force the session's statements must all go to the primary:
// no standby runs serializable transactions, and with backslash escapes in plain strings or a client encoding whose
// characters may hold a quote's byte the server reads another text than the grammar here does.
func (s Setting) PrimaryOnly() bool {
	if s.Default {
		return false
	}
	v := strings.ToLower(strings.TrimSpace(s.Value))
	switch s.Name {
	case "default_transaction_isolation":
		return v == "serializable"
	case "standard_conforming_strings":
		return !isTrue(v)
	case "client_encoding":
		return !SafeEncoding(v)
	}
	return false
}

// isTrue follows parse_bool (src/backend/utils/adt/bool.c) for lower-case values: unique prefixes are accepted.
func isTrue(v string) bool {
	switch v {
	case "1", "on", "t", "tr", "tru", "true", "y", "ye", "yes":
		return true
	}
	return false
}

// SafeEncoding tells whether in a client encoding every byte below 0x80 stands for itself, so that quotes can be
// found without knowing the encoding. Client-only encodings are not safe (src/include/mb/pg_wchar.h,
// PG_ENCODING_BE_LAST); an unknown name is not safe either.
func SafeEncoding(name string) bool {
	n := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return -1
	}, name)
	switch n {
	case "utf8", "unicode", "sqlascii", "eucjp", "euccn", "euckr", "euctw", "eucjis2004", "muleinternal",
		"koi8", "koi8r", "koi8u", "alt", "win", "abc", "tcvn", "tcvn5712", "vscii":
		return true
	}
	for _, p := range []string{"latin", "iso8859", "win1", "win8", "windows12", "windows8"} {
		if strings.HasPrefix(n, p) {
			return true
		}
	}
	return false
}

// Statement is one statement of a text.
type Statement struct {
	Kind Kind
	// Tag names the statement for people: "SELECT", "CREATE TABLE".
	Tag string
	// Read: surely a read, provided that Functions are all harmless. Statements that change nothing but the
	// session or its transaction (BEGIN READ ONLY, COMMIT, SET, CLOSE, …) count as reads: a standby runs them too.
	Read bool
	// Reason says why it is not a read; empty when Read.
	Reason string
	// Pin says why the session must keep its server connection after the statement succeeded; "" when it need not.
	// A statement that pins is never a read, so pinned connections are the primary's.
	Pin string
	// PinOutsideBlock: the pin is needed only when the statement ran outside a transaction block.
	PinOutsideBlock bool
	// SessionState names what the answer depends on that earlier statements left in the same server connection
	// ("currval()"). Outside a transaction block an unpinned session has no such state: the router should refuse.
	SessionState string
	// Unpin: DISCARD ALL leaves nothing to keep.
	Unpin bool
	// ReadOnly is set by READ ONLY and READ WRITE of BEGIN, START TRANSACTION and SET TRANSACTION.
	ReadOnly *bool
	// Isolation is "read uncommitted", "read committed", "repeatable read", "serializable" or "" (not given).
	Isolation string
	// Chain: COMMIT or ROLLBACK AND CHAIN.
	Chain bool
	// Name is the variable of SET, RESET and SHOW (lower case; "all"), or the name of a savepoint, a prepared
	// statement ("all" for DEALLOCATE ALL, see All), a cursor, or DISCARD's target ("all", "plans", …).
	Name string
	// All tells DEALLOCATE ALL and CLOSE ALL from names that happen to be "all".
	All bool
	// Value and Values are what SET sets, as one text and element by element.
	Value  string
	Values []string
	// Local: the effect ends with the transaction (SET LOCAL, SET TRANSACTION); nothing to carry.
	Local bool
	// Default: SET … TO DEFAULT, and RESET.
	Default bool
	// SetSQL brings the setting about on another connection, canonical and quoted; "" when it cannot be carried by
	// one statement (see Settings) or when there is nothing to carry.
	SetSQL string
	// Settings lists all settings of the session that the statement changes and that can be carried; more than one
	// for SET SESSION CHARACTERISTICS and for SELECT set_config(…), set_config(…).
	Settings []Setting
	// SessionSettings: the answer shows the session's settings (SHOW, current_setting()), so they must have been
	// carried to the server that answers.
	SessionSettings bool
	// Functions are the functions and operators called anywhere in the statement, each once.
	Functions []Function
	// Route is the hint of a leading comment, /* route: primary */: "primary", "standby", "eventual", "session",
	// "strong", or "" (none, or not one of these).
	Route string
	// Copy is "in" for COPY FROM STDIN, "out" for COPY TO STDOUT, "" otherwise.
	Copy string
	// Transactional is false for what cannot run in a transaction block (VACUUM, CREATE DATABASE, …).
	Transactional bool
	// ChangesFunctions: functions, operators or schemas may differ afterwards; time to read the Catalog again.
	ChangesFunctions bool
	setConfig        bool // calls set_config(), whose arguments decide
	// Start and End are the statement's byte range in the text, comments before it included, the semicolon not.
	// Both are zero when the text holds one statement: an Info is shared between texts of different length then.
	Start, End int
}

// Info is what is known about a text. It is shared between callers and must not be changed.
type Info struct {
	// Statements is empty for a text without statements (only blanks, comments, semicolons), which any server may
	// answer, and when Err is set.
	Statements []Statement
	// Err tells why the text was not analysed: it goes to the primary as it is.
	Err error
	// Route is the first statement's hint.
	Route string
	// PinIfAccepted is set when Err is: why the session should keep its server connection if the server, which may
	// know more syntax than we do, ran the text without an error.
	PinIfAccepted string
	// Backslash: a plain string holds a backslash, so that the text means something else when the session has set
	// standard_conforming_strings to off.
	Backslash bool

	memo memo
}

// Text gives the i-th statement's text, sql being what the Info was made from.
func (i *Info) Text(sql string, n int) string {
	st := &i.Statements[n]
	if st.End == 0 || st.End > len(sql) || st.Start > st.End {
		return sql
	}
	return sql[st.Start:st.End]
}

// Pin gives the first statement's reason to keep the server connection, "" when there is none. A DISCARD ALL after
// the reason takes it back.
func (i *Info) Pin() string {
	pin := ""
	for n := range i.Statements {
		st := &i.Statements[n]
		switch {
		case st.Unpin:
			pin = ""
		case pin == "":
			pin = st.Pin
		}
	}
	return pin
}

// Unpin tells that after the text nothing is left to keep in the server connection.
func (i *Info) Unpin() bool {
	for n := len(i.Statements) - 1; n >= 0; n-- {
		st := &i.Statements[n]
		if st.Pin != "" {
			return false
		}
		if st.Unpin {
			return true
		}
	}
	return false
}
