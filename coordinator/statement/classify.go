package statement

import (
	"strings"
	"unicode"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// classify tells what one statement is. text is its own part of the client's text.
func classify(node *pg.Node, text string) Statement {
	st := Statement{Transactional: true}
	inner := node.ProtoReflect().WhichOneof(node.ProtoReflect().Descriptor().Oneofs().ByName("node"))
	if inner == nil {
		st.Reason = "the statement is not known"
		return st
	}
	m := node.ProtoReflect().Get(inner).Message().Interface()
	var f findings
	f.walk(m, true)
	st.Functions = f.functions
	st.setConfig = len(f.calls) > 0
	st.Tag = tagOf(string(m.ProtoReflect().Descriptor().Name()))

	switch n := m.(type) {
	case *pg.SelectStmt:
		selects(&st, n, &f)
	case *pg.InsertStmt, *pg.UpdateStmt, *pg.DeleteStmt, *pg.MergeStmt:
		st.Kind, st.Reason = Write, st.Tag+" changes data"
	case *pg.TransactionStmt:
		transaction(&st, n)
	case *pg.VariableSetStmt:
		variable(&st, n, text)
	case *pg.VariableShowStmt:
		st.Kind, st.Read, st.SessionSettings = Show, true, true
		st.Name = lower(n.GetName())
		if st.Name == "transaction_read_only" || st.Name == "in_hot_standby" {
			st.Read, st.Reason = false, "SHOW "+st.Name+" asks for the server's role"
		}
	case *pg.ExplainStmt:
		explain(&st, n, &f)
	case *pg.CopyStmt:
		copies(&st, n, &f)
	case *pg.CreateTableAsStmt:
		st.Kind, st.Reason = Write, st.Tag+" makes a table"
		if n.GetIsSelectInto() {
			st.Tag, st.Reason = "SELECT INTO", "SELECT INTO makes a table"
		}
	case *pg.DeclareCursorStmt:
		declares(&st, n, &f)
	case *pg.FetchStmt:
		st.Kind, st.Name, st.Read = Fetch, n.GetPortalname(), true
	case *pg.ClosePortalStmt:
		st.Kind, st.Name, st.All, st.Read = CloseCursor, n.GetPortalname(), n.GetPortalname() == "", true
	default:
		sessionStatement(&st, m)
	}
	pins(&st, m, &f)
	st.ChangesFunctions = changesFunctions(m)
	st.Transactional = transactional(m)
	return st
}

// selects handles SELECT, VALUES and TABLE.
func selects(st *Statement, n *pg.SelectStmt, f *findings) {
	st.Kind, st.Tag = Read, "SELECT"
	switch {
	case f.changes != "", f.locks && f.into == nil:
		st.Kind = Write
	case f.into != nil:
		st.Kind, st.Tag = Write, "SELECT INTO"
	}
	readUnless(st, n, f)
}

// readUnless makes the statement a read, or says what was found in it that no standby can do, or that each server answers
// differently. n is the SELECT that it is, nil if it only contains one.
func readUnless(st *Statement, n *pg.SelectStmt, f *findings) {
	st.Reason = f.noRead()
	if st.Reason == "" {
		st.Read = true
		setConfig(st, n, f)
	}
}

// noRead says why what was found is not a read; "" if it is one.
func (f *findings) noRead() string {
	switch {
	case f.changes != "":
		return "data-modifying CTE (" + f.changes + ")"
	case f.into != nil:
		return "SELECT INTO makes a table"
	case f.locks:
		return "SELECT ... FOR UPDATE or SHARE locks rows"
	case f.oneServer != "":
		return f.oneServer + " shows the state of one server"
	}
	return ""
}

func explain(st *Statement, n *pg.ExplainStmt, f *findings) {
	st.Kind, st.Tag = Explain, "EXPLAIN"
	analyze := false
	for _, o := range n.GetOptions() {
		if d := o.GetDefElem(); lower(d.GetDefname()) == "analyze" {
			analyze = !isOff(d.GetArg())
		}
	}
	_, isSelect := n.GetQuery().GetNode().(*pg.Node_SelectStmt)
	switch {
	case isSelect && f.noRead() == "":
		readUnless(st, nil, f)
	case f.executes:
		st.Reason = "EXPLAIN EXECUTE needs the statement prepared earlier"
	case analyze:
		st.Reason = "EXPLAIN ANALYZE runs a statement that is not a read"
	default:
		st.Reason = "EXPLAIN of a statement that is not a read"
	}
}

// isOff follows defGetBoolean (src/backend/commands/define.c): no value means true.
func isOff(arg *pg.Node) bool {
	switch {
	case arg == nil:
		return false
	case arg.GetInteger() != nil:
		return arg.GetInteger().GetIval() == 0
	case arg.GetBoolean() != nil:
		return !arg.GetBoolean().GetBoolval()
	}
	s := lower(arg.GetString_().GetSval())
	return s == "false" || s == "off"
}

func copies(st *Statement, n *pg.CopyStmt, f *findings) {
	st.Kind, st.Tag = Copy, "COPY"
	inline := n.GetFilename() == "" && !n.GetIsProgram()
	_, isSelect := n.GetQuery().GetNode().(*pg.Node_SelectStmt)
	switch {
	case n.GetIsFrom():
		st.Reason = "COPY FROM changes data"
	case !inline:
		st.Reason = "COPY TO writes a file of the server"
	case f.changes != "" || n.GetQuery() != nil && !isSelect:
		st.Reason = "COPY of a statement that changes data"
	default:
		readUnless(st, nil, f)
	}
	switch {
	case inline && n.GetIsFrom():
		st.Copy = "in"
	case inline:
		st.Copy = "out"
	}
}

// cursorHold is CURSOR_OPT_HOLD of src/include/nodes/parsenodes.h.
const cursorHold = 0x0020

func declares(st *Statement, n *pg.DeclareCursorStmt, f *findings) {
	st.Kind, st.Tag, st.Name = Declare, "DECLARE CURSOR", n.GetPortalname()
	if n.GetOptions()&cursorHold != 0 {
		st.Pin = "WITH HOLD cursor"
		return
	}
	readUnless(st, nil, f)
}

func transaction(st *Statement, n *pg.TransactionStmt) {
	st.Chain = n.GetChain()
	switch n.GetKind() {
	case pg.TransactionStmtKind_TRANS_STMT_BEGIN, pg.TransactionStmtKind_TRANS_STMT_START:
		st.Kind, st.Tag = Begin, "BEGIN"
		st.Isolation, st.ReadOnly = transactionModes(n.GetOptions())
		readIfModesAllow(st)
	case pg.TransactionStmtKind_TRANS_STMT_COMMIT:
		st.Kind, st.Tag, st.Read = Commit, "COMMIT", true
	case pg.TransactionStmtKind_TRANS_STMT_ROLLBACK:
		st.Kind, st.Tag, st.Read = Rollback, "ROLLBACK", true
	case pg.TransactionStmtKind_TRANS_STMT_SAVEPOINT:
		st.Kind, st.Tag, st.Read, st.Name = Savepoint, "SAVEPOINT", true, n.GetSavepointName()
	case pg.TransactionStmtKind_TRANS_STMT_RELEASE:
		st.Kind, st.Tag, st.Read, st.Name = Release, "RELEASE", true, n.GetSavepointName()
	case pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_TO:
		st.Kind, st.Tag, st.Read, st.Name = RollbackTo, "ROLLBACK TO SAVEPOINT", true, n.GetSavepointName()
	case pg.TransactionStmtKind_TRANS_STMT_PREPARE:
		st.Kind, st.Tag, st.Reason, st.Name = PrepareTransaction, "PREPARE TRANSACTION", "PREPARE TRANSACTION", n.GetGid()
	case pg.TransactionStmtKind_TRANS_STMT_COMMIT_PREPARED:
		st.Kind, st.Tag, st.Reason, st.Name = Write, "COMMIT PREPARED", "COMMIT PREPARED", n.GetGid()
	case pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_PREPARED:
		st.Kind, st.Tag, st.Reason, st.Name = Write, "ROLLBACK PREPARED", "ROLLBACK PREPARED", n.GetGid()
	default:
		st.Reason = "the statement is not known"
	}
}

// readIfModesAllow: a standby runs neither serializable nor READ WRITE transactions.
func readIfModesAllow(st *Statement) {
	st.Read, st.Reason = false, ""
	switch {
	case st.Isolation == "serializable":
		st.Reason = "a standby runs no SERIALIZABLE transactions"
	case st.ReadOnly != nil && !*st.ReadOnly:
		st.Reason = "the transaction is declared READ WRITE"
	default:
		st.Read = true
	}
}

func transactionModes(options []*pg.Node) (isolation string, readOnly *bool) {
	for _, o := range options {
		d := o.GetDefElem()
		switch d.GetDefname() {
		case "transaction_isolation":
			isolation = lower(d.GetArg().GetAConst().GetSval().GetSval())
		case "transaction_read_only":
			v := d.GetArg().GetAConst().GetIval().GetIval() != 0
			readOnly = &v
		}
	}
	return isolation, readOnly
}

// tagOf makes "CREATE EXTENSION" of "CreateExtensionStmt"; the few whose node is named otherwise are listed.
func tagOf(node string) string {
	switch node {
	case "CreateStmt":
		return "CREATE TABLE"
	case "IndexStmt":
		return "CREATE INDEX"
	case "ViewStmt":
		return "CREATE VIEW"
	case "RuleStmt":
		return "CREATE RULE"
	case "DefineStmt", "CompositeTypeStmt":
		return "CREATE TYPE"
	case "CreateSeqStmt":
		return "CREATE SEQUENCE"
	case "CreateTrigStmt":
		return "CREATE TRIGGER"
	case "CreatedbStmt":
		return "CREATE DATABASE"
	case "DropdbStmt":
		return "DROP DATABASE"
	case "RenameStmt":
		return "ALTER ... RENAME"
	case "ConstraintsSetStmt":
		return "SET CONSTRAINTS"
	case "CheckPointStmt":
		return "CHECKPOINT"
	case "VariableSetStmt":
		return "SET"
	case "VariableShowStmt":
		return "SHOW"
	}
	var b strings.Builder
	for i, r := range strings.TrimSuffix(node, "Stmt") {
		if i > 0 && unicode.IsUpper(r) {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}

// lower folds ASCII letters only, as PostgreSQL compares names of settings (guc_name_compare).
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
