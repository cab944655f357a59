package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// agents has a row for each host.
func (c *check) agents() {
	for _, h := range c.spec.Hosts {
		a, alive := c.snap.Agents[h.Name]
		if !alive {
			c.add(Agents, Error, ofHost(h.Name), startAgent(c.spec, h.Name), "the agent of host %s (%s) is not running", h.Name, h.Address)
			continue
		}
		before := len(c.rows)
		if a.Reason != "" {
			c.add(Agents, Warning, ofHost(h.Name), "", "agent of host %s: %s", h.Name, a.Reason)
		}
		if a.SpecRevision < c.snap.SpecRevision {
			c.add(Agents, Warning, ofHost(h.Name), "", "host %s has not yet applied the newest spec (revision %d of %d)", h.Name, a.SpecRevision, c.snap.SpecRevision)
		}
		c.binaries(h, a)
		if c.worstSince(before) == OK {
			c.add(Agents, OK, ofHost(h.Name), "", "agent on host %s is OK", h.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.snap.Agents)) {
		if _, ok := c.spec.HostOf(name); !ok {
			c.add(Agents, Warning, ofHost(name), fmt.Sprintf("bring it in with `orchestrator nodes add -n %s=ADDRESS`, or stop the agent", name),
				"an agent runs for host %s, which is not in the spec", name)
		}
	}
}

// binaries compares a host's PostgreSQL with the spec, or with that of the first host that tells its version: standbys
// cannot follow a primary of another major version.
func (c *check) binaries(h cluster.Host, a cluster.AgentStatus) {
	have := major(a.PostgreSQL)
	if have == 0 {
		return
	}
	want, whose := c.spec.PostgreSQL.Version, "the spec asks for"
	if want == 0 {
		for _, other := range c.spec.Hosts {
			if want = major(c.snap.Agents[other.Name].PostgreSQL); want != 0 {
				whose = "host " + other.Name + " has"
				break
			}
		}
	}
	if have != want {
		c.add(Agents, Error, ofHost(h.Name), fmt.Sprintf("install PostgreSQL %d there, or start its agent with --pg-bin", want),
			"host %s has PostgreSQL %s, but %s %d", h.Name, a.PostgreSQL, whose, want)
	}
}

// major is the major version of "15.18"; 0 if it cannot be read.
func major(version string) int {
	text, _, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(text)
	return n
}

// routers has a row for each router.
func (c *check) routers() {
	for _, id := range slices.Sorted(maps.Keys(c.snap.Routers)) {
		c.add(Routers, OK, about{}, "", "router %s listens on %s", id, c.snap.Routers[id].Listen)
	}
	if len(c.snap.Routers) == 0 {
		c.add(Routers, Warning, about{}, "start `orchestrator router`", "no router is running")
	}
}
