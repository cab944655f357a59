package cluster

import (
	"cmp"
	"maps"
	"slices"
)

// The defaults that are words; those of numbers are in the table of limits.
const (
	DefaultName     = "main"
	DefaultDatabase = "postgres"
	DefaultListen   = "127.0.0.1:6432"
	DefaultAdmin    = "127.0.0.1:7432"
	DefaultMonitor  = "127.0.0.1:9881"
	// Off disables the router's admin console or monitor.
	Off = "off"
)

// DefaultStandbys is the number of standby coordinators that Cross gives to a group 0 which is not listed.
const DefaultStandbys = 2

// DefaultSpec is the cluster that `up` makes without a file: one host, a primary coordinator with two standby
// coordinators, and two worker groups of one node each. It is short; Complete places it.
func DefaultSpec() Spec {
	counted := func(id, standbys int) Group { return Group{ID: id, Standbys: &standbys} }
	return Spec{
		Name:      DefaultName,
		Hosts:     []Host{{Name: "local", Address: "127.0.0.1", BasePort: 15432}},
		Placement: Placement{Policy: Manual},
		Groups:    []Group{counted(CoordinatorGroup, 2), counted(1, 0), counted(2, 0)},
	}
}

// Clone copies the spec and everything in it.
func (s Spec) Clone() Spec {
	s.PostgreSQL.Parameters = maps.Clone(s.PostgreSQL.Parameters)
	s.PostgreSQL.HBA = slices.Clone(s.PostgreSQL.HBA)
	s.Hosts = slices.Clone(s.Hosts)
	s.Placement.Repfactor = clonePtr(s.Placement.Repfactor)
	s.Groups = slices.Clone(s.Groups)
	for i := range s.Groups {
		s.Groups[i].Standbys = clonePtr(s.Groups[i].Standbys)
		s.Groups[i].Nodes = slices.Clone(s.Groups[i].Nodes)
	}
	s.Router.Reads.Overrides = maps.Clone(s.Router.Reads.Overrides)
	return s
}

func clonePtr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// WithDefaults fills in every value that has a default, and places nothing.
func (s Spec) WithDefaults() Spec {
	s = s.Clone()
	s.Name = cmp.Or(s.Name, DefaultName)
	s.PostgreSQL.Database = cmp.Or(s.PostgreSQL.Database, DefaultDatabase)
	for i := range s.Hosts {
		fill(&s.Hosts[i].BasePort, "hosts[].base_port")
	}
	s.Placement.Policy = cmp.Or(s.Placement.Policy, Manual)
	if s.Placement.Policy == Cross && s.Placement.Repfactor == nil {
		s.Placement.Repfactor = new(int)
		fill(s.Placement.Repfactor, "placement.repfactor")
	}
	fill(&s.Failover.TTL, "failover.ttl")
	fill(&s.Failover.MaxLagBytes, "failover.maximum_lag_on_failover")
	s.Router = s.Router.withDefaults()
	return s
}

func (r Router) withDefaults() Router {
	r.Listen = cmp.Or(r.Listen, DefaultListen)
	r.Admin = cmp.Or(r.Admin, DefaultAdmin)
	r.Monitor = cmp.Or(r.Monitor, DefaultMonitor)
	fill(&r.MaxClients, "router.max_client_conn")
	fill(&r.PoolSize, "router.default_pool_size")
	fill(&r.ServerIdle, "router.server_idle_timeout")
	fill(&r.WaitTimeout, "router.query_wait_timeout")
	r.Reads.Consistency = cmp.Or(r.Reads.Consistency, Session)
	r.Reads.Fallback = cmp.Or(r.Reads.Fallback, FallbackPrimary)
	fill(&r.Reads.MaxLagBytes, "router.reads.max_lag_bytes")
	fill(&r.Reads.MaxLag, "router.reads.max_lag")
	fill(&r.Reads.Check, "router.reads.check_interval")
	fill(&r.Reads.PrimaryShare, "router.reads.primary_fallback_limit")
	return r
}

func fill[T ~int | ~int64](v *T, key string) {
	if *v == 0 {
		*v = T(defaultOf(key))
	}
}
