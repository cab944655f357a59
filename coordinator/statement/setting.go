package statement

import (
	"slices"
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// variable handles SET and RESET in all their forms.
func variable(st *Statement, n *pg.VariableSetStmt, text string) {
	st.Kind, st.Read = Set, true
	st.Name, st.Local = lower(n.GetName()), n.GetIsLocal()
	switch n.GetKind() {
	case pg.VariableSetKind_VAR_RESET, pg.VariableSetKind_VAR_RESET_ALL:
		st.Kind, st.Tag, st.Default = Reset, "RESET", true
		if n.GetKind() == pg.VariableSetKind_VAR_RESET_ALL {
			st.Name = "all"
		}
		st.carry(Setting{Name: st.Name, Default: true, SQL: "RESET " + quoteName(st.Name)})
	case pg.VariableSetKind_VAR_SET_DEFAULT:
		st.Default = true
		st.carry(Setting{Name: st.Name, Default: true, SQL: "SET " + quoteName(st.Name) + " TO DEFAULT"})
	case pg.VariableSetKind_VAR_SET_VALUE:
		setValue(st, n.GetArgs(), text)
	case pg.VariableSetKind_VAR_SET_MULTI:
		setModes(st, n.GetArgs())
	default:
		st.Read, st.Reason, st.Pin = false, "SET of an unknown form", "SET of an unknown form"
	}
	special(st)
}

// carry notes a change of the session, and gives SetSQL while it is the only one. What is local has nothing to carry.
func (st *Statement) carry(s Setting) {
	if st.Local {
		return
	}
	st.Settings = append(st.Settings, s)
	st.SetSQL = ""
	if len(st.Settings) == 1 {
		st.SetSQL = s.SQL
	}
}

// setValue: elements of a list are sent again as string constants, which is what flatten_set_variable_args
// (src/backend/utils/misc/guc_funcs.c) makes of identifiers and numbers too.
func setValue(st *Statement, args []*pg.Node, text string) {
	sql := "SET " + quoteName(st.Name) + " TO "
	plain := true
	for i, a := range args {
		v, ok := constant(a)
		plain = plain && ok
		st.Values = append(st.Values, v)
		if i > 0 {
			sql += ", "
		}
		sql += quoteLiteral(v)
	}
	st.Value = strings.Join(st.Values, ", ")
	if !plain { // SET TIME ZONE INTERVAL '…' HOUR TO MINUTE: the statement itself is the only way to say it
		sql = strings.TrimSpace(text)
	}
	st.carry(Setting{Name: st.Name, Value: st.Value, SQL: sql})
}

// constant gives an argument's text; ok is false for a typed constant (an interval).
func constant(a *pg.Node) (v string, ok bool) {
	if cast := a.GetTypeCast(); cast != nil {
		v, _ = constant(cast.GetArg())
		return v, false
	}
	c := a.GetAConst()
	switch {
	case c.GetSval() != nil:
		return c.GetSval().GetSval(), true
	case c.GetFval() != nil:
		return c.GetFval().GetFval(), true
	case c.GetBoolval() != nil:
		return strconv.FormatBool(c.GetBoolval().GetBoolval()), true
	case c.GetIval() != nil:
		return strconv.Itoa(int(c.GetIval().GetIval())), true
	}
	return "", false
}

// setModes handles SET TRANSACTION, SET SESSION CHARACTERISTICS AS TRANSACTION and SET TRANSACTION SNAPSHOT.
func setModes(st *Statement, args []*pg.Node) {
	st.Isolation, st.ReadOnly = transactionModes(args)
	readIfModesAllow(st)
	switch st.Name {
	case "transaction":
		st.Local = true
	case "session characteristics":
		if st.Isolation != "serializable" { // READ WRITE as the session's default is what a standby overrides
			st.Read, st.Reason = true, ""
		}
		for _, a := range args {
			d := a.GetDefElem()
			v, _ := constant(d.GetArg())
			if d.GetDefname() != "transaction_isolation" {
				v = map[bool]string{true: "on", false: "off"}[v != "0"]
			}
			name := "default_" + d.GetDefname()
			st.carry(Setting{Name: name, Value: v, SQL: "SET " + name + " TO " + quoteLiteral(v)})
		}
		if len(st.Settings) == 1 {
			st.Name, st.Value, st.Values = st.Settings[0].Name, st.Settings[0].Value, []string{st.Settings[0].Value}
		}
	default: // TRANSACTION SNAPSHOT: exported by a transaction on the primary
		st.Local, st.Read, st.Reason = true, false, "the snapshot belongs to the primary"
	}
}

// special handles settings that are not like the others.
func special(st *Statement) {
	switch st.Name {
	case "transaction_isolation", "transaction_read_only", "transaction_deferrable":
		// They are the transaction's, whatever SET says: at its end they are gone.
		st.Local, st.Settings, st.SetSQL = true, nil, ""
		v := strings.ToLower(st.Value)
		switch {
		case st.Default:
		case st.Name == "transaction_isolation":
			st.Isolation = v
		case st.Name == "transaction_read_only":
			ro := isTrue(v)
			st.ReadOnly = &ro
		}
		readIfModesAllow(st)
	case "seed":
		st.Settings, st.SetSQL, st.Pin = nil, "", "SET seed"
	case "search_path":
		if slices.ContainsFunc(st.Values, func(v string) bool { return strings.Contains(lower(v), "pg_temp") }) {
			st.Pin = "pg_temp in search_path"
		}
	case "default_transaction_isolation":
		if !st.Local && strings.EqualFold(st.Value, "serializable") {
			st.Read, st.Reason = false, "a standby runs no SERIALIZABLE transactions"
		}
	}
}

// setConfig looks at the calls of set_config() in a read. Local ones (is_local plainly true) end with the
// transaction and are as good as SET LOCAL. If a SELECT does nothing but call set_config with constants, the settings
// can be carried and need no pin; the statement is not a read, so that it runs in one known place. top is nil where
// a query is wrapped in something else.
func setConfig(st *Statement, top *pg.SelectStmt, f *findings) {
	session := 0
	for _, c := range f.calls {
		if !isLocalCall(c) {
			session++
		}
	}
	isSetConfig := func(fn Function) bool { return fn.Name == "set_config" && !fn.Operator }
	if session == 0 {
		st.Functions = slices.DeleteFunc(slices.Clone(st.Functions), isSetConfig)
		return
	}
	if !carryCalls(st, top, session) {
		st.Settings, st.SetSQL = nil, ""
		return // the function's own effect pins
	}
	st.Functions = slices.DeleteFunc(slices.Clone(st.Functions), isSetConfig)
	st.Read, st.Reason = false, "set_config() changes a setting of the session"
	for _, s := range st.Settings {
		if s.Name == "search_path" && strings.Contains(lower(s.Value), "pg_temp") {
			st.Pin = "pg_temp in search_path"
		}
		if s.Name == "seed" {
			st.Pin = "SET seed"
		}
	}
}

// carryCalls fills Settings when top is nothing but SELECT set_config('n', 'v', false), ….
func carryCalls(st *Statement, top *pg.SelectStmt, session int) bool {
	if top == nil || top.GetWhereClause() != nil || top.GetFromClause() != nil || top.GetWithClause() != nil ||
		top.GetLarg() != nil || top.GetHavingClause() != nil || top.GetLimitCount() != nil || top.GetLimitOffset() != nil {
		return false
	}
	for _, t := range top.GetTargetList() {
		c := t.GetResTarget().GetVal().GetFuncCall()
		schema, name := qualified(c.GetFuncname())
		if name != "set_config" || (schema != "" && schema != "pg_catalog") {
			continue
		}
		args := c.GetArgs()
		if len(args) != 3 || isLocalCall(c) {
			continue
		}
		n, v, l := text(args[0]), text(args[1]), args[2].GetAConst().GetBoolval()
		if n == nil || v == nil || l == nil {
			return false
		}
		if name := lower(*n); !strings.HasPrefix(name, "transaction_") {
			st.carry(Setting{Name: name, Value: *v, SQL: "SELECT pg_catalog.set_config(" + quoteLiteral(name) + ", " +
				quoteLiteral(*v) + ", false)"})
		}
		session--
	}
	return session == 0
}

func isLocalCall(c *pg.FuncCall) bool {
	args := c.GetArgs()
	return len(args) == 3 && args[2].GetAConst().GetBoolval().GetBoolval()
}

func text(a *pg.Node) *string {
	if s := a.GetAConst().GetSval(); s != nil {
		v := s.GetSval()
		return &v
	}
	return nil
}

// quoteName quotes the name of a setting part by part ("a.b" is a name of two parts).
func quoteName(name string) string {
	if name == "all" {
		return "ALL"
	}
	parts := strings.Split(name, ".")
	for i, p := range parts {
		parts[i] = `"` + strings.ReplaceAll(p, `"`, `""`) + `"`
	}
	return strings.Join(parts, ".")
}

// quoteLiteral makes a string constant that means the same whatever standard_conforming_strings is (quote_literal in
// src/backend/utils/adt/quote.c).
func quoteLiteral(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return "E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}
