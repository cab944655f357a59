package specfile

import (
	"errors"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

func decode(text string) (cluster.Spec, error) { return Decode(strings.NewReader(text), "c.yaml") }

const minimal = `
name: shop
hosts:
  - {name: h1, address: 10.0.0.1}
groups:
  - id: 0
    standbys: 2
`

func TestDecodeReadsEveryKindOfValue(t *testing.T) {
	s, err := decode(minimal + `
postgresql:
  version: 17
  parameters:
    max_connections: 200
    search_path: 0123
    jit: off
    random_page_cost: 1.10
  hba: ["host all all 10.0.0.0/8 scram-sha-256"]
placement: {policy: cross, repfactor: 0}
failover: {ttl: 2500ms, maximum_lag_on_failover: 2MB}
router:
  reads:
    consistency: eventual
    max_lag: 1m
    overrides:
      coordinator-2: {weight: 50}
`)
	require.NoError(t, err)
	zero, two := 0, 2
	require.Equal(t, cluster.Spec{
		Name:  "shop",
		Hosts: []cluster.Host{{Name: "h1", Address: "10.0.0.1"}},
		PostgreSQL: cluster.PostgreSQL{
			Version: 17, HBA: []string{"host all all 10.0.0.0/8 scram-sha-256"},
			Parameters: map[string]string{"max_connections": "200", "search_path": "0123", "jit": "off", "random_page_cost": "1.10"},
		},
		Placement: cluster.Placement{Policy: cluster.Cross, Repfactor: &zero},
		Groups:    []cluster.Group{{ID: 0, Standbys: &two}},
		Failover:  cluster.Failover{TTL: cluster.Duration(2500 * time.Millisecond), MaxLagBytes: 2 << 20},
		Router: cluster.Router{Reads: cluster.Reads{
			Consistency: cluster.Eventual, MaxLag: cluster.Duration(time.Minute),
			Overrides: map[string]cluster.ReadOverride{"coordinator-2": {Weight: 50}},
		}},
	}, s)
}

func TestJSONIsAccepted(t *testing.T) {
	want, err := decode(minimal)
	require.NoError(t, err)
	got, err := decode("{\n\t\"name\": \"shop\",\n\t\"hosts\": [{\"name\": \"h1\", \"address\": \"10.0.0.1\"}],\n\t\"groups\": [{\"id\": 0, \"standbys\": 2}],\n\t\"router\": null\n}\n")
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestWrongFilesAreRefusedWithTheirLine(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "c.yaml: is empty; `orchestrator config generate` prints a spec to begin with"},
		{"only comments", "# nothing\n", "c.yaml: is empty; `orchestrator config generate` prints a spec to begin with"},
		{"only a separator", "---\n", "c.yaml: is empty; `orchestrator config generate` prints a spec to begin with"},
		{"no mapping", "- a\n", "c.yaml:1: is a list, but must be a mapping (KEY: VALUE lines)"},
		{"a word", "hello\n", "c.yaml:1: is a single value, but must be a mapping (KEY: VALUE lines)"},
		{"two documents", minimal + "---\nname: other\n", "c.yaml:8: a second document begins here; a spec is one document"},
		{"broken second document", minimal + "---\na: [\n", "c.yaml:9: is not YAML: did not find expected node content"},
		{"syntax", "name: shop\nhosts: [\n", "c.yaml:2: is not YAML: did not find expected node content"},
		{"tabs", "name: shop\nhosts:\n\t- name: h1\n", "c.yaml:3: is not YAML: found character that cannot start any token"},
		{"unknown key with a near one", minimal + "postgres:\n  version: 15\n", `c.yaml:8: unknown key "postgres"; did you mean postgresql?`},
		{"unknown key inside", minimal + "router:\n  lisen: a\n", `c.yaml:9: router: unknown key "lisen"; did you mean listen?`},
		{"unknown key without a near one", minimal + "failover:\n  speed: fast\n", `c.yaml:9: failover: unknown key "speed"; the keys here are ttl, maximum_lag_on_failover`},
		{"unknown key in a list", minimal + "  - id: 1\n    standby: 1\n", `c.yaml:9: groups[1]: unknown key "standby"; did you mean standbys?`},
		{"key twice", minimal + "name: again\n", "c.yaml:8: name: is given already in line 2"},
		{"key of a map twice", minimal + "postgresql:\n  parameters:\n    a.b: 1\n    a.b: 2\n", "c.yaml:11: postgresql.parameters.a.b: is given already in line 10"},
		{"list for a word", minimal + "failover:\n  ttl: [5s]\n", "c.yaml:9: failover.ttl: is a list, but must be a single value"},
		{"word for a list", "name: shop\nhosts: h1\n", "c.yaml:2: hosts: is a single value, but must be a list"},
		{"word for a number", minimal + "router:\n  max_client_conn: many\n", `c.yaml:9: router.max_client_conn: "many" is not a whole number`},
		{"octal number", minimal + "router:\n  max_client_conn: 0100\n", `c.yaml:9: router.max_client_conn: "0100" is not a whole number`},
		{"number that is too large", minimal + "router:\n  max_client_conn: 99999999999999999999\n", `c.yaml:9: router.max_client_conn: "99999999999999999999" is not a whole number`},
		{
			"bool that is none", "name: shop\nhosts: [{name: h1, address: h1}]\ngroups:\n  - id: 0\n    nodes: [{host: h1, nofailover: yes}]\n",
			`c.yaml:5: groups[0].nodes[0].nofailover: "yes" is neither true nor false`,
		},
		{"duration without unit", minimal + "failover:\n  ttl: 5\n", `c.yaml:9: failover.ttl: "5" is not a duration; write a number and a unit, such as 500ms or 5s`},
		{"size that is none", minimal + "failover:\n  maximum_lag_on_failover: much\n", `c.yaml:9: failover.maximum_lag_on_failover: "much" is not a size; write a whole number and a unit, such as 64kB or 16MB`},
		{"key without value", minimal + "failover:\n  ttl:\n", "c.yaml:9: failover.ttl: has no value; remove the line or give one"},
		{"parameter without value", minimal + "postgresql:\n  parameters:\n    work_mem:\n", "c.yaml:10: postgresql.parameters.work_mem: has no value; remove the line or give one"},
		{"alias", "name: &n shop\nhosts: [{name: *n, address: h1}]\n", "c.yaml:1: name: anchors and aliases are not supported; write the value out"},
		{"merge key", minimal + "failover:\n  <<: {ttl: 5s}\n", `c.yaml:9: failover: unknown key "<<"; the keys here are ttl, maximum_lag_on_failover`},
		{"tag", minimal + "failover:\n  ttl: !!binary NXM=\n", "c.yaml:9: failover.ttl: the tag !!binary is not supported"},
		{"list as key", minimal + "? [a]\n: b\n", "c.yaml:8: a key must be a single word"},
		{"what validation finds", minimal + "router:\n  reads:\n    fallback: retry\n", `c.yaml:10: router.reads.fallback: "retry" is not a fallback; use primary, wait or error`},
		{
			"what validation finds in a list", strings.Replace(minimal, "10.0.0.1", "10.0.0.1:5", 1),
			`c.yaml:4: hosts[0].address: "10.0.0.1:5" has a port; give the address alone, ports are counted from base_port`,
		},
		{"what validation misses", "name: shop\nhosts: []\ngroups: [{id: 0, standbys: 0}]\n", "c.yaml:2: hosts: none is listed; the cluster needs at least one"},
		{
			"what validation misses altogether", "name: shop\nhosts: [{name: h1, address: h1}]\n",
			"c.yaml: groups: group 0 (the coordinators) is missing; add {id: 0, standbys: 2}",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := decode(tc.text)
			var e *Error
			if errors.As(err, &e) {
				err = e // the first of them
			}
			require.EqualError(t, err, tc.want)
		})
	}
}

func TestAllMistakesOfAFileAreReported(t *testing.T) {
	_, err := decode("nam: shop\nhosts:\n  - {name: h1, adress: h1, base_port: x}\nfailover: {ttl: 5}\n")
	require.EqualError(t, err, `c.yaml:1: unknown key "nam"; did you mean name?
c.yaml:3: hosts[0]: unknown key "adress"; did you mean address?
c.yaml:3: hosts[0].base_port: "x" is not a whole number
c.yaml:4: failover.ttl: "5" is not a duration; write a number and a unit, such as 500ms or 5s`)
	_, err = decode(minimal + "id: 7\nfailover:\n  ttl: 1s\n")
	require.EqualError(t, err, `c.yaml:8: id: "7" is not a UUID; leave it out, init gives one
c.yaml:10: failover.ttl: 1s is out of range 2s to 5m`)
}

func TestOversizedAndUnreadableFilesAreRefused(t *testing.T) {
	_, err := decode(strings.Repeat("#", MaxSize+1))
	require.EqualError(t, err, "c.yaml: is larger than 1MB")
	_, err = Decode(iotest.ErrReader(errors.New("no such disk")), "c.yaml")
	require.EqualError(t, err, "read c.yaml: no such disk")
}

func FuzzDecode(f *testing.F) {
	f.Add(minimal)
	f.Add("a: &a [*a]")
	f.Add("{\"hosts\": [[[[")
	f.Add("? !!set {a}\n: - b")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := decode(text)
		if err != nil {
			return
		}
		var b strings.Builder
		require.NoError(t, Encode(&b, s))
		again, err := decode(b.String())
		require.NoError(t, err, "%s", b.String())
		require.Equal(t, normal(s), normal(again))
	})
}
