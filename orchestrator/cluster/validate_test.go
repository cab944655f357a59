package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func ptr[T any](v T) *T { return &v }

// threeHosts is a valid spec with hosts h1 to h3, a coordinator group that is listed and a worker group that is counted.
func threeHosts() Spec {
	s := Spec{Name: "shop", Placement: Placement{Policy: Manual}}
	for i := 1; i <= 3; i++ {
		s.Hosts = append(s.Hosts, Host{Name: fmt.Sprintf("h%d", i), Address: fmt.Sprintf("10.0.0.%d", i)})
	}
	s.Groups = []Group{
		{ID: 0, Nodes: []Node{{Name: "c1", Host: "h1", Port: 5432}, {Name: "c2", Host: "h2", Port: 5432}}},
		{ID: 1, Standbys: ptr(1)},
	}
	return s
}

// fourCrossed is a valid spec of two clovers.
func fourCrossed() Spec {
	s := Spec{Name: "shop", Placement: Placement{Policy: Cross, Repfactor: ptr(1)}}
	for i := 1; i <= 4; i++ {
		s.Hosts = append(s.Hosts, Host{Name: fmt.Sprintf("h%d", i), Address: fmt.Sprintf("10.0.0.%d", i)})
	}
	return s
}

func worker(id int, hosts ...string) Group {
	g := Group{ID: id}
	for _, h := range hosts {
		g.Nodes = append(g.Nodes, Node{Host: h})
	}
	return g
}

type wrongSpec struct {
	name string
	// base is threeHosts unless given.
	base   func() Spec
	change func(*Spec)
	want   string
}

var wrongDocuments = []wrongSpec{
	{
		name: "name with capitals", change: func(s *Spec) { s.Name = "Shop" },
		want: `name: "Shop" is not a cluster name; use 1 to 40 of a-z, 0-9 and '-', beginning with a letter`,
	},
	{
		name: "name beginning with a digit", change: func(s *Spec) { s.Name = "1shop" },
		want: `name: "1shop" is not a cluster name; use 1 to 40 of a-z, 0-9 and '-', beginning with a letter`,
	},
	{
		name: "name that would leave its place in etcd", change: func(s *Spec) { s.Name = "a/../b" },
		want: `name: "a/../b" is not a cluster name; use 1 to 40 of a-z, 0-9 and '-', beginning with a letter`,
	},
	{
		name: "id that is no UUID", change: func(s *Spec) { s.ID = "17" },
		want: `id: "17" is not a UUID; leave it out, init gives one`,
	},
	{
		name: "no hosts", base: func() Spec { return Spec{Name: "shop", Groups: []Group{{ID: 0, Standbys: ptr(0)}}} }, change: func(*Spec) {},
		want: `hosts: none is listed; the cluster needs at least one`,
	},
	{name: "too many hosts", change: func(s *Spec) {
		for i := 4; i <= 1001; i++ {
			s.Hosts = append(s.Hosts, Host{Name: fmt.Sprintf("h%d", i), Address: "10.0.1.1"})
		}
	}, want: `hosts: 1001 are listed; at most 1000 are supported`},
	{
		name: "host name with a slash", change: func(s *Spec) { s.Hosts[2].Name = "h/3" },
		want: `hosts[2].name: "h/3" is not a host's name; use 1 to 63 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit`,
	},
	{
		name: "host name of dots", change: func(s *Spec) { s.Hosts[2].Name = ".." },
		want: `hosts[2].name: ".." is not a host's name; use 1 to 63 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit`,
	},
	{
		name: "host twice", change: func(s *Spec) { s.Hosts[2].Name = "h1" },
		want: `hosts[2].name: h1 is already the name of hosts[0]`,
	},
	{
		name: "host without address", change: func(s *Spec) { s.Hosts[1].Address = "" },
		want: `hosts[1].address: is missing; give the IP address or host name under which others reach the host`,
	},
	{
		name: "address with a port", change: func(s *Spec) { s.Hosts[1].Address = "10.0.0.2:5432" },
		want: `hosts[1].address: "10.0.0.2:5432" has a port; give the address alone, ports are counted from base_port`,
	},
	{
		name: "address that means all", change: func(s *Spec) { s.Hosts[1].Address = "0.0.0.0" },
		want: `hosts[1].address: 0.0.0.0 means every address; give the one under which others reach the host`,
	},
	{
		name: "mistyped IP address", change: func(s *Spec) { s.Hosts[1].Address = "10.0.0.256" },
		want: `hosts[1].address: "10.0.0.256" is neither an IP address nor a host name`,
	},
	{
		name: "address with a zone", change: func(s *Spec) { s.Hosts[1].Address = "fe80::1%eth0" },
		want: `hosts[1].address: fe80::1%eth0 has a zone, which means nothing on other hosts`,
	},
	{
		name: "multicast address", change: func(s *Spec) { s.Hosts[1].Address = "224.0.0.1" },
		want: `hosts[1].address: 224.0.0.1 is a multicast address`,
	},
	{
		name: "loopback among others", change: func(s *Spec) { s.Hosts[0].Address = "127.0.0.1" },
		want: `hosts[0].address: 127.0.0.1 is a loopback address, which host h3 at 10.0.0.3 cannot reach; give an address of the network`,
	},
	{
		name: "base port below 1024", change: func(s *Spec) { s.Hosts[0].BasePort = 80 },
		want: `hosts[0].base_port: 80 is out of range 1024 to 65000`,
	},
	{
		name: "base port above 65000", change: func(s *Spec) { s.Hosts[0].BasePort = 65001 },
		want: `hosts[0].base_port: 65001 is out of range 1024 to 65000`,
	},
	{
		name: "unknown policy", change: func(s *Spec) { s.Placement.Policy = "random" },
		want: `placement.policy: "random" is not a policy; use manual or cross`,
	},
	{
		name: "negative repfactor", base: fourCrossed, change: func(s *Spec) { s.Placement.Repfactor = ptr(-1) },
		want: `placement.repfactor: -1 is out of range 0 to 8`,
	},
	{
		name: "repfactor too high", change: func(s *Spec) { s.Placement.Repfactor = ptr(9) },
		want: `placement.repfactor: 9 is out of range 0 to 8`,
	},
	{
		name: "no group 0", change: func(s *Spec) { s.Groups = s.Groups[1:] },
		want: `groups: group 0 (the coordinators) is missing; add {id: 0, standbys: 2}`,
	},
	{
		name: "group id twice", change: func(s *Spec) { s.Groups[1].ID = 0 },
		want: `groups[1].id: 0 is already the id of groups[0]`,
	},
	{
		name: "negative group id", change: func(s *Spec) { s.Groups[1].ID = -1 },
		want: `groups[1].id: -1 is out of range 0 to 9999`,
	},
	{
		name: "group id too high", change: func(s *Spec) { s.Groups[1].ID = 10000 },
		want: `groups[1].id: 10000 is out of range 0 to 9999`,
	},
	{
		name: "group without nodes", change: func(s *Spec) { s.Groups[1].Standbys = nil },
		want: `groups[1]: group 1 has no nodes; list them, or give standbys (0 for a primary alone)`,
	},
	{
		name: "negative standbys", change: func(s *Spec) { s.Groups[1].Standbys = ptr(-2) },
		want: `groups[1].standbys: -2 is out of range 0 to 31`,
	},
	{
		name: "too many standbys", change: func(s *Spec) { s.Groups[1].Standbys = ptr(32) },
		want: `groups[1].standbys: 32 is out of range 0 to 31`,
	},
	{
		name: "too many nodes", change: func(s *Spec) { s.Groups[1] = Group{ID: 1, Nodes: make33()} },
		want: `groups[1].nodes: 33 are listed; a group has at most 32`,
	},
	{
		name: "fewer standbys than listed nodes", change: func(s *Spec) { s.Groups[0].Standbys = ptr(0) },
		want: `groups[0].standbys: is 0, but 2 nodes are listed; leave it out or remove nodes with rm-standby`,
	},
	{
		name: "node name with an underscore", change: func(s *Spec) { s.Groups[0].Nodes[0].Name = "c_1" },
		want: `groups[0].nodes[0].name: "c_1" is not a node's name; use 1 to 40 of a-z, 0-9 and '-', beginning with a letter`,
	},
	{
		name: "node name too long", change: func(s *Spec) { s.Groups[0].Nodes[0].Name = strings.Repeat("c", 41) },
		want: `groups[0].nodes[0].name: "` + strings.Repeat("c", 41) + `" is not a node's name; use 1 to 40 of a-z, 0-9 and '-', beginning with a letter`,
	},
	{
		name: "node twice in other groups", change: func(s *Spec) { s.Groups[1] = Group{ID: 1, Nodes: []Node{{Name: "c2", Host: "h3"}}} },
		want: `groups[1].nodes[0].name: c2 is already the name of groups[0].nodes[1]`,
	},
	{
		name: "node without host", change: func(s *Spec) { s.Groups[0].Nodes[1].Host = "" },
		want: `groups[0].nodes[1].host: is missing; name one of the hosts`,
	},
	{
		name: "node on an unknown host", change: func(s *Spec) { s.Groups[0].Nodes[1].Host = "h9" },
		want: `groups[0].nodes[1].host: no host is named h9`,
	},
	{
		name: "node port out of range", change: func(s *Spec) { s.Groups[0].Nodes[0].Port = 70 },
		want: `groups[0].nodes[0].port: 70 is out of range 1024 to 65535`,
	},
	{
		name: "node port too high", change: func(s *Spec) { s.Groups[0].Nodes[0].Port = 65536 },
		want: `groups[0].nodes[0].port: 65536 is out of range 1024 to 65535`,
	},
	{
		name: "port twice on a host", change: func(s *Spec) { s.Groups[0].Nodes[1].Host = "h1" },
		want: `groups[0].nodes[1].port: 5432 is already the port of groups[0].nodes[0] on 10.0.0.1`,
	},
	{
		name: "port twice on hosts that share an address", change: func(s *Spec) { s.Hosts[1].Address = "::ffff:10.0.0.1" },
		want: `groups[0].nodes[1].port: 5432 is already the port of groups[0].nodes[0] on ::ffff:10.0.0.1`,
	},
	{name: "no port left", change: func(s *Spec) {
		s.Hosts = []Host{{Name: "h1", Address: "10.0.0.1", BasePort: 65000}}
		s.Groups = s.Groups[:1]
		s.Groups[0].Nodes = s.Groups[0].Nodes[:1]
		for id := 1; id <= 17; id++ {
			s.Groups = append(s.Groups, Group{ID: id, Standbys: ptr(31)})
		}
	}, want: `hosts[0].base_port: no port is free from 65000 upward for node worker-17-25; lower it`},
}

func make33() []Node {
	var nodes []Node
	for range 33 {
		nodes = append(nodes, Node{Host: "h3"})
	}
	return nodes
}

var wrongClovers = []wrongSpec{
	{
		name: "a host over", base: fourCrossed, change: func(s *Spec) { s.Hosts = append(s.Hosts, Host{Name: "h5", Address: "10.0.0.5"}) },
		want: `hosts: 5 hosts do not make whole clovers of 2 (placement.repfactor 1, and one more); add 1 or remove 1`,
	},
	{
		name: "one host for two", base: fourCrossed, change: func(s *Spec) { s.Hosts = s.Hosts[:1] },
		want: `hosts: 1 host does not make whole clovers of 2 (placement.repfactor 1, and one more); add 1 or remove 1`,
	},
	{
		name: "default repfactor counts too", base: fourCrossed, change: func(s *Spec) { s.Placement.Repfactor, s.Hosts = nil, s.Hosts[:3] },
		want: `hosts: 3 hosts do not make whole clovers of 2 (placement.repfactor 1, and one more); add 1 or remove 1`,
	},
	{
		name: "repfactor that does not fit", base: fourCrossed, change: func(s *Spec) { s.Placement.Repfactor = ptr(2) },
		want: `hosts: 4 hosts do not make whole clovers of 3 (placement.repfactor 2, and one more); add 2 or remove 1`,
	},
	{
		name: "counted worker group", base: fourCrossed, change: func(s *Spec) { s.Groups = []Group{{ID: 1, Standbys: ptr(1)}} },
		want: `groups[0].standbys: is given by placement.repfactor under policy cross; leave it out`,
	},
	{
		name: "worker group of another size", base: fourCrossed, change: func(s *Spec) { s.Groups = []Group{worker(1, "h1")} },
		want: `groups[0].nodes: 1 node is listed, but under policy cross a worker group has 2 (placement.repfactor 1, and one more)`,
	},
	{
		name: "worker group twice on a host", base: fourCrossed, change: func(s *Spec) { s.Groups = []Group{worker(1, "h1", "h1")} },
		want: `groups[0].nodes: host h1 is listed twice; under policy cross each node of a worker group is on a host of its own`,
	},
	{name: "overlapping clovers", base: fourCrossed, change: func(s *Spec) {
		s.Groups = []Group{worker(1, "h1", "h2"), worker(2, "h2", "h1"), worker(3, "h3", "h2")}
	}, want: `groups[2].nodes[1].host: host h2 is already in the clover h1, h2`},
	{
		name: "two primaries' places on one host", base: fourCrossed, change: func(s *Spec) { s.Groups = []Group{worker(1, "h1", "h2"), worker(2, "h1", "h2")} },
		want: `groups[1].nodes[0].host: host h1 already has the first node of group 1; under policy cross each host has one`,
	},
	{
		name: "half a clover", base: fourCrossed, change: func(s *Spec) { s.Groups = []Group{worker(1, "h1", "h2")} },
		want: `groups[0]: the clover h1, h2 has 1 worker group, but needs one per host`,
	},
}

var wrongSettings = []wrongSpec{
	{name: "version too old", change: func(s *Spec) { s.PostgreSQL.Version = 14 }, want: `postgresql.version: 14 is out of range 15 to 18`},
	{name: "version too new", change: func(s *Spec) { s.PostgreSQL.Version = 19 }, want: `postgresql.version: 19 is out of range 15 to 18`},
	{name: "blank database", change: func(s *Spec) { s.PostgreSQL.Database = " " }, want: `postgresql.database: is empty; leave it out for postgres`},
	{name: "database with a space", change: func(s *Spec) { s.PostgreSQL.Database = "a " }, want: `postgresql.database: "a " begins or ends with a space`},
	{name: "database too long", change: func(s *Spec) { s.PostgreSQL.Database = strings.Repeat("d", 64) }, want: `postgresql.database: is 64 bytes long; PostgreSQL allows 63`},
	{name: "database with a NUL", change: func(s *Spec) { s.PostgreSQL.Database = "a\x00b" }, want: `postgresql.database: "a\x00b" has a control character`},
	{name: "database template0", change: func(s *Spec) { s.PostgreSQL.Database = "template0" }, want: `postgresql.database: template0 accepts no connections; name another database`},
	{name: "managed parameter", change: parameter("port", "1"), want: `postgresql.parameters.port: is managed by the orchestrator: use the node's port`},
	{name: "managed parameter in capitals", change: parameter("WAL_Level", "minimal"), want: `postgresql.parameters.WAL_Level: is managed by the orchestrator: it is logical`},
	{name: "include directive", change: parameter("include_dir", "/tmp"), want: `postgresql.parameters.include_dir: is managed by the orchestrator: list the settings here`},
	{name: "preset parameter", change: parameter("block_size", "8192"), want: `postgresql.parameters.block_size: cannot be set in a configuration file`},
	{name: "parameter name that is none", change: parameter("work mem", "1MB"), want: `postgresql.parameters.work mem: "work mem" is not the name of a parameter`},
	{name: "parameter with a line break", change: parameter("work_mem", "1MB'\nfsync = off"), want: `postgresql.parameters.work_mem: the value has a line break or a control character`},
	{name: "parameter with a NUL", change: parameter("work_mem", "1\x00"), want: `postgresql.parameters.work_mem: the value has a line break or a control character`},
	{name: "parameter that is not UTF-8", change: parameter("work_mem", "1\xff"), want: `postgresql.parameters.work_mem: the value has a line break or a control character`},
	{name: "parameter value too long", change: parameter("search_path", strings.Repeat("a", 8193)), want: `postgresql.parameters.search_path: the value is 8193 bytes long; at most 8192 are allowed`},
	{
		name: "parameter twice", change: func(s *Spec) { s.PostgreSQL.Parameters = map[string]string{"Work_mem": "1MB", "work_mem": "2MB"} },
		want: `postgresql.parameters.work_mem: is the same parameter as Work_mem; keep one of them`,
	},
	{name: "no senders for standbys", change: parameter("max_wal_senders", "0"), want: `postgresql.parameters.max_wal_senders: "0" is too low or no number; replication and the router need at least 10`},
	{name: "trust", change: hba("host all all 0.0.0.0/0 trust"), want: `postgresql.hba[0]: the method trust lets anybody in without a password; use scram-sha-256`},
	{name: "HBA line without method", change: hba("host all all all"), want: `postgresql.hba[0]: is incomplete; write TYPE DATABASE USER ADDRESS METHOD (no ADDRESS for local)`},
	{name: "ttl too short", change: func(s *Spec) { s.Failover.TTL = Duration(time.Second) }, want: `failover.ttl: 1s is out of range 2s to 5m`},
	{name: "ttl too long", change: func(s *Spec) { s.Failover.TTL = Duration(6 * time.Minute) }, want: `failover.ttl: 6m is out of range 2s to 5m`},
	{name: "negative lag on failover", change: func(s *Spec) { s.Failover.MaxLagBytes = -1 }, want: `failover.maximum_lag_on_failover: -1B is out of range 1B to 1TB`},
	{
		name: "router address without port", change: func(s *Spec) { s.Router.Listen = "localhost" },
		want: `router.listen: "localhost" is not an address; write HOST:PORT, such as 127.0.0.1:6432`,
	},
	{
		name: "router cannot be off", change: func(s *Spec) { s.Router.Listen = Off },
		want: `router.listen: "off" is not an address; write HOST:PORT, such as 127.0.0.1:6432`,
	},
	{name: "admin port out of range", change: func(s *Spec) { s.Router.Admin = ":70000" }, want: `router.admin: the port of ":70000" is out of range 1 to 65535`},
	{
		name: "admin address that is none", change: func(s *Spec) { s.Router.Admin = "a b:1" },
		want: `router.admin: "a b:1" is not an address; write HOST:PORT, such as 127.0.0.1:6432 or "off"`,
	},
	{
		name: "monitor open to the network", change: func(s *Spec) { s.Router.Monitor = "0.0.0.0:9881" },
		want: `router.monitor: "0.0.0.0:9881" is not a loopback address; the monitor asks for no password, so it listens on 127.0.0.1 or ::1 only`,
	},
	{
		name: "monitor on all addresses", change: func(s *Spec) { s.Router.Monitor = ":9881" },
		want: `router.monitor: ":9881" is not a loopback address; the monitor asks for no password, so it listens on 127.0.0.1 or ::1 only`,
	},
	{name: "two listeners on one port", change: func(s *Spec) { s.Router.Admin = ":6432" }, want: `router.admin: port 6432 is already that of router.listen`},
	{
		name: "router on a node's port", change: func(s *Spec) { s.Router.Listen = "10.0.0.1:5432" },
		want: `router.listen: port 5432 is already the port of groups[0].nodes[0] on 10.0.0.1`,
	},
	{name: "router everywhere, node on loopback", change: func(s *Spec) {
		s.Hosts = []Host{{Name: "h1", Address: "127.0.0.1"}, {Name: "h2", Address: "127.0.0.2"}}
		s.Router.Listen = "0.0.0.0:5432"
		s.Groups[0].Nodes[1].Port = 5433
	}, want: `router.listen: port 5432 is already the port of groups[0].nodes[0] on 127.0.0.1`},
	{name: "certificate without key", change: func(s *Spec) { s.Router.TLSCert = "/c.pem" }, want: `router.tls_key: is missing; tls_cert needs its key`},
	{name: "key without certificate", change: func(s *Spec) { s.Router.TLSKey = "/k.pem" }, want: `router.tls_cert: is missing; tls_key needs its certificate`},
	{name: "relative certificate", change: func(s *Spec) { s.Router.TLSCert, s.Router.TLSKey = "c.pem", "/k.pem" }, want: `router.tls_cert: "c.pem" is not an absolute path`},
	{name: "negative clients", change: func(s *Spec) { s.Router.MaxClients = -1 }, want: `router.max_client_conn: -1 is out of range 1 to 100000`},
	{name: "pool too large", change: func(s *Spec) { s.Router.PoolSize = 10001 }, want: `router.default_pool_size: 10001 is out of range 1 to 10000`},
	{name: "idle timeout too short", change: func(s *Spec) { s.Router.ServerIdle = 1 }, want: `router.server_idle_timeout: 1ns is out of range 1s to 24h`},
	{name: "wait too long", change: func(s *Spec) { s.Router.WaitTimeout = Duration(2 * time.Hour) }, want: `router.query_wait_timeout: 2h is out of range 1ms to 1h`},
	{name: "unknown consistency", change: func(s *Spec) { s.Router.Reads.Consistency = "weak" }, want: `router.reads.consistency: "weak" is not a consistency; use eventual, session or strong`},
	{name: "unknown fallback", change: func(s *Spec) { s.Router.Reads.Fallback = "retry" }, want: `router.reads.fallback: "retry" is not a fallback; use primary, wait or error`},
	{name: "lag in bytes too large", change: func(s *Spec) { s.Router.Reads.MaxLagBytes = 1 << 41 }, want: `router.reads.max_lag_bytes: 2TB is out of range 1B to 1TB`},
	{name: "negative lag", change: func(s *Spec) { s.Router.Reads.MaxLag = -1 }, want: `router.reads.max_lag: -1ns is out of range 1ms to 24h`},
	{name: "check too often", change: func(s *Spec) { s.Router.Reads.Check = Duration(time.Millisecond) }, want: `router.reads.check_interval: 1ms is out of range 20ms to 1m`},
	{name: "negative share of the primary", change: func(s *Spec) { s.Router.Reads.PrimaryShare = -5 }, want: `router.reads.primary_fallback_limit: -5 is out of range 1 to 100000`},
	{name: "override of an unknown node", change: override("c9", ReadOverride{Weight: 1}), want: `router.reads.overrides.c9: no node has this name`},
	{name: "override with a weight out of range", change: override("c2", ReadOverride{Weight: 10001}), want: `router.reads.overrides.c2.weight: 10001 is out of range 1 to 10000`},
	{name: "override with a lag out of range", change: override("c2", ReadOverride{MaxLag: 1}), want: `router.reads.overrides.c2.max_lag: 1ns is out of range 1ms to 24h`},
	{name: "override with negative bytes", change: override("c2", ReadOverride{MaxLagBytes: -1}), want: `router.reads.overrides.c2.max_lag_bytes: -1B is out of range 1B to 1TB`},
}

func parameter(name, value string) func(*Spec) {
	return func(s *Spec) { s.PostgreSQL.Parameters = map[string]string{name: value} }
}

func hba(lines ...string) func(*Spec) { return func(s *Spec) { s.PostgreSQL.HBA = lines } }

func override(node string, o ReadOverride) func(*Spec) {
	return func(s *Spec) { s.Router.Reads.Overrides = map[string]ReadOverride{node: o} }
}

func TestWrongSpecsAreRefusedWithTheirMessage(t *testing.T) {
	for _, table := range [][]wrongSpec{wrongDocuments, wrongClovers, wrongSettings} {
		for _, tc := range table {
			t.Run(tc.name, func(t *testing.T) {
				if tc.base == nil {
					tc.base = threeHosts
				}
				s := tc.base()
				tc.change(&s)
				require.EqualError(t, s.Validate(), tc.want)
				_, err := s.Complete()
				require.EqualError(t, err, tc.want, "Complete refuses what Validate refuses")
			})
		}
	}
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	s := threeHosts()
	s.Name = "-"
	s.Groups[0].Nodes[0].Host = "h9"
	s.Groups[0].Nodes[1].Port = 70
	s.Router.Reads.Fallback = "retry"
	s.Router.Reads.Overrides = map[string]ReadOverride{"c1": {Weight: -1}}
	var paths []string
	for _, p := range ProblemsOf(fmt.Errorf("check: %w", s.Validate())) {
		paths = append(paths, p.Path)
	}
	require.Equal(t, []string{
		"name", "groups[0].nodes[0].host", "groups[0].nodes[1].port", "router.reads.fallback",
		"router.reads.overrides.c1.weight",
	}, paths)
	require.Nil(t, ProblemsOf(nil))
	require.Nil(t, ProblemsOf(fmt.Errorf("other")))
}

func TestValidSpecs(t *testing.T) {
	for name, change := range map[string]func(*Spec){
		"as it is":                  func(*Spec) {},
		"limits themselves":         func(s *Spec) { s.Failover.TTL, s.Router.MaxClients = Duration(2*time.Second), 100000 },
		"admin and monitor off":     func(s *Spec) { s.Router.Admin, s.Router.Monitor = Off, Off },
		"IPv6":                      func(s *Spec) { s.Hosts[0].Address, s.Router.Monitor = "fd00::1", "[::1]:9881" },
		"host names":                func(s *Spec) { s.Hosts[0].Address = "db1.example.com" },
		"router everywhere":         func(s *Spec) { s.Router.Listen = "0.0.0.0:5432" },
		"custom parameter":          parameter("pg_stat_statements.max", "100"),
		"hosts that share":          func(s *Spec) { s.Hosts[2].Address = "10.0.0.1" },
		"override of a placed node": override("worker-1-2", ReadOverride{Weight: 10}),
		"id":                        func(s *Spec) { s.ID = "0b5d3c1e-8f0a-4d5e-9b57-0123456789ab" },
	} {
		t.Run(name, func(t *testing.T) {
			s := threeHosts()
			change(&s)
			require.NoError(t, s.Validate())
		})
	}
	require.NoError(t, DefaultSpec().Validate())
	require.NoError(t, fourCrossed().Validate())
}

func TestManagedParametersAreMatchedWithoutCase(t *testing.T) {
	require.True(t, ManagedParameter("Primary_ConnInfo"))
	require.True(t, ManagedParameter("synchronous_standby_names"))
	require.False(t, ManagedParameter("work_mem"))
}

func TestLimitsAreSaneAndFormatted(t *testing.T) {
	for _, l := range limits {
		require.Less(t, l.Min, l.Max, l.Key)
		if l.Default != 0 {
			require.GreaterOrEqual(t, l.Default, l.Min, l.Key)
			require.LessOrEqual(t, l.Default, l.Max, l.Key)
		}
	}
	l, ok := LimitOf("router.reads.max_lag_bytes")
	require.True(t, ok)
	require.Equal(t, "1B to 1TB", l.Range())
	_, ok = LimitOf("nothing")
	require.False(t, ok)
}
