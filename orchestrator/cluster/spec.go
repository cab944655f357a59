package cluster

// Spec is what the operator wants: the one document that the rest of the system works towards. A spec may be
// short (hosts and counts); Complete turns it into one in which every node is named and placed, and only
// completed specs are stored. Durations and sizes are written with units.
type Spec struct {
	// Name of the cluster: a DNS label (1 to 40 of a-z, 0-9 and '-', beginning with a letter). It is the last
	// part of the prefix of all keys in etcd and cannot be changed.
	Name string `json:"name" yaml:"name"`
	// ID identifies the cluster's data (a random UUID given by init). A data directory that carries another ID
	// is foreign and never touched.
	ID         string     `json:"id,omitempty" yaml:"id,omitempty"`
	PostgreSQL PostgreSQL `json:"postgresql" yaml:"postgresql"`
	Hosts      []Host     `json:"hosts" yaml:"hosts"`
	Placement  Placement  `json:"placement" yaml:"placement"`
	Groups     []Group    `json:"groups,omitempty" yaml:"groups,omitempty"`
	Failover   Failover   `json:"failover" yaml:"failover"`
	Router     Router     `json:"router" yaml:"router"`
}

// PostgreSQL holds what all servers share.
type PostgreSQL struct {
	// Version is the major version that every host must have (15 to 18); 0 takes the newest that a host has.
	Version int `json:"version,omitempty" yaml:"version,omitempty"`
	// Database is the database that clients of connstr and psql get (default "postgres").
	Database string `json:"database,omitempty" yaml:"database,omitempty"`
	// Parameters are settings of postgresql.conf for all servers. Those that the orchestrator manages (port,
	// wal_level, primary_conninfo, …) are refused.
	Parameters map[string]string `json:"parameters,omitempty" yaml:"parameters,omitempty"`
	// HBA are lines put before our own in pg_hba.conf. The method trust is refused.
	HBA []string `json:"hba,omitempty" yaml:"hba,omitempty"`
}

// Host is a machine (or an address of it) on which one agent runs.
type Host struct {
	// Name is what the agent is started with (--name): 1 to 63 of a-z, 0-9, '-' and '.'.
	Name string `json:"name" yaml:"name"`
	// Address is the IP address or host name under which the host's servers listen and are reached.
	Address string `json:"address" yaml:"address"`
	// BasePort is the first port given to the host's nodes (default 5432, 1024 to 65000).
	BasePort int `json:"base_port,omitempty" yaml:"base_port,omitempty"`
}

// Policy says how nodes are placed on hosts; the words are Shardman's.
type Policy string

// The placement policies.
const (
	// Manual: groups and their nodes are listed, or counted and dealt to the hosts in turn (the default).
	Manual Policy = "manual"
	// Cross: hosts form clovers of Repfactor+1; each host of a clover runs the primary of one worker group and
	// standbys of its neighbours' groups.
	Cross Policy = "cross"
)

// Placement is the policy with its parameter.
type Placement struct {
	Policy Policy `json:"policy,omitempty" yaml:"policy,omitempty"`
	// Repfactor is the number of standbys of each worker group under Cross (default 1, 0 to 8).
	Repfactor *int `json:"repfactor,omitempty" yaml:"repfactor,omitempty"`
}

// CoordinatorGroup is the group that holds the coordinators; every other group is a worker group.
const CoordinatorGroup = 0

// Group is a primary and its standbys.
type Group struct {
	// ID is 0 for the coordinators, 1 to 9999 for workers.
	ID int `json:"id" yaml:"id"`
	// Standbys (0 to 31) asks Complete to place that many standbys beside the primary, counting listed nodes; it is
	// nil in a completed spec.
	Standbys *int `json:"standbys,omitempty" yaml:"standbys,omitempty"`
	// Nodes lists the group's servers. Their order is the order of preference for the first primary.
	Nodes []Node `json:"nodes,omitempty" yaml:"nodes,omitempty"`
}

// Node is one PostgreSQL server.
type Node struct {
	// Name is unique in the cluster: 1 to 40 of a-z, 0-9 and '-', beginning with a letter.
	Name string `json:"name,omitempty" yaml:"name,omitempty"`
	Host string `json:"host" yaml:"host"`
	// Port is 1024 to 65535, unique among the nodes that share an address.
	Port int `json:"port,omitempty" yaml:"port,omitempty"`
	// NoFailover keeps the node from being promoted.
	NoFailover bool `json:"nofailover,omitempty" yaml:"nofailover,omitempty"`
}

// Failover holds the timing of the right to be primary.
type Failover struct {
	// TTL is the life of a grant without renewal (default 5s, 2s to 5m). A primary is stopped before it ends.
	TTL Duration `json:"ttl,omitempty" yaml:"ttl,omitempty"`
	// MaxLagBytes is the most that a candidate may lack (default 1MB); used by failover.
	MaxLagBytes Bytes `json:"maximum_lag_on_failover,omitempty" yaml:"maximum_lag_on_failover,omitempty"`
}

// Consistency says what a session's reads on standbys must see.
type Consistency string

// The consistency levels.
const (
	// Eventual: any standby that is fresh enough.
	Eventual Consistency = "eventual"
	// Session: a session sees its own writes (the default).
	Session Consistency = "session"
	// Strong: all reads go to the primary.
	Strong Consistency = "strong"
)

// Fallback says what happens to a read when no standby is eligible.
type Fallback string

// The fallbacks.
const (
	FallbackPrimary Fallback = "primary"
	FallbackWait    Fallback = "wait"
	FallbackError   Fallback = "error"
)

// Router holds the defaults of all routers; a router's own flags override the addresses.
type Router struct {
	// Listen is the address of the clients' port (default 127.0.0.1:6432).
	Listen string `json:"listen,omitempty" yaml:"listen,omitempty"`
	// Admin is the address of the admin console (default 127.0.0.1:7432); "off" disables it.
	Admin string `json:"admin,omitempty" yaml:"admin,omitempty"`
	// Monitor is the loopback address of the plain-text monitor (default 127.0.0.1:9881); "off" disables it.
	Monitor string `json:"monitor,omitempty" yaml:"monitor,omitempty"`
	// TLSCert and TLSKey are PEM files on the router's host; both or neither.
	TLSCert string `json:"tls_cert,omitempty" yaml:"tls_cert,omitempty"`
	TLSKey  string `json:"tls_key,omitempty" yaml:"tls_key,omitempty"`
	// MaxClients is the number of client connections accepted (default 1000, 1 to 100000); more get 53300.
	MaxClients int `json:"max_client_conn,omitempty" yaml:"max_client_conn,omitempty"`
	// PoolSize is the number of server connections per (user, database, node) (default 20, 1 to 10000).
	PoolSize int `json:"default_pool_size,omitempty" yaml:"default_pool_size,omitempty"`
	// ServerIdle closes a server connection that nobody has used for so long (default 10m).
	ServerIdle Duration `json:"server_idle_timeout,omitempty" yaml:"server_idle_timeout,omitempty"`
	// WaitTimeout bounds how long a statement waits for a server or for a new primary (default 30s, 1ms to 1h).
	WaitTimeout Duration `json:"query_wait_timeout,omitempty" yaml:"query_wait_timeout,omitempty"`
	Reads       Reads    `json:"reads" yaml:"reads"`
}

// Reads holds the rules by which reads go to standbys.
type Reads struct {
	Consistency Consistency `json:"consistency,omitempty" yaml:"consistency,omitempty"`
	Fallback    Fallback    `json:"fallback,omitempty" yaml:"fallback,omitempty"`
	// MaxLagBytes and MaxLag are the limits beyond which a standby serves no reads (defaults 16MB and 5s); the
	// stricter wins.
	MaxLagBytes Bytes    `json:"max_lag_bytes,omitempty" yaml:"max_lag_bytes,omitempty"`
	MaxLag      Duration `json:"max_lag,omitempty" yaml:"max_lag,omitempty"`
	// Check is the time between two samples of a server's position (default 200ms, 20ms to 1m).
	Check Duration `json:"check_interval,omitempty" yaml:"check_interval,omitempty"`
	// PrimaryShare is the most reads in flight that may be diverted to the primary when no standby is eligible
	// (default 100; 0 means the default).
	PrimaryShare int `json:"primary_fallback_limit,omitempty" yaml:"primary_fallback_limit,omitempty"`
	// Overrides are limits and weights of single nodes, by node name.
	Overrides map[string]ReadOverride `json:"overrides,omitempty" yaml:"overrides,omitempty"`
}

// ReadOverride replaces limits for one standby; zero fields keep the common value.
type ReadOverride struct {
	MaxLagBytes Bytes    `json:"max_lag_bytes,omitempty" yaml:"max_lag_bytes,omitempty"`
	MaxLag      Duration `json:"max_lag,omitempty" yaml:"max_lag,omitempty"`
	// Weight is the node's share of reads relative to the others (default 100, 1 to 10000).
	Weight int `json:"weight,omitempty" yaml:"weight,omitempty"`
}

// HostOf finds a host by name.
func (s Spec) HostOf(name string) (Host, bool) {
	for _, h := range s.Hosts {
		if h.Name == name {
			return h, true
		}
	}
	return Host{}, false
}

// GroupOf finds a group by id.
func (s Spec) GroupOf(id int) (Group, bool) {
	for _, g := range s.Groups {
		if g.ID == id {
			return g, true
		}
	}
	return Group{}, false
}

// NodeOf finds a node and its group by the node's name.
func (s Spec) NodeOf(name string) (Node, Group, bool) {
	for _, g := range s.Groups {
		for _, n := range g.Nodes {
			if n.Name == name {
				return n, g, true
			}
		}
	}
	return Node{}, Group{}, false
}
