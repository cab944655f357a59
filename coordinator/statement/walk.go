package statement

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// findings is what a walk through a whole parse tree has met, at any depth.
type findings struct {
	functions []Function
	seen      map[Function]bool // what is in functions, when they are many
	calls     []*pg.FuncCall    // those of set_config
	changes   string            // "INSERT", … below the top
	locks     bool              // FOR UPDATE, FOR SHARE, …
	into      *pg.IntoClause
	temporary bool   // a name in pg_temp, or a relation to be made as temporary
	oneServer string // a relation that shows the state of one server
	executes  bool   // EXECUTE of a prepared statement
}

// walk visits every message below m. Everything that the grammar can nest is seen, because it goes by reflection:
// a node that a later grammar adds is visited too.
func (f *findings) walk(m proto.Message, top bool) {
	f.visit(m, top)
	f.fields(m.ProtoReflect())
}

func (f *findings) fields(m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Kind() != protoreflect.MessageKind {
			return true
		}
		if fd.IsList() {
			l := v.List()
			f.names(l)
			for i := range l.Len() {
				f.below(l.Get(i).Message())
			}
			return true
		}
		f.below(v.Message())
		return true
	})
}

func (f *findings) below(m protoreflect.Message) {
	f.visit(m.Interface(), false)
	f.fields(m)
}

// names looks for a qualified name in the temporary schema: functions, types, operators and what else is named by a list
// of its parts.
func (f *findings) names(l protoreflect.List) {
	if l.Len() < 2 {
		return
	}
	if n, ok := l.Get(0).Message().Interface().(*pg.Node); ok && isTempSchema(n.GetString_().GetSval()) {
		f.temporary = true
	}
}

func (f *findings) visit(m proto.Message, top bool) {
	switch n := m.(type) {
	case *pg.FuncCall:
		f.call(n)
	case *pg.A_Expr:
		f.expression(n)
	case *pg.SubLink:
		f.operator(n.GetOperName())
	case *pg.SortBy:
		f.operator(n.GetUseOp())
	case *pg.RangeVar:
		f.relation(n)
	case *pg.ColumnRef:
		f.column(n)
	case *pg.InsertStmt:
		f.change("INSERT", top)
	case *pg.UpdateStmt:
		f.change("UPDATE", top)
	case *pg.DeleteStmt:
		f.change("DELETE", top)
	case *pg.MergeStmt:
		f.change("MERGE", top)
	case *pg.LockingClause:
		f.locks = true
	case *pg.IntoClause:
		f.into = n
	case *pg.ExecuteStmt:
		f.executes = true
	}
}

func (f *findings) change(what string, top bool) {
	if !top && f.changes == "" {
		f.changes = what
	}
}

func (f *findings) call(n *pg.FuncCall) {
	schema, name := qualified(n.GetFuncname())
	if name == "" {
		return
	}
	if name == "set_config" {
		f.calls = append(f.calls, n)
	}
	f.add(Function{Schema: schema, Name: name, Args: len(n.GetArgs())})
}

// expression: BETWEEN stands for comparisons (transformAExprBetween in src/backend/parser/parse_expr.c); all other kinds
// name their operator.
func (f *findings) expression(n *pg.A_Expr) {
	switch n.GetKind() {
	case pg.A_Expr_Kind_AEXPR_BETWEEN, pg.A_Expr_Kind_AEXPR_BETWEEN_SYM:
		f.add(Function{Name: ">=", Operator: true})
		f.add(Function{Name: "<=", Operator: true})
	case pg.A_Expr_Kind_AEXPR_NOT_BETWEEN, pg.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM:
		f.add(Function{Name: "<", Operator: true})
		f.add(Function{Name: ">", Operator: true})
	default:
		f.operator(n.GetName())
	}
}

func (f *findings) operator(names []*pg.Node) {
	if schema, name := qualified(names); name != "" {
		f.add(Function{Schema: schema, Name: name, Operator: true})
	}
}

// add keeps each function once; from a few on by a map, since a text may call thousands.
func (f *findings) add(fn Function) {
	if f.seen == nil {
		if slices.Contains(f.functions, fn) {
			return
		}
		if len(f.functions) == 16 {
			f.seen = make(map[Function]bool)
			for _, have := range f.functions {
				f.seen[have] = true
			}
		}
	}
	if f.seen != nil {
		if f.seen[fn] {
			return
		}
		f.seen[fn] = true
	}
	f.functions = append(f.functions, fn)
}

func (f *findings) relation(n *pg.RangeVar) {
	if n.GetRelpersistence() == "t" || isTempSchema(n.GetSchemaname()) {
		f.temporary = true
	}
	if s := n.GetSchemaname(); (s == "" || s == "pg_catalog") && showsOneServer(n.GetRelname()) {
		f.oneServer = n.GetRelname()
	}
}

// column looks for the columns of a sequence read as a table: a standby sees its position ahead of the primary's, because the
// log is written some values in advance (SEQ_LOG_VALS in src/backend/commands/sequence.c).
func (f *findings) column(n *pg.ColumnRef) {
	switch _, name := qualified(n.GetFields()); name {
	case "last_value", "log_cnt", "is_called":
		f.oneServer = "a sequence (" + name + ")"
	}
}

// showsOneServer knows the views of PostgreSQL whose rows tell of the server that is asked, not of the data. Whoever
// asks for them through the router means the primary.
func showsOneServer(relation string) bool {
	switch relation {
	case "pg_locks", "pg_prepared_xacts", "pg_cursors", "pg_prepared_statements", "pg_replication_slots",
		"pg_replication_origin_status", "pg_sequences", "pg_shmem_allocations", "pg_backend_memory_contexts",
		"pg_hba_file_rules", "pg_ident_file_mappings", "pg_file_settings", "pg_aios", "pg_wait_events":
		return true
	}
	return strings.HasPrefix(relation, "pg_stat_") || strings.HasPrefix(relation, "pg_statio_")
}

func isTempSchema(s string) bool {
	return s == "pg_temp" || strings.HasPrefix(s, "pg_temp_")
}

// qualified splits a list of name parts; a database name before the schema is dropped.
func qualified(names []*pg.Node) (schema, name string) {
	if len(names) == 0 {
		return "", ""
	}
	name = names[len(names)-1].GetString_().GetSval()
	if len(names) > 1 {
		schema = names[len(names)-2].GetString_().GetSval()
	}
	return schema, name
}
