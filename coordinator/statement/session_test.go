package statement_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/coordinator/statement"
)

// one analyses a text of one statement.
func one(t *testing.T, sql string) statement.Statement {
	t.Helper()
	i := statement.Analyze(sql)
	require.NoError(t, i.Err, sql)
	require.Len(t, i.Statements, 1, sql)
	return i.Statements[0]
}

func TestWhatKeepsTheServerConnection(t *testing.T) {
	for sql, pin := range map[string]string{
		"CREATE TEMP TABLE x (a int)":                                        "temporary object",
		"CREATE TEMPORARY TABLE x AS SELECT 1":                               "temporary object",
		"CREATE GLOBAL TEMP TABLE x (a int) ON COMMIT DELETE ROWS":           "temporary object",
		"SELECT 1 INTO TEMP x":                                               "temporary object",
		"CREATE TABLE pg_temp.x (a int)":                                     "temporary object",
		"CREATE TEMP VIEW v AS SELECT 1":                                     "temporary object",
		"CREATE TEMP SEQUENCE s":                                             "temporary object",
		"CREATE TEMP TABLE x (a int) ON COMMIT DROP":                         "",
		"CREATE TEMP TABLE x ON COMMIT DROP AS SELECT 1":                     "",
		"CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'": "temporary object",
		"CREATE TYPE pg_temp.e AS ENUM ('a')":                                "temporary object",
		"CREATE DOMAIN pg_temp.d AS int":                                     "temporary object",
		"SET search_path = pg_temp, public":                                  "pg_temp in search_path",
		"SELECT set_config('search_path', 'pg_temp', false)":                 "pg_temp in search_path",
		"LISTEN c":                                                       "LISTEN",
		"DECLARE c CURSOR WITH HOLD FOR TABLE t":                         "WITH HOLD cursor",
		"DECLARE c CURSOR FOR TABLE t":                                   "",
		"PREPARE p AS SELECT 1":                                          "SQL-level PREPARE",
		"LOAD 'auto_explain'":                                            "LOAD",
		"SELECT pg_advisory_lock(1)":                                     "session advisory lock",
		"SELECT pg_try_advisory_lock_shared(1)":                          "session advisory lock",
		"SELECT pg_advisory_xact_lock(1)":                                "",
		"SELECT pg_advisory_unlock(1)":                                   "",
		"INSERT INTO t SELECT pg_try_advisory_lock(1)":                   "session advisory lock",
		"COPY (SELECT pg_advisory_lock(1)) TO STDOUT":                    "session advisory lock",
		"CREATE VIEW v AS SELECT pg_advisory_lock(1)":                    "",
		"SELECT set_config('a.b', x, false) FROM t":                      "set_config()",
		"SELECT set_config('a.b', 'x', $1)":                              "set_config()",
		"SELECT set_config('a.b', 'x', false)":                           "",
		"SELECT set_config('a.b', 'x', true)":                            "",
		"INSERT INTO t SELECT set_config('a.b', 'x', false)":             "set_config()",
		"SELECT setseed(0.5)":                                            "setseed()",
		"SET seed = 0.5":                                                 "SET seed",
		"SELECT dblink_connect('c', 'dbname=x')":                         "dblink connection",
		"DO $$ BEGIN CREATE TEMP TABLE x (a int); END $$":                "DO block that changes the session",
		"DO $$ BEGIN SET work_mem = '1MB'; END $$":                       "DO block that changes the session",
		"DO $$ BEGIN PERFORM pg_advisory_lock(1); END $$":                "DO block that changes the session",
		"DO LANGUAGE plpgsql 'BEGIN UPDATE t SET a = 1; END'":            "",
		"DO $$ BEGIN EXECUTE 'SET work_mem = 1'; END $$":                 "DO block that changes the session",
		"INSERT INTO t VALUES (1)":                                       "",
		"SET work_mem = '1MB'":                                           "",
		"SELECT currval('s')":                                            "currval() or lastval()",
		"SELECT lo_open(1, 2)":                                           "",
		"UPDATE pg_settings SET setting = '1MB' WHERE name = 'work_mem'": "UPDATE pg_settings",
		"UPDATE pg_catalog.pg_settings s SET setting = '1MB'":            "UPDATE pg_settings",
		"UPDATE mine.pg_settings SET setting = '1MB'":                    "",
		"SELECT * FROM pg_listening_channels()":                          "",
	} {
		st := one(t, sql)
		require.Equal(t, pin, st.Pin, sql)
		if pin != "" {
			require.False(t, st.Read, "%s: what pins is not a read", sql)
			require.NotEmpty(t, st.Reason, sql)
		}
	}
}

func TestDiscardAllLeavesNothingToKeep(t *testing.T) {
	i := statement.Analyze("LISTEN c; DISCARD ALL")
	require.Empty(t, i.Pin())
	require.True(t, i.Unpin())
	i = statement.Analyze("DISCARD ALL; LISTEN c")
	require.Equal(t, "LISTEN", i.Pin())
	require.False(t, i.Unpin())
	require.False(t, statement.Analyze("DISCARD TEMP").Unpin())
}

func TestCurrvalMeansSomethingOnlyInItsOwnSession(t *testing.T) {
	st := one(t, "SELECT currval('s')")
	require.Equal(t, "currval()", st.SessionState)
	require.True(t, st.PinOutsideBlock)
	for _, f := range []string{"pg_cursor", "pg_prepared_statement", "pg_listening_channels"} {
		st = one(t, "SELECT * FROM "+f+"()")
		require.Equal(t, f+"()", st.SessionState)
		require.Empty(t, st.Pin)
	}
	st = one(t, "SELECT currval('s'), pg_advisory_lock(1)")
	require.False(t, st.PinOutsideBlock, "the lock outlives the block")
}

func TestTransactionControl(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		sql  string
		want statement.Statement
	}{
		{"BEGIN", statement.Statement{Kind: statement.Begin}},
		{"START TRANSACTION READ ONLY", statement.Statement{Kind: statement.Begin, ReadOnly: &yes}},
		{
			"BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE",
			statement.Statement{Kind: statement.Begin, ReadOnly: &no, Isolation: "repeatable read"},
		},
		{"END", statement.Statement{Kind: statement.Commit}},
		{"COMMIT AND CHAIN", statement.Statement{Kind: statement.Commit, Chain: true}},
		{"ABORT", statement.Statement{Kind: statement.Rollback}},
		{"ROLLBACK AND CHAIN", statement.Statement{Kind: statement.Rollback, Chain: true}},
		{"SAVEPOINT a", statement.Statement{Kind: statement.Savepoint, Name: "a"}},
		{`ROLLBACK TO "A b"`, statement.Statement{Kind: statement.RollbackTo, Name: "A b"}},
		{"RELEASE a", statement.Statement{Kind: statement.Release, Name: "a"}},
		{"PREPARE TRANSACTION 'g'", statement.Statement{Kind: statement.PrepareTransaction, Name: "g"}},
		{"SET TRANSACTION READ ONLY", statement.Statement{Kind: statement.Set, Name: "transaction", Local: true, ReadOnly: &yes}},
		{
			"SET LOCAL transaction_read_only = off",
			statement.Statement{Kind: statement.Set, Name: "transaction_read_only", Local: true, ReadOnly: &no},
		},
	} {
		st := one(t, c.sql)
		got := statement.Statement{
			Kind: st.Kind, ReadOnly: st.ReadOnly, Isolation: st.Isolation, Chain: st.Chain, Name: st.Name, Local: st.Local,
		}
		require.Equal(t, c.want, got, c.sql)
		require.Empty(t, st.SetSQL, c.sql)
	}
}

func TestNamesOfPreparedStatementsAndCursors(t *testing.T) {
	for sql, want := range map[string]statement.Statement{
		"PREPARE p AS SELECT 1": {Kind: statement.Prepare, Name: "p"},
		"EXECUTE p(1)":          {Kind: statement.Execute, Name: "p"},
		"DEALLOCATE p":          {Kind: statement.Deallocate, Name: "p"},
		`DEALLOCATE "all"`:      {Kind: statement.Deallocate, Name: "all"},
		"DEALLOCATE ALL":        {Kind: statement.Deallocate, Name: "all", All: true},
		"CLOSE c":               {Kind: statement.CloseCursor, Name: "c"},
		"CLOSE ALL":             {Kind: statement.CloseCursor, All: true},
		"FETCH ALL FROM c":      {Kind: statement.Fetch, Name: "c"},
		"MOVE 5 IN c":           {Kind: statement.Fetch, Name: "c"},
		"DISCARD PLANS":         {Kind: statement.Discard, Name: "plans"},
		"DISCARD ALL":           {Kind: statement.Discard, Name: "all"},
		"LISTEN c":              {Kind: statement.Listen, Name: "c"},
		"UNLISTEN *":            {Kind: statement.Unlisten, All: true},
		"SHOW Work_Mem":         {Kind: statement.Show, Name: "work_mem"},
		"SHOW TIME ZONE":        {Kind: statement.Show, Name: "timezone"},
		"SHOW ALL":              {Kind: statement.Show, Name: "all"},
	} {
		st := one(t, sql)
		require.Equal(t, want, statement.Statement{Kind: st.Kind, Name: st.Name, All: st.All}, sql)
	}
}

func TestStatementsThatRunOutsideOfTransactions(t *testing.T) {
	for sql, inside := range map[string]bool{
		"VACUUM t": false, "ANALYZE t": true, "CREATE DATABASE d": false, "DROP DATABASE d": false,
		"CREATE TABLESPACE s LOCATION '/x'": false, "ALTER SYSTEM SET work_mem = 1": false,
		"CREATE INDEX CONCURRENTLY i ON t (a)": false, "CREATE INDEX i ON t (a)": true,
		"DROP INDEX CONCURRENTLY i": false, "DROP TABLE t": true, "REINDEX TABLE t": true,
		"REINDEX (CONCURRENTLY) TABLE t": false, "REINDEX TABLE CONCURRENTLY t": false, "REINDEX DATABASE d": false,
		"CLUSTER": false, "CLUSTER t": true, "DISCARD ALL": false, "COMMIT PREPARED 'x'": false,
		"ALTER TABLE t DETACH PARTITION p CONCURRENTLY": false, "ALTER TABLE t DETACH PARTITION p": true,
		"CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p": false, "ALTER DATABASE d SET TABLESPACE s": false,
		"SELECT 1": true,
	} {
		require.Equal(t, inside, one(t, sql).Transactional, sql)
	}
}

func TestStatementsThatOutdateACatalog(t *testing.T) {
	for sql, want := range map[string]bool{
		"CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'": true,
		"ALTER FUNCTION f() VOLATILE":                                           true,
		"DROP FUNCTION f":                                                       true,
		"CREATE EXTENSION pgcrypto":                                             true,
		"CREATE SCHEMA s":                                                       true,
		"DROP SCHEMA s CASCADE":                                                 true,
		"CREATE TABLE t (a int)":                                                false,
		"DROP TABLE t":                                                          false,
		"ALTER FUNCTION f() RENAME TO g":                                        true,
	} {
		require.Equal(t, want, one(t, sql).ChangesFunctions, sql)
	}
}

func TestPartsOfATextOfSeveralStatements(t *testing.T) {
	sql := "/* route: primary */ SELECT 'ä;'; -- x\n UPDATE t SET a = 1 ;; /* route: standby */SELECT 2"
	i := statement.Analyze(sql)
	require.Len(t, i.Statements, 3)
	require.Equal(t, "/* route: primary */ SELECT 'ä;'", i.Text(sql, 0))
	require.Contains(t, i.Text(sql, 1), "UPDATE t SET a = 1")
	require.Contains(t, i.Text(sql, 2), "SELECT 2")
	require.Equal(t, "primary", i.Route)
	require.Equal(t, "standby", i.Statements[2].Route)
	require.Equal(t, "SELECT 1 ;", statement.Analyze("SELECT 1 ;").Text("SELECT 1 ;", 0))
}

func TestHintsInLeadingComments(t *testing.T) {
	for sql, want := range map[string]string{
		"/* route: primary */ SELECT 1":                    "primary",
		"/*ROUTE=Standby*/SELECT 1":                        "standby",
		"-- route: strong\nSELECT 1":                       "strong",
		"/* app:x */ /*+ route: eventual */ SELECT 1":      "eventual",
		"/* route: nowhere */ SELECT 1":                    "",
		"SELECT 1 /* route: primary */":                    "",
		"SELECT '/* route: primary */'":                    "",
		"/* route: session */ SELEC":                       "session",
		"/* outer /* route: primary */ */ SELECT 1":        "",
		"/* the route: primary is what we want */SELECT 1": "",
	} {
		require.Equal(t, want, statement.Analyze(sql).Route, sql)
	}
}

func TestAnUnknownSyntaxPinsOnlyIfTheServerTakesIt(t *testing.T) {
	for sql, pins := range map[string]bool{
		"SELEC 1": false, "CREATE TEMP NEWTHING x": true, "NEWVERB 'set'": false, "SET x FROM NOWHERE 1": true,
		"SELECT NEW SYNTAX 1; LISTEN c": true, "SELECT NEW SYNTAX pg_advisory_lock(1)": true, "SELECT 'open": true,
		"UPDATE t SET NEW SYNTAX": false,
	} {
		i := statement.Analyze(sql)
		require.Error(t, i.Err, sql)
		require.Equal(t, pins, i.PinIfAccepted != "", "%s: %s", sql, i.PinIfAccepted)
	}
}

func TestBackslashesInPlainStringsAreTold(t *testing.T) {
	for sql, want := range map[string]bool{
		`SELECT 'a\b'`: true, `SELECT E'a\b'`: false, `SELECT $$a\b$$`: false, `SELECT 'ab' -- \`: false, `SELECT "a\b"`: false,
		`SELECT 'a', 'b''\'`: true,
	} {
		require.Equal(t, want, statement.Analyze(sql).Backslash, sql)
	}
}

func TestEncodingsInWhichAQuoteIsAlwaysAQuote(t *testing.T) {
	for name, want := range map[string]bool{
		"UTF8": true, "utf-8": true, "Unicode": true, "LATIN1": true, "iso-8859-1": true, "WIN1252": true, "SQL_ASCII": true,
		"EUC_JP": true, "SJIS": false, "BIG5": false, "GBK": false, "GB18030": false, "UHC": false, "JOHAB": false,
		"SHIFT_JIS_2004": false, "whatever": false, "": false,
		"windows-949": false, "win932": false, "windows936": false, "WIN950": false, "windows-1252": true, "WIN866": true,
	} {
		require.Equal(t, want, statement.SafeEncoding(name), name)
	}
}
