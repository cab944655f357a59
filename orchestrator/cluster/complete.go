package cluster

import (
	"fmt"
	"slices"
	"strconv"
)

// Complete turns a spec into one in which every value is given and every node has a name, a host and a port.
// It first validates; the error holds every problem, as that of Validate does.
//
// Nodes that are listed stay exactly as they are: a node is never moved, renamed or given another port. So
// completing a completed spec changes nothing, and new nodes get names and ports that are free.
//
//   - Names are coordinator-1, coordinator-2, … in group 0 and worker-<group>-1, … in the others.
//   - Ports are counted from the host's base_port upward, passing over those taken on the same address by listed
//     nodes, by other hosts with that address, and by the router. The coordinators come first, then each worker
//     group's first node, then the other nodes.
//   - Hosts are chosen by the placement policy, see Policy.
func (s Spec) Complete() (Spec, error) {
	full, problems := s.complete()
	if err := joined(problems); err != nil {
		return Spec{}, err
	}
	return full, nil
}

// complete validates, places and names; the spec is meaningful only without problems.
func (s Spec) complete() (Spec, []*Problem) {
	s = s.WithDefaults()
	c := &checker{spec: s}
	c.document()
	if c.unplaceable {
		return Spec{}, c.problems
	}
	full := s.Clone()
	full.Groups = name(place(full))
	if p := assignPorts(full); p != nil {
		return Spec{}, append(c.problems, p)
	}
	after := &checker{spec: full}
	if len(c.problems) == 0 {
		after.document() // placing may have run out of ids
	}
	after.placed()
	return full, append(c.problems, after.problems...)
}

// nodeNamePrefix is what the names of a group's nodes begin with when Complete gives them: "worker-3-".
func nodeNamePrefix(group int) string {
	if group == CoordinatorGroup {
		return "coordinator-"
	}
	return fmt.Sprintf("worker-%d-", group)
}

// name gives a name to each node that has none. Numbers go on from the highest that the group has, so that the name
// of a node removed from the middle is not given to another one.
func name(groups []Group) []Group {
	taken := map[string]bool{}
	for _, g := range groups {
		for _, n := range g.Nodes {
			taken[n.Name] = true
		}
	}
	for i := range groups {
		g := &groups[i]
		prefix, next := nodeNamePrefix(g.ID), 1
		for _, n := range g.Nodes {
			if k, ok := numbered(n.Name, prefix); ok && k >= next {
				next = k + 1
			}
		}
		for j := range g.Nodes {
			for g.Nodes[j].Name == "" {
				candidate := prefix + strconv.Itoa(next)
				next++
				if !taken[candidate] {
					taken[candidate] = true
					g.Nodes[j].Name = candidate
				}
			}
		}
	}
	return groups
}

// numbered reads the number of a name that Complete could have given; absurdly high ones do not count.
func numbered(name, prefix string) (int, bool) {
	if len(name) <= len(prefix) || name[:len(prefix)] != prefix {
		return 0, false
	}
	k, err := strconv.Atoi(name[len(prefix):])
	return k, err == nil && k > 0 && k < 100000
}

// endpoint is a port on a normalized address.
type endpoint struct {
	address string
	port    int
}

// assignPorts gives a port to each node that has none, in place. It returns the problem of a host that has no port left.
func assignPorts(s Spec) *Problem {
	taken := map[endpoint]bool{}
	for _, e := range s.Router.endpoints() {
		for _, h := range s.Hosts {
			if e.covers(h.Address) {
				taken[endpoint{canonicalAddress(h.Address), e.port}] = true
			}
		}
	}
	for _, g := range s.Groups {
		for _, n := range g.Nodes {
			if h, ok := s.HostOf(n.Host); ok && n.Port != 0 {
				taken[endpoint{canonicalAddress(h.Address), n.Port}] = true
			}
		}
	}
	for _, at := range portOrder(s.Groups) {
		n := &s.Groups[at.group].Nodes[at.node]
		h, ok := s.HostOf(n.Host)
		if n.Port != 0 || !ok {
			continue
		}
		e := endpoint{canonicalAddress(h.Address), h.BasePort}
		for taken[e] {
			e.port++
		}
		if e.port > 65535 {
			i := slices.IndexFunc(s.Hosts, func(h Host) bool { return h.Name == n.Host })
			return &Problem{
				Path:    fmt.Sprintf("hosts[%d].base_port", i),
				Message: fmt.Sprintf("no port is free from %d upward for node %s; lower it", h.BasePort, n.Name),
			}
		}
		taken[e] = true
		n.Port = e.port
	}
	return nil
}

type position struct{ group, node int }

// portOrder lists the coordinators, then each worker group's first node, then the rest; so that a host's primary has
// the same port everywhere as far as possible, as Shardman's have.
func portOrder(groups []Group) []position {
	var coordinators, firsts, rest []position
	for i, g := range groups {
		for j := range g.Nodes {
			p := position{i, j}
			switch {
			case g.ID == CoordinatorGroup:
				coordinators = append(coordinators, p)
			case j == 0:
				firsts = append(firsts, p)
			default:
				rest = append(rest, p)
			}
		}
	}
	return slices.Concat(coordinators, firsts, rest)
}
