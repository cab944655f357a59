package router

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/coordinator/statement"
	"github.com/multicoord/multicoord/coordinator/wire"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// after runs statements that all succeed and gives what the session wants in the end.
func after(t *testing.T, tx *transaction, texts ...string) []string {
	t.Helper()
	for _, text := range texts {
		info := statement.Analyze(text)
		require.NoError(t, info.Err, text)
		for i := range info.Statements {
			tx.complete(&info.Statements[i], "")
		}
	}
	var names []string
	for _, e := range tx.want.List() {
		names = append(names, e.SQL)
	}
	return names
}

func TestSettingsFollowTransactionsAndSavepoints(t *testing.T) {
	one, two := "SET work_mem = '1MB'", "SET work_mem = '2MB'"
	want := after(t, new(transaction), one)
	require.Len(t, want, 1)
	for name, texts := range map[string][]string{
		"commit keeps":                     {"BEGIN", one, "COMMIT"},
		"rollback restores":                {one, "", "BEGIN", two, "ROLLBACK"},
		"rollback to restores":             {"BEGIN", one, "SAVEPOINT a", two, "ROLLBACK TO a", "COMMIT"},
		"rollback to may be repeated":      {"BEGIN", one, "SAVEPOINT a", two, "ROLLBACK TO a", two, "ROLLBACK TO a", "COMMIT"},
		"release keeps":                    {"BEGIN", two, "SAVEPOINT a", one, "RELEASE a", "COMMIT"},
		"the innermost savepoint counts":   {"BEGIN", one, "SAVEPOINT a", two, "SAVEPOINT a", two, "ROLLBACK TO a", "RELEASE a", "ROLLBACK TO a", "COMMIT"},
		"SET LOCAL is not carried":         {"BEGIN", one, "SET LOCAL work_mem = '3MB'", "COMMIT"},
		"a prepared transaction keeps it":  {"BEGIN", one, "PREPARE TRANSACTION 'x'"},
		"RESET ALL goes back to the start": {one, "SET statement_timeout = 5", "RESET ALL", one},
		"DISCARD ALL too":                  {"SET statement_timeout = 5", "DISCARD ALL", one},
		"COMMIT AND CHAIN":                 {"BEGIN", one, "COMMIT AND CHAIN", two, "ROLLBACK"},
	} {
		tx := new(transaction)
		for _, text := range texts {
			if text == "" { // the end of a statement outside of a transaction
				tx.end()
				continue
			}
			after(t, tx, text)
		}
		require.Equal(t, want, after(t, tx), name)
	}
	tx := new(transaction)
	after(t, tx, one)
	tx.end()
	after(t, tx, "BEGIN", two)
	tx.complete(&statement.Statement{Kind: statement.Commit}, "ROLLBACK")
	require.Equal(t, want, after(t, tx), "a COMMIT that answers ROLLBACK restores")
}

func TestOptionsOfTheStartUpPacket(t *testing.T) {
	for in, want := range map[string][][2]string{
		"":                                nil,
		"-c a=b":                          {{"a", "b"}},
		"-ca=b  --c-d=e":                  {{"a", "b"}, {"c_d", "e"}},
		`-c search_path=a,\ b`:            {{"search_path", "a, b"}},
		`-c a=\\ -c b=`:                   {{"a", `\`}, {"b", ""}},
		"--multicoord.consistency=strong": {{"multicoord.consistency", "strong"}},
	} {
		got, err := parseOptions(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{"-c", "-c a", "-x", "a=b", "--=x"} {
		_, err := parseOptions(in)
		require.Error(t, err, in)
	}
}

func TestWhichErrorsOfAStandbyAreItsOwn(t *testing.T) {
	for _, c := range []struct {
		code, message string
		want          bool
	}{
		{"57P01", "terminating connection due to administrator command", true},
		{"40001", "canceling statement due to conflict with recovery", true},
		{"25006", "cannot execute INSERT in a read-only transaction", true},
		{"55000", "cannot use this during recovery", true},
		{"55000", "object not in prerequisite state", false},
		{"42P01", "relation does not exist", true},
		{"22012", "division by zero", false},
		{"57014", "canceling statement due to user request", false},
		{"42601", "syntax error", false},
	} {
		body := wire.Errorf(c.code, "%s", c.message).Append(nil)[5:]
		severity, code := brief(body)
		require.Equal(t, "ERROR", string(severity))
		require.Equal(t, c.code, string(code))
		require.Equal(t, c.want, transient(code, body), c)
	}
	require.True(t, fatal([]byte("FATAL")))
}

func TestOwnOptions(t *testing.T) {
	var o options
	start := options{consistency: cluster.Strong}
	require.NoError(t, o.set("multicoord.consistency", "Eventual ", false, start))
	require.Equal(t, cluster.Eventual, o.consistency)
	require.NoError(t, o.set("multicoord.consistency", "", true, start))
	require.Equal(t, cluster.Strong, o.consistency)
	require.Error(t, o.set("multicoord.consistency", "never", false, start))
	require.Error(t, o.set("multicoord.else", "1", false, start))
	for _, v := range []string{"on", "true", "t", "yes", "1"} {
		require.NoError(t, o.set("multicoord.notice_route", v, false, start))
		require.True(t, o.notice)
		o.notice = false
	}
	require.Error(t, o.set("multicoord.notice_route", "o", false, start))
}

func TestQuotedValuesMeanTheSameEverywhere(t *testing.T) {
	require.Equal(t, `'it''s'`, quote("it's"))
	require.Equal(t, `E'a\\b'''`, quote(`a\b'`))
}

func TestTheLibraryKnowsTheSameStatementOnce(t *testing.T) {
	l := newLibrary()
	info := func() *statement.Info { return statement.Analyze("select 1") }
	a := l.take([]byte("select 1"), []byte{0, 0}, "", info)
	require.Same(t, a, l.take([]byte("select 1"), []byte{0, 0}, "", info))
	b := l.take([]byte("select 1"), []byte{0, 1, 0, 0, 0, 23}, "", info)
	require.NotEqual(t, a.name, b.name)
	require.LessOrEqual(t, len(a.name), 63)
	require.NotEqual(t, a.name, l.take([]byte("select 1"), []byte{0, 0}, "other", info).name)
	require.LessOrEqual(t, 2, l.size())
	require.False(t, slices.Equal(a.types, b.types))
}
