package specfile

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

func completed(t *testing.T) cluster.Spec {
	t.Helper()
	s := cluster.DefaultSpec()
	s.ID = "0b5d3c1e-8f0a-4d5e-9b57-0123456789ab"
	full, err := s.Complete()
	require.NoError(t, err)
	return full
}

func TestSetThenGet(t *testing.T) {
	for _, tc := range []struct{ path, value, want string }{
		{"failover.ttl", "10s", "10s"},
		{"failover.ttl", "90s", "1m30s"},
		{"failover.maximum_lag_on_failover", "2048kB", "2MB"},
		{"postgresql.parameters.work_mem", "64MB", "64MB"},
		{"postgresql.parameters.pg_stat_statements.max", "0100", "0100"},
		{"postgresql.database", "shop", "shop"},
		{"postgresql.version", "17", "17"},
		{"postgresql.hba", "host all all 10.0.0.0/8 md5", "- host all all 10.0.0.0/8 md5\n"},
		{"postgresql.hba", "host all all 10.0.0.0/8 md5\nlocal all all peer\n", "- host all all 10.0.0.0/8 md5\n- local all all peer\n"},
		{"postgresql.hba", `["local all all peer", "local all all md5"]`, "- local all all peer\n- local all all md5\n"},
		{"router.max_client_conn", "5", "5"},
		{"router.monitor", "off", "off"},
		{"router.reads.consistency", "strong", "strong"},
		{"router.reads.overrides.coordinator-2.weight", "50", "50"},
		{"router.reads.overrides.coordinator-2.max_lag", "1s", "1s"},
		{"placement.repfactor", "2", "2"},
	} {
		t.Run(tc.path, func(t *testing.T) {
			s := completed(t)
			next, err := Set(s, tc.path, tc.value)
			require.NoError(t, err)
			require.Equal(t, completed(t), s, "the old spec is not touched")
			got, err := Get(next, tc.path)
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
}

func TestAnEmptyValueRemovesAKey(t *testing.T) {
	s := completed(t)
	for _, path := range []string{
		"failover.ttl", "postgresql.parameters.work_mem", "postgresql.hba", "router.listen",
		"router.reads.overrides.coordinator-2.weight", "router.reads.overrides", "placement.repfactor",
	} {
		next := s
		for _, value := range []string{map[string]string{
			"failover.ttl": "10s", "postgresql.parameters.work_mem": "1MB", "postgresql.hba": "local all all peer", "router.listen": ":6000",
			"router.reads.overrides.coordinator-2.weight": "50", "router.reads.overrides": "", "placement.repfactor": "1",
		}[path], ""} {
			var err error
			next, err = Set(next, path, value)
			require.NoError(t, err, path)
		}
		require.Equal(t, normal(s), normal(next), "%s is as before it was set", path)
	}
}

func TestWrongSettingsAreRefused(t *testing.T) {
	for _, tc := range []struct{ path, value, want string }{
		{"name", "other", "set name: cannot be changed from main to other on a cluster that exists"},
		{"id", "", "set id: cannot be changed from 0b5d3c1e-8f0a-4d5e-9b57-0123456789ab to nothing on a cluster that exists"},
		{"hosts", "x", "hosts cannot be set; use `orchestrator nodes add` and `nodes rm`"},
		{"hosts[0].address", "x", "hosts cannot be set; use `orchestrator nodes add` and `nodes rm`"},
		{"groups", "x", "groups cannot be set; use `orchestrator group add-standby` and `group rm-standby`, or `nodes add` for new groups"},
		{"failover.ttl", "5", `set failover.ttl: "5" is not a duration; write a number and a unit, such as 500ms or 5s`},
		{"failover.ttl", "1s", "set failover.ttl: 1s is out of range 2s to 5m"},
		{"router.max_client_conn", "many", `set router.max_client_conn: "many" is not a whole number`},
		{"placement.repfactor", "x", `set placement.repfactor: "x" is not a whole number`},
		{"postgresql.parameters.port", "1", "set postgresql.parameters.port: is managed by the orchestrator: use the node's port"},
		{"postgresql.hba", "host all all all trust", "set postgresql.hba[0]: the method trust lets anybody in without a password; use scram-sha-256"},
		{"router.reads.overrides.c9.weight", "5", "set router.reads.overrides.c9.weight: router.reads.overrides.c9: no node has this name"},
		{"failover", "x", "set failover: it has keys of its own; set one of them: failover.ttl, failover.maximum_lag_on_failover"},
		{"postgresql.parameters", "x", "set postgresql.parameters: it has keys of its own; set one of them, postgresql.parameters.NAME=VALUE"},
		{"failover.tl", "5s", `unknown key "failover.tl"; did you mean failover.ttl?`},
		{"max_lag", "5s", `unknown key "max_lag"; did you mean router.reads.max_lag, router.reads.max_lag_bytes?`},
		{"router.read.fallback", "wait", `unknown key "router.read.fallback"; did you mean router.reads.fallback?`},
		{"router.reads.fallback.x", "wait", `unknown key "router.reads.fallback.x"; did you mean router.reads.fallback?`},
		{"router.reads.overrides.coordinator-2.speed", "5", `unknown key "router.reads.overrides.coordinator-2.speed"`},
		{"zzz", "5", `unknown key "zzz"`},
	} {
		t.Run(tc.path+"="+tc.value, func(t *testing.T) {
			_, err := Set(completed(t), tc.path, tc.value)
			require.EqualError(t, err, tc.want)
			require.Equal(t, strings.HasPrefix(tc.want, "unknown key"), isUnknown(err))
		})
	}
}

func TestGetOfWhatIsNotThere(t *testing.T) {
	s := completed(t)
	for _, path := range []string{
		"postgresql.parameters.work_mem", "postgresql.hba", "postgresql.parameters", "placement.repfactor",
		"router.tls_cert", "router.reads.overrides.coordinator-2",
	} {
		got, err := Get(s, path)
		require.NoError(t, err, path)
		require.Empty(t, got, path)
	}
	_, err := Get(s, "router.lisen")
	require.EqualError(t, err, `unknown key "router.lisen"; did you mean router.listen?`)
	got, err := Get(s, "hosts")
	require.NoError(t, err)
	require.Equal(t, "- name: local\n  address: 127.0.0.1\n  base_port: 15432\n", got)
	got, err = Get(s, "failover")
	require.NoError(t, err)
	require.Equal(t, "ttl: 5s\nmaximum_lag_on_failover: 1MB\n", got)
}

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"ttl", "tl", 1}, {"same", "same", 0}} {
		require.Equal(t, tc.want, distance(tc.a, tc.b))
	}
}

func isUnknown(err error) bool { return errors.Is(err, ErrUnknownKey) }
