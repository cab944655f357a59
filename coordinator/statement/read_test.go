package statement_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/coordinator/statement"
)

// catalog is a small database: PostgreSQL's functions as far as the tests use them, and a user's.
func catalog() *statement.Catalog {
	var rows []statement.Row
	add := func(schema, extension string, operator, volatile bool, names string) {
		for n := range strings.FieldsSeq(names) {
			rows = append(rows, statement.Row{
				Schema: schema, Name: n, Extension: extension, Operator: operator, Volatile: volatile,
			})
		}
	}
	add("pg_catalog", "", false, false, "count lower upper now coalesce inet_server_port current_setting sum row_number "+
		"generate_series version format_type unnest pg_backend_pid timezone")
	add("pg_catalog", "", false, true, "random clock_timestamp gen_random_uuid nextval pg_sleep set_config pg_is_in_recovery pg_last_wal_replay_lsn")
	add("pg_catalog", "", true, false, "= < > + - ~~ ||")
	add("public", "uuid-ossp", false, true, "uuid_generate_v4")
	add("public", "", false, true, "invoice upper")
	add("public", "", false, false, "tax")
	add("public", "", true, true, "@!@")
	return statement.NewCatalog(rows)
}

func TestReadsGoAnywhere(t *testing.T) {
	for _, sql := range []string{
		"SELECT 1", "select * from t where id = 7", "VALUES (1), (2)", "TABLE t", "  ;; SELECT 1 ;",
		"SELECT count(*) FROM t", "WITH x AS (SELECT 1) SELECT * FROM x",
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT sum(i) FROM n",
		"SELECT * FROM a JOIN b USING (id) UNION SELECT * FROM c ORDER BY 1 LIMIT 5 OFFSET 2",
		"(SELECT 1) UNION (SELECT 2)", "SELECT random()", "SELECT pg_catalog.random(), now(), clock_timestamp()",
		"SELECT gen_random_uuid()", "SELECT pg_sleep(0.1)", "SELECT pg_last_wal_replay_lsn(), inet_server_port()",
		"SELECT 'insert into t values (1)'", "SELECT 1 -- FOR UPDATE", "SELECT 1 /* nextval('s') */",
		`SELECT "for update" FROM "insert"`, "SELECT $$ delete from t $$", "SELECT tax(price) FROM items",
		"SELECT uuid_generate_v4()", "SELECT pg_catalog.upper('x')",
		"EXPLAIN SELECT 1", "EXPLAIN (COSTS OFF) SELECT * FROM t", "EXPLAIN ANALYZE SELECT 1",
		"EXPLAIN (ANALYZE, BUFFERS) SELECT count(*) FROM t", "SHOW work_mem", "SHOW ALL", "SHOW TIME ZONE",
		"COPY t TO STDOUT", "COPY (SELECT * FROM t) TO STDOUT (FORMAT csv)",
		"BEGIN READ ONLY; SELECT 1", "BEGIN; SELECT 1; COMMIT", "START TRANSACTION READ ONLY, ISOLATION LEVEL REPEATABLE READ",
		"BEGIN; SET TRANSACTION READ ONLY; SELECT 1", "COMMIT", "ROLLBACK", "SELECT 1; SELECT 2", "",
		"-- nothing", "BEGIN READ ONLY; DECLARE c CURSOR FOR SELECT 1; FETCH 1 FROM c; CLOSE c; COMMIT",
		"SELECT set_config('work_mem', '8MB', true)", "SET work_mem = '8MB'", "RESET ALL", "DISCARD ALL",
		"SELECT current_setting('work_mem')", "SELECT x[1], y.z, (a).b FROM t", "SELECT CASE WHEN a = 1 THEN 2 ELSE 3 END",
		"SELECT a AT TIME ZONE 'UTC' FROM t", "SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM t",
		"SELECT DISTINCT ON (a) a FROM t ORDER BY a", "SELECT EXISTS (SELECT 1), ARRAY(SELECT 2), 3 = ANY (SELECT 4)",
		"SELECT current_timestamp, current_user, localtime",
	} {
		ok, why := statement.Analyze(sql).Read(catalog())
		require.True(t, ok, "%s: %s", sql, why)
	}
}

func TestEverythingElseGoesToThePrimary(t *testing.T) {
	for _, c := range []struct{ rule, sql, why string }{
		{"INSERT", "INSERT INTO t VALUES (1)", "INSERT changes data"},
		{"UPDATE behind a comment", "/* SELECT */ UPDATE t SET a = 1", "UPDATE changes data"},
		{"DELETE", "DELETE FROM t", "DELETE changes data"},
		{"MERGE", "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN DELETE", "MERGE changes data"},
		{"data-modifying CTE", "WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d", "data-modifying CTE (DELETE)"},
		{
			"data-modifying CTE below", "SELECT * FROM (WITH d AS (INSERT INTO t VALUES (1) RETURNING a) SELECT * FROM d) x",
			"data-modifying CTE (INSERT)",
		},
		{"row lock", "SELECT * FROM t FOR UPDATE", "locks rows"},
		{"row lock in a subquery", "SELECT * FROM (SELECT * FROM t FOR KEY SHARE SKIP LOCKED) x", "locks rows"},
		{"SELECT INTO", "SELECT * INTO n FROM t", "makes a table"},
		{"SELECT INTO in a union", "SELECT 1 INTO n UNION SELECT 2", "makes a table"},
		{"nextval", "SELECT nextval('s')", "nextval() changes data"},
		{"nextval in a default expression of a subquery", "SELECT (SELECT pg_catalog.nextval('s'))", "nextval() changes data"},
		{"quoted nextval", `SELECT "nextval"('s')`, "nextval() changes data"},
		{"setval", "SELECT setval('s', 1)", "setval() changes data"},
		{"lastval", "SELECT lastval()", "currval() or lastval()"},
		{"currval", "SELECT currval('s')", "currval() or lastval()"},
		{"session advisory lock", "SELECT pg_advisory_lock(1)", "session advisory lock"},
		{"transaction's advisory lock", "SELECT pg_advisory_xact_lock(1)", "takes a lock"},
		{"set_config of the session", "SELECT set_config('a.b', 'c', false)", "set_config()"},
		{"set_config that may be of the session", "SELECT set_config('a.b', 'c', $1)", "set_config()"},
		{"volatile function", "SELECT invoice(1)", "invoice() is volatile"},
		{"volatile namesake of PostgreSQL's function", "SELECT upper('x')", "upper() is volatile"},
		{"function nobody knows", "SELECT whatever(1)", "whatever() is not known"},
		{"volatile operator", "SELECT 1 @!@ 2", "operator @!@ is volatile"},
		{"volatile operator, spelled out", "SELECT 1 OPERATOR(public.@!@) 2", "operator public.@!@ is volatile"},
		{"unknown operator", "SELECT 1 <~~> 2", "operator <~~> is not known"},
		{"volatile function in ORDER BY", "SELECT 1 FROM t ORDER BY invoice(a)", "invoice()"},
		{"volatile function in FROM", "SELECT * FROM invoice(1)", "invoice()"},
		{"volatile function in a window", "SELECT sum(a) OVER (ORDER BY invoice(a)) FROM t", "invoice()"},
		{"volatile function in FILTER", "SELECT count(*) FILTER (WHERE invoice(1) > 0) FROM t", "invoice()"},
		{"volatile function in LIMIT", "SELECT 1 LIMIT invoice(1)", "invoice()"},
		{"volatile function in VALUES", "VALUES (invoice(1))", "invoice()"},
		{"volatile function in EXPLAIN ANALYZE", "EXPLAIN ANALYZE SELECT invoice(1)", "invoice()"},
		{"volatile function in COPY", "COPY (SELECT invoice(1)) TO STDOUT", "invoice()"},
		{"volatile function in a cursor", "DECLARE c CURSOR FOR SELECT invoice(1)", "invoice()"},
		{"CALL", "CALL p(1)", "CALL"},
		{"DO", "DO $$ BEGIN END $$", "DO"},
		{"COPY FROM", "COPY t FROM STDIN", "COPY FROM changes data"},
		{"COPY to a file", "COPY t TO '/tmp/x'", "file of the server"},
		{"COPY to a program", "COPY t TO PROGRAM 'cat'", "file of the server"},
		{"COPY of INSERT", "COPY (INSERT INTO t VALUES (1) RETURNING a) TO STDOUT", "changes data"},
		{"EXPLAIN ANALYZE of a write", "EXPLAIN ANALYZE DELETE FROM t", "EXPLAIN ANALYZE runs"},
		{"EXPLAIN ANALYZE of a write, as option", "EXPLAIN (VERBOSE, ANALYZE) DELETE FROM t", "EXPLAIN ANALYZE runs"},
		{"EXPLAIN of a write", "EXPLAIN DELETE FROM t", "EXPLAIN of a statement"},
		{"EXPLAIN of a row lock", "EXPLAIN SELECT 1 FROM t FOR UPDATE", "EXPLAIN of a statement"},
		{"EXPLAIN EXECUTE", "EXPLAIN EXECUTE p", "EXPLAIN EXECUTE"},
		{"EXPLAIN CREATE TABLE AS", "EXPLAIN ANALYZE CREATE TABLE n AS SELECT 1", "EXPLAIN ANALYZE runs"},
		{"PREPARE TRANSACTION", "PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION"},
		{"COMMIT PREPARED", "COMMIT PREPARED 'x'", "COMMIT PREPARED"},
		{"SERIALIZABLE", "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE", "SERIALIZABLE"},
		{"SERIALIZABLE later", "BEGIN; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; SELECT 1; COMMIT", "SERIALIZABLE"},
		{"SERIALIZABLE as a setting", "SET transaction_isolation TO 'serializable'", "SERIALIZABLE"},
		{"READ WRITE", "BEGIN READ WRITE; SELECT 1; COMMIT", "READ WRITE"},
		{"open transaction", "BEGIN; SELECT 1", "not declared READ ONLY"},
		{"chained transaction", "BEGIN READ ONLY; SELECT 1; COMMIT; BEGIN; COMMIT AND CHAIN", "not declared READ ONLY"},
		{"LISTEN", "LISTEN c", "LISTEN"},
		{"NOTIFY", "NOTIFY c, 'x'", "NOTIFY"},
		{"UNLISTEN", "UNLISTEN *", "UNLISTEN"},
		{"pg_notify", "SELECT pg_notify('c', 'x')", "pg_notify() changes data"},
		{"LOCK", "LOCK TABLE t IN ACCESS SHARE MODE", "LOCK"},
		{"temporary table", "CREATE TEMP TABLE x (a int)", "CREATE TABLE"},
		{"DDL", "CREATE TABLE t (a int)", "CREATE TABLE"},
		{"TRUNCATE", "TRUNCATE t", "TRUNCATE"},
		{"REFRESH", "REFRESH MATERIALIZED VIEW v", "REFRESH"},
		{"VACUUM", "VACUUM t", "VACUUM"},
		{"GRANT", "GRANT SELECT ON t TO u", "GRANT"},
		{"CLUSTER", "CLUSTER t", "CLUSTER"},
		{"CHECKPOINT", "CHECKPOINT", "CHECKPOINT"},
		{"SQL PREPARE", "PREPARE p AS SELECT 1", "SQL-level PREPARE"},
		{"SQL EXECUTE", "EXECUTE p", "EXECUTE"},
		{"one write among reads", "SELECT 1; SELECT 2; UPDATE t SET a = 1; SELECT 3", "UPDATE changes data"},
		{"does not parse", "SELEC 1", "not analysed: syntax error"},
		{"does not parse in part", "SELECT 1; FOO", "not analysed"},
		{"views that show one server", "SELECT * FROM pg_stat_activity", "state of one server"},
		{"replication", "SELECT * FROM pg_catalog.pg_stat_replication", "state of one server"},
		{"large objects", "SELECT lo_get(1)", "large objects"},
		{"other servers", "SELECT * FROM dblink('c', 'DELETE FROM t') AS x(a int)", "another server"},
		{"ending backends", "SELECT pg_terminate_backend(1)", "acts on one server"},
		{"assigning a transaction number", "SELECT txid_current()", "assigns a transaction number"},
		{"temporary schema", "SELECT * FROM pg_temp.x", "temporary object"},
		{"a sequence as a table", "SELECT last_value FROM s", "a sequence"},
		{"a driver that asks for the role", "SELECT pg_catalog.pg_is_in_recovery()", "asks for the server's role"},
		{"another driver", "SHOW transaction_read_only", "asks for the server's role"},
		{"zero byte", "SELECT 1\x00; DROP TABLE t", "zero byte"},
	} {
		ok, why := statement.Analyze(c.sql).Read(catalog())
		require.False(t, ok, "%s: %s", c.rule, c.sql)
		require.Contains(t, why, c.why, "%s: %s", c.rule, c.sql)
	}
}

func TestWithoutACatalogOnlyPostgreSQLsOwnFunctionsAreKnown(t *testing.T) {
	for sql, want := range map[string]bool{
		"SELECT count(*), max(a), lower(b), a + 1 FROM t": true,
		"SELECT pg_catalog.lower('X')":                    true,
		"SELECT random()":                                 true,
		"SELECT jsonb_build_object('a', 1) -> 'a'":        true,
		"SELECT public.lower('X')":                        false,
		"SELECT tax(1)":                                   false,
		"SELECT a <-> b FROM t":                           true,
		"SELECT a <#> b FROM t":                           false,
		"SELECT nextval('s')":                             false,
	} {
		ok, why := statement.Analyze(sql).Read(nil)
		require.Equal(t, want, ok, "%s: %s", sql, why)
	}
}

func TestVerdictFollowsTheCatalogThatIsAsked(t *testing.T) {
	i := statement.Analyze("SELECT invoice(1)")
	harmless := statement.NewCatalog([]statement.Row{{Schema: "public", Name: "invoice"}})
	for range 3 {
		ok, _ := i.Read(catalog())
		require.False(t, ok)
		ok, _ = i.Read(harmless)
		require.True(t, ok)
		ok, _ = i.Read(nil)
		require.False(t, ok)
	}
}

func TestAUsersFunctionIsNotTakenForPostgreSQLsHarmlessOne(t *testing.T) {
	c := statement.NewCatalog([]statement.Row{
		{Schema: "pg_catalog", Name: "random", Volatile: true},
		{Schema: "app", Name: "random", Volatile: true},
		{Schema: "app", Name: "uuid_generate_v4", Volatile: true},
	})
	for sql, want := range map[string]bool{
		"SELECT random()":            false,
		"SELECT app.random()":        false,
		"SELECT pg_catalog.random()": true,
		"SELECT uuid_generate_v4()":  false,
	} {
		ok, _ := statement.Analyze(sql).Read(c)
		require.Equal(t, want, ok, sql)
	}
}
