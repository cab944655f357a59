package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/failover/guard"
)

const testClusterID = "5a0f1f2a-62b1-4a0c-9d3c-0a5a8a1e7c11"

// leftFolder is the data folder of a cluster whose process was killed, with these nodes.
func leftFolder(t *testing.T, nodes ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, n := range nodes {
		writeMarker(t, filepath.Join(nodesDir(dir), n), n, testClusterID)
	}
	require.NoError(t, os.MkdirAll(filepath.Join(dir, etcdFolder), 0o700))
	require.NoError(t, writeLocal(dir, localCluster{Cluster: "docs", ID: testClusterID, Etcd: []string{"unix://" + dir + "/etcd/run/client.sock"}}))
	require.NoError(t, os.WriteFile(filepath.Join(dir, lockFileName), nil, 0o600))
	return dir
}

func writeMarker(t *testing.T, folder, node, id string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "data"), 0o700))
	raw, err := json.Marshal(map[string]any{"cluster_id": id, "cluster": "docs", "node": node, "group": 0})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "marker.json"), raw, 0o600))
}

// workIn runs a program called postgres in a data directory, as a server without a guard. The result waits for its end.
func workIn(t *testing.T, dataDir string) (pid int, wait func() error) {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	program := filepath.Join(t.TempDir(), "postgres")
	b, err := os.ReadFile(sleep)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(program, b, 0o700))
	c := exec.CommandContext(t.Context(), program, "600")
	c.Dir = dataDir
	require.NoError(t, c.Start())
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() { _ = c.Process.Kill() })
	return c.Process.Pid, func() error { return <-ended }
}

func nodesLeft(t *testing.T, dir string) []leftNode {
	t.Helper()
	a, _, _ := testApp(nil)
	nodes, err := a.leftNodes(dir)
	require.NoError(t, err)
	return nodes
}

func quietProgress(t *testing.T) *progress {
	t.Helper()
	p := newProgress(io.Discard, false)
	t.Cleanup(p.Close)
	return p
}

func TestNothingIsDeletedUnderARunningServer(t *testing.T) {
	dir := leftFolder(t, "coordinator-1", "worker-1-1")
	pid, _ := workIn(t, filepath.Join(nodesDir(dir), "worker-1-1", "data"))
	err := destroy(t.Context(), dir, nodesLeft(t, dir), quietProgress(t))
	require.ErrorContains(t, err, fmt.Sprintf("nothing was deleted: processes [%d] of PostgreSQL still work", pid))
	for _, still := range []string{"nodes/coordinator-1/marker.json", "nodes/worker-1-1/marker.json", etcdFolder, localFileName, lockFileName} {
		_, err := os.Lstat(filepath.Join(dir, still))
		require.NoError(t, err, still)
	}
}

func TestAServerWithoutAGuardIsStoppedByDown(t *testing.T) {
	dir := leftFolder(t, "coordinator-1", "worker-1-1")
	_, wait := workIn(t, filepath.Join(nodesDir(dir), "worker-1-1", "data"))
	a, _, stderr := testApp(map[string]string{})
	require.Equal(t, exitOK, a.run(t.Context(), []string{"down", "--data-dir", dir}), stderr.String())
	require.Contains(t, stderr.String(), "✓ stop worker-1-1")
	require.NotContains(t, stderr.String(), "coordinator-1")
	require.Error(t, wait(), "it was ended by a signal")
	pids, err := guard.Processes(filepath.Join(nodesDir(dir), "worker-1-1", "data"))
	require.NoError(t, err)
	require.Empty(t, pids)
}

func TestDestroyRefusesFoldersOfOthers(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, folder string)
		want string
	}{
		"a copy of a node": {
			func(t *testing.T, f string) { t.Helper(); writeMarker(t, f, "worker-1-1", testClusterID) },
			"is a copy of the folder of node worker-1-1: move it away",
		},
		"a node of another cluster": {
			func(t *testing.T, f string) { t.Helper(); writeMarker(t, f, "x", "other") },
			`belongs to cluster "docs" (id other), not to the one in this folder`,
		},
		"no node": {
			func(t *testing.T, f string) {
				t.Helper()
				require.NoError(t, os.MkdirAll(filepath.Join(f, "photos"), 0o700))
			},
			"is no node's folder, and not empty",
		},
		"a broken marker": {
			func(t *testing.T, f string) {
				t.Helper()
				require.NoError(t, os.MkdirAll(f, 0o700))
				require.NoError(t, os.WriteFile(filepath.Join(f, "marker.json"), []byte("{"), 0o600))
			},
			"read the marker",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := leftFolder(t, "worker-1-1")
			c.make(t, filepath.Join(nodesDir(dir), "x"))
			err := destroy(t.Context(), dir, nodesLeft(t, dir), quietProgress(t))
			require.ErrorContains(t, err, "nothing was deleted")
			require.ErrorContains(t, err, c.want)
			require.FileExists(t, filepath.Join(nodesDir(dir), "worker-1-1", "marker.json"))
		})
	}
}

func TestDestroyLeavesNothing(t *testing.T) {
	dir := leftFolder(t, "coordinator-1", "worker-1-1")
	// A node's folder may be elsewhere, an empty one be left, and etcd's sockets be outside when the path is long.
	elsewhere := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.Rename(filepath.Join(nodesDir(dir), "worker-1-1"), elsewhere))
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(nodesDir(dir), "worker-1-1")))
	require.NoError(t, os.Mkdir(filepath.Join(nodesDir(dir), "worker-9-9"), 0o700))
	run, err := os.MkdirTemp("", "mc") //nolint:usetesting // a socket's path must be short
	require.NoError(t, err)
	defer os.RemoveAll(run)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(run, "client.sock"), Net: "unix"})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	require.NoError(t, writeLocal(dir, localCluster{Cluster: "docs", ID: testClusterID, Etcd: []string{"unix://" + run + "/client.sock"}}))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "."+localFileName+".123"), nil, 0o600))

	a, _, stderr := testApp(map[string]string{})
	require.Equal(t, exitOK, a.run(t.Context(), []string{"down", "--destroy", "--yes", "--data-dir", dir}), stderr.String())
	require.NoDirExists(t, dir)
	require.NoDirExists(t, run)
	entries, err := os.ReadDir(elsewhere)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestWhatIsNotTheClustersStaysInTheFolder(t *testing.T) {
	dir := leftFolder(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "holiday.jpg"), nil, 0o600))
	require.NoError(t, destroy(t.Context(), dir, nodesLeft(t, dir), quietProgress(t)))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, "holiday.jpg", entries[0].Name())
}

func TestAnotherUsersClusterIsNotTouched(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	dir := leftFolder(t, "worker-1-1")
	require.NoError(t, checkOwner(dir, 0))
	require.ErrorContains(t, checkOwner(dir, 12345), "belongs to user root: run this as that user")
	require.NoError(t, os.Chown(filepath.Join(dir, lockFileName), 12345, 12345))
	for _, args := range [][]string{{"down"}, {"down", "--destroy", "--yes"}} {
		a, _, stderr := testApp(map[string]string{})
		require.Equal(t, exitFailed, a.run(t.Context(), append(args, "--data-dir", dir)))
		require.Contains(t, stderr.String(), "belongs to the user with id 12345: run this as that user")
	}
	require.FileExists(t, filepath.Join(nodesDir(dir), "worker-1-1", "marker.json"))
}

func TestTheClusterIsThatOfTheFolder(t *testing.T) {
	dir := leftFolder(t)
	spec := filepath.Join(t.TempDir(), "other.yaml")
	require.NoError(t, os.WriteFile(spec, []byte("name: other\nhosts: [{name: local, address: 127.0.0.1}]\ngroups: [{id: 0, standbys: 0}, {id: 1, standbys: 0}]\n"), 0o600))
	nameless := filepath.Join(t.TempDir(), "nameless.yaml")
	require.NoError(t, os.WriteFile(nameless, []byte("hosts: [{name: local, address: 127.0.0.1}]\ngroups: [{id: 0, standbys: 0}, {id: 1, standbys: 0}]\n"), 0o600))
	for _, c := range []struct{ args, want string }{
		{"", "docs"},
		{"--cluster docs", "docs"},
		{"-f " + nameless, "docs"},
		{"--cluster other", ""},
		{"-f " + spec, ""},
		{"--cluster other -f " + nameless, ""},
	} {
		a, _, _ := testApp(map[string]string{})
		cmd, _, err := newRoot(a).Find([]string{"up"})
		require.NoError(t, err)
		cmd.InheritedFlags()
		require.NoError(t, cmd.ParseFlags(strings.Fields("--data-dir "+dir+" "+c.args)))
		s, got, err := a.wantedSpec(cmd, cmd.Flag("file").Value.String())
		if c.want == "" {
			require.ErrorContains(t, err, fmt.Sprintf(`%s holds the cluster "docs", not "other"`, dir), c.args)
			continue
		}
		require.NoError(t, err, c.args)
		require.Equal(t, []string{"docs", "docs", dir}, []string{s.Name, a.global.Cluster, got}, c.args)
	}
	a, _, stderr := testApp(map[string]string{})
	require.Equal(t, exitFailed, a.run(t.Context(), []string{"down", "--destroy", "--yes", "--cluster", "other", "--data-dir", dir}))
	require.Contains(t, stderr.String(), `holds the cluster "docs", not "other"`)
	require.DirExists(t, dir)
}

func TestHintsWorkAsPrinted(t *testing.T) {
	a, _, _ := testApp(map[string]string{"HOME": "/home/ann"})
	a.euid = 1000
	for _, c := range []struct{ cluster, dir, want string }{
		{"main", "/home/ann/.local/share/multicoord/main", ""},
		{"docs", "/home/ann/.local/share/multicoord/docs", " --cluster docs"},
		{"docs", "/srv/docs", " --data-dir /srv/docs"},
		{"main", "/srv/ann's data", ` --data-dir '/srv/ann'\''s data'`},
	} {
		a.global.Cluster = c.cluster
		require.Equal(t, c.want, a.flagsFor(c.dir))
	}
}

func TestASignalBeforeTheClusterIsReadyIsToldThroughThePipe(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	p := newPipedSteps(w)
	p.Begin("etcd").End(nil)
	p.Say("mind the gap")
	p.fail(fmt.Errorf("interrupted before the cluster was ready (%s)", syscall.SIGTERM))
	p.fail(os.ErrClosed) // only the first counts
	a, _, stderr := testApp(nil)
	to := &shownSteps{a: a}
	require.EqualError(t, showPiped(r, to), "interrupted before the cluster was ready (terminated)")
	to.close()
	require.Contains(t, stderr.String(), "mind the gap\n")
}
