package console

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(string(want), string(got)))
}

func TestEveryTable(t *testing.T) {
	src := sample()
	in := input{snap: src.snap, view: src.view, version: "1.0-test"}
	var out bytes.Buffer
	for _, s := range append(shows(), &show{name: "route", columns: routeColumns(), rows: func(in input) [][]any {
		routed, err := in.view.Route(t.Context(), "SELECT 1")
		require.NoError(t, err)
		return routeRows(routed)
	}}) {
		for i, row := range s.rows(in) {
			require.Len(t, row, len(s.columns), s.name)
			fmt.Fprintf(&out, "-- %s %d\n", s.name, i)
			for j, v := range row {
				require.Truef(t, fits(s.columns[j].kind, v), "%s.%s: %T", s.name, s.columns[j].name, v)
				if v == nil {
					fmt.Fprintf(&out, "%s: NULL\n", s.columns[j].name)
				} else {
					fmt.Fprintf(&out, "%s: %s\n", s.columns[j].name, encode(v, 0))
				}
			}
		}
	}
	golden(t, "tables.txt", out.Bytes())
}

func fits(k kind, v any) bool {
	switch v.(type) {
	case nil:
		return true
	case string:
		return k == text
	case int64:
		return k == number
	case float64:
		return k == float
	case bool:
		return k == boolean
	case time.Time:
		return k == timestamp
	}
	return false
}

func TestTablesOfNothingAreEmpty(t *testing.T) {
	for _, s := range shows() {
		rows := s.rows(input{})
		if s.name != "help" && s.name != "version" {
			require.Empty(t, rows, s.name)
		}
	}
}

func TestSettingsHaveTheSpecsKeysAndDefaults(t *testing.T) {
	router := cluster.Spec{}.WithDefaults().Router
	router.PoolSize = 7
	router.Reads.Overrides = map[string]cluster.ReadOverride{"c2": {Weight: 50}}
	byKey := map[string]Setting{}
	for _, s := range Settings(router) {
		byKey[s.Key] = s
	}
	require.Equal(t, Setting{Key: "router.default_pool_size", Value: "7", Default: "20", Changeable: true}, byKey["router.default_pool_size"])
	require.Equal(t, Setting{Key: "router.reads.max_lag", Value: "5s", Default: "5s", Changeable: true}, byKey["router.reads.max_lag"])
	require.Equal(t, Setting{Key: "router.reads.max_lag_bytes", Value: "16MB", Default: "16MB", Changeable: true}, byKey["router.reads.max_lag_bytes"])
	require.Equal(t, "50", byKey["router.reads.overrides.c2.weight"].Value)
	require.False(t, byKey["router.listen"].Changeable)
}
