package importtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

func TestImportsGoOneWay(t *testing.T) {
	t.Parallel()
	module := strings.TrimSpace(string(goCommand(t, "list", "-m")))
	dec := json.NewDecoder(bytes.NewReader(goCommand(t, "list", "-e", "-json=ImportPath,Imports", module+"/...")))
	var packages []Package
	for {
		var p Package
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
	require.NotEmpty(t, packages)
	for _, msg := range Check(module, packages, Table(), Externals()) {
		t.Error(msg)
	}
}

func goCommand(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "go %s: %s", strings.Join(args, " "), &stderr)
	return out
}

func TestCheckNamesTheOffendingImport(t *testing.T) {
	t.Parallel()
	const m = "example.org/m"
	for _, tt := range []struct {
		name    string
		from    string
		imports []string
		want    []string
	}{
		{"core may use the vocabulary", "coordinator/route", []string{m + "/orchestrator/cluster", "time"}, nil},
		{"an adapter may use core and SQL", "replication/physical", []string{m + "/failover", m + "/sql"}, nil},
		{"a listed adapter may be used", "coordinator/pool", []string{m + "/coordinator/wire"}, nil},
		{"wiring may use everything", "cmd/orchestrator", []string{m + "/replication/physical", "github.com/spf13/cobra"}, nil},
		{
			"core may not use other core", "coordinator/route",
			[]string{m + "/failover"},
			[]string{"coordinator/route (core) imports failover (core): core decides on values of orchestrator/cluster alone; take the value as a parameter"},
		},
		{
			"a leaf imports the standard library only", "orchestrator/cluster",
			[]string{"github.com/google/uuid", m + "/sql"},
			[]string{
				"orchestrator/cluster (leaf) imports github.com/google/uuid: a leaf imports the standard library only",
				"orchestrator/cluster (leaf) imports sql (leaf): a leaf imports the standard library only",
			},
		},
		{
			"an adapter may not use another", "replication/physical",
			[]string{m + "/coordinator/wire"},
			[]string{"replication/physical (adapter) imports coordinator/wire (adapter): adapters do not know each other or what stands above them; let cmd bring them together"},
		},
		{
			"a service may not use an adapter that is not listed", "orchestrator/agent",
			[]string{m + "/replication/physical"},
			[]string{"orchestrator/agent (service) imports replication/physical (adapter): a service declares an interface of its own for what it needs; cmd passes the implementation in"},
		},
		{
			"nobody imports wiring", "orchestrator/agent",
			[]string{m + "/testenv/fault"},
			[]string{"orchestrator/agent (service) imports testenv/fault (wiring): a service declares an interface of its own for what it needs; cmd passes the implementation in"},
		},
		{
			"a library with one place", "coordinator/router",
			[]string{"github.com/jackc/pgproto3/v2"},
			[]string{"coordinator/router (service) imports github.com/jackc/pgproto3/v2, which is for coordinator/wire alone: it panics on hostile input and stands behind wire's own checks"},
		},
		{
			"a package that nobody has placed", "coordinator/magic", nil,
			[]string{"coordinator/magic is not in the table of testenv/importtest: add it with its level"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := Check(m, []Package{{ImportPath: m + "/" + tt.from, Imports: tt.imports}}, Table(), Externals())
			require.Empty(t, cmp.Diff(tt.want, got))
		})
	}
}
