package statement_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/coordinator/statement"
)

// setForms are all forms of SET and RESET that change the session, with what carries them to another connection.
var setForms = []struct{ sql, name, value, carried string }{
	{"SET work_mem = 4096", "work_mem", "4096", `SET "work_mem" TO '4096'`},
	{"SET work_mem TO '5MB'", "work_mem", "5MB", `SET "work_mem" TO '5MB'`},
	{"SET SESSION Work_Mem = '6MB'", "work_mem", "6MB", `SET "work_mem" TO '6MB'`},
	{"SET enable_seqscan = off", "enable_seqscan", "off", `SET "enable_seqscan" TO 'off'`},
	{"SET enable_seqscan = true", "enable_seqscan", "true", `SET "enable_seqscan" TO 'true'`},
	{"SET random_page_cost = 1.25", "random_page_cost", "1.25", `SET "random_page_cost" TO '1.25'`},
	{"SET extra_float_digits = -3", "extra_float_digits", "-3", `SET "extra_float_digits" TO '-3'`},
	{"SET search_path = public", "search_path", "public", `SET "search_path" TO 'public'`},
	{
		`SET search_path TO "A b", Lower, 'x,y', "$user", "q""r"`, "search_path", `A b, lower, x,y, $user, q"r`,
		`SET "search_path" TO 'A b', 'lower', 'x,y', '$user', 'q"r'`,
	},
	{"SET search_path = ''", "search_path", "", `SET "search_path" TO ''`},
	{"SET SCHEMA 'public'", "search_path", "public", `SET "search_path" TO 'public'`},
	{"SET DateStyle = ISO, DMY", "datestyle", "iso, dmy", `SET "datestyle" TO 'iso', 'dmy'`},
	{"SET TIME ZONE 'Europe/Vienna'", "timezone", "Europe/Vienna", `SET "timezone" TO 'Europe/Vienna'`},
	{"SET TIME ZONE -7", "timezone", "-7", `SET "timezone" TO '-7'`},
	{"SET TIME ZONE -3.5", "timezone", "-3.5", `SET "timezone" TO '-3.5'`},
	{"SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", "timezone", "-08:00", "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE"},
	{"SET TIME ZONE LOCAL", "timezone", "", `SET "timezone" TO DEFAULT`},
	{"SET TIME ZONE DEFAULT", "timezone", "", `SET "timezone" TO DEFAULT`},
	{"SET NAMES 'LATIN1'", "client_encoding", "LATIN1", `SET "client_encoding" TO 'LATIN1'`},
	{"SET NAMES", "client_encoding", "", `SET "client_encoding" TO DEFAULT`},
	{
		"SET application_name = E'it''s \\\\ here'", "application_name", `it's \ here`,
		`SET "application_name" TO E'it''s \\ here'`,
	},
	{"SET my.own = 'v'", "my.own", "v", `SET "my"."own" TO 'v'`},
	{"SET ROLE pg_monitor", "role", "pg_monitor", `SET "role" TO 'pg_monitor'`},
	{"SET ROLE NONE", "role", "none", `SET "role" TO 'none'`},
	{
		"SET SESSION AUTHORIZATION pg_monitor", "session_authorization", "pg_monitor",
		`SET "session_authorization" TO 'pg_monitor'`,
	},
	{"SET SESSION AUTHORIZATION DEFAULT", "session_authorization", "", `SET "session_authorization" TO DEFAULT`},
	{"SET XML OPTION DOCUMENT", "xmloption", "DOCUMENT", `SET "xmloption" TO 'DOCUMENT'`},
	{"SET work_mem TO DEFAULT", "work_mem", "", `SET "work_mem" TO DEFAULT`},
	{
		"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "default_transaction_read_only", "on",
		`SET default_transaction_read_only TO 'on'`,
	},
	{
		"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ", "default_transaction_isolation",
		"repeatable read", `SET default_transaction_isolation TO 'repeatable read'`,
	},
	{
		"SET SESSION CHARACTERISTICS AS TRANSACTION NOT DEFERRABLE", "default_transaction_deferrable", "off",
		`SET default_transaction_deferrable TO 'off'`,
	},
	{"RESET work_mem", "work_mem", "", `RESET "work_mem"`},
	{"RESET TIME ZONE", "timezone", "", `RESET "timezone"`},
	{"RESET ROLE", "role", "", `RESET "role"`},
	{"RESET SESSION AUTHORIZATION", "session_authorization", "", `RESET "session_authorization"`},
	{"RESET ALL", "all", "", "RESET ALL"},
	{
		"SELECT set_config('work_mem', '7MB', false)", "work_mem", "7MB",
		`SELECT pg_catalog.set_config('work_mem', '7MB', false)`,
	},
	{
		"SELECT pg_catalog.set_config('search_path', '', false)", "search_path", "",
		`SELECT pg_catalog.set_config('search_path', '', false)`,
	},
}

func TestSettingsAreCarriedInCanonicalForm(t *testing.T) {
	for _, f := range setForms {
		st := one(t, f.sql)
		require.Len(t, st.Settings, 1, f.sql)
		s := st.Settings[0]
		require.Equal(t, f.name, s.Name, f.sql)
		require.Equal(t, f.value, s.Value, f.sql)
		require.Equal(t, f.carried, s.SQL, f.sql)
		require.Equal(t, f.carried, st.SetSQL, f.sql)
		require.Empty(t, st.Pin, f.sql)
		require.NoError(t, statement.Analyze(s.SQL).Err, s.SQL)
	}
}

func TestWhatEndsWithTheTransactionIsNotCarried(t *testing.T) {
	for _, sql := range []string{
		"SET LOCAL work_mem = 4096", "SET LOCAL ROLE pg_monitor", "SET LOCAL TIME ZONE 'UTC'", "SET TRANSACTION READ ONLY",
		"SET TRANSACTION SNAPSHOT '0001'", "SET transaction_isolation = 'repeatable read'",
		"SELECT set_config('work_mem', '4096', true)", "SET transaction_read_only TO DEFAULT",
	} {
		st := one(t, sql)
		require.Empty(t, st.Settings, sql)
		require.Empty(t, st.SetSQL, sql)
		require.Empty(t, st.Pin, sql)
	}
}

func TestSeveralSettingsOfOneStatement(t *testing.T) {
	st := one(t, "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE, DEFERRABLE")
	require.Empty(t, st.SetSQL)
	require.Equal(t, []statement.Setting{
		{
			Name: "default_transaction_isolation", Value: "repeatable read",
			SQL: "SET default_transaction_isolation TO 'repeatable read'",
		},
		{Name: "default_transaction_read_only", Value: "off", SQL: "SET default_transaction_read_only TO 'off'"},
		{Name: "default_transaction_deferrable", Value: "on", SQL: "SET default_transaction_deferrable TO 'on'"},
	}, st.Settings)
	require.True(t, st.Read)

	st = one(t, "SELECT set_config('a.b', '1', false), set_config('work_mem', '2MB', true), pg_catalog.set_config('c.d', '', false)")
	require.Len(t, st.Settings, 2)
	require.Empty(t, st.Pin)
	require.False(t, st.Read)
}

func TestSettingsThatNeedThePrimary(t *testing.T) {
	for sql, want := range map[string]bool{
		"SET default_transaction_isolation = 'serializable'":                      true,
		"SET default_transaction_isolation = Serializable":                        true,
		"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE": true,
		"SET default_transaction_isolation = 'read committed'":                    false,
		"SET standard_conforming_strings = off":                                   true,
		"SET standard_conforming_strings = 0":                                     true,
		"SET standard_conforming_strings = on":                                    false,
		"SET standard_conforming_strings = tr":                                    false,
		"SET client_encoding = 'SJIS'":                                            true,
		"SET NAMES 'utf8'":                                                        false,
		"RESET standard_conforming_strings":                                       false,
		"SET work_mem = 1":                                                        false,
	} {
		st := one(t, sql)
		require.Equal(t, want, st.Settings[0].PrimaryOnly(), sql)
	}
}
