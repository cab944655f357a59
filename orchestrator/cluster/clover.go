package cluster

import (
	"fmt"
	"slices"
	"strings"
)

// clovers checks what Cross demands: hosts in whole clovers, and listed worker groups that are those which placing
// would have made. Ids and order of groups may be any.
func (c *checker) clovers() {
	s := c.spec
	size := s.cloverSize()
	if size < 1 {
		return // reported as out of range
	}
	because := fmt.Sprintf("(placement.repfactor %d, and one more)", size-1)
	if over := len(s.Hosts) % size; over != 0 {
		c.add("hosts", "%s not make whole clovers of %d %s; add %d or remove %d", counted(len(s.Hosts), "host does", "hosts do"), size, because, size-over, over)
	}
	owner := map[string]string{} // host → its clover
	first := map[string]int{}    // host → the group whose first node it has
	groups := map[string][]int{} // clover → indexes of its groups
	for i, g := range s.Groups {
		if g.ID == CoordinatorGroup {
			continue
		}
		p := fmt.Sprintf("groups[%d]", i)
		if g.Standbys != nil {
			c.add(p+".standbys", "is given by placement.repfactor under policy cross; leave it out")
			continue
		}
		clover, twice := hostsOf(g)
		switch {
		case len(g.Nodes) == 0:
			continue // reported as a group without nodes
		case twice != "":
			c.add(p+".nodes", "host %s is listed twice; under policy cross each node of a worker group is on a host of its own", twice)
			continue
		case len(g.Nodes) != size:
			c.add(p+".nodes", "%s listed, but under policy cross a worker group has %d %s", counted(len(g.Nodes), "node is", "nodes are"), size, because)
			continue
		}
		if j := slices.IndexFunc(g.Nodes, func(n Node) bool { return owner[n.Host] != "" && owner[n.Host] != clover }); j >= 0 {
			c.add(fmt.Sprintf("%s.nodes[%d].host", p, j), "host %s is already in the clover %s", g.Nodes[j].Host, owner[g.Nodes[j].Host])
			continue
		}
		for _, n := range g.Nodes {
			owner[n.Host] = clover
		}
		groups[clover] = append(groups[clover], i)
		if other, ok := first[g.Nodes[0].Host]; ok {
			c.add(p+".nodes[0].host", "host %s already has the first node of group %d; under policy cross each host has one", g.Nodes[0].Host, other)
		}
		first[g.Nodes[0].Host] = g.ID
	}
	for i, g := range s.Groups {
		clover, _ := hostsOf(g)
		if has := groups[clover]; len(has) > 0 && has[0] == i && len(has) < size {
			c.add(fmt.Sprintf("groups[%d]", i), "the clover %s has %s, but needs one per host", clover, counted(len(has), "worker group", "worker groups"))
		}
	}
}

// hostsOf names a group's hosts in order of their names, and one that occurs twice.
func hostsOf(g Group) (clover, twice string) {
	var hosts []string
	for _, n := range g.Nodes {
		if slices.Contains(hosts, n.Host) {
			twice = n.Host
		}
		hosts = append(hosts, n.Host)
	}
	slices.Sort(hosts)
	return strings.Join(hosts, ", "), twice
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
