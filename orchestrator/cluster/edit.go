package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The edits of this file take a completed spec and return a completed, valid one; the given spec is not touched.

// ParseHost reads "NAME" or "NAME=ADDRESS"; without an address the name is the address.
func ParseHost(s string) (Host, error) {
	name, address, ok := strings.Cut(s, "=")
	if !ok {
		address = name
	}
	if !isHostName(name) {
		return Host{}, fmt.Errorf("%q is not a host; write NAME or NAME=ADDRESS", s)
	}
	if msg := addressProblem(address); msg != "" {
		return Host{}, fmt.Errorf("host %s: the address %s", name, msg)
	}
	return Host{Name: name, Address: address}, nil
}

// AddHosts brings hosts in and gives them work, as `nodes add` does: under Manual each new host gets a worker group of
// one node, under Cross the new hosts form clovers of their own, and it is an error if the last one is not whole.
func (s Spec) AddHosts(hosts ...Host) (Spec, error) {
	s = s.Clone()
	s.Hosts = append(s.Hosts, hosts...)
	if s.Placement.Policy != Cross {
		id := 0
		for _, g := range s.Groups {
			id = max(id, g.ID)
		}
		for _, h := range hosts {
			id++
			s.Groups = append(s.Groups, Group{ID: id, Nodes: []Node{{Host: h.Name}}})
		}
	}
	return completed("add hosts", s)
}

// AddIdleHosts brings hosts in without nodes, for standbys that are to be added there. Under Cross no host is idle.
func (s Spec) AddIdleHosts(hosts ...Host) (Spec, error) {
	if s.Placement.Policy == Cross {
		return Spec{}, fmt.Errorf("under policy cross hosts come in as whole clovers: use nodes add")
	}
	s = s.Clone()
	s.Hosts = append(s.Hosts, hosts...)
	return completed("add hosts", s)
}

// RemoveHosts takes hosts out that have no node. Hosts with nodes are refused: their data has to move first.
func (s Spec) RemoveHosts(names ...string) (Spec, error) {
	s = s.Clone()
	for _, name := range names {
		if _, ok := s.HostOf(name); !ok {
			return Spec{}, s.unknownHost(name)
		}
		var nodes []string
		for _, g := range s.Groups {
			for _, n := range g.Nodes {
				if n.Host == name {
					nodes = append(nodes, n.Name)
				}
			}
		}
		if len(nodes) > 0 {
			return Spec{}, fmt.Errorf("host %s cannot be removed while %s on it; remove standbys with rm-standby, and move the data of groups elsewhere",
				name, isOrAre(nodes))
		}
		s.Hosts = slices.DeleteFunc(s.Hosts, func(h Host) bool { return h.Name == name })
	}
	return completed("remove hosts", s)
}

// AddStandby adds a standby to a group on the named host, or on the one that Complete would choose if host is empty.
func (s Spec) AddStandby(group int, host string) (Spec, Node, error) {
	i, err := s.editable(group)
	if err != nil {
		return Spec{}, Node{}, err
	}
	if _, ok := s.HostOf(host); !ok && host != "" {
		return Spec{}, Node{}, s.unknownHost(host)
	}
	s = s.Clone()
	if host == "" {
		host = newDealer(s.Hosts, s.Groups).deal(s.Groups[i])
	}
	s.Groups[i].Nodes = append(s.Groups[i].Nodes, Node{Host: host})
	full, err := completed(fmt.Sprintf("add a standby to group %d", group), s)
	if err != nil {
		return Spec{}, Node{}, err
	}
	nodes := full.Groups[i].Nodes
	return full, nodes[len(nodes)-1], nil
}

// RemoveStandby takes a node out of a group; which is a node's name, or the name of a host that has one node of the
// group. The current primary (empty while the group has none yet: the first node counts then) and the last node are
// refused.
func (s Spec) RemoveStandby(group int, which, primary string) (Spec, error) {
	i, err := s.editable(group)
	if err != nil {
		return Spec{}, err
	}
	s = s.Clone()
	g := &s.Groups[i]
	at, err := findMember(*g, which)
	if err != nil {
		return Spec{}, err
	}
	if primary == "" {
		primary = g.Nodes[0].Name
	}
	switch n := g.Nodes[at].Name; {
	case len(g.Nodes) == 1:
		return Spec{}, fmt.Errorf("%s is the last node of group %d and holds its data; it cannot be removed", n, group)
	case n == primary:
		return Spec{}, fmt.Errorf("%s is the primary of group %d; switch the group to another node first, then remove it", n, group)
	default:
		delete(s.Router.Reads.Overrides, n)
	}
	g.Nodes = slices.Delete(g.Nodes, at, at+1)
	return completed(fmt.Sprintf("remove a standby of group %d", group), s)
}

// editable finds a group whose standbys may be chosen by hand.
func (s Spec) editable(group int) (int, error) {
	i := slices.IndexFunc(s.Groups, func(g Group) bool { return g.ID == group })
	if i < 0 {
		ids := []string{}
		for _, g := range s.Groups {
			ids = append(ids, fmt.Sprint(g.ID))
		}
		return 0, fmt.Errorf("there is no group %d; the groups are %s", group, strings.Join(ids, ", "))
	}
	if s.Placement.Policy == Cross && group != CoordinatorGroup {
		return 0, fmt.Errorf("the standbys of group %d follow from placement.repfactor; set placement.policy to %s to choose them", group, Manual)
	}
	return i, nil
}

func findMember(g Group, which string) (int, error) {
	if i := slices.IndexFunc(g.Nodes, func(n Node) bool { return n.Name == which }); i >= 0 {
		return i, nil
	}
	var on []int
	var names []string
	for i, n := range g.Nodes {
		if n.Host == which {
			on = append(on, i)
		}
		names = append(names, n.Name)
	}
	switch len(on) {
	case 0:
		return 0, fmt.Errorf("group %d has no node %s and none on a host of this name; its nodes are %s", g.ID, which, strings.Join(names, ", "))
	case 1:
		return on[0], nil
	default:
		return 0, fmt.Errorf("host %s has %d nodes of group %d; name the node: %s", which, len(on), g.ID, strings.Join(names, ", "))
	}
}

func (s Spec) unknownHost(name string) error {
	var names []string
	for _, h := range s.Hosts {
		names = append(names, h.Name)
	}
	return fmt.Errorf("there is no host %s; the hosts are %s", name, strings.Join(names, ", "))
}

func isOrAre(nodes []string) string {
	if len(nodes) == 1 {
		return "node " + nodes[0] + " is"
	}
	return "nodes " + strings.Join(nodes, ", ") + " are"
}

func completed(what string, s Spec) (Spec, error) {
	full, err := s.Complete()
	if err != nil {
		return Spec{}, fmt.Errorf("%s: %w", what, err)
	}
	return full, nil
}

// CheckChange says why a running cluster cannot go from the spec s to next, nil if it can: what identifies the data, and
// where it lies, stays. Both must be completed. Nodes may come and go as long as each group keeps one.
func (s Spec) CheckChange(next Spec) error {
	var problems []*Problem
	fixed := func(path, was, is string) {
		if was != is && was != "" {
			problems = append(problems, &Problem{path, fmt.Sprintf("cannot be changed from %s to %s on a cluster that exists", was, cmp.Or(is, "nothing"))})
		}
	}
	fixed("name", s.Name, next.Name)
	fixed("id", s.ID, next.ID)
	if s.PostgreSQL.Version != 0 {
		fixed("postgresql.version", fmt.Sprint(s.PostgreSQL.Version), fmt.Sprint(next.PostgreSQL.Version))
	}
	for i, g := range next.Groups {
		for j, n := range g.Nodes {
			old, in, ok := s.NodeOf(n.Name)
			if !ok {
				continue
			}
			at := fmt.Sprintf("groups[%d].nodes[%d]", i, j)
			fixed(at+".host", old.Host, n.Host)
			if in.ID != g.ID {
				problems = append(problems, &Problem{at, fmt.Sprintf("node %s is in group %d and cannot change to group %d; give the new node another name", n.Name, in.ID, g.ID)})
			}
		}
	}
	problems = append(problems, s.lostGroups(next)...)
	return joined(problems)
}

// lostGroups reports groups that next does not have, or of which it keeps no node: their data would be left behind.
func (s Spec) lostGroups(next Spec) []*Problem {
	var problems []*Problem
	for _, g := range s.Groups {
		kept := map[string]bool{}
		ng, ok := next.GroupOf(g.ID)
		for _, n := range ng.Nodes {
			kept[n.Name] = true
		}
		switch {
		case !ok:
			problems = append(problems, &Problem{"groups", fmt.Sprintf("group %d is missing; it holds data, which has to move to other groups first", g.ID)})
		case !slices.ContainsFunc(g.Nodes, func(n Node) bool { return kept[n.Name] }):
			names := slices.Sorted(maps.Keys(kept))
			problems = append(problems, &Problem{"groups", fmt.Sprintf("group %d keeps none of the nodes that hold its data (it would have %s); replace them one after the other",
				g.ID, strings.Join(names, ", "))})
		}
	}
	return problems
}
