package statement

import (
	"fmt"
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v6"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"
)

func key(sql string) string {
	k, _, ok := normalize(nil, sql)
	if !ok {
		return "not normalized"
	}
	return strings.NewReplacer("\x01", "<i>", "\x02", "<n>", "\x03", "<s>", "\x04", "<e>", "\x05", "<b>").Replace(string(k))
}

func TestConstantsAreReplacedAndNothingElse(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT a FROM t WHERE id = 17;":        "SELECT a FROM t WHERE id = <i>;",
		"SELECT 1.5, .5, 1e9, 5., 12345678901":  "SELECT <n>, <n>, <n>, <n>, <n>",
		"SELECT 'a', 'it''s', N'x', E'\\'', ''": "SELECT <s>, <s>, N<s>, <e>, <s>",
		"SELECT B'01', x'1F'":                   "SELECT <b>, <b>",
		"SELECT $$a'b$$, $x$ $$ $x$, $1":        "SELECT <s>, <s>, $1",
		`SELECT "a'1", t1, a$1, ä9 FROM "x""y"`: `SELECT "a'1", t1, a$1, ä9 FROM "x""y"`,
		"SELECT 1--2\n-3":                       "SELECT <i> \n-<i>",
		"SELECT 1/*2/*3*/4*/+5":                 "SELECT <i> +<i>",
		"SELECT 2*/*x*/3":                       "SELECT <i>* <i>",
		"SELECT 'a'\n'b'":                       "SELECT <s>\n<s>",
		"/* route: standby */ SELECT 1":         "/* route: standby */ SELECT <i>",
		"/* id 17 */ SELECT 1 /* route: x */":   "  SELECT <i>  ",
		"SELECT a[1:2]":                         "SELECT a[<i>:<i>]",
		"SELECT -1":                             "SELECT -<i>",
		"SELECT 1; -- the end\n ":               "SELECT <i>;  \n ",
		// What had better be parsed.
		"SELECT 1; SELECT 2":  "not normalized",
		`SELECT 'a\b'`:        "not normalized",
		`SELECT U&'x', U&"y"`: "not normalized",
		"SELECT 0x1F":         "not normalized",
		"SELECT 1_000":        "not normalized",
		"SELECT 1a":           "not normalized",
		"SELECT $1a":          "not normalized",
		"SELECT 'open":        "not normalized",
		"SELECT /* open":      "not normalized",
		"SELECT $x$open$y$":   "not normalized",
		"SELECT \x01":         "not normalized",
		"SELECT E'open\\'":    "not normalized",
		`SELECT "open`:        "not normalized",
		"SELECT $":            "not normalized",
	} {
		require.Equal(t, want, key(sql), sql)
	}
}

// constants are the token types of libpg_query's scanner that are marked.
func isConstant(k pg.Token) bool {
	switch k {
	case pg.Token_ICONST, pg.Token_FCONST, pg.Token_SCONST, pg.Token_BCONST, pg.Token_XCONST:
		return true
	}
	return false
}

// agreeWithScan holds our tokens against those of PostgreSQL's scanner: what it takes for constants or comments is what we
// replace, byte for byte.
func agreeWithScan(t require.TestingT, sql string) {
	if _, _, ok := normalize(nil, sql); !ok {
		return
	}
	scan, err := pg.Scan(sql)
	if err != nil {
		return // the parser refuses it in the same way
	}
	theirs := make([]byte, len(sql))
	for _, tok := range scan.GetTokens() {
		mark := byte('.')
		switch {
		case isConstant(tok.GetToken()):
			mark = 'c'
		case tok.GetToken() == pg.Token_SQL_COMMENT || tok.GetToken() == pg.Token_C_COMMENT:
			mark = '-'
		}
		for i := max(0, int(tok.GetStart())); i < min(int(tok.GetEnd()), len(sql)); i++ {
			theirs[i] = mark
		}
	}
	for i := 0; ; {
		kind, end := next(sql, i)
		mark := byte('.')
		switch kind {
		case tokEnd:
			return
		case tokInteger, tokNumber, tokString, tokEString, tokBits, tokDollar:
			mark = 'c'
		case tokComment:
			mark = '-'
		case tokSpace:
			mark = 0
		}
		for ; i < end; i++ {
			if theirs[i] != mark && theirs[i] != 0 && mark != 0 {
				require.Failf(t, "tokens differ", "%q at %d: ours %q, theirs %q", sql, i, mark, theirs[i])
			}
		}
	}
}

func TestTokensAreThoseOfPostgreSQLsScanner(t *testing.T) {
	piece := rapid.SampledFrom([]string{
		"a", "e", "E", "x", "B", "n", "u&", "U&", "t1", "$", "$1", "$$", "$a$", "'", "''", `"`, `""`, `\`, "\\'", "/*", "*/", "--",
		"\n", "\r", " ", "\t", "1", "12", "1.", ".5", "1e5", "e", "+", "-", "*", "/", "<", "=", "@", ";", ",", "(", ")", "[", "]", ":",
		"::", "..", ".", "_", "ä", "0x1f", "9999999999", "select", "route", "|", "#", "%", "^", "&", "?", "!", "~", "`",
	})
	rapid.Check(t, func(t *rapid.T) {
		agreeWithScan(t, strings.Join(rapid.SliceOfN(piece, 1, 24).Draw(t, "pieces"), ""))
	})
}

func FuzzNormalize(f *testing.F) {
	for _, s := range []string{
		"SELECT a FROM t WHERE id = 17;", "SELECT E'\\'', $a$ $$ $a$ --x\n/* /* */ */", `U&"d\0061t" 'a' 'b'`, "1.e5 $1 a$1 1..2",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) { agreeWithScan(t, sql) })
}

// sentence generates statements of which most parse; the same choices with other constants give another text with
// the same key.
type sentence struct {
	t *rapid.T
	n int
}

func (s *sentence) pick(options ...string) string {
	s.n++
	return rapid.SampledFrom(options).Draw(s.t, fmt.Sprint("pick", s.n))
}

// expression leaves marks %i, %f, %s, %c in place of constants (%c: a comment).
func (s *sentence) expression(depth int) string {
	if depth <= 0 {
		return s.pick("a", "t.b", "%i", "%f", "%s", "$1", "NULL", "now()", `"a%i"`, "current_date", "-%i", "%s::date", "interval %s")
	}
	e := func() string { return s.expression(depth - 1) }
	switch s.pick("op", "func", "case", "in", "sub", "cast", "between", "paren", "array", "leaf") {
	case "op":
		return e() + s.pick(" + ", "=", " AND ", " || ", " < ", "->", " LIKE ", "/* %c */- ") + e()
	case "func":
		return s.pick("lower", "nextval", "random", "app.charge", "set_config", "pg_advisory_lock", "currval", "count", `"Odd"`) + "(" + e() + ")"
	case "case":
		return "CASE WHEN " + e() + " THEN " + e() + " ELSE %s END"
	case "in":
		return e() + " IN (%i, %i, %s)"
	case "sub":
		return "(SELECT " + e() + " FROM t WHERE a = %i" + s.pick("", " FOR UPDATE", " LIMIT %i") + ")"
	case "cast":
		return "CAST(" + e() + " AS varchar(%i))"
	case "between":
		return e() + " BETWEEN %i AND %f"
	case "paren":
		return "(" + e() + ")"
	case "array":
		return "ARRAY[" + e() + ", %i]"
	}
	return s.expression(0)
}

func (s *sentence) statement() string {
	e := func() string { return s.expression(2) }
	switch s.pick("select", "select", "select", "insert", "update", "delete", "cte", "set", "explain", "config", "values", "into", "other") {
	case "select":
		return "SELECT " + e() + " FROM t " + s.pick("", "WHERE "+e(), "ORDER BY %i LIMIT %i", "FOR SHARE", "JOIN u ON "+e(),
			"UNION SELECT %i", ", pg_stat_activity", "WHERE x = %s -- %c\n", "INTO n")
	case "insert":
		return "INSERT INTO t VALUES (" + e() + ", %s) " + s.pick("", "RETURNING a", "ON CONFLICT DO NOTHING")
	case "update":
		return "UPDATE t SET a = " + e() + " WHERE id = %i"
	case "delete":
		return "DELETE FROM t WHERE " + e()
	case "cte":
		return "WITH x AS (" + s.pick("SELECT %i", "DELETE FROM t RETURNING a", "VALUES (%s)") + ") SELECT " + e() + " FROM x"
	case "set":
		return s.pick("SET work_mem = %i", "SET a.b TO %s", "SET TIME ZONE %i", "SET LOCAL a.b = %s", "SET search_path = %s, x",
			"SET TIME ZONE INTERVAL %s HOUR TO MINUTE")
	case "explain":
		return s.pick("EXPLAIN SELECT %i", "EXPLAIN (ANALYZE %i) DELETE FROM t", "EXPLAIN (ANALYZE %s) SELECT 1", "EXPLAIN ANALYZE SELECT "+e())
	case "config":
		return "SELECT set_config(%s, %s, " + s.pick("true", "false", "$1", "%s::bool") + ")"
	case "values":
		return "VALUES (" + e() + "), (%i)"
	case "into":
		return "SELECT %i INTO TEMP n"
	}
	return s.pick("COPY t TO STDOUT", "COPY (SELECT %i) TO %s", "LISTEN c", "NOTIFY c, %s", "SAVEPOINT a", "BEGIN", "COMMIT PREPARED %s",
		"SELECT %i; SELECT %s", "PREPARE p AS SELECT %i", "SHOW a", "DISCARD ALL", "LOCK t", "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN UPDATE SET a = %i",
		"/* route: primary */ SELECT %i", "/* id: %c */ SELECT %i", "SELECT float(%i) '1'", "SELECT 1 WHERE 'a' = %s")
}

// fill replaces the marks by constants.
func fill(t *rapid.T, label, pattern string) string {
	var b strings.Builder
	n := 0
	draw := func(options ...string) string {
		n++
		return rapid.SampledFrom(options).Draw(t, fmt.Sprint(label, n))
	}
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' {
			b.WriteByte(pattern[i])
			continue
		}
		i++
		switch pattern[i] {
		case 'i':
			b.WriteString(draw("0", "1", "7", "42", "123456789"))
		case 'f':
			b.WriteString(draw("0.5", "1.", ".25", "1e3", "98765432109876"))
		case 's':
			b.WriteString(draw("''", "'a'", "'it''s'", "'-- x'", "'/*'", "'pg_temp'", "'false'", "'on'", "'08:00'", "'insert;'", "$$q'$$", `'\'`, `E'\''`))
		case 'c':
			b.WriteString(draw("", "1", "route: primary", "'", "x;"))
		}
	}
	return b.String()
}

// TestOneKeyOneMeaning: what the cache says of a text is what an analysis of this very text says, whatever texts with other
// constants it has seen before.
func TestOneKeyOneMeaning(t *testing.T) {
	parsed := 0
	rapid.Check(t, func(t *rapid.T) {
		c := NewCache(1 << 20)
		pattern := (&sentence{t: t}).statement()
		for i := range 4 {
			sql := fill(t, fmt.Sprint("constant", i, "-"), pattern)
			want := Analyze(sql)
			if want.Err == nil {
				parsed++
			}
			got := c.AnalyzeString(sql)
			again := c.Analyze([]byte(sql))
			if want.Err != nil && got.Err == nil {
				continue // the server will say so
			}
			require.Equal(t, plain(want), plain(got), sql)
			require.Equal(t, plain(want), plain(again), sql)
		}
	})
	require.Greater(t, parsed, 100)
}

// plain takes the parts of an Info that count, the error as text.
func plain(i *Info) [5]any {
	err := ""
	if i.Err != nil {
		err = i.Err.Error()
	}
	if len(i.Statements) == 0 {
		return [5]any{nil, err, i.Route, i.PinIfAccepted, i.Backslash}
	}
	return [5]any{i.Statements, err, i.Route, i.PinIfAccepted, i.Backslash}
}

// depth counts the levels of a tree.
func depth(m protoreflect.Message) int {
	deepest := 0
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Kind() != protoreflect.MessageKind:
		case fd.IsList():
			for i := range v.List().Len() {
				deepest = max(deepest, depth(v.List().Get(i).Message()))
			}
		default:
			deepest = max(deepest, depth(v.Message()))
		}
		return true
	})
	return deepest + 1
}

// TestDeepTextsAreNotParsed: whatever nests more than the C stack bears is refused, and what is not refused is no deeper
// than a few levels per token.
func TestDeepTextsAreNotParsed(t *testing.T) {
	for _, part := range []struct{ head, open, middle, shut string }{
		{"SELECT 1", "+1", "", ""},
		{"SELECT ", "(", "1", ")"},
		{"SELECT 1", " UNION SELECT 1, 2", "", ""},
		{"SELECT a, b", " UNION ALL SELECT c, d", "", ""},
		{"SELECT 1 FROM a", " CROSS JOIN b", "", ""},
		{"SELECT ", "NOT ", "true", ""},
		{"SELECT 1", "::int", "", ""},
		{"SELECT ", "CASE WHEN ", "true", " THEN 1 END"},
		{"SELECT ", "(SELECT ", "1", ")"},
		{"SELECT ", "f(1, ", "1", ")"},
		{"SELECT ", "ARRAY[1, ", "1", "]"},
		{"SELECT x", "[1]", "", ""},
		{"SELECT ", "- ", "1", ""},
		{"SELECT 1", " COLLATE c", "", ""},
		{"SELECT 1", " IS NULL", "", ""},
		{"SELECT a", " AND b OR c", "", ""},
		{"SELECT * FROM ", "(SELECT * FROM ", "t", ") x"},
		{"", "WITH x AS (", "SELECT 1", ") SELECT 1"},
		{"SELECT 1 FROM ", "(a JOIN ", "b", " ON true)"},
		{"SELECT 1", " EXCEPT SELECT 1", "", ""},
		{"SELECT 1", " AT TIME ZONE 'x'", "", ""},
		{"SELECT 1", "/**/+/**/1", "", ""},
		{"SELECT 'x'", "||'a,b'", "", ""},
		{"SELECT ", "f(1, 2) + ", "1", ""},
		{"SELECT x", ".y", "", ""},
	} {
		for _, n := range []int{10, 300, 900, 5000, 100_000} {
			sql := part.head + strings.Repeat(part.open, n) + part.middle + strings.Repeat(part.shut, n)
			i := Analyze(sql) // does not end the process
			if n == 10 {
				require.NoError(t, i.Err, part)
			}
			if i.Err != nil {
				ok, _ := i.Read(nil)
				require.False(t, ok)
				continue
			}
			tree, err := pg.Parse(sql)
			require.NoError(t, err)
			require.Less(t, depth(tree.ProtoReflect()), 5*maxDepth, part)
		}
	}
}

func TestLongListsAreParsed(t *testing.T) {
	for _, sql := range []string{
		"SELECT * FROM t WHERE a IN (1" + strings.Repeat(", 2", 20_000) + ")",
		"INSERT INTO t VALUES (1, 'x')" + strings.Repeat(", (2, 'y')", 20_000),
		"SELECT a" + strings.Repeat(", b + 1 AS c", 5000) + " FROM t",
		"SELECT 1" + strings.Repeat("; SELECT 1", 5000),
	} {
		require.NoError(t, Analyze(sql).Err)
	}
	i := Analyze("INSERT INTO t VALUES ('" + strings.Repeat("x", maxAnalyze) + "')")
	require.ErrorIs(t, i.Err, errTooLong)
	require.Empty(t, i.PinIfAccepted)
	i = Analyze("CREATE TEMP TABLE t AS SELECT '" + strings.Repeat("x", maxAnalyze) + "'")
	require.NotEmpty(t, i.PinIfAccepted)
}

func FuzzAnalyze(f *testing.F) {
	for _, s := range []string{
		"SELECT 1", "SET a.b = 'x', y", "BEGIN READ ONLY; SELECT 1", "COPY t FROM STDIN", "SELECT set_config('a', 'b', false)",
		"DECLARE c CURSOR WITH HOLD FOR SELECT 1", "DO $$ x $$", "EXPLAIN (ANALYZE off) DELETE FROM t", "CREATE TEMP TABLE x ()",
		"/* route: primary */ TABLE t", "SET TIME ZONE INTERVAL '1' HOUR", "REINDEX (CONCURRENTLY 0) TABLE t", "GRANT a TO b",
		"PREPARE p (int) AS SELECT $1", "DEALLOCATE ALL", "MERGE INTO t USING u ON true WHEN MATCHED THEN DO NOTHING",
		"\x00", "SELECT '\\'", "ALTER TABLE t DETACH PARTITION p CONCURRENTLY",
	} {
		f.Add(s)
	}
	c := NewCache(1 << 20)
	f.Fuzz(func(t *testing.T, sql string) {
		want := Analyze(sql)
		got := c.AnalyzeString(sql)
		if want.Err == nil || got.Err != nil {
			require.Equal(t, plain(want), plain(got))
		}
		ok, why := want.Read(nil)
		require.Equal(t, ok, why == "")
		for k := range want.Statements {
			st := &want.Statements[k]
			require.False(t, st.Pin != "" && st.Read, "what pins is no read")
			require.False(t, !st.Read && st.Reason == "", "no read without a reason")
			_ = want.Text(sql, k)
			for _, s := range st.Settings {
				again := Analyze(s.SQL)
				require.NoError(t, again.Err, s.SQL)
				require.Len(t, again.Statements, 1, s.SQL)
				require.Equal(t, st.Settings, again.Statements[0].Settings, "carried %q", s.SQL)
			}
		}
	})
}
