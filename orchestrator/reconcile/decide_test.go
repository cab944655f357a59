package reconcile

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

var t0 = time.Date(2025, 11, 20, 12, 0, 0, 0, time.UTC)

// threeHosts is a completed spec: hosts h1 to h3, group 0 with nodes c1 to c3 and group 1 with w1 and w2.
func threeHosts(t require.TestingT) cluster.Spec {
	s := cluster.Spec{Name: "shop"}
	for i := 1; i <= 3; i++ {
		s.Hosts = append(s.Hosts, cluster.Host{Name: fmt.Sprintf("h%d", i), Address: fmt.Sprintf("10.0.0.%d", i)})
	}
	s.Groups = []cluster.Group{
		{ID: 0, Nodes: []cluster.Node{{Name: "c1", Host: "h1"}, {Name: "c2", Host: "h2"}, {Name: "c3", Host: "h3"}}},
		{ID: 1, Nodes: []cluster.Node{{Name: "w1", Host: "h2"}, {Name: "w2", Host: "h3"}}},
	}
	full, err := s.Complete()
	require.NoError(t, err)
	return full
}

// fresh is the state in which all agents are alive and have reported that their nodes are empty.
func fresh(t require.TestingT) cluster.Snapshot {
	spec := threeHosts(t)
	snap := cluster.Snapshot{
		Revision: 10, Spec: &spec, SpecRevision: 5, Leader: &cluster.LeaderStatus{ID: "lead"},
		Groups: map[int]cluster.GroupState{}, GroupRevision: map[int]int64{}, Grants: map[int]cluster.Grant{},
		Nodes: map[string]cluster.NodeStatus{}, Agents: map[string]cluster.AgentStatus{}, Routers: map[string]cluster.RouterStatus{},
	}
	for _, h := range spec.Hosts {
		snap.Agents[h.Name] = cluster.AgentStatus{Host: h.Name, PostgreSQL: "15.18", SpecRevision: 5}
	}
	for _, g := range spec.Groups {
		for _, n := range g.Nodes {
			h, _ := spec.HostOf(n.Host)
			snap.Nodes[n.Name] = cluster.NodeStatus{
				Name: n.Name, Group: g.ID, Host: n.Host, Address: h.Address, Port: n.Port,
				State: cluster.NodeAbsent, SpecRevision: 5,
			}
		}
	}
	return snap
}

// running is the state in which everything is as it should be.
func running(t require.TestingT) cluster.Snapshot {
	snap := fresh(t)
	snap.Routers["r1"] = cluster.RouterStatus{ID: "r1", Listen: "127.0.0.1:6432"}
	for _, g := range snap.Spec.Groups {
		first := g.Nodes[0]
		snap.Groups[g.ID] = cluster.GroupState{ID: g.ID, Phase: cluster.Running, Primary: first.Name, Term: 1, SystemID: sysid(g.ID), At: t0}
		snap.GroupRevision[g.ID] = 7
		snap.Grants[g.ID] = cluster.Grant{Group: g.ID, Node: first.Name, Host: first.Host, Term: 1}
		for _, n := range g.Nodes {
			edit(snap, n.Name, func(s *cluster.NodeStatus) {
				s.State, s.Role, s.SystemID, s.Timeline, s.LSN = cluster.NodeRunning, cluster.Standby, sysid(g.ID), 1, 1000
				s.Upstream = first.Name
				if n.Name == first.Name {
					s.Role, s.Upstream, s.Term = cluster.Primary, "", 1
				}
			})
		}
	}
	return snap
}

func sysid(group int) string { return fmt.Sprintf("70000000000000000%02d", group) }

func edit(snap cluster.Snapshot, node string, change func(*cluster.NodeStatus)) {
	s := snap.Nodes[node]
	change(&s)
	snap.Nodes[node] = s
}

// apply puts changes into a copy of the snapshot, as the store does.
func apply(t require.TestingT, snap cluster.Snapshot, changes []Change) cluster.Snapshot {
	snap.Groups, snap.GroupRevision = maps.Clone(snap.Groups), maps.Clone(snap.GroupRevision)
	for _, c := range changes {
		require.Equal(t, snap.GroupRevision[c.Group.ID], c.IfRevision, "the change is fenced by what was seen")
		snap.Revision++
		snap.Groups[c.Group.ID], snap.GroupRevision[c.Group.ID] = c.Group, snap.Revision
	}
	return snap
}

func TestRulesOfDeciding(t *testing.T) {
	initializing := func(snap cluster.Snapshot, id int, primary string) {
		snap.Groups[id] = cluster.GroupState{ID: id, Phase: cluster.Initializing, Primary: primary, Term: 1, At: t0.Add(-3 * time.Second)}
		snap.GroupRevision[id] = 8
	}
	born := func(id int, primary string) string {
		return fmt.Sprintf("if 0: %d initializing %s term 1 ", id, primary)
	}
	for _, tc := range []struct {
		rule   string
		from   func(require.TestingT) cluster.Snapshot
		change func(cluster.Snapshot)
		want   []string
	}{
		{"a group in the spec without state is created on its first node", fresh, nil, []string{born(0, "c1"), born(1, "w1")}},
		{"without a spec nothing is decided", func(require.TestingT) cluster.Snapshot { return cluster.Snapshot{} }, nil, nil},
		{
			"a group waits while the agent of its first node's host is absent, others do not",
			fresh, func(s cluster.Snapshot) { delete(s.Agents, "h1"); delete(s.Nodes, "c1") },
			[]string{born(1, "w1")},
		},
		{
			"an absent agent of a later node does not keep a group waiting",
			fresh, func(s cluster.Snapshot) { delete(s.Agents, "h3"); delete(s.Nodes, "c3"); delete(s.Nodes, "w2") },
			[]string{born(0, "c1"), born(1, "w1")},
		},
		{
			"a group waits until every live agent has said whether its node has data",
			fresh, func(s cluster.Snapshot) { delete(s.Nodes, "w2") },
			[]string{born(0, "c1")},
		},
		{"a group is not created while one of its nodes has data", fresh, func(s cluster.Snapshot) {
			edit(s, "c3", func(n *cluster.NodeStatus) { n.State = cluster.NodeStopped })
			edit(s, "w2", func(n *cluster.NodeStatus) { n.State, n.SystemID = cluster.NodeFailed, "7" })
		}, nil},
		{"a group waits while its first node cannot be made", fresh, func(s cluster.Snapshot) {
			edit(s, "c1", func(n *cluster.NodeStatus) { n.State = cluster.NodeFailed })
		}, []string{born(1, "w1")}},
		{"all agents absent: everything waits", fresh, func(s cluster.Snapshot) { clear(s.Agents); clear(s.Nodes) }, nil},
		{
			"initializing ends when the primary runs under the term", running, func(s cluster.Snapshot) { initializing(s, 1, "w1") },
			[]string{"if 8: 1 running w1 term 1 " + sysid(1)},
		},
		{"a primary that does not run yet leaves it initializing", running, func(s cluster.Snapshot) {
			initializing(s, 1, "w1")
			edit(s, "w1", func(n *cluster.NodeStatus) { n.State = cluster.NodeStarting })
		}, nil},
		{"a primary under another term does not count", running, func(s cluster.Snapshot) {
			initializing(s, 1, "w1")
			edit(s, "w1", func(n *cluster.NodeStatus) { n.Term = 0 })
		}, nil},
		{"a server in recovery is not the primary", running, func(s cluster.Snapshot) {
			initializing(s, 1, "w1")
			edit(s, "w1", func(n *cluster.NodeStatus) { n.Role = cluster.Standby })
		}, nil},
		{"a primary without a system id does not count", running, func(s cluster.Snapshot) {
			initializing(s, 1, "w1")
			edit(s, "w1", func(n *cluster.NodeStatus) { n.SystemID = "" })
		}, nil},
		{"a report from another group's node does not count", running, func(s cluster.Snapshot) {
			initializing(s, 1, "w1")
			edit(s, "w1", func(n *cluster.NodeStatus) { n.Group = 2 })
		}, nil},
		{"another node that runs as primary does not end initializing", running, func(s cluster.Snapshot) {
			initializing(s, 1, "w2")
		}, nil},
		{"an initializing group whose agent is gone stays as it is", fresh, func(s cluster.Snapshot) {
			delete(s.Groups, 0)
			initializing(s, 0, "c1")
			initializing(s, 1, "w1")
			delete(s.Agents, "h1")
			delete(s.Nodes, "c1")
		}, nil},
		{"a primary that is not in the spec is left alone", running, func(s cluster.Snapshot) {
			initializing(s, 1, "gone")
			s.Nodes["gone"] = s.Nodes["w1"]
		}, nil},
		{"a running group is not touched, whatever its nodes report", running, func(s cluster.Snapshot) { clear(s.Nodes); clear(s.Agents); clear(s.Grants) }, nil},
		{"a group that is no longer in the spec keeps its state", running, func(s cluster.Snapshot) { s.Spec.Groups = s.Spec.Groups[:1] }, nil},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			snap := tc.from(t)
			if tc.change != nil {
				tc.change(snap)
			}
			var got []string
			for _, c := range Decide(snap, t0) {
				require.Equal(t, t0, c.Group.At)
				require.Equal(t, t0, c.Event.At)
				require.Equal(t, c.Group.ID, *c.Event.Group)
				got = append(got, fmt.Sprintf("if %d: %d %s %s term %d %s", c.IfRevision, c.Group.ID, c.Group.Phase, c.Group.Primary, c.Group.Term, c.Group.SystemID))
			}
			require.Equal(t, tc.want, got)
		})
	}
}

func TestTheHistoryTellsWhatWasDecidedAndHowLongItTook(t *testing.T) {
	snap := fresh(t)
	born := Decide(snap, t0)
	require.Equal(t, "group 0 is created with c1 as primary", born[0].Event.Message)
	require.Equal(t, "group-initializing", born[0].Event.Kind)
	require.Zero(t, born[0].Event.Duration)
	snap = running(t)
	snap.Groups, snap.GroupRevision = map[int]cluster.GroupState{}, map[int]int64{}
	snap = apply(t, snap, born)
	done := Decide(snap, t0.Add(4*time.Second))
	require.Equal(t, cluster.Event{
		At: t0.Add(4 * time.Second), Kind: "group-running", Group: done[0].Event.Group, Node: "c1",
		Message: "group 0 is running, c1 is primary under term 1", Duration: cluster.Duration(4 * time.Second),
	}, *done[0].Event)
	require.Len(t, done, 2)
}

// genSnapshot makes snapshots of all sorts, contradictory ones among them.
func genSnapshot(t *rapid.T) cluster.Snapshot {
	snap := fresh(t)
	if rapid.Bool().Draw(t, "spec lacks group 1") {
		snap.Spec.Groups = snap.Spec.Groups[:1]
	}
	for _, h := range []string{"h1", "h2", "h3"} {
		if rapid.IntRange(0, 4).Draw(t, h) == 0 {
			delete(snap.Agents, h)
		}
	}
	names := []string{"c1", "c2", "c3", "w1", "w2", "gone"}
	for _, name := range names {
		if rapid.IntRange(0, 3).Draw(t, name) == 0 {
			genStatus(t, snap, name)
		}
	}
	for id := range 3 {
		if rapid.Bool().Draw(t, "agreed") {
			snap.Groups[id] = cluster.GroupState{
				ID: id, Term: rapid.Uint64Range(1, 3).Draw(t, "term"), At: t0,
				Primary:  rapid.SampledFrom(names).Draw(t, "primary"),
				Phase:    rapid.SampledFrom([]cluster.Phase{cluster.Initializing, cluster.Running}).Draw(t, "phase"),
				SystemID: rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "agreed sysid"),
			}
			snap.GroupRevision[id] = rapid.Int64Range(1, 9).Draw(t, "revision")
		}
		if rapid.Bool().Draw(t, "granted") {
			snap.Grants[id] = cluster.Grant{Group: id, Node: rapid.SampledFrom(names).Draw(t, "holder"), Term: rapid.Uint64Range(1, 3).Draw(t, "grant term")}
		}
	}
	return snap
}

// genStatus draws what a node reports, or that it reports nothing.
func genStatus(t *rapid.T, snap cluster.Snapshot, name string) {
	if rapid.IntRange(0, 3).Draw(t, "silent") == 0 {
		delete(snap.Nodes, name)
		return
	}
	edit(snap, name, func(n *cluster.NodeStatus) {
		n.Name = name
		n.State = rapid.SampledFrom([]cluster.NodeState{
			cluster.NodeAbsent, cluster.NodeCreating, cluster.NodeStopped,
			cluster.NodeStarting, cluster.NodeRunning, cluster.NodeFailed,
		}).Draw(t, "state")
		n.Role = rapid.SampledFrom([]cluster.Role{cluster.Primary, cluster.Standby, cluster.RoleUnknown}).Draw(t, "role")
		n.Term = rapid.Uint64Range(0, 3).Draw(t, "node term")
		n.SystemID = rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "sysid")
		n.Upstream = rapid.SampledFrom([]string{"", "c1", "w1"}).Draw(t, "upstream")
		n.Timeline = rapid.Uint32Range(0, 2).Draw(t, "timeline")
		n.LSN = cluster.LSN(rapid.Uint64Range(0, 1<<26).Draw(t, "lsn"))
		n.Reason = rapid.SampledFrom([]string{"", "because"}).Draw(t, "reason")
	})
}

func TestDecideReachesItsFixpointAtOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snap := genSnapshot(t)
		next := apply(t, snap, Decide(snap, t0))
		require.Empty(t, Decide(next, t0.Add(time.Hour)))
	})
}

func TestDecideOnlyDependsOnItsInputAndLeavesItAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snap := genSnapshot(t)
		copied := snap
		spec := snap.Spec.Clone()
		copied.Spec, copied.Groups, copied.Nodes = &spec, maps.Clone(snap.Groups), maps.Clone(snap.Nodes)
		first := Decide(snap, t0)
		require.Empty(t, cmp.Diff(copied, snap))
		require.Equal(t, first, Decide(copied, t0))
	})
}

func TestWhateverIsReportedTermsNeverFallAndPrimariesDoNotChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snap := fresh(t)
		clear(snap.Agents)
		clear(snap.Nodes)
		primaries := map[string]string{} // "group/term" → primary
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			snap.Nodes, snap.Agents = maps.Clone(snap.Nodes), maps.Clone(snap.Agents)
			genEvent(t, snap)
			for _, c := range Decide(snap, t0) {
				was, existed := snap.Groups[c.Group.ID]
				require.GreaterOrEqual(t, c.Group.Term, was.Term, "terms never fall")
				require.False(t, existed && c.Group.Phase == cluster.Initializing, "a group is initializing once only")
				require.False(t, existed && was.Phase == cluster.Running, "a running group is left alone")
				key := fmt.Sprintf("%d/%d", c.Group.ID, c.Group.Term)
				if p, ok := primaries[key]; ok {
					require.Equal(t, p, c.Group.Primary, "one primary per term")
				}
				primaries[key] = c.Group.Primary
			}
			snap = apply(t, snap, Decide(snap, t0))
		}
	})
}

// genEvent lets one thing happen: an agent comes or goes, or a node reports.
func genEvent(t *rapid.T, snap cluster.Snapshot) {
	host := rapid.SampledFrom([]string{"h1", "h2", "h3"}).Draw(t, "host")
	switch rapid.IntRange(0, 2).Draw(t, "event") {
	case 0:
		snap.Agents[host] = cluster.AgentStatus{Host: host}
		for _, g := range snap.Spec.Groups {
			for _, n := range g.Nodes {
				if n.Host == host && snap.Nodes[n.Name].Name == "" {
					snap.Nodes[n.Name] = cluster.NodeStatus{Name: n.Name, Group: g.ID, Host: host, State: cluster.NodeAbsent}
				}
			}
		}
	case 1:
		delete(snap.Agents, host)
		maps.DeleteFunc(snap.Nodes, func(_ string, n cluster.NodeStatus) bool { return n.Host == host })
	default:
		genStatus(t, snap, rapid.SampledFrom([]string{"c1", "c2", "c3", "w1", "w2"}).Draw(t, "node"))
	}
}
