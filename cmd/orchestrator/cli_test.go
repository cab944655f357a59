package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/etcdserver"
	"github.com/multicoord/multicoord/orchestrator/specfile"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store"
	"github.com/multicoord/multicoord/orchestrator/store/etcdstore"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"orchestrator": main})
}

// TestScripts runs the program as users do: arguments and variables in, output and exit code out.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       *update,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("ORCHESTRATOR_DATA_DIR", filepath.Join(e.WorkDir, "data"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"cluster": scriptCluster,
			"exits":   scriptExits,
		},
	})
}

// scriptExits is "exits CODE command…": the exit code is exactly this one.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE command…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if err != nil {
		code = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, not %s (%v)", code, args[0], err)
	}
}

// scriptCluster is "cluster [empty] [FILE]": an etcd with a cluster whose servers have reported, without any server; the
// variable ENDPOINT gets the address. "empty" leaves the etcd empty, and does not say in the data folder where it is.
func scriptCluster(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs("data")
	ts.Check(os.MkdirAll(dir, 0o755))
	ctx, cancel := context.WithCancel(context.Background())
	srv, err := etcdserver.Start(ctx, etcdserver.Config{Dir: filepath.Join(dir, "etcd")})
	ts.Check(err)
	ts.Defer(func() { _ = srv.Close(); cancel() })
	ts.Setenv("ENDPOINT", srv.Endpoints()[0])
	if len(args) > 0 && args[0] == "empty" {
		return
	}
	spec := cluster.DefaultSpec()
	spec.Name = defaultCluster
	if len(args) > 0 {
		spec, err = specfile.Decode(strings.NewReader(ts.ReadFile(args[0])), args[0])
		ts.Check(err)
	}
	spec.ID = "5a0f1f2a-62b1-4a0c-9d3c-0a5a8a1e7c11"
	spec, err = spec.Complete()
	ts.Check(err)
	st, err := etcdstore.Open(ctx, etcdstore.Config{Endpoints: srv.Endpoints(), Prefix: keyPrefix + spec.Name})
	ts.Check(err)
	defer st.Close()
	ts.Check(createCluster(ctx, st, spec, filepath.Join(dir, "cluster.key")))
	ts.Check(reportCluster(ctx, st, spec))
	ts.Check(writeLocal(dir, localCluster{Cluster: spec.Name, ID: spec.ID, Etcd: srv.Endpoints()}))
}

// reportCluster writes what the control plane, the agents and a router of a healthy cluster would.
func reportCluster(ctx context.Context, st store.Store, spec cluster.Spec) error {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	v, err := state.Load(ctx, st)
	if err != nil {
		return err
	}
	tx := store.Tx{If: []store.Compare{state.SpecUnchanged(v.SpecRevision)}}
	add := func(p store.Put, e error) {
		tx.Put = append(tx.Put, p)
		err = errFirst(err, e)
	}
	add(state.PutLeader(cluster.LeaderStatus{ID: "host-1", At: at}, 0))
	add(state.PutRouter(cluster.RouterStatus{ID: "router-1", Listen: spec.Router.Listen, Admin: spec.Router.Admin, Version: "devel", At: at}, 0))
	for _, h := range spec.Hosts {
		add(state.PutAgent(cluster.AgentStatus{Host: h.Name, PID: 1, PostgreSQL: "15.18", SpecRevision: v.SpecRevision, At: at}, 0))
	}
	for _, g := range spec.Groups {
		primary := g.Nodes[0].Name
		add(state.PutGroup(cluster.GroupState{ID: g.ID, Phase: cluster.Running, Primary: primary, Term: 1, SystemID: "100" + primary, At: at}))
		add(state.PutGrant(cluster.Grant{Group: g.ID, Node: primary, Host: g.Nodes[0].Host, Term: 1}, 0))
		for i, n := range g.Nodes {
			host, _ := spec.HostOf(n.Host)
			lag := int64(12)
			s := cluster.NodeStatus{
				Name: n.Name, Group: g.ID, Host: n.Host, Address: host.Address, Port: n.Port, State: cluster.NodeRunning,
				Role: cluster.Standby, SystemID: "100" + primary, Timeline: 1, LSN: 0x3000100, LagMS: &lag, Upstream: primary,
				SpecRevision: v.SpecRevision, Version: "15.18", At: at,
			}
			if i == 0 {
				s.Role, s.LSN, s.LagMS, s.Upstream, s.Term = cluster.Primary, 0x3000148, nil, "", 1
			}
			add(state.PutNode(s, 0))
		}
	}
	group := 0
	err = errFirst(err, state.Append(&tx, v.State, state.KeepEvents,
		cluster.Event{At: at, Kind: "created", Group: &group, Node: "coordinator-1", Message: "group 0 is running", Duration: cluster.Duration(1500 * time.Millisecond)}))
	if err != nil {
		return err
	}
	_, err = st.Commit(ctx, tx)
	return err
}

func errFirst(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// testApp is an app whose output is kept, with the given variables.
func testApp(env map[string]string) (a *app, stdout, stderr *bytes.Buffer) {
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	a = newApp(strings.NewReader(""), stdout, stderr, func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	})
	a.environ = func() []string { return nil }
	return a, stdout, stderr
}

// commands calls f for every command.
func commands(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		commands(sub, f)
	}
}

func allFlags(c *cobra.Command, f func(*pflag.Flag)) {
	c.InheritedFlags() // merges the parents' flags
	c.Flags().VisitAll(f)
}

func TestEveryFlagOfEveryCommandNamesItsVariable(t *testing.T) {
	a, _, _ := testApp(nil)
	commands(newRoot(a), func(c *cobra.Command) {
		allFlags(c, func(f *pflag.Flag) {
			if !hasEnv(f) {
				require.True(t, f.Name == "help" || f.Hidden, "%s --%s has no variable but is not hidden", c.CommandPath(), f.Name)
				return
			}
			require.Contains(t, f.Usage, "[$"+envName(f.Name)+"]", "%s --%s", c.CommandPath(), f.Name)
			require.Equal(t, 1, strings.Count(f.Usage, "[$"), "%s --%s", c.CommandPath(), f.Name)
			require.NotEmpty(t, strings.TrimSpace(strings.Split(f.Usage, "[$")[0]), "%s --%s says what it is for", c.CommandPath(), f.Name)
		})
	})
}

func TestEveryFlagOfEveryCommandFollowsItsVariable(t *testing.T) {
	values := func(f *pflag.Flag) string {
		switch v := f.Value.(type) {
		case *choice:
			return v.values[len(v.values)-1]
		default:
			return map[string]string{"bool": "true", "int": "7", "duration": "3s", "string": "x", "stringSlice": "[a,b]", "uint": "7"}[f.Value.Type()]
		}
	}
	var paths []string
	a, _, _ := testApp(nil)
	commands(newRoot(a), func(c *cobra.Command) { paths = append(paths, c.CommandPath()) })
	for _, path := range paths {
		a, _, _ := testApp(nil)
		c, _, err := newRoot(a).Find(strings.Fields(path)[1:])
		require.NoError(t, err)
		env := map[string]string{}
		allFlags(c, func(f *pflag.Flag) {
			if hasEnv(f) {
				env[envName(f.Name)] = strings.Trim(values(f), "[]")
			}
		})
		require.NoError(t, applyEnv(c, func(name string) (string, bool) { v, ok := env[name]; return v, ok }), path)
		allFlags(c, func(f *pflag.Flag) {
			if hasEnv(f) {
				require.True(t, f.Changed, "%s --%s", path, f.Name)
				require.Equal(t, values(f), f.Value.String(), "%s --%s", path, f.Name)
			}
		})
	}
}

func TestAFlagWinsOverItsVariableAndAnEmptyVariableCountsAsUnset(t *testing.T) {
	for _, c := range []struct {
		name, env, want string
		args            []string
	}{
		{"default", "", "main", nil},
		{"variable", "shop", "shop", nil},
		{"flag", "shop", "test", []string{"--cluster", "test"}},
	} {
		a, _, stderr := testApp(map[string]string{"ORCHESTRATOR_CLUSTER": c.env})
		require.Equal(t, exitOK, a.run(t.Context(), append([]string{"version"}, c.args...)), stderr.String())
		require.Equal(t, c.want, a.global.Cluster, c.name)
	}
}

func TestEveryCommandIsExplained(t *testing.T) {
	a, _, _ := testApp(nil)
	commands(newRoot(a), func(c *cobra.Command) {
		if c.Name() == "completion" || (c.Parent() != nil && c.Parent().Name() == "completion") {
			return // cobra's own
		}
		require.NotEmpty(t, c.Short, c.CommandPath())
		if !c.Hidden || c.HasSubCommands() {
			require.NotEmpty(t, c.Long, c.CommandPath())
			require.NotEmpty(t, c.Example, c.CommandPath())
		}
	})
}

func TestPassThroughTakesOnlyItsOwnLongFlags(t *testing.T) {
	for _, c := range []struct{ in, own, theirs string }{
		{"-c SELECT", "", "-c SELECT"},
		{"--read-only -c x", "--read-only", "-c x"},
		{"-c x --data-dir /d --csv", "--data-dir /d", "-c x --csv"},
		{"--data-dir=/d -h other", "--data-dir=/d", "-h other"},
		{"-- --data-dir /d", "", "--data-dir /d"},
		{"--help", "--help", ""},
		{"--command=x --dbname y --data-dir", "--data-dir", "--command=x --dbname y"},
		{"", "", ""},
	} {
		a, _, _ := testApp(nil)
		cmd, _, err := newRoot(a).Find([]string{"psql"})
		require.NoError(t, err)
		cmd.InheritedFlags()
		own, theirs := splitPassThrough(cmd.Flags(), strings.Fields(c.in))
		require.Equal(t, c.own, strings.Join(own, " "), c.in)
		require.Equal(t, c.theirs, strings.Join(theirs, " "), c.in)
	}
}

func TestTheFolderInWhichInitHasPutTheKeyIsOurs(t *testing.T) {
	a, _, _ := testApp(nil)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, keyFileName), nil, 0o600))
	require.NoError(t, a.makeDataDir(dir))
	require.NoError(t, os.WriteFile(filepath.Join(dir, passfileName), nil, 0o600))
	require.NoError(t, a.makeDataDir(dir))
	require.NoError(t, os.Rename(filepath.Join(dir, keyFileName), filepath.Join(dir, "holiday.jpg")))
	require.NoError(t, os.Remove(filepath.Join(dir, passfileName)))
	require.ErrorContains(t, a.makeDataDir(dir), "holiday.jpg")
}
