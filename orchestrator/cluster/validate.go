package cluster

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a spec. The errors of Validate and Complete are joined Problems; they are
// taken apart with ProblemsOf.
type Problem struct {
	// Path is the place in the spec: "groups[1].nodes[0].port".
	Path string
	// Message says what is wrong and what would be right.
	Message string
}

// Error gives "path: message".
func (p *Problem) Error() string { return p.Path + ": " + p.Message }

// ProblemsOf takes the error of Validate or Complete apart; nil if it is not one.
func ProblemsOf(err error) []*Problem {
	var one *Problem
	var many interface{ Unwrap() []error }
	switch {
	case errors.As(err, &many):
		var all []*Problem
		for _, e := range many.Unwrap() {
			all = append(all, ProblemsOf(e)...)
		}
		return all
	case errors.As(err, &one):
		return []*Problem{one}
	}
	return nil
}

func joined(problems []*Problem) error {
	var errs []error
	for _, p := range problems {
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// MaxHosts is the most hosts that a cluster may have.
const MaxHosts = 1000

// Validate finds all that is wrong with a spec, short or completed; nil if Complete would succeed. Only whether the
// nodes named in router.reads.overrides exist is not looked at while hosts, placement or groups are wrong.
func (s Spec) Validate() error {
	_, problems := s.complete()
	return joined(problems)
}

// checker collects problems. Its spec has its defaults filled in.
type checker struct {
	spec     Spec
	problems []*Problem
	// unplaceable is set by problems that make placing nodes meaningless.
	unplaceable bool
}

func (c *checker) add(path, format string, args ...any) {
	c.problems = append(c.problems, &Problem{path, fmt.Sprintf(format, args...)})
	top, _, _ := strings.Cut(strings.ReplaceAll(path, "[", "."), ".")
	if top == "hosts" || top == "placement" || top == "groups" {
		c.unplaceable = true
	}
}

// within reports a number outside of the limit of key; 0 stands for "not given" where the limit excludes it.
func (c *checker) within(path, key string, v int64) {
	l, ok := LimitOf(key)
	if !ok {
		panic("cluster: no limit for " + key)
	}
	if v == 0 && l.Min > 0 {
		return
	}
	if v < l.Min || v > l.Max {
		c.add(path, "%s is out of range %s", l.Format(v), l.Range())
	}
}

// document checks all that does not depend on where nodes are placed.
func (c *checker) document() {
	s := c.spec
	if !isLabel(s.Name, 40) {
		c.add("name", "%q is not a cluster name; use 1 to 40 of a-z, 0-9 and '-', beginning with a letter", s.Name)
	}
	if s.ID != "" && !isUUID(s.ID) {
		c.add("id", "%q is not a UUID; leave it out, init gives one", s.ID)
	}
	c.postgresql()
	c.hosts()
	c.placement()
	c.groups()
	if s.Placement.Policy == Cross {
		c.clovers()
	}
	c.ports()
	c.failover()
	c.router()
	c.reads()
}

// placed checks what needs the names of all nodes.
func (c *checker) placed() {
	for _, name := range slices.Sorted(maps.Keys(c.spec.Router.Reads.Overrides)) {
		if _, _, ok := c.spec.NodeOf(name); !ok {
			c.add("router.reads.overrides."+name, "no node has this name")
		}
	}
}

func (c *checker) postgresql() {
	p := c.spec.PostgreSQL
	c.within("postgresql.version", "postgresql.version", int64(p.Version))
	if msg := databaseProblem(p.Database); msg != "" {
		c.add("postgresql.database", "%s", msg)
	}
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(p.Parameters)) {
		at := "postgresql.parameters." + name
		if msg := parameterProblem(name, p.Parameters[name]); msg != "" {
			c.add(at, "%s", msg)
		}
		if other, ok := seen[strings.ToLower(name)]; ok {
			c.add(at, "is the same parameter as %s; keep one of them", other)
		}
		seen[strings.ToLower(name)] = name
	}
	for i, line := range p.HBA {
		if err := CheckHBALine(line, p); err != nil {
			c.add(fmt.Sprintf("postgresql.hba[%d]", i), "%v", err)
		}
	}
}

func databaseProblem(name string) string {
	switch {
	case strings.TrimSpace(name) == "":
		return "is empty; leave it out for " + DefaultDatabase
	case strings.TrimSpace(name) != name:
		return fmt.Sprintf("%q begins or ends with a space", name)
	case len(name) > 63:
		return fmt.Sprintf("is %d bytes long; PostgreSQL allows 63", len(name))
	case hasControl(name):
		return fmt.Sprintf("%q has a control character", name)
	case name == "template0":
		return "template0 accepts no connections; name another database"
	}
	return ""
}

func (c *checker) hosts() {
	hosts := c.spec.Hosts
	switch {
	case len(hosts) == 0:
		c.add("hosts", "none is listed; the cluster needs at least one")
	case len(hosts) > MaxHosts:
		c.add("hosts", "%d are listed; at most %d are supported", len(hosts), MaxHosts)
	}
	at := map[string]int{}
	local, remote := -1, -1
	for i, h := range hosts {
		p := fmt.Sprintf("hosts[%d]", i)
		if !isHostName(h.Name) {
			c.add(p+".name", "%q is not a host's name; use 1 to 63 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit", h.Name)
		} else if j, ok := at[h.Name]; ok {
			c.add(p+".name", "%s is already the name of hosts[%d]", h.Name, j)
		} else {
			at[h.Name] = i
		}
		if msg := addressProblem(h.Address); msg != "" {
			c.add(p+".address", "%s", msg)
		} else if isLoopback(h.Address) {
			local = i
		} else {
			remote = i
		}
		c.within(p+".base_port", "hosts[].base_port", int64(h.BasePort))
	}
	if local >= 0 && remote >= 0 {
		c.add(fmt.Sprintf("hosts[%d].address", local), "%s is a loopback address, which host %s at %s cannot reach; give an address of the network",
			hosts[local].Address, hosts[remote].Name, hosts[remote].Address)
	}
}

func (c *checker) placement() {
	p := c.spec.Placement
	if p.Policy != Manual && p.Policy != Cross {
		c.add("placement.policy", "%q is not a policy; use %s or %s", p.Policy, Manual, Cross)
	}
	if p.Repfactor != nil {
		c.within("placement.repfactor", "placement.repfactor", int64(*p.Repfactor))
	}
}

func (c *checker) groups() {
	s := c.spec
	if _, ok := s.GroupOf(CoordinatorGroup); !ok && s.Placement.Policy != Cross {
		c.add("groups", "group 0 (the coordinators) is missing; add {id: 0, standbys: %d}", DefaultStandbys)
	}
	ids, names := map[int]int{}, map[string]string{}
	for i, g := range s.Groups {
		p := fmt.Sprintf("groups[%d]", i)
		c.within(p+".id", "groups[].id", int64(g.ID))
		if j, ok := ids[g.ID]; ok {
			c.add(p+".id", "%d is already the id of groups[%d]", g.ID, j)
		} else {
			ids[g.ID] = i
		}
		c.members(p, g)
		for j, n := range g.Nodes {
			c.node(fmt.Sprintf("%s.nodes[%d]", p, j), n, names)
		}
	}
}

// members checks a group's counts.
func (c *checker) members(p string, g Group) {
	switch {
	case g.Standbys == nil && len(g.Nodes) == 0:
		c.add(p, "group %d has no nodes; list them, or give standbys (0 for a primary alone)", g.ID)
	case g.Standbys == nil:
	case *g.Standbys >= 0 && len(g.Nodes) > *g.Standbys+1:
		c.add(p+".standbys", "is %d, but %d nodes are listed; leave it out or remove nodes with rm-standby", *g.Standbys, len(g.Nodes))
	default:
		c.within(p+".standbys", "groups[].standbys", int64(*g.Standbys))
	}
	if l, _ := LimitOf("groups[].standbys"); int64(len(g.Nodes)) > l.Max+1 {
		c.add(p+".nodes", "%d are listed; a group has at most %d", len(g.Nodes), l.Max+1)
	}
}

// node checks one node; names holds where each name was seen.
func (c *checker) node(p string, n Node, names map[string]string) {
	if n.Name != "" {
		if !isLabel(n.Name, 40) {
			c.add(p+".name", "%q is not a node's name; use 1 to 40 of a-z, 0-9 and '-', beginning with a letter", n.Name)
		} else if other, ok := names[n.Name]; ok {
			c.add(p+".name", "%s is already the name of %s", n.Name, other)
		} else {
			names[n.Name] = p
		}
	}
	if n.Host == "" {
		c.add(p+".host", "is missing; name one of the hosts")
	} else if _, ok := c.spec.HostOf(n.Host); !ok {
		c.add(p+".host", "no host is named %s", n.Host)
	}
	c.within(p+".port", "groups[].nodes[].port", int64(n.Port))
}

// ports finds ports that are used twice on an address, by nodes and by the router.
func (c *checker) ports() {
	s := c.spec
	used := map[endpoint]string{}
	router := s.Router.endpoints()
	for i, g := range s.Groups {
		for j, n := range g.Nodes {
			h, ok := s.HostOf(n.Host)
			if !ok || n.Port == 0 {
				continue
			}
			p := fmt.Sprintf("groups[%d].nodes[%d]", i, j)
			e := endpoint{canonicalAddress(h.Address), n.Port}
			if other, ok := used[e]; ok {
				c.add(p+".port", "%d is already the port of %s on %s", n.Port, other, h.Address)
				continue
			}
			used[e] = p
			for _, r := range router {
				if r.port == n.Port && r.covers(h.Address) {
					c.add(r.path, "port %d is already the port of %s on %s", r.port, p, h.Address)
				}
			}
		}
	}
	for i, a := range router {
		for _, b := range router[:i] {
			if a.port == b.port && (a.anywhere() || b.anywhere() || a.covers(b.host)) {
				c.add(a.path, "port %d is already that of %s", a.port, b.path)
			}
		}
	}
}

func (c *checker) failover() {
	f := c.spec.Failover
	c.within("failover.ttl", "failover.ttl", int64(f.TTL))
	c.within("failover.maximum_lag_on_failover", "failover.maximum_lag_on_failover", int64(f.MaxLagBytes))
}

func (c *checker) router() {
	r := c.spec.Router
	for _, a := range r.addresses() {
		if _, msg := a.parse(); msg != "" {
			c.add(a.path, "%s", msg)
		}
	}
	for _, f := range []struct{ path, file string }{{"router.tls_cert", r.TLSCert}, {"router.tls_key", r.TLSKey}} {
		if f.file != "" && (!path.IsAbs(f.file) || hasControl(f.file)) {
			c.add(f.path, "%q is not an absolute path", f.file)
		}
	}
	switch {
	case r.TLSCert != "" && r.TLSKey == "":
		c.add("router.tls_key", "is missing; tls_cert needs its key")
	case r.TLSKey != "" && r.TLSCert == "":
		c.add("router.tls_cert", "is missing; tls_key needs its certificate")
	}
	c.within("router.max_client_conn", "router.max_client_conn", int64(r.MaxClients))
	c.within("router.default_pool_size", "router.default_pool_size", int64(r.PoolSize))
	c.within("router.server_idle_timeout", "router.server_idle_timeout", int64(r.ServerIdle))
	c.within("router.query_wait_timeout", "router.query_wait_timeout", int64(r.WaitTimeout))
}

func (c *checker) reads() {
	const p = "router.reads."
	r := c.spec.Router.Reads
	if r.Consistency != Eventual && r.Consistency != Session && r.Consistency != Strong {
		c.add(p+"consistency", "%q is not a consistency; use %s, %s or %s", r.Consistency, Eventual, Session, Strong)
	}
	if r.Fallback != FallbackPrimary && r.Fallback != FallbackWait && r.Fallback != FallbackError {
		c.add(p+"fallback", "%q is not a fallback; use %s, %s or %s", r.Fallback, FallbackPrimary, FallbackWait, FallbackError)
	}
	c.within(p+"max_lag_bytes", p+"max_lag_bytes", int64(r.MaxLagBytes))
	c.within(p+"max_lag", p+"max_lag", int64(r.MaxLag))
	c.within(p+"check_interval", p+"check_interval", int64(r.Check))
	c.within(p+"primary_fallback_limit", p+"primary_fallback_limit", int64(r.PrimaryShare))
	for _, name := range slices.Sorted(maps.Keys(r.Overrides)) {
		o, at, key := r.Overrides[name], p+"overrides."+name+".", p+"overrides.*."
		c.within(at+"max_lag_bytes", key+"max_lag_bytes", int64(o.MaxLagBytes))
		c.within(at+"max_lag", key+"max_lag", int64(o.MaxLag))
		c.within(at+"weight", key+"weight", int64(o.Weight))
	}
}
