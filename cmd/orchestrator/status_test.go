package main

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/reconcile"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store"
)

func TestWatchShowsEveryLastStateAtMostOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, h, _ := storedSpec(t)
		a, stdout, _ := testApp(nil)
		ctx, cancel := context.WithCancel(t.Context())
		var seen []string
		ended := make(chan error, 1)
		o := &output{value: outYAML}
		go func() {
			ended <- a.watch(ctx, h, o, func(snap cluster.Snapshot) error {
				leader := ""
				if snap.Leader != nil {
					leader = snap.Leader.ID
				}
				seen = append(seen, leader)
				return nil
			})
		}()
		synctest.Wait()
		for _, id := range []string{"a", "b", "c"} {
			put, err := state.PutLeader(cluster.LeaderStatus{ID: id}, 0)
			require.NoError(t, err)
			v, err := state.Load(t.Context(), st)
			require.NoError(t, err)
			_, err = st.Commit(t.Context(), store.Tx{If: []store.Compare{state.SpecUnchanged(v.SpecRevision)}, Put: []store.Put{put}})
			require.NoError(t, err)
			synctest.Wait()
		}
		time.Sleep(watchEvery + time.Millisecond)
		synctest.Wait()
		require.Equal(t, []string{"", "c"}, seen)
		cancel()
		require.NoError(t, <-ended)
		require.Equal(t, "---\n---\n", stdout.String())
	})
}

func TestAReportHasATableForEachKindWithFindings(t *testing.T) {
	group := 1
	r := report{Findings: []reconcile.Finding{
		{Kind: reconcile.Primaries, Level: reconcile.Error, Group: &group, Node: "worker-1-1", Host: "h1", Message: "it\x1b[2J does not run", Remedy: "see the logs"},
		{Kind: reconcile.Agents, Level: reconcile.OK, Host: "h1", Message: "fine"},
	}}
	sheets := reportSheets(r)
	require.Len(t, sheets, 2)
	require.Equal(t, [][]string{{"OK", "fine", "", "h1", ""}}, sheets[0].Rows, "kinds come in their own order; a host stands for the node")
	var b strings.Builder
	require.NoError(t, writeTables(&b, sheets, 0, false))
	require.NotContains(t, b.String(), "\x1b", "what other machines report cannot steer the terminal")
	require.Contains(t, b.String(), "│  Error │ it?[2J does not run │   1   │ worker-1-1 │ see the logs │")
}

func TestTopologyTellsWhatIsFromWhatIsAgreed(t *testing.T) {
	spec, err := cluster.DefaultSpec().Complete()
	require.NoError(t, err)
	lag := int64(40)
	snap := cluster.Snapshot{
		Spec:   &spec,
		Groups: map[int]cluster.GroupState{0: {ID: 0, Phase: cluster.Running, Primary: "coordinator-1", Term: 3}},
		Nodes: map[string]cluster.NodeStatus{
			"coordinator-1": {Name: "coordinator-1", State: cluster.NodeRunning, Role: cluster.Primary, LSN: 500, SystemID: "1", Timeline: 2},
			"coordinator-2": {Name: "coordinator-2", State: cluster.NodeRunning, Role: cluster.Standby, LSN: 400, SystemID: "1", Timeline: 2, LagMS: &lag},
			"coordinator-3": {Name: "coordinator-3", State: cluster.NodeRunning, Role: cluster.Primary, LSN: 900, SystemID: "1", Timeline: 1},
			"coordinator-9": {Name: "coordinator-9", State: cluster.NodeRunning, Role: cluster.Standby, LSN: 400, SystemID: "1", Timeline: 1},
		},
	}
	top := topologyOf(snap)
	cells := map[string][]string{}
	for _, n := range top.Groups[0].Nodes {
		cells[n.Node] = n.cells()[3:]
	}
	require.Equal(t, []string{"PRIMARY", "running", "2", "0/1F4", "", ""}, cells["coordinator-1"])
	require.Equal(t, []string{"STANDBY", "running", "2", "0/190", "100", "40"}, cells["coordinator-2"])
	require.Equal(t, []string{"PRIMARY, to be STANDBY", "running", "1", "0/384", "", ""}, cells["coordinator-3"])
	require.Equal(t, []string{"STANDBY", "running, leaving", "1", "0/190", "", ""}, cells["coordinator-9"], "positions of other timelines mean nothing to each other")
	require.Equal(t, []string{"", "unknown", "", "", "", ""}, top.Groups[1].Nodes[0].cells()[3:])
}
