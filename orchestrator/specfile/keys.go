package specfile

import (
	"reflect"
	"strings"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// Key describes one key of a spec.
type Key struct {
	// Path has [] for list elements and * for map keys: "groups[].nodes[].port".
	Path string
	Doc  string
	// Default and Range are in the key's own units; empty where there is none.
	Default, Range string
	// example is shown where the key has no value.
	example string
}

// described holds what cannot be read off the types: what a key is for, its words, and an example where it is
// usually absent. Ranges and defaults of numbers come from package cluster.
var described = []Key{
	{Path: "name", Doc: "Name of the cluster: 1 to 40 of a-z, 0-9 and '-', beginning with a letter. It is part of all keys in etcd and cannot be changed."},
	{Path: "id", Doc: "Identifies the cluster's data; init gives it. Data directories of another id are never touched.", example: "00000000-0000-0000-0000-000000000000"},
	{Path: "postgresql", Doc: "What all PostgreSQL servers share."},
	{Path: "postgresql.version", Doc: "Major version that every host must have; left out, each host's newest is taken.", example: "17"},
	{Path: "postgresql.database", Doc: "Database that clients get when they name none, in connstr and psql."},
	{Path: "postgresql.parameters", Doc: "Settings of postgresql.conf for all servers, such as shared_buffers: 1GB. Those that the orchestrator manages (port, wal_level, primary_conninfo, ...) are refused. What needs a restart is reported as pending.", example: "{work_mem: 16MB}"},
	{Path: "postgresql.hba", Doc: "Lines put before our own in pg_hba.conf. The method trust is refused.", example: "[\"hostssl all all 10.0.0.0/8 scram-sha-256\"]"},
	{Path: "hosts", Doc: "The machines, or addresses, on which agents run (orchestrator agent --name NAME). Under policy cross their order makes the clovers."},
	{Path: "hosts[].name", Doc: "1 to 63 of a-z, 0-9, '-' and '.'; unique."},
	{Path: "hosts[].address", Doc: "IP address or host name under which the host's servers listen and are reached."},
	{Path: "hosts[].base_port", Doc: "First port given to the host's nodes; further nodes get the next free ones."},
	{Path: "placement", Doc: "How nodes are placed on hosts."},
	{Path: "placement.policy", Doc: "manual: groups are listed, and nodes that are only counted are dealt to the hosts in turn. cross: hosts form clovers of repfactor + 1, each with the primary of one worker group and standbys of its neighbours' groups.", Range: "manual or cross"},
	{Path: "placement.repfactor", Doc: "Standbys of each worker group under policy cross.", example: "1"},
	{Path: "groups", Doc: "Group 0 holds the coordinators, every other group is a worker group: a primary and its standbys."},
	{Path: "groups[].id", Doc: "0 for the coordinators, 1 and up for workers; unique."},
	{Path: "groups[].standbys", Doc: "Places that many standbys beside the primary; instead of listing nodes, or to add to those that are listed."},
	{Path: "groups[].nodes", Doc: "The group's servers. The first one is the first primary."},
	{Path: "groups[].nodes[].name", Doc: "1 to 40 of a-z, 0-9 and '-', beginning with a letter; unique. Given when left out."},
	{Path: "groups[].nodes[].host", Doc: "Name of the host that the node lives on."},
	{Path: "groups[].nodes[].port", Doc: "Unique among nodes that share an address. Given when left out."},
	{Path: "groups[].nodes[].nofailover", Doc: "Keeps the node from being promoted.", Range: "true or false"},
	{Path: "failover", Doc: "Timing of the right to be primary."},
	{Path: "failover.ttl", Doc: "How long a primary keeps its right without renewing it; it is stopped before that. Shorter means faster failover and less patience with a slow network."},
	{Path: "failover.maximum_lag_on_failover", Doc: "Most WAL that a standby may lack to be promoted."},
	{Path: "router", Doc: "Defaults of all routers; a router's own flags override the addresses."},
	{Path: "router.listen", Doc: "HOST:PORT for clients; without HOST on all addresses."},
	{Path: "router.admin", Doc: "HOST:PORT of the admin console, which psql talks to; off disables it."},
	{Path: "router.monitor", Doc: "HOST:PORT of the plain-text monitor, on a loopback address; off disables it."},
	{Path: "router.tls_cert", Doc: "PEM file of the certificate shown to clients, on the router's host; together with tls_key.", example: "/etc/multicoord/router.crt"},
	{Path: "router.tls_key", Doc: "PEM file of the certificate's key.", example: "/etc/multicoord/router.key"},
	{Path: "router.max_client_conn", Doc: "Client connections accepted by a router; more are refused."},
	{Path: "router.default_pool_size", Doc: "Server connections of a router per user, database and node."},
	{Path: "router.server_idle_timeout", Doc: "Closes server connections that nobody has used for so long."},
	{Path: "router.query_wait_timeout", Doc: "How long a statement waits for a server connection, or for a new primary, before it fails."},
	{Path: "router.reads", Doc: "By which rules reads go to standbys."},
	{Path: "router.reads.consistency", Doc: "eventual: any fresh standby. session: a session sees its own writes. strong: all reads go to the primary.", Range: "eventual, session or strong"},
	{Path: "router.reads.fallback", Doc: "What a read does when no standby is fresh enough: go to the primary, wait, or fail.", Range: "primary, wait or error"},
	{Path: "router.reads.max_lag_bytes", Doc: "A standby that lags more serves no reads."},
	{Path: "router.reads.max_lag", Doc: "The same in time; the stricter of both limits holds."},
	{Path: "router.reads.check_interval", Doc: "Time between two looks at a server's position."},
	{Path: "router.reads.primary_fallback_limit", Doc: "Most reads at a time that are diverted to the primary when no standby is fresh enough."},
	{Path: "router.reads.overrides", Doc: "Limits and weights of single nodes, by node name.", example: "{coordinator-2: {weight: 50, max_lag: 1s}}"},
	{Path: "router.reads.overrides.*.max_lag_bytes", Doc: "Replaces router.reads.max_lag_bytes for this node."},
	{Path: "router.reads.overrides.*.max_lag", Doc: "Replaces router.reads.max_lag for this node."},
	{Path: "router.reads.overrides.*.weight", Doc: "Share of reads relative to other nodes, which have 100."},
}

// Keys describes every key of a spec, in the order of the file.
func Keys() []Key {
	defaults := cluster.Spec{}.WithDefaults()
	keys := make([]Key, len(described))
	for i, k := range described {
		if l, ok := cluster.LimitOf(k.Path); ok {
			k.Range = l.Range()
			if l.Default != 0 {
				k.Default = l.Format(l.Default)
			}
		}
		if v, ok := find(reflect.ValueOf(&defaults).Elem(), k.Path); ok && v.Kind() == reflect.String && !strings.ContainsAny(k.Path, "[*") {
			k.Default = v.String()
		}
		keys[i] = k
	}
	return keys
}

// find follows a path through structs; maps, lists and pointers end it.
func find(v reflect.Value, path string) (reflect.Value, bool) {
	for key := range strings.SplitSeq(path, ".") {
		if v.Kind() != reflect.Struct {
			return reflect.Value{}, false
		}
		f, ok := fieldOf(v, key)
		if !ok {
			return reflect.Value{}, false
		}
		v = f
	}
	return v, true
}
