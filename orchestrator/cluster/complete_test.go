package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// layout writes groups as "0: coordinator-1@h1:5432 …".
func layout(s Spec) string {
	var lines []string
	for _, g := range s.Groups {
		line := fmt.Sprintf("%d:", g.ID)
		for _, n := range g.Nodes {
			line += fmt.Sprintf(" %s@%s:%d", n.Name, n.Host, n.Port)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func complete(t testing.TB, s Spec) Spec {
	t.Helper()
	full, err := s.Complete()
	require.NoError(t, err)
	return full
}

func hosts(n int) []Host {
	var hs []Host
	for i := 1; i <= n; i++ {
		hs = append(hs, Host{Name: fmt.Sprintf("h%d", i), Address: fmt.Sprintf("10.0.0.%d", i)})
	}
	return hs
}

func TestTheDefaultSpecIsOnOneHost(t *testing.T) {
	full := complete(t, DefaultSpec())
	require.Equal(t, strings.TrimSpace(`
0: coordinator-1@local:15432 coordinator-2@local:15433 coordinator-3@local:15434
1: worker-1-1@local:15435
2: worker-2-1@local:15436`), layout(full))
	require.Equal(t, "main", full.Name)
	require.Equal(t, "5s", full.Failover.TTL.String())
	require.Equal(t, "127.0.0.1:6432", full.Router.Listen)
	require.Equal(t, Session, full.Router.Reads.Consistency)
	require.Equal(t, 1000, full.Router.MaxClients)
	require.Equal(t, Bytes(16<<20), full.Router.Reads.MaxLagBytes)
	for _, g := range full.Groups {
		require.Nil(t, g.Standbys, "a completed spec counts nothing")
	}
}

func TestPlacement(t *testing.T) {
	for _, tc := range []struct {
		name string
		spec Spec
		want string
	}{
		{
			"primaries are spread before hosts repeat, and a group's nodes are on different hosts",
			Spec{Hosts: hosts(3), Groups: []Group{{ID: 0, Standbys: ptr(2)}, {ID: 1, Standbys: ptr(1)}, {ID: 2, Standbys: ptr(1)}, {ID: 3, Standbys: ptr(0)}}},
			`0: coordinator-1@h1:5432 coordinator-2@h2:5432 coordinator-3@h3:5432
1: worker-1-1@h2:5433 worker-1-2@h3:5434
2: worker-2-1@h3:5433 worker-2-2@h1:5434
3: worker-3-1@h1:5433`,
		},
		{
			"listed nodes stay, and counts are filled up beside them",
			Spec{Hosts: hosts(3), Groups: []Group{
				{ID: 0, Standbys: ptr(2), Nodes: []Node{{Host: "h3", Name: "boss", Port: 6000}, {Host: "h2"}}},
				{ID: 7, Nodes: []Node{{Host: "h1", NoFailover: true}}},
			}},
			`0: boss@h3:6000 coordinator-1@h2:5432 coordinator-2@h1:5432
7: worker-7-1@h1:5433`,
		},
		{
			"numbers go on from the highest, and names taken elsewhere are passed over",
			Spec{Hosts: hosts(1), Groups: []Group{
				{ID: 0, Nodes: []Node{{Host: "h1", Name: "worker-1-5"}, {Host: "h1", Name: "coordinator-007"}}},
				{ID: 1, Standbys: ptr(2), Nodes: []Node{{Host: "h1", Name: "worker-1-4"}}},
			}},
			`0: worker-1-5@h1:5432 coordinator-007@h1:5433
1: worker-1-4@h1:5434 worker-1-6@h1:5435 worker-1-7@h1:5436`,
		},
		{
			"hosts that share an address share its ports, which the router takes too",
			Spec{
				Hosts:  []Host{{Name: "a", Address: "127.0.0.1", BasePort: 6431}, {Name: "b", Address: "localhost", BasePort: 6431}},
				Groups: []Group{{ID: 0, Nodes: []Node{{Host: "b", Port: 6431}, {Host: "a"}, {Host: "b"}}}},
			},
			`0: coordinator-1@b:6431 coordinator-2@a:6433 coordinator-3@b:6434`,
		},
		{
			"more nodes than hosts begin again",
			Spec{Hosts: hosts(2), Groups: []Group{{ID: 0, Standbys: ptr(3)}}},
			`0: coordinator-1@h1:5432 coordinator-2@h2:5432 coordinator-3@h1:5433 coordinator-4@h2:5433`,
		},
		{
			"cross is Shardman's table: a primary per host, standbys on the neighbours, primaries' ports first",
			Spec{Placement: Placement{Policy: Cross}, Hosts: hosts(4), Groups: []Group{{ID: 0, Nodes: []Node{{Host: "h1", Port: 6000}}}}},
			`0: coordinator-1@h1:6000
1: worker-1-1@h1:5432 worker-1-2@h2:5433
2: worker-2-1@h2:5432 worker-2-2@h1:5433
3: worker-3-1@h3:5432 worker-3-2@h4:5433
4: worker-4-1@h4:5432 worker-4-2@h3:5433`,
		},
		{
			"cross deals the coordinators when they are not given",
			Spec{Placement: Placement{Policy: Cross, Repfactor: ptr(2)}, Hosts: hosts(3)},
			`0: coordinator-1@h1:5432 coordinator-2@h2:5432 coordinator-3@h3:5432
1: worker-1-1@h1:5433 worker-1-2@h2:5434 worker-1-3@h3:5434
2: worker-2-1@h2:5433 worker-2-2@h3:5435 worker-2-3@h1:5434
3: worker-3-1@h3:5433 worker-3-2@h1:5435 worker-3-3@h2:5435`,
		},
		{
			"cross without standbys is a worker group per host",
			Spec{Placement: Placement{Policy: Cross, Repfactor: ptr(0)}, Hosts: hosts(2), Groups: []Group{{ID: 0, Standbys: ptr(0)}}},
			`0: coordinator-1@h1:5432
1: worker-1-1@h1:5433
2: worker-2-1@h2:5432`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.want, layout(complete(t, tc.spec)))
		})
	}
}

// genSpec makes valid short specs of both policies, with some nodes listed.
func genSpec(t *rapid.T) Spec {
	size := rapid.IntRange(1, 3).Draw(t, "clover")
	s := Spec{Name: "gen", Hosts: hosts(size * rapid.IntRange(1, 3).Draw(t, "clovers"))}
	for i := range s.Hosts {
		if rapid.Bool().Draw(t, "shares") {
			s.Hosts[i].Address = "10.0.0.1"
		}
		s.Hosts[i].BasePort = rapid.SampledFrom([]int{0, 5432, 5434, 7000}).Draw(t, "base")
	}
	group := func(id int) Group {
		g := Group{ID: id}
		for range rapid.IntRange(0, 3).Draw(t, "listed") {
			g.Nodes = append(g.Nodes, Node{Host: rapid.SampledFrom(s.Hosts).Draw(t, "host").Name})
			if rapid.Bool().Draw(t, "named") {
				g.Nodes[len(g.Nodes)-1].Name = fmt.Sprintf("%s%d", nodeNamePrefix(id), len(g.Nodes)*rapid.IntRange(1, 3).Draw(t, "k")*10+len(g.Nodes))
			}
		}
		if len(g.Nodes) == 0 || rapid.Bool().Draw(t, "counted") {
			g.Standbys = ptr(max(0, len(g.Nodes)-1) + rapid.IntRange(0, 2).Draw(t, "more"))
		}
		return g
	}
	s.Groups = []Group{group(0)}
	if rapid.Bool().Draw(t, "cross") {
		s.Placement = Placement{Policy: Cross, Repfactor: ptr(size - 1)}
		return s
	}
	for id := range rapid.IntRange(0, 4).Draw(t, "workers") {
		s.Groups = append(s.Groups, group(id*2+1))
	}
	return s
}

func TestCompletingACompletedSpecChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		once, err := genSpec(t).Complete()
		require.NoError(t, err)
		require.NoError(t, once.Validate())
		twice, err := once.Complete()
		require.NoError(t, err)
		require.Equal(t, once, twice)
	})
}

func TestCompletedSpecsAreWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		short := genSpec(t)
		before := short.Clone()
		full, err := short.Complete()
		require.NoError(t, err)
		require.Equal(t, before, short, "the given spec is not touched")
		names, ends := map[string]bool{}, map[string]bool{}
		for i, g := range full.Groups {
			for j, n := range g.Nodes {
				h, ok := full.HostOf(n.Host)
				require.True(t, ok)
				end := fmt.Sprintf("%s:%d", h.Address, n.Port)
				require.False(t, names[n.Name] || n.Name == "", "names are unique: %q", n.Name)
				require.False(t, ends[end] || n.Port == 0, "ports are unique on an address: %s", end)
				names[n.Name], ends[end] = true, true
				if i < len(short.Groups) && j < len(short.Groups[i].Nodes) {
					listed := short.Groups[i].Nodes[j]
					require.Equal(t, listed.Host, n.Host, "a listed node stays")
					require.Contains(t, []string{"", n.Name}, listed.Name, "a listed name stays")
				}
			}
		}
		for i, g := range short.Groups {
			if g.Standbys != nil {
				require.Len(t, full.Groups[i].Nodes, *g.Standbys+1)
			}
		}
	})
}

func TestDealtNodesOfAGroupShareAHostOnlyWhenTheyMust(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "hosts")
		s := Spec{Name: "gen", Hosts: hosts(n)}
		for id := range rapid.IntRange(1, 6).Draw(t, "groups") {
			s.Groups = append(s.Groups, Group{ID: id, Standbys: ptr(rapid.IntRange(0, 7).Draw(t, "standbys"))})
		}
		full, err := s.Complete()
		require.NoError(t, err)
		firsts := map[string]int{}
		for _, g := range full.Groups {
			on := map[string]int{}
			for _, node := range g.Nodes {
				on[node.Host]++
			}
			firsts[g.Nodes[0].Host]++
			for host, k := range on {
				require.LessOrEqual(t, k, (len(g.Nodes)+n-1)/n, "group %d on %s", g.ID, host)
			}
		}
		for host, k := range firsts {
			require.LessOrEqual(t, k, (len(full.Groups)+n-1)/n, "primaries on %s", host)
		}
	})
}

func TestNewHostsLeaveWhatIsThereAsItIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, err := genSpec(t).Complete()
		require.NoError(t, err)
		size := 1
		if old.Placement.Policy == Cross {
			size = old.cloverSize()
		}
		var more []Host
		for i := range size * rapid.IntRange(1, 2).Draw(t, "more") {
			more = append(more, Host{Name: fmt.Sprintf("n%d", i), Address: fmt.Sprintf("10.0.1.%d", i+1)})
		}
		next, err := old.AddHosts(more...)
		require.NoError(t, err)
		require.Equal(t, old.Groups, next.Groups[:len(old.Groups)])
		require.Len(t, next.Groups, len(old.Groups)+len(more), "each new host has a worker group of its own")
		require.NoError(t, old.CheckChange(next))
		for i, g := range next.Groups[len(old.Groups):] {
			require.Equal(t, more[i].Name, g.Nodes[0].Host)
			require.False(t, slices.ContainsFunc(old.Groups, func(o Group) bool { return o.ID == g.ID }), "ids are new")
		}
	})
}

func TestCompleteDoesNotShareMemoryWithItsInput(t *testing.T) {
	s := threeHosts()
	s.PostgreSQL.Parameters = map[string]string{"work_mem": "1MB"}
	s.Router.Reads.Overrides = map[string]ReadOverride{"c2": {Weight: 5}}
	full := complete(t, s)
	full.PostgreSQL.Parameters["work_mem"] = "2MB"
	full.Router.Reads.Overrides["c2"] = ReadOverride{}
	full.Groups[0].Nodes[0].Name = "other"
	require.Equal(t, "1MB", s.PostgreSQL.Parameters["work_mem"])
	require.Equal(t, 5, s.Router.Reads.Overrides["c2"].Weight)
	require.Equal(t, "c1", s.Groups[0].Nodes[0].Name)
}
