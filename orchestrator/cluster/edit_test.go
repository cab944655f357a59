package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestHostsAreWrittenAsNameOrNameAndAddress(t *testing.T) {
	for text, want := range map[string]Host{
		"n1":               {Name: "n1", Address: "n1"},
		"n1=10.0.0.9":      {Name: "n1", Address: "10.0.0.9"},
		"n1=fd00::9":       {Name: "n1", Address: "fd00::9"},
		"db-1.example.com": {Name: "db-1.example.com", Address: "db-1.example.com"},
	} {
		got, err := ParseHost(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for text, want := range map[string]string{
		"":              `"" is not a host; write NAME or NAME=ADDRESS`,
		"N1=10.0.0.9":   `"N1=10.0.0.9" is not a host; write NAME or NAME=ADDRESS`,
		"n1=":           `host n1: the address is missing; give the IP address or host name under which others reach the host`,
		"n1=10.0.0.9:1": `host n1: the address "10.0.0.9:1" has a port; give the address alone, ports are counted from base_port`,
	} {
		_, err := ParseHost(text)
		require.EqualError(t, err, want)
	}
}

func TestAddHostsGivesEachHostAWorkerGroupUnderManual(t *testing.T) {
	s := complete(t, threeHosts())
	next, err := s.AddHosts(Host{Name: "h4", Address: "10.0.0.4"}, Host{Name: "h5", Address: "10.0.0.5"})
	require.NoError(t, err)
	require.Equal(t, layout(s)+"\n2: worker-2-1@h4:5432\n3: worker-3-1@h5:5432", layout(next))
	require.Len(t, s.Hosts, 3, "the old spec is not touched")
	_, err = s.AddHosts(Host{Name: "h1", Address: "10.0.0.9"})
	require.EqualError(t, err, "add hosts: hosts[3].name: h1 is already the name of hosts[0]")
}

func TestAddHostsTakesWholeCloversUnderCross(t *testing.T) {
	s := complete(t, fourCrossed())
	_, err := s.AddHosts(Host{Name: "h5", Address: "10.0.0.5"})
	require.EqualError(t, err, "add hosts: hosts: 5 hosts do not make whole clovers of 2 (placement.repfactor 1, and one more); add 1 or remove 1")
	next, err := s.AddHosts(Host{Name: "h5", Address: "10.0.0.5"}, Host{Name: "h6", Address: "10.0.0.6"})
	require.NoError(t, err)
	require.Equal(t, layout(s)+"\n5: worker-5-1@h5:5432 worker-5-2@h6:5433\n6: worker-6-1@h6:5432 worker-6-2@h5:5433", layout(next))
	_, err = s.AddIdleHosts(Host{Name: "h5", Address: "10.0.0.5"})
	require.EqualError(t, err, "under policy cross hosts come in as whole clovers: use nodes add")
}

func TestAddStandby(t *testing.T) {
	s := complete(t, threeHosts())
	next, n, err := s.AddStandby(0, "h3")
	require.NoError(t, err)
	require.Equal(t, "coordinator-1", n.Name)
	require.Equal(t, Node{Name: "coordinator-1", Host: "h3", Port: next.Groups[0].Nodes[2].Port}, n)
	require.Len(t, s.Groups[0].Nodes, 2, "the old spec is not touched")

	_, n, err = s.AddStandby(1, "")
	require.NoError(t, err)
	require.Equal(t, "h2", n.Host, "without a host the one that has none of the group is chosen")

	idle, err := s.AddIdleHosts(Host{Name: "h4", Address: "10.0.0.4"})
	require.NoError(t, err)
	require.Equal(t, s.Groups, idle.Groups)
	_, n, err = idle.AddStandby(1, "h4")
	require.NoError(t, err)
	require.Equal(t, Node{Name: "worker-1-3", Host: "h4", Port: 5432}, n)

	for want, try := range map[string]func() error{
		"there is no group 9; the groups are 0, 1": func() error { _, _, err := s.AddStandby(9, "h1"); return err },
		"there is no host h9; the hosts are h1, h2, h3": func() error {
			_, _, err := s.AddStandby(0, "h9")
			return err
		},
		"the standbys of group 1 follow from placement.repfactor; set placement.policy to manual to choose them": func() error {
			_, _, err := complete(t, fourCrossed()).AddStandby(1, "h1")
			return err
		},
	} {
		require.EqualError(t, try(), want)
	}
	_, _, err = complete(t, fourCrossed()).AddStandby(0, "h4")
	require.NoError(t, err, "coordinators may be chosen under cross")
}

func TestRemoveStandby(t *testing.T) {
	s := complete(t, threeHosts())
	s.Router.Reads.Overrides = map[string]ReadOverride{"c2": {Weight: 5}}
	next, err := s.RemoveStandby(0, "h2", "c1")
	require.NoError(t, err)
	require.Equal(t, []Node{{Name: "c1", Host: "h1", Port: 5432}}, next.Groups[0].Nodes)
	require.Empty(t, next.Router.Reads.Overrides, "the node's overrides go with it")
	require.Len(t, s.Router.Reads.Overrides, 1, "the old spec is not touched")

	next, err = s.RemoveStandby(0, "c1", "c2")
	require.NoError(t, err, "the first node may go once another one is primary")
	require.Equal(t, "c2", next.Groups[0].Nodes[0].Name)

	two := complete(t, DefaultSpec())
	for _, tc := range []struct {
		spec           Spec
		group          int
		which, primary string
		want           string
	}{
		{s, 0, "c1", "c1", "c1 is the primary of group 0; switch the group to another node first, then remove it"},
		{s, 0, "c1", "", "c1 is the primary of group 0; switch the group to another node first, then remove it"},
		{s, 0, "h1", "c1", "c1 is the primary of group 0; switch the group to another node first, then remove it"},
		{s, 0, "c9", "c1", "group 0 has no node c9 and none on a host of this name; its nodes are c1, c2"},
		{s, 4, "c9", "c1", "there is no group 4; the groups are 0, 1"},
		{two, 0, "local", "", "host local has 3 nodes of group 0; name the node: coordinator-1, coordinator-2, coordinator-3"},
		{two, 1, "worker-1-1", "", "worker-1-1 is the last node of group 1 and holds its data; it cannot be removed"},
		{
			complete(t, fourCrossed()), 1, "worker-1-2", "worker-1-1",
			"the standbys of group 1 follow from placement.repfactor; set placement.policy to manual to choose them",
		},
	} {
		_, err := tc.spec.RemoveStandby(tc.group, tc.which, tc.primary)
		require.EqualError(t, err, tc.want)
	}
}

func TestRemoveHosts(t *testing.T) {
	s := complete(t, threeHosts())
	_, err := s.RemoveHosts("h1")
	require.EqualError(t, err, "host h1 cannot be removed while nodes c1, worker-1-2 are on it; remove standbys with rm-standby, and move the data of groups elsewhere")
	_, err = s.RemoveHosts("h9")
	require.EqualError(t, err, "there is no host h9; the hosts are h1, h2, h3")
	idle, err := s.AddIdleHosts(Host{Name: "h4", Address: "10.0.0.4"})
	require.NoError(t, err)
	back, err := idle.RemoveHosts("h4")
	require.NoError(t, err)
	require.Equal(t, s, back)
}

func TestARemovedStandbyCanBeAddedAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, err := genSpec(t).Complete()
		require.NoError(t, err)
		g := s.Groups[0]
		host := rapid.SampledFrom(s.Hosts).Draw(t, "host").Name
		more, n, err := s.AddStandby(0, host)
		require.NoError(t, err)
		require.NoError(t, s.CheckChange(more))
		fewer, err := more.RemoveStandby(0, n.Name, g.Nodes[0].Name)
		require.NoError(t, err)
		require.Equal(t, s, fewer)
	})
}

func TestChangesThatWouldLeaveDataBehindAreRefused(t *testing.T) {
	s := threeHosts()
	s.ID = "0b5d3c1e-8f0a-4d5e-9b57-0123456789ab"
	s.PostgreSQL.Version = 15
	s = complete(t, s)
	for name, tc := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"nothing":                   {func(*Spec) {}, ""},
		"parameter":                 {parameter("work_mem", "1MB"), ""},
		"a standby of a group goes": {func(s *Spec) { s.Groups[0].Nodes = s.Groups[0].Nodes[:1] }, ""},
		"name":                      {func(s *Spec) { s.Name = "other" }, "name: cannot be changed from shop to other on a cluster that exists"},
		"id": {
			func(s *Spec) { s.ID = "1b5d3c1e-8f0a-4d5e-9b57-0123456789ab" },
			"id: cannot be changed from 0b5d3c1e-8f0a-4d5e-9b57-0123456789ab to 1b5d3c1e-8f0a-4d5e-9b57-0123456789ab on a cluster that exists",
		},
		"version":    {func(s *Spec) { s.PostgreSQL.Version = 16 }, "postgresql.version: cannot be changed from 15 to 16 on a cluster that exists"},
		"node moved": {func(s *Spec) { s.Groups[0].Nodes[0].Host, s.Groups[0].Nodes[0].Port = "h3", 7000 }, "groups[0].nodes[0].host: cannot be changed from h1 to h3 on a cluster that exists"},
		"node in another group": {
			func(s *Spec) {
				s.Groups[0].Nodes[1].Name, s.Groups[1].Nodes[1].Name = "x", "c2"
				s.Groups[1].Nodes[1].Host = "h2"
			},
			"groups[1].nodes[1]: node c2 is in group 0 and cannot change to group 1; give the new node another name",
		},
		"group gone": {func(s *Spec) { s.Groups = s.Groups[:1] }, "groups: group 1 is missing; it holds data, which has to move to other groups first"},
		"all nodes of a group replaced": {
			func(s *Spec) { s.Groups[1].Nodes = []Node{{Name: "x", Host: "h1", Port: 7000}} },
			"groups: group 1 keeps none of the nodes that hold its data (it would have x); replace them one after the other",
		},
	} {
		t.Run(name, func(t *testing.T) {
			next := s.Clone()
			tc.change(&next)
			next = complete(t, next)
			if tc.want == "" {
				require.NoError(t, s.CheckChange(next))
				return
			}
			require.EqualError(t, s.CheckChange(next), tc.want)
		})
	}
}
