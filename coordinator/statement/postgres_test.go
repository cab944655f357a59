package statement_test

import (
	"context"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/coordinator/statement"
	"github.com/multicoord/multicoord/sql"
	"github.com/multicoord/multicoord/testenv"
)

var update = flag.Bool("update", false, "write builtin.txt anew")

// TestWithPostgreSQL asks a real server whether it agrees.
func TestWithPostgreSQL(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a PostgreSQL server")
	}
	env := testenv.New(t)
	pg := env.Postgres(testenv.PostgresOptions{})
	connect := func() *pgx.Conn { // DISCARD ALL drops prepared statements
		sep := "?"
		if strings.Contains(pg.Connstr(), "?") {
			sep = "&"
		}
		return env.Connect(pg.Connstr() + sep + "default_query_exec_mode=simple_protocol")
	}
	t.Run("a carried setting is the setting", func(t *testing.T) { carriedSettings(t, env, connect(), connect()) })
	t.Run("the names of its functions", func(t *testing.T) { builtins(t, env, connect()) })
	t.Run("a catalog of a database", func(t *testing.T) { databaseCatalog(t, env, connect()) })
	t.Run("a read runs in a READ ONLY transaction", func(t *testing.T) { readsRunReadOnly(t, env, connect()) })
}

func carriedSettings(t *testing.T, env *testenv.Env, one, other *pgx.Conn) {
	t.Helper()
	shows := func(c *pgx.Conn, name string) string {
		query := "SHOW \"" + strings.ReplaceAll(name, ".", `"."`) + `"`
		switch name {
		case "session_authorization", "role":
			query = "SELECT session_user || '/' || current_user"
		case "all":
			query = "SELECT current_setting('work_mem') || current_setting('timezone')"
		}
		results, err := c.PgConn().Exec(context.Background(), query).ReadAll()
		require.NoError(t, err, query)
		return string(results[0].Rows[0][0])
	}
	for _, f := range setForms {
		for _, c := range []*pgx.Conn{one, other} {
			testenv.Exec(env, c, "DISCARD ALL")
			if strings.HasPrefix(f.sql, "RESET") || strings.HasSuffix(f.sql, "DEFAULT") {
				testenv.Exec(env, c, "SET work_mem = '9MB'")
				testenv.Exec(env, c, "SET timezone = 'Asia/Tokyo'")
			}
		}
		ctx := context.Background()
		_, err := one.Exec(ctx, f.sql)
		require.NoError(t, err, f.sql)
		_, err = other.Exec(ctx, f.carried)
		require.NoError(t, err, f.carried)
		require.Equal(t, shows(one, f.name), shows(other, f.name), f.sql)
	}
}

func databaseCatalog(t *testing.T, env *testenv.Env, c *pgx.Conn) {
	t.Helper()
	_, err := c.Exec(context.Background(), `
		CREATE SCHEMA app;
		CREATE FUNCTION app.steady(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
		CREATE FUNCTION app.charge(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1';
		CREATE FUNCTION app.lower(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1';
		CREATE FUNCTION app.adds(int, int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1 + $2';
		CREATE AGGREGATE app.total(int) (SFUNC = app.adds, STYPE = int);
		CREATE AGGREGATE app.plain(int) (SFUNC = pg_catalog.int4pl, STYPE = int);
		CREATE OPERATOR app.@!@ (FUNCTION = app.adds, LEFTARG = int, RIGHTARG = int);
		CREATE EXTENSION pgcrypto;
		CREATE EXTENSION "uuid-ossp"`)
	require.NoError(t, err)
	rows, err := c.Query(context.Background(), sql.StatementFunctions)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[statement.Row])
	require.NoError(t, err)
	require.Greater(t, len(list), 2000)
	require.Less(t, len(list), 20000)
	cat := statement.NewCatalog(list)
	for text, want := range map[string]bool{
		"SELECT app.steady(1), steady(2)":            true,
		"SELECT steady(1) + 2, now(), count(*)":      true,
		"SELECT charge(1)":                           false,
		"SELECT lower('X')":                          false,
		"SELECT pg_catalog.lower('X')":               true,
		"SELECT total(a) FROM t":                     false,
		"SELECT plain(a) FROM t":                     true,
		"SELECT 1 @!@ 2":                             false,
		"SELECT gen_random_uuid(), random()":         true,
		"SELECT uuid_generate_v4()":                  true,
		"SELECT gen_salt('bf'), crypt('a', 'b')":     true,
		"SELECT digest('x', 'sha256')":               true,
		"SELECT nobody(1)":                           false,
		"SELECT pg_switch_wal()":                     false,
		"SELECT pg_nextoid('a', 'b', 'c')":           false,
		"SELECT pg_create_restore_point('x')":        false,
		"SELECT jsonb_agg(a ORDER BY b) FROM t":      true,
		"SELECT a <-> b, c ~ 'x', d LIKE 'y' FROM t": true,
	} {
		ok, why := statement.Analyze(text).Read(cat)
		require.Equal(t, want, ok, "%s: %s", text, why)
	}
	// What the table of names says without a catalog holds on this server.
	var wrong []string
	for _, r := range list {
		if r.Schema != "pg_catalog" || r.Operator || !r.Volatile {
			continue
		}
		before, _ := statement.Analyze("SELECT pg_catalog." + pgx.Identifier{r.Name}.Sanitize() + "()").Read(nil)
		after, _ := statement.Analyze("SELECT pg_catalog." + pgx.Identifier{r.Name}.Sanitize() + "()").Read(cat)
		if before && !after {
			wrong = append(wrong, r.Name)
		}
	}
	require.Empty(t, wrong, "volatile on the server, but taken for harmless without a catalog")
}

// builtins holds builtin.txt against the server's functions; -update writes it.
func builtins(t *testing.T, env *testenv.Env, c *pgx.Conn) {
	t.Helper()
	if v := testenv.Scan[int](env, c, "SELECT current_setting('server_version_num')::int / 10000"); v != 15 {
		t.Skipf("builtin.txt is of PostgreSQL 15, the server is %d", v)
	}
	rows, err := c.Query(context.Background(), sql.StatementFunctions)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[statement.Row])
	require.NoError(t, err)
	var names []string
	for _, r := range list {
		if r.Schema == "pg_catalog" && r.Extension == "" && !r.Operator && !r.Volatile {
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	want := strings.Join(names, "\n") + "\n"
	if *update {
		require.NoError(t, os.WriteFile("builtin.txt", []byte(want), 0o644))
	}
	have, err := os.ReadFile("builtin.txt")
	require.NoError(t, err)
	require.Equal(t, want, string(have), "run the test with -update")
}

// readsRunReadOnly: what is surely a read is accepted by PostgreSQL where nothing may be written.
func readsRunReadOnly(t *testing.T, env *testenv.Env, c *pgx.Conn) {
	t.Helper()
	testenv.Exec(env, c, "CREATE TABLE t (id int PRIMARY KEY, a int, b text)")
	testenv.Exec(env, c, "CREATE SEQUENCE s")
	rows, err := c.Query(context.Background(), sql.StatementFunctions)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[statement.Row])
	require.NoError(t, err)
	cat := statement.NewCatalog(list)
	refused := 0
	for _, text := range slices.Concat(corpus, []string{
		"SELECT * FROM t FOR UPDATE", "INSERT INTO t VALUES (1)", "SELECT nextval('s')", "SELECT * INTO n FROM t",
		"WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d", "CREATE TABLE n (a int)",
	}) {
		read, why := statement.Analyze(text).Read(cat)
		tx, err := c.BeginTx(context.Background(), pgx.TxOptions{AccessMode: pgx.ReadOnly})
		require.NoError(t, err)
		_, err = tx.Exec(context.Background(), text)
		require.NoError(t, tx.Rollback(context.Background()))
		if err != nil && strings.Contains(err.Error(), "25006") {
			refused++
			require.False(t, read, text)
		} else {
			require.NoError(t, err, text)
			require.True(t, read, "%s: %s", text, why)
		}
	}
	require.GreaterOrEqual(t, refused, 6)
}

// corpus are statements that run on a server with the table t (id, a, b).
var corpus = []string{
	"SELECT 1", "SELECT * FROM t WHERE id = 7", "VALUES (1), (2)", "TABLE t", "SELECT count(*), sum(a), max(b) FROM t",
	"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT sum(i) FROM n",
	"SELECT random(), now(), clock_timestamp(), gen_random_uuid()", "EXPLAIN SELECT * FROM t", "EXPLAIN ANALYZE SELECT * FROM t",
	"SHOW ALL", "COPY t TO STDOUT", "SELECT a.id FROM t a JOIN t b USING (id) LEFT JOIN t c ON a.id = c.a ORDER BY 1 LIMIT 3",
	"SELECT row_number() OVER (PARTITION BY a ORDER BY id) FROM t", "SELECT (ARRAY[1, 2, 3])[2], '{1}'::int[] || 4, 'x' LIKE 'y%'",
	"SELECT jsonb_build_object('a', 1) -> 'a', to_char(now(), 'YYYY'), extract(epoch FROM now())",
	"SELECT t.* FROM t WHERE EXISTS (SELECT FROM t u WHERE u.id = t.a) AND b IS NOT NULL AND a BETWEEN 1 AND 2",
	"SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, id", "SELECT string_agg(b, ',' ORDER BY id) FILTER (WHERE a > 1) FROM t",
	"SELECT grouping(a), a FROM t GROUP BY ROLLUP (a)", "SELECT substring('abc' FROM 2 FOR 1), trim(both 'x' FROM 'xax')",
	"SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a) FROM t", "SELECT * FROM generate_series(1, 3) AS g(i), LATERAL (SELECT i) l",
	"SELECT xmlelement(name a), date '2024-01-01' + interval '1 day', CURRENT_USER", "SET LOCAL work_mem = '1MB'",
	"SELECT a NOT BETWEEN 1 AND 2, a BETWEEN SYMMETRIC 2 AND 1, a NOT BETWEEN SYMMETRIC 2 AND 1, a IN (1, 2), a NOT IN (3) FROM t",
	"SELECT a IS DISTINCT FROM 1, a IS NOT DISTINCT FROM 2, nullif(a, 1), a = ANY ('{1,2}'), a <> ALL ('{1}'), -a, NOT a = 1 FROM t",
	"SELECT b ILIKE 'x', b NOT LIKE 'x' ESCAPE '!', b NOT ILIKE 'x', b SIMILAR TO 'x', b NOT SIMILAR TO 'y', b ~* 'x' FROM t",
	"SELECT (a, id) = (1, 2), (a, id) IN (SELECT 1, 2), (a, id) < (3, 4), ROW(1, 2), a = SOME (SELECT 1) FROM t",
	"SELECT greatest(1, 2), least(a, 1), coalesce(a, 0), CASE a WHEN 1 THEN 2 END, CAST(a AS text), a::bigint, b COLLATE \"C\" FROM t",
	"SELECT position('a' IN 'ba'), overlay('abc' PLACING 'x' FROM 1), normalize('a'), b IS NORMALIZED FROM t",
	"SELECT (date '2024-01-01', date '2024-02-01') OVERLAPS (date '2024-01-15', date '2024-03-01')",
	"SELECT * FROM t TABLESAMPLE SYSTEM (10)", "SELECT * FROM t TABLESAMPLE BERNOULLI (10) REPEATABLE (1)",
	"SELECT * FROM ROWS FROM (generate_series(1, 2), unnest('{a,b}'::text[])) WITH ORDINALITY", "SELECT * FROM t ORDER BY a USING <",
	"SELECT localtimestamp, current_date, session_user, current_schema, current_catalog FROM t",
	"SELECT xmlparse(content '<a/>'), xmlforest(a), xmlconcat(NULL), '<a/>'::xml IS DOCUMENT, xmlserialize(content '<a/>' AS text) FROM t",
	"SELECT * FROM xmltable('/a' PASSING '<a>1</a>' COLUMNS i int PATH '.')", "SELECT json_agg(t) FROM t",
	"SELECT a FROM t GROUP BY GROUPING SETS ((a), ()) HAVING count(*) >= 0 WINDOW w AS (ORDER BY a) ORDER BY a FETCH FIRST 2 ROWS WITH TIES",
}
