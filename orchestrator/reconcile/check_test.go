package reconcile

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// rows writes findings as lines, without remedies.
func rows(findings []Finding) []string {
	var lines []string
	for _, f := range findings {
		about := ""
		if f.Group != nil {
			about += fmt.Sprintf(" g%d", *f.Group)
		}
		if f.Node != "" {
			about += " " + f.Node
		}
		if f.Host != "" {
			about += " @" + f.Host
		}
		lines = append(lines, fmt.Sprintf("%s %s%s: %s", f.Kind, f.Level, about, f.Message))
	}
	return lines
}

func TestAHealthyClusterHasARowForEachHealthyThing(t *testing.T) {
	findings := Check(running(t), t0)
	require.Equal(t, []string{
		"topology OK: placement policy is manual",
		"metadata OK: metadata is OK: spec at revision 5, leader is lead",
		"agents OK @h1: agent on host h1 is OK",
		"agents OK @h2: agent on host h2 is OK",
		"agents OK @h3: agent on host h3 is OK",
		"groups OK g0: group 0 is OK: a primary and 2 standbys",
		"groups OK g1: group 1 is OK: a primary and 1 standby",
		"primaries OK g0 c1 @h1: the primary of group 0, c1, is running on 10.0.0.1:5432",
		"primaries OK g1 w1 @h2: the primary of group 1, w1, is running on 10.0.0.2:5433",
		"routers OK: router r1 listens on 127.0.0.1:6432",
	}, rows(findings))
	require.Equal(t, OK, Worst(findings))
}

// A row is given as "kind level subject: message | remedy".
func withRemedy(findings []Finding) []string {
	lines := rows(findings)
	for i, f := range findings {
		if f.Remedy != "" {
			lines[i] += " | " + f.Remedy
		}
	}
	return lines
}

func TestWhatIsNotWellIsReportedWithItsRemedy(t *testing.T) {
	ms := func(n int64) *int64 { return &n }
	for _, tc := range []struct {
		name   string
		change func(s *cluster.Snapshot)
		// want are the rows that are not OK.
		want []string
	}{
		{
			"no spec", func(s *cluster.Snapshot) { s.Spec = nil },
			[]string{"metadata Error: the cluster has no spec | write one with `orchestrator config generate` and store it with `orchestrator init -f FILE`"},
		},
		{
			"no leader", func(s *cluster.Snapshot) { s.Leader = nil },
			[]string{"metadata Error: no orchestrator leads: nothing is decided | start `orchestrator serve` (or `orchestrator up`)"},
		},
		{"no router", func(s *cluster.Snapshot) { clear(s.Routers) }, []string{"routers Warning: no router is running | start `orchestrator router`"}},
		{"no agent for a standby's host", func(s *cluster.Snapshot) { delete(s.Agents, "h3"); delete(s.Nodes, "c3"); delete(s.Nodes, "w2") }, []string{
			"agents Error @h3: the agent of host h3 (10.0.0.3) is not running | start `orchestrator agent --name h3` there",
			"groups Error g0 c3 @h3: nothing is known of node c3: the agent of host h3 is not running | start `orchestrator agent --name h3` there",
			"groups Error g1 w2 @h3: nothing is known of node w2: the agent of host h3 is not running | start `orchestrator agent --name h3` there",
		}},
		{"no agent for a primary's host", func(s *cluster.Snapshot) { delete(s.Agents, "h1"); delete(s.Nodes, "c1"); delete(s.Grants, 0) }, []string{
			"agents Error @h1: the agent of host h1 (10.0.0.1) is not running | start `orchestrator agent --name h1` there",
			"groups Error g0 c1 @h1: nothing is known of node c1: the agent of host h1 is not running | start `orchestrator agent --name h1` there",
			"primaries Error g0 c1 @h1: the primary of group 0, c1, is not known to run: nothing is reported about it | start `orchestrator agent --name h1` there",
		}},
		{"a node not reported yet", func(s *cluster.Snapshot) { delete(s.Nodes, "c2") }, []string{"groups Warning g0 c2 @h2: host h2 has not yet reported about node c2"}},
		{"an agent with a problem", func(s *cluster.Snapshot) {
			s.Agents["h2"] = cluster.AgentStatus{Host: "h2", SpecRevision: 5, Reason: "the clock is off"}
		}, []string{"agents Warning @h2: agent of host h2: the clock is off"}},
		{"an old spec at an agent and a node", func(s *cluster.Snapshot) {
			s.Agents["h2"] = cluster.AgentStatus{Host: "h2", SpecRevision: 4}
			edit(*s, "c2", func(n *cluster.NodeStatus) { n.SpecRevision = 4 })
		}, []string{
			"agents Warning @h2: host h2 has not yet applied the newest spec (revision 4 of 5)",
			"groups Warning g0 c2 @h2: node c2 has not yet the configuration of the newest spec (revision 4 of 5)",
		}},
		{"different majors", func(s *cluster.Snapshot) {
			s.Agents["h2"] = cluster.AgentStatus{Host: "h2", SpecRevision: 5, PostgreSQL: "17.2"}
		}, []string{"agents Error @h2: host h2 has PostgreSQL 17.2, but host h1 has 15 | install PostgreSQL 15 there, or start its agent with --pg-bin"}},
		{"another major than the spec's", func(s *cluster.Snapshot) {
			s.Spec.PostgreSQL.Version = 16
			for _, h := range []string{"h2", "h3"} {
				s.Agents[h] = cluster.AgentStatus{Host: h, SpecRevision: 5, PostgreSQL: "16.4"}
			}
		}, []string{"agents Error @h1: host h1 has PostgreSQL 15.18, but the spec asks for 16 | install PostgreSQL 16 there, or start its agent with --pg-bin"}},
		{
			"an unknown agent", func(s *cluster.Snapshot) { s.Agents["h9"] = cluster.AgentStatus{Host: "h9"} },
			[]string{"agents Warning @h9: an agent runs for host h9, which is not in the spec | bring it in with `orchestrator nodes add -n h9=ADDRESS`, or stop the agent"},
		},
		{"one machine", func(s *cluster.Snapshot) {
			for i := range s.Spec.Hosts {
				s.Spec.Hosts[i].Address = fmt.Sprintf("127.0.0.%d", i+1)
			}
		}, []string{"topology Warning: all hosts are one machine: its loss is the loss of the cluster | for data that matter, list hosts on different machines"}},
		{"groups that hang on one node or machine", func(s *cluster.Snapshot) {
			s.Spec.Groups[0].Nodes = s.Spec.Groups[0].Nodes[:1]
			s.Spec.Groups[1].Nodes[1].Host = "h2"
			delete(s.Nodes, "c2")
			delete(s.Nodes, "c3")
		}, []string{
			"topology Warning g0: group 0 has no standby: if node c1 is lost, the only coordinator is | add one with `orchestrator group add-standby 0 -n HOST`",
			"topology Warning g1: all 2 nodes of group 1 are on one machine (h2) | add one with `orchestrator group add-standby 1 -n HOST`",
		}},
		{"a worker group without standby", func(s *cluster.Snapshot) {
			s.Spec.Groups[1].Nodes = s.Spec.Groups[1].Nodes[:1]
			delete(s.Nodes, "w2")
		}, []string{"topology Warning g1: group 1 has no standby: if node w1 is lost, its data are | add one with `orchestrator group add-standby 1 -n HOST`"}},
		{
			"nobody to promote", func(s *cluster.Snapshot) { s.Spec.Groups[1].Nodes[1].NoFailover = true },
			[]string{"topology Warning g1: no standby of group 1 may be promoted: all have nofailover | remove nofailover from one of them"},
		},
		{
			"fsync off", func(s *cluster.Snapshot) {
				s.Spec.PostgreSQL.Parameters = map[string]string{"fsync": "OFF", "jit": "off"}
			},
			[]string{"metadata Warning: fsync is off: a crash of a machine can destroy data | for data that matter, run `orchestrator config set postgresql.parameters.fsync=`"},
		},
		{
			"a group that left the spec", func(s *cluster.Snapshot) {
				s.Spec.Groups = s.Spec.Groups[:1]
				delete(s.Nodes, "w1")
				delete(s.Nodes, "w2")
			},
			[]string{"metadata Error g1: group 1 has data on w1, but is not in the spec | put the group back into the spec; it may go when its data have moved"},
		},
		{"a node that left the spec", func(s *cluster.Snapshot) {
			s.Spec.Groups[0].Nodes = s.Spec.Groups[0].Nodes[:2]
			edit(*s, "c3", func(n *cluster.NodeStatus) { n.Reason = "the node was removed from the spec" })
		}, []string{"metadata Warning c3 @h3: node c3 is no longer in the spec; host h3 still has it: the node was removed from the spec"}},
		{"a primary that left the spec", func(s *cluster.Snapshot) {
			s.Spec.Groups[1].Nodes = append(s.Spec.Groups[1].Nodes[1:], cluster.Node{Name: "w3", Host: "h1"})
			delete(s.Nodes, "w1")
			edit(*s, "w2", func(n *cluster.NodeStatus) { n.Upstream = "" })
		}, []string{
			"metadata Error g1 w1: node w1 is the primary of group 1, but is not in the spec | put the node back into the spec, switch the primary, then remove it",
			"groups Warning g1 w3 @h1: host h1 has not yet reported about node w3",
			"primaries Error g1 w1: the primary of group 1, w1, is not known to run: nothing is reported about it | see the reason, and `orchestrator logs w1` on its host",
		}},
		{"groups with one system id", func(s *cluster.Snapshot) {
			g := s.Groups[1]
			g.SystemID = sysid(0)
			s.Groups[1] = g
			for _, n := range []string{"w1", "w2"} {
				edit(*s, n, func(n *cluster.NodeStatus) { n.SystemID = sysid(0) })
			}
		}, []string{"metadata Error g1: groups 0 and 1 have the same system identifier " + sysid(0) + " | one of them is a copy of the other: remove the one that was made by copying"}},
		{
			"a node with other data", func(s *cluster.Snapshot) { edit(*s, "c3", func(n *cluster.NodeStatus) { n.SystemID = "7" }) },
			[]string{"groups Error g0 c3 @h3: node c3 has data of another database system (7, the group's is " + sysid(0) + ") | move its data directory away, and the node is made anew from the primary"},
		},
		{"a failed standby", func(s *cluster.Snapshot) {
			edit(*s, "c3", func(n *cluster.NodeStatus) {
				n.State, n.Reason, n.NextTry = cluster.NodeFailed, "port 5432 is used by nginx (pid 7)", t0.Add(4*time.Second)
			})
		}, []string{"groups Error g0 c3 @h3: node c3 does not run: port 5432 is used by nginx (pid 7) (next try in 4s) | see the reason, and `orchestrator logs c3` on its host"}},
		{"standbys on their way", func(s *cluster.Snapshot) {
			edit(*s, "c2", func(n *cluster.NodeStatus) { n.State, n.SystemID = cluster.NodeAbsent, "" })
			edit(*s, "c3", func(n *cluster.NodeStatus) { n.State, n.Reason = cluster.NodeCreating, "base backup 40 %" })
			edit(*s, "w2", func(n *cluster.NodeStatus) { n.State = cluster.NodeStarting })
		}, []string{
			"groups Warning g0 c2 @h2: node c2 is still to be made",
			"groups Warning g0 c3 @h3: node c3 is creating: base backup 40 %",
			"groups Warning g1 w2 @h3: node w2 is starting",
		}},
		{
			"a stopped standby", func(s *cluster.Snapshot) {
				edit(*s, "w2", func(n *cluster.NodeStatus) { n.State = cluster.NodeStopped })
			},
			[]string{"groups Error g1 w2 @h3: node w2 is stopped | see the reason, and `orchestrator logs w2` on its host"},
		},
		{
			"a standby that does not stream", func(s *cluster.Snapshot) { edit(*s, "w2", func(n *cluster.NodeStatus) { n.Upstream = "" }) },
			[]string{"groups Warning g1 w2 @h3: standby w2 does not stream from w1 | see the reason, and `orchestrator logs w2` on its host"},
		},
		{
			"a standby that streams from another node", func(s *cluster.Snapshot) { edit(*s, "c3", func(n *cluster.NodeStatus) { n.Upstream = "c2" }) },
			[]string{"groups Warning g0 c3 @h3: standby c3 streams from c2 instead of c1"},
		},
		{"a standby whose WAL is gone", func(s *cluster.Snapshot) {
			edit(*s, "w1", func(n *cluster.NodeStatus) { n.LostSlots, n.Retained = []string{"w2"}, map[string]int64{"w2": 0} })
			edit(*s, "w2", func(n *cluster.NodeStatus) { n.Upstream = "" })
		}, []string{"groups Error g1 w2 @h3: the WAL that standby w2 needs is gone from the primary w1; it cannot catch up | " +
			"make it anew: `orchestrator group rm-standby 1 -n w2`, and when it is gone `orchestrator group add-standby 1 -n h3`"}},
		{"a lost slot of a standby that streams all the same, and one of a standby that is being made", func(s *cluster.Snapshot) {
			edit(*s, "c1", func(n *cluster.NodeStatus) {
				n.LostSlots, n.Retained = []string{"c2", "c3"}, map[string]int64{"c2": 5 << 30}
			})
			edit(*s, "c3", func(n *cluster.NodeStatus) { n.State = cluster.NodeCreating })
		}, []string{"groups Warning g0 c3 @h3: node c3 is creating"}},
		{"much WAL kept for a standby that is not there", func(s *cluster.Snapshot) {
			delete(s.Agents, "h3")
			delete(s.Nodes, "w2")
			edit(*s, "w1", func(n *cluster.NodeStatus) { n.Retained = map[string]int64{"w2": 3 << 29} })
			edit(*s, "c3", func(n *cluster.NodeStatus) { n.State = cluster.NodeStopped })
			edit(*s, "c1", func(n *cluster.NodeStatus) { n.Retained = map[string]int64{"c2": 0, "c3": 1 << 30} })
		}, []string{
			"agents Error @h3: the agent of host h3 (10.0.0.3) is not running | start `orchestrator agent --name h3` there",
			"groups Error g0 c3 @h3: node c3 is stopped | see the reason, and `orchestrator logs c3` on its host",
			"groups Error g1 w2 @h3: nothing is known of node w2: the agent of host h3 is not running | start `orchestrator agent --name h3` there",
			"groups Warning g1 w2 @h3: the primary w1 keeps 1.5 GB of WAL for standby w2, which does not stream; it fills the primary's disk | " +
				"bring it back, or remove it with `orchestrator group rm-standby 1 -n w2`",
		}},
		{"a standby on another timeline", func(s *cluster.Snapshot) { edit(*s, "c1", func(n *cluster.NodeStatus) { n.Timeline = 2 }) }, []string{
			"groups Warning g0 c2 @h2: standby c2 is on timeline 1, its primary c1 on 2",
			"groups Warning g0 c3 @h3: standby c3 is on timeline 1, its primary c1 on 2",
		}},
		{"lag beyond the limits for reads", func(s *cluster.Snapshot) {
			s.Spec.Router.Reads.Overrides = map[string]cluster.ReadOverride{"c3": {MaxLagBytes: 1 << 30, MaxLag: cluster.Duration(time.Hour)}}
			edit(*s, "c1", func(n *cluster.NodeStatus) { n.LSN = 1000 + 17<<20 })
			edit(*s, "c3", func(n *cluster.NodeStatus) { n.LagMS = ms(6000) })
			edit(*s, "w2", func(n *cluster.NodeStatus) { n.LagMS = ms(6000) })
		}, []string{
			"groups Warning g0 c2 @h2: standby c2 lags by 17825792 bytes and 0s (the limits for reads are 16MB and 5s) | look at the load of its host, and for long queries on it that hold replay up",
			"groups Warning g1 w2 @h3: standby w2 lags by 0 bytes and 6s (the limits for reads are 16MB and 5s) | look at the load of its host, and for long queries on it that hold replay up",
		}},
		{"a pending restart", func(s *cluster.Snapshot) {
			edit(*s, "c1", func(n *cluster.NodeStatus) { n.PendingRestart = []string{"max_connections", "shared_buffers"} })
		}, []string{"groups Warning g0 c1 @h1: node c1 has to be restarted for max_connections, shared_buffers to take effect | when it suits, stop and start its agent (or, for a cluster on one machine, `orchestrator down` and `up`)"}},
		{
			"a running node with a problem", func(s *cluster.Snapshot) {
				edit(*s, "c2", func(n *cluster.NodeStatus) { n.Reason = "the disk is full" })
			},
			[]string{"groups Warning g0 c2 @h2: node c2: the disk is full"},
		},
		{"a second primary", func(s *cluster.Snapshot) {
			edit(*s, "w2", func(n *cluster.NodeStatus) { n.Role, n.Upstream = cluster.Primary, "" })
		}, []string{"groups Error g1 w2 @h3: node w2 runs as a primary, but w1 is the primary of group 1 | do not write to it; its agent stops it, or stop it by hand"}},
		{
			"a primary without grant", func(s *cluster.Snapshot) { delete(s.Grants, 1) },
			[]string{"primaries Error g1 w1 @h2: the primary of group 1, w1, has no right to be it (no grant): its guard is about to stop it | see the reason, and `orchestrator logs w1` on its host"},
		},
		{
			"a grant of another term", func(s *cluster.Snapshot) { s.Grants[1] = cluster.Grant{Group: 1, Node: "w2", Term: 3} },
			[]string{"primaries Error g1 w1 @h2: the right to be primary of group 1 is held by w2 under term 3, but agreed is w1 under term 1"},
		},
		{
			"a primary in recovery", func(s *cluster.Snapshot) { edit(*s, "w1", func(n *cluster.NodeStatus) { n.Role = cluster.Standby }) },
			[]string{"primaries Error g1 w1 @h2: w1 is to be the primary of group 1, but runs as a standby | see the reason, and `orchestrator logs w1` on its host"},
		},
		{"a failed primary", func(s *cluster.Snapshot) {
			edit(*s, "w1", func(n *cluster.NodeStatus) { n.State, n.Reason = cluster.NodeFailed, "no space left" })
		}, []string{
			"groups Error g1 w1 @h2: node w1 does not run: no space left | see the reason, and `orchestrator logs w1` on its host",
			"primaries Error g1 w1 @h2: the primary of group 1, w1, does not run (failed: no space left) | see the reason, and `orchestrator logs w1` on its host",
		}},
		{"a primary whose data are gone", func(s *cluster.Snapshot) {
			edit(*s, "w1", func(n *cluster.NodeStatus) { n.State, n.SystemID = cluster.NodeAbsent, "" })
		}, []string{
			"groups Error g1 w1 @h2: the data of w1, the primary of group 1, are gone | bring its data directory back",
			"primaries Error g1 w1 @h2: the primary of group 1, w1, does not run (absent) | see the reason, and `orchestrator logs w1` on its host",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			snap := running(t)
			tc.change(&snap)
			var got []string
			for i, line := range withRemedy(Check(snap, t0)) {
				if Check(snap, t0)[i].Level != OK {
					got = append(got, line)
				}
			}
			require.Equal(t, tc.want, got)
		})
	}
}

func TestTheBirthOfAGroupIsReportedStepByStep(t *testing.T) {
	only := func(snap cluster.Snapshot) []string {
		return slices.DeleteFunc(withRemedy(Check(snap, t0.Add(9*time.Second))), func(l string) bool {
			return !strings.Contains(l, " g1") || strings.HasPrefix(l, "topology")
		})
	}
	waiting := "primaries Error g1: group 1 has no primary yet"

	snap := fresh(t)
	delete(snap.Agents, "h2")
	delete(snap.Nodes, "w1")
	require.Equal(t, []string{"groups Error g1 w1 @h2: group 1 waits for the agent of host h2, where its first node w1 is to be made | start `orchestrator agent --name h2` there", waiting}, only(snap))

	snap = fresh(t)
	delete(snap.Nodes, "w2")
	require.Equal(t, []string{"groups Warning g1 w2 @h3: group 1 waits for host h3 to report about node w2", waiting}, only(snap))

	snap = fresh(t)
	edit(snap, "w1", func(n *cluster.NodeStatus) { n.State, n.Reason = cluster.NodeFailed, "the directory is foreign" })
	require.Equal(t, []string{"groups Error g1 w1 @h2: group 1 waits for its first node w1, which is failed: the directory is foreign | see the reason, and `orchestrator logs w1` on its host", waiting}, only(snap))

	snap = fresh(t)
	edit(snap, "w2", func(n *cluster.NodeStatus) { n.State = cluster.NodeStopped })
	require.Equal(t, []string{"groups Error g1 w2 @h3: node w2 has data, but nothing is agreed about group 1: the agreed state was lost, or is an old copy | restore the newest copy of etcd's data, and leave the data directories as they are", waiting}, only(snap))

	snap = fresh(t)
	require.Equal(t, []string{"groups Warning g1: group 1 is about to be created on h2", waiting}, only(snap))

	snap = apply(t, snap, Decide(snap, t0))
	edit(snap, "w1", func(n *cluster.NodeStatus) { n.State, n.Reason = cluster.NodeCreating, "initdb" })
	require.Equal(t, []string{
		"groups Warning g1: group 1 is being created, for 9s so far",
		"groups Warning g1 w1 @h2: node w1 is creating: initdb",
		"groups Warning g1 w2 @h3: node w2 is still to be made",
		"primaries Warning g1 w1 @h2: the primary of group 1, w1, is being made",
	}, only(snap))
}

func TestTheRemedyOnALocalClusterIsUp(t *testing.T) {
	spec, err := cluster.DefaultSpec().Complete()
	require.NoError(t, err)
	findings := Check(cluster.Snapshot{Spec: &spec}, t0)
	i := slices.IndexFunc(findings, func(f Finding) bool { return f.Kind == Agents })
	require.Equal(t, "run `orchestrator up`", findings[i].Remedy)
}

func TestCrossIsNamedWithItsRepfactor(t *testing.T) {
	spec, err := cluster.Spec{
		Name: "shop", Placement: cluster.Placement{Policy: cluster.Cross},
		Hosts: []cluster.Host{{Name: "a", Address: "10.0.0.1"}, {Name: "b", Address: "10.0.0.2"}},
	}.Complete()
	require.NoError(t, err)
	require.Equal(t, "topology OK: placement policy is cross with repfactor 1", rows(Check(cluster.Snapshot{Spec: &spec}, t0))[0])
}

func TestStoreHealth(t *testing.T) {
	m := func(names ...string) []StoreMember {
		var ms []StoreMember
		for _, n := range names {
			ms = append(ms, StoreMember{Name: n})
		}
		return ms
	}
	require.Equal(t, []string{"store OK: the store is OK: 3 members"}, rows(StoreHealth(m("a", "b", "c"), nil)))
	require.Equal(t, []string{"store Warning: the store has only one member: if it is lost, so is what has been agreed"}, rows(StoreHealth(m("a"), nil)))
	require.Equal(t, []string{"store Warning: the store has 4 members, which stand no more losses than 3 do"}, rows(StoreHealth(m("a", "b", "c", "d"), nil)))
	require.Equal(t, []string{"store Error: store member c is not healthy: has no leader"},
		rows(StoreHealth(append(m("a", "b"), StoreMember{Name: "c", Err: "has no leader"}), nil)))
	require.Equal(t, []string{"store Error: the store does not answer: timeout"}, rows(StoreHealth(nil, errors.New("timeout"))))
}

func TestEveryKindHasARowAndRowsAreInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snap := genSnapshot(t)
		findings := Check(snap, t0)
		last := 0
		seen := map[Kind]bool{Store: true}
		for _, f := range findings {
			i := slices.Index(Kinds(), f.Kind)
			require.GreaterOrEqual(t, i, last, "ordered by kind")
			last = i
			seen[f.Kind] = true
			require.NotEmpty(t, f.Message)
			require.False(t, f.Level == OK && f.Remedy != "", "what is well needs no remedy")
		}
		require.Len(t, seen, len(Kinds()))
		if len(Decide(snap, t0)) > 0 {
			require.NotEqual(t, OK, Worst(findings), "what is still to be decided is not well yet")
		}
	})
}

func TestFindingsAreWordsInJSON(t *testing.T) {
	group := 1
	text, err := json.Marshal(Finding{Kind: Groups, Level: Warning, Group: &group, Message: "m"})
	require.NoError(t, err)
	require.JSONEq(t, `{"kind":"groups","level":"Warning","group":1,"message":"m"}`, string(text))
	require.Equal(t, "Error", Error.String())
}
