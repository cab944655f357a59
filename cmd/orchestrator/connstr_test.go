package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/secret"
)

func TestBothFormsOfAConnectionSayTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-zA-Z0-9 '"\\:/@%&=?+#ä_-]{1,12}`)
		c := connection{
			Hosts: []string{"10.0.0.1", "fe80::1"}, Ports: []int{5432, 6432},
			Database: word.Draw(t, "database"), User: word.Draw(t, "user"), Password: word.Draw(t, "password"), Options: readOnlyOptions,
		}
		for _, text := range []string{c.conninfo(), c.uri()} {
			cfg, err := pgx.ParseConfig(text)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if cfg.Database != c.Database || cfg.User != c.User || cfg.Password != c.Password ||
				cfg.RuntimeParams["options"] != c.Options || cfg.Host != "10.0.0.1" || cfg.Port != 5432 {
				t.Fatalf("%s: %+v", text, cfg)
			}
		}
	})
}

func TestAListenerOnEveryAddressIsReachedByLoopback(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:6432": "host=127.0.0.1 port=6432", ":6432": "host=127.0.0.1 port=6432",
		"0.0.0.0:6432": "host=127.0.0.1 port=6432", "[::]:6432": "host=127.0.0.1 port=6432",
		"[::1]:1": "host=::1 port=1", "db.example.com:7": "host=db.example.com port=7", "nonsense": "",
	} {
		var c connection
		c.addRouter(listen)
		c.addRouter(listen)
		require.Equal(t, want, c.conninfo(), listen)
	}
}

func TestDirectListsThePrimaryFirst(t *testing.T) {
	spec, err := cluster.DefaultSpec().Complete()
	require.NoError(t, err)
	snap := cluster.Snapshot{Spec: &spec, Groups: map[int]cluster.GroupState{0: {Primary: "coordinator-2"}}}
	c := directConnection(snap, 0, false)
	require.Equal(t, []int{15433, 15432, 15434}, c.Ports)
	require.Equal(t, "read-write", c.Target)
	require.Equal(t, "prefer-standby", directConnection(snap, 0, true).Target)
}

func TestPsqlsEnvironmentLeadsNowhereElse(t *testing.T) {
	c := connection{Hosts: []string{"a", "b"}, Ports: []int{1, 2}, Database: "d", User: "u", Passfile: "/p"}
	got := c.environ([]string{"PATH=/bin", "PGHOST=x", "PGSERVICE=s", "PGHOSTADDR=1.2.3.4", "PGPASSWORD=old", "PGSSLMODE=require", "PGOPTIONS=-c x=y"})
	require.Equal(t, []string{"PATH=/bin", "PGSSLMODE=require", "PGHOST=a,b", "PGPORT=1,2", "PGDATABASE=d", "PGUSER=u", "PGPASSFILE=/p"}, got)
	c.Passfile = ""
	require.Contains(t, c.environ([]string{"PGPASSWORD=mine"}), "PGPASSWORD=mine", "without a password of ours the user's stays")
}

func TestThePasswordFileIsPrivateAndWrittenOnlyWhenItIsNotRight(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := secret.Secrets{Superuser: "pa:ss"}
	require.NoError(t, keepPassfile(dir, s))
	path := filepath.Join(dir, passfileName)
	first, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), first.Mode().Perm())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "*:*:*:postgres:pa\\:ss\n", string(text))
	require.NoError(t, keepPassfile(dir, s))
	second, err := os.Stat(path)
	require.NoError(t, err)
	require.True(t, os.SameFile(first, second), "it was right already")
	require.NoError(t, os.Chmod(path, 0o644))
	require.NoError(t, keepPassfile(dir, s))
	third, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), third.Mode().Perm())
}

func TestGroupsAreFoundByNumberWordNodeAndShardmansName(t *testing.T) {
	spec := cluster.DefaultSpec()
	spec.Hosts = []cluster.Host{{Name: "n1", Address: "10.0.0.1"}, {Name: "n2", Address: "10.0.0.2"}}
	spec.Groups = nil
	one := 1
	spec.Placement = cluster.Placement{Policy: cluster.Cross, Repfactor: &one}
	spec, err := spec.Complete()
	require.NoError(t, err)
	for name, want := range map[string]int{
		"0": 0, "coordinators": 0, "Coordinator": 0, "1": 1, "group-2": 2, "worker-1": 1, "coordinator-2": 0, "worker-1-1": 1,
		"clover-1-n1": 1, "clover-1-n2": 2,
	} {
		got, err := findGroup(spec, name)
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
	}
	for _, name := range []string{"", "9", "-1", "clover-1-n9", "clover", "n1"} {
		_, err := findGroup(spec, name)
		require.ErrorContains(t, err, "there is no group", name)
	}
}

func TestTheLastLinesOfALogAreFound(t *testing.T) {
	line := func(i int) string { return fmt.Sprintf("line %d %s\n", i, strings.Repeat("x", i%90)) }
	rapid.Check(t, func(t *rapid.T) {
		total, n := rapid.IntRange(0, 3000).Draw(t, "lines"), rapid.IntRange(0, 3200).Draw(t, "n")
		open := rapid.Bool().Draw(t, "last line is not closed")
		var all []string
		for i := range total {
			all = append(all, line(i))
		}
		if open && total > 0 {
			all[total-1] = strings.TrimSuffix(all[total-1], "\n")
		}
		r := bytes.NewReader([]byte(strings.Join(all, "")))
		if err := seekLines(r, n); err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(r)
		if want := strings.Join(all[max(0, total-n):], ""); string(got) != want {
			t.Fatalf("got %d bytes, want %d", len(got), len(want))
		}
	})
}
