package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with testdata/<name>.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s differs (-want +got; run with -update to accept):\n%s", path, d)
	}
}

func exampleSheets() []sheet {
	cols := []column{
		{Name: "status", Align: center, Paint: func(string) color { return red }},
		{Name: "message", Wrap: true},
		{Name: "replication group", Align: center},
	}
	return []sheet{
		{Title: "store status", Columns: cols, Rows: [][]string{
			{"Warning", "Store has only one member, consider deploying a store cluster: one that fails takes the control plane with it", ""},
		}},
		{Title: "group status", Columns: cols, Rows: [][]string{
			{"OK", "Group 0 is OK", "0"},
			{"Error", "worker-1 failed:\nFATAL:  \x1b[31mcould not write\x07", "1"},
		}},
		{Title: "nothing", Columns: cols[:2]},
	}
}

func TestTablesAreShardmansBoxes(t *testing.T) {
	var wide, narrow, painted bytes.Buffer
	require.NoError(t, writeTables(&wide, exampleSheets(), 0, false))
	golden(t, "tables.txt", wide.String())
	require.NoError(t, writeTables(&narrow, exampleSheets(), 70, false))
	golden(t, "tables-70.txt", narrow.String())
	for line := range strings.Lines(narrow.String()) {
		require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, "\n")), 70)
	}
	require.NoError(t, writeTables(&painted, exampleSheets(), 0, true))
	plain := strings.NewReplacer("\x1b[31m", "", "\x1b[0m", "").Replace(painted.String())
	require.Equal(t, wide.String(), plain, "colours change nothing but the colour")
}

func TestJSONAndYAMLHaveTheSameKeys(t *testing.T) {
	data := struct {
		Name  string         `json:"name"`
		Yes   string         `json:"looks_like_a_bool"`
		Num   string         `json:"looks_like_a_number"`
		LSN   uint64         `json:"lsn_bytes"`
		None  *int64         `json:"lag_ms"`
		Empty []string       `json:"empty"`
		List  []string       `json:"list"`
		Map   map[string]int `json:"map"`
	}{"a <b> & \"c\" ä\n: #", "yes", "0123", 1 << 60, nil, []string{}, []string{"x: y", "- z"}, map[string]int{"b": 1, "a": 2}}
	var j, y bytes.Buffer
	require.NoError(t, writeJSON(&j, data))
	require.NoError(t, writeYAML(&y, data))
	golden(t, "data.json", j.String())
	golden(t, "data.yaml", y.String())
}
