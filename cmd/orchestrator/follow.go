package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// startGoals are what a start is waiting for: each group's primary, then its standbys.
type startGoal struct {
	name string
	node string
}

func goalsOf(spec cluster.Spec) []startGoal {
	var goals []startGoal
	for _, g := range spec.Groups {
		for _, n := range g.Nodes {
			what := fmt.Sprintf("worker group %d", g.ID)
			if g.ID == cluster.CoordinatorGroup {
				what = "coordinators"
			}
			goals = append(goals, startGoal{name: fmt.Sprintf("%s: %s on %s port %d", what, n.Name, n.Host, n.Port), node: n.Name})
		}
	}
	return goals
}

// reached tells whether a node is as decided; if not, what it is waiting for.
func reached(snap cluster.Snapshot, node string) (bool, string) {
	return reachedSince(snap, node, time.Time{})
}

// reachedSince is reached by reports from since on: earlier ones may be those of an earlier process.
func reachedSince(snap cluster.Snapshot, node string, since time.Time) (bool, string) {
	st, ok := snap.Nodes[node]
	if !ok || st.At.Before(since) {
		return false, "waiting for its agent"
	}
	_, g, _ := snap.Spec.NodeOf(node)
	group, ok := snap.Groups[g.ID]
	if !ok || group.Phase != cluster.Running {
		return false, why(st, "waiting for the group")
	}
	switch {
	case st.State != cluster.NodeRunning:
		return false, why(st, string(st.State))
	case group.Primary == node && (st.Role != cluster.Primary || st.Term != group.Term):
		return false, why(st, "becoming primary")
	case group.Primary != node && st.Upstream == "":
		return false, why(st, "waiting for the primary's stream")
	case st.Reason != "":
		return false, st.Reason
	}
	return true, ""
}

func why(st cluster.NodeStatus, otherwise string) string {
	if st.Reason != "" {
		return st.Reason
	}
	return otherwise
}

// followStart shows the nodes of a starting cluster until all are as decided and ready says nothing more (it may be
// nil), counting reports from since on. After the time given it fails with what is still missing; the cluster goes on starting all the same.
func followStart(ctx context.Context, snaps <-chan cluster.Snapshot, to steps, since time.Time, within time.Duration, ready func() error) error {
	open := map[string]openStep{}
	done := map[string]bool{}
	missing := map[string]string{}
	var last error
	var routers openStep
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timeout.C:
			return notReady(within, missing, last)
		case snap, ok := <-snaps:
			if !ok {
				return errors.New("the cluster's state is no longer to be had")
			}
			if snap.Spec == nil {
				continue
			}
			missing = map[string]string{}
			for _, g := range goalsOf(*snap.Spec) {
				showGoal(snap, g, since, open, done, missing, to)
			}
			if len(missing) > 0 {
				continue
			}
		case <-tick.C:
			if len(done) == 0 || len(missing) > 0 {
				continue
			}
		}
		if ready == nil {
			return nil
		}
		if routers == nil {
			routers = to.Begin("router")
		}
		if last = ready(); last == nil {
			routers.End(nil)
			return nil
		}
		routers.Note(last.Error())
	}
}

func showGoal(snap cluster.Snapshot, g startGoal, since time.Time, open map[string]openStep, done map[string]bool, missing map[string]string, to steps) {
	if done[g.node] {
		if ok, reason := reachedSince(snap, g.node, since); !ok {
			missing[g.node] = reason
		}
		return
	}
	if open[g.node] == nil {
		open[g.node] = to.Begin(g.name)
	}
	ok, reason := reachedSince(snap, g.node, since)
	if !ok {
		missing[g.node] = reason
		open[g.node].Note(reason)
		return
	}
	open[g.node].End(nil)
	done[g.node] = true
}

func notReady(within time.Duration, missing map[string]string, last error) error {
	var lines []string
	for node, reason := range missing {
		lines = append(lines, node+": "+reason)
	}
	if len(missing) == 0 && last != nil {
		lines = append(lines, "router: "+last.Error())
	}
	return fmt.Errorf("the cluster is not ready after %s (%s); it goes on starting: look with `orchestrator status`", within, strings.Join(lines, "; "))
}
