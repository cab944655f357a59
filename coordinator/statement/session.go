package statement

import (
	"regexp"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
)

// sessionStatement handles what acts on the session, and all that is left: statements the grammar knows and which
// are not reads.
func sessionStatement(st *Statement, m proto.Message) {
	switch n := m.(type) {
	case *pg.DiscardStmt:
		st.Kind, st.Tag, st.Read = Discard, "DISCARD", true
		switch n.GetTarget() {
		case pg.DiscardMode_DISCARD_ALL:
			st.Name, st.Unpin = "all", true
		case pg.DiscardMode_DISCARD_PLANS:
			st.Name = "plans"
		case pg.DiscardMode_DISCARD_SEQUENCES:
			st.Name = "sequences"
		case pg.DiscardMode_DISCARD_TEMP:
			st.Name = "temp"
		}
	case *pg.PrepareStmt:
		st.Kind, st.Name, st.Pin = Prepare, n.GetName(), "SQL-level PREPARE"
	case *pg.ExecuteStmt:
		st.Kind, st.Name, st.Reason = Execute, n.GetName(), "EXECUTE runs a statement prepared earlier"
	case *pg.DeallocateStmt:
		st.Kind, st.Name, st.All = Deallocate, n.GetName(), n.GetIsall() || n.GetName() == ""
		st.Reason = "DEALLOCATE acts on this session's prepared statements"
		if st.All {
			st.Name = "all"
		}
	case *pg.ListenStmt:
		st.Kind, st.Name, st.Pin = Listen, n.GetConditionname(), "LISTEN"
	case *pg.UnlistenStmt:
		st.Kind, st.Name, st.All = Unlisten, n.GetConditionname(), n.GetConditionname() == ""
		st.Reason = "UNLISTEN acts on this session's server connection"
	case *pg.NotifyStmt:
		st.Kind, st.Name, st.Reason = Notify, n.GetConditionname(), "NOTIFY is sent by the primary only"
	case *pg.LockStmt:
		st.Kind, st.Reason = Lock, "LOCK takes a lock that others must see"
	case *pg.LoadStmt:
		st.Kind, st.Name, st.Pin = Other, n.GetFilename(), "LOAD"
	case *pg.CallStmt:
		st.Kind, st.Reason = Call, "CALL runs a procedure"
	case *pg.DoStmt:
		st.Kind, st.Reason = Do, "DO runs a code block"
		if changesSession.MatchString(codeOf(n)) {
			st.Pin = "DO block that changes the session"
		}
	default:
		st.Kind, st.Reason = Write, st.Tag+" changes data or definitions"
	}
}

// changesSession finds what in a code block leaves something behind in the session. It looks at words because the
// block may be of any language; it may be wrong in both directions for SQL that a block puts together at run time.
var changesSession = regexp.MustCompile(`(?i)\b(temp|temporary|pg_temp|set_config|listen|pg_try_advisory_lock\w*|` +
	`pg_advisory_lock\w*|setseed|dblink_connect\w*|load|hold)\b|(^|;|'|\b(begin|then|else|loop))\s*(set|prepare)\s`)

func codeOf(n *pg.DoStmt) string {
	code := ""
	for _, a := range n.GetArgs() {
		if d := a.GetDefElem(); d.GetDefname() == "as" {
			code += d.GetArg().GetString_().GetSval()
			for _, i := range d.GetArg().GetList().GetItems() {
				code += i.GetString_().GetSval()
			}
		}
	}
	return code
}

// pins adds what a statement of any kind leaves behind in the session through the names that it uses. It comes
// after Kind and Read are set, and keeps the rule that what pins is not a read.
func pins(st *Statement, m proto.Message, f *findings) {
	for _, fn := range f.functions {
		if fn.Operator {
			continue
		}
		if fn.Name == "current_setting" {
			st.SessionSettings = true
		}
		e, ok := effectOf(fn.Name)
		if !ok || fn.Name == "set_config" && !slices.Contains(st.Functions, fn) { // which the classifier may have dropped
			continue
		}
		if e.state && st.SessionState == "" {
			st.SessionState = fn.Name + "()"
		}
		if st.Pin == "" && e.pin != "" && runsFunctions(m) {
			st.Pin, st.PinOutsideBlock = e.pin, e.state
		} else if st.Pin != "" && e.pin != "" && !e.state {
			st.PinOutsideBlock = false
		}
	}
	if u, ok := m.(*pg.UpdateStmt); ok && st.Pin == "" && setsSettings(u.GetRelation()) {
		st.Pin = "UPDATE pg_settings"
	}
	if f.temporary && !droppedOnCommit(m) && st.Pin == "" {
		st.Pin = "temporary object"
	}
	if st.Pin != "" && st.Read {
		st.Read, st.Reason = false, "keeps its server connection: "+st.Pin
	}
	if st.Pin != "" && st.Reason == "" {
		st.Reason = "keeps its server connection: " + st.Pin
	}
}

// setsSettings: a rule on pg_settings makes set_config() of an UPDATE (src/backend/catalog/system_views.sql).
func setsSettings(r *pg.RangeVar) bool {
	return r.GetRelname() == "pg_settings" && (r.GetSchemaname() == "" || r.GetSchemaname() == "pg_catalog")
}

// runsFunctions is false for definitions, which only mention functions.
func runsFunctions(m proto.Message) bool {
	switch m.(type) {
	case *pg.ViewStmt, *pg.RuleStmt, *pg.CreateStmt, *pg.AlterTableStmt, *pg.CreateFunctionStmt, *pg.CreateTrigStmt,
		*pg.CreatePolicyStmt, *pg.AlterPolicyStmt, *pg.CreateDomainStmt, *pg.AlterDomainStmt:
		return false
	}
	return true
}

// droppedOnCommit: a temporary table made with ON COMMIT DROP leaves nothing behind, and whatever drops, grants or
// comments on a temporary object finds it only in a pinned session.
func droppedOnCommit(m proto.Message) bool {
	switch n := m.(type) {
	case *pg.CreateStmt:
		return n.GetOncommit() == pg.OnCommitAction_ONCOMMIT_DROP
	case *pg.CreateTableAsStmt:
		return n.GetInto().GetOnCommit() == pg.OnCommitAction_ONCOMMIT_DROP
	}
	return false
}

// changesFunctions tells which statements a Catalog may be outdated by.
func changesFunctions(m proto.Message) bool {
	switch n := m.(type) {
	case *pg.CreateFunctionStmt, *pg.AlterFunctionStmt, *pg.DefineStmt, *pg.CreateExtensionStmt, *pg.AlterExtensionStmt,
		*pg.AlterExtensionContentsStmt, *pg.CreateSchemaStmt, *pg.AlterOperatorStmt, *pg.RenameStmt,
		*pg.AlterObjectSchemaStmt, *pg.DropOwnedStmt:
		return true
	case *pg.DropStmt:
		switch n.GetRemoveType() {
		case pg.ObjectType_OBJECT_FUNCTION, pg.ObjectType_OBJECT_PROCEDURE, pg.ObjectType_OBJECT_ROUTINE,
			pg.ObjectType_OBJECT_AGGREGATE, pg.ObjectType_OBJECT_OPERATOR, pg.ObjectType_OBJECT_EXTENSION,
			pg.ObjectType_OBJECT_SCHEMA:
			return true
		}
	}
	return false
}

// transactional is false for what calls PreventInTransactionBlock (src/backend/tcop/utility.c and the commands).
func transactional(m proto.Message) bool {
	switch n := m.(type) {
	case *pg.VacuumStmt:
		return !n.GetIsVacuumcmd()
	case *pg.CreatedbStmt, *pg.DropdbStmt, *pg.CreateTableSpaceStmt, *pg.DropTableSpaceStmt, *pg.AlterSystemStmt:
		return false
	case *pg.AlterDatabaseStmt:
		for _, o := range n.GetOptions() {
			if o.GetDefElem().GetDefname() == "tablespace" {
				return false
			}
		}
	case *pg.IndexStmt:
		return !n.GetConcurrent()
	case *pg.DropStmt:
		return !n.GetConcurrent()
	case *pg.ReindexStmt:
		switch n.GetKind() {
		case pg.ReindexObjectType_REINDEX_OBJECT_SCHEMA, pg.ReindexObjectType_REINDEX_OBJECT_SYSTEM,
			pg.ReindexObjectType_REINDEX_OBJECT_DATABASE:
			return false
		}
		for _, o := range n.GetParams() {
			if d := o.GetDefElem(); d.GetDefname() == "concurrently" && !isOff(d.GetArg()) {
				return false
			}
		}
	case *pg.ClusterStmt:
		return n.GetRelation() != nil
	case *pg.CreateSubscriptionStmt, *pg.DropSubscriptionStmt, *pg.AlterSubscriptionStmt:
		return false
	case *pg.DiscardStmt:
		return n.GetTarget() != pg.DiscardMode_DISCARD_ALL
	case *pg.TransactionStmt:
		return n.GetKind() != pg.TransactionStmtKind_TRANS_STMT_COMMIT_PREPARED &&
			n.GetKind() != pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_PREPARED
	case *pg.AlterTableStmt:
		for _, c := range n.GetCmds() {
			if c.GetAlterTableCmd().GetDef().GetPartitionCmd().GetConcurrent() {
				return false
			}
		}
	}
	return true
}
