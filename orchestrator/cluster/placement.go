package cluster

import (
	"slices"
)

// place adds the nodes that counts ask for (Manual) or that the hosts' clovers imply (Cross). Listed nodes and groups
// stay where they are, in their order; new nodes come after them. The spec must have passed checker.document.
func place(s Spec) []Group {
	groups := s.Groups
	if s.Placement.Policy == Cross {
		groups = withClovers(s)
	}
	d := newDealer(s.Hosts, groups)
	for i := range groups {
		g := &groups[i]
		if g.Standbys == nil {
			continue
		}
		want := *g.Standbys + 1
		g.Standbys = nil
		for len(g.Nodes) < want {
			g.Nodes = append(g.Nodes, Node{Host: d.deal(*g)})
		}
	}
	return groups
}

// dealer hands nodes out to hosts.
type dealer struct {
	hosts []Host
	// nodes and firsts count what each host has: all nodes, and those that are first in their group.
	nodes, firsts map[string]int
}

func newDealer(hosts []Host, groups []Group) *dealer {
	d := &dealer{hosts: hosts, nodes: map[string]int{}, firsts: map[string]int{}}
	for _, g := range groups {
		for i, n := range g.Nodes {
			d.nodes[n.Host]++
			if i == 0 {
				d.firsts[n.Host]++
			}
		}
	}
	return d
}

// deal chooses the host of the group's next node: for a first node the host with the fewest first nodes, for another
// one a host that has the fewest nodes of this group; then the one with the fewest nodes at all; then the next one in
// the list after the group's last host.
func (d *dealer) deal(g Group) string {
	own := map[string]int{}
	start := 0
	for _, n := range g.Nodes {
		own[n.Host]++
		start = 1 + slices.IndexFunc(d.hosts, func(h Host) bool { return h.Name == n.Host })
	}
	first := len(g.Nodes) == 0
	best, bestCost := "", [2]int{}
	for i := range d.hosts {
		h := d.hosts[(start+i)%len(d.hosts)].Name
		cost := [2]int{own[h], d.nodes[h]}
		if first {
			cost[0] = d.firsts[h]
		}
		if best == "" || slices.Compare(cost[:], bestCost[:]) < 0 {
			best, bestCost = h, cost
		}
	}
	d.nodes[best]++
	if first {
		d.firsts[best]++
	}
	return best
}

// withClovers adds group 0 if it is not listed, and for each clover of hosts that have no worker node yet a worker
// group per host: its first node there and a standby on each other host of the clover, beginning with the next one.
// Ids go on from the highest, so that hosts added later leave the existing groups as they are.
func withClovers(s Spec) []Group {
	groups := s.Groups
	if _, ok := s.GroupOf(CoordinatorGroup); !ok {
		standbys := DefaultStandbys
		groups = append([]Group{{ID: CoordinatorGroup, Standbys: &standbys}}, groups...)
	}
	used := map[string]bool{}
	id := 0
	for _, g := range groups {
		id = max(id, g.ID)
		for _, n := range g.Nodes {
			used[n.Host] = used[n.Host] || g.ID != CoordinatorGroup
		}
	}
	fresh := slices.DeleteFunc(slices.Clone(s.Hosts), func(h Host) bool { return used[h.Name] })
	for clover := range slices.Chunk(fresh, s.cloverSize()) {
		for i := range clover {
			id++
			g := Group{ID: id}
			for j := range clover {
				g.Nodes = append(g.Nodes, Node{Host: clover[(i+j)%len(clover)].Name})
			}
			groups = append(groups, g)
		}
	}
	return groups
}

// cloverSize is the number of hosts in a clover under Cross.
func (s Spec) cloverSize() int {
	if s.Placement.Repfactor == nil {
		return 1 + int(defaultOf("placement.repfactor"))
	}
	return 1 + *s.Placement.Repfactor
}
