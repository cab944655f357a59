package testenv

import (
	"encoding/json"
	"errors"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Commands runs the orchestrator's commands on one cluster.
type Commands struct {
	Env *Env

	binary  string
	environ []string
	as      *syscall.Credential
}

// commandWithin bounds every command that ends by itself.
const commandWithin = 90 * time.Second

// command is the orchestrator with the cluster's environment.
func (c *Commands) command(args ...string) Command {
	name := "orchestrator"
	if len(args) > 0 {
		name += "-" + args[0]
	}
	return Command{Name: name, Argv: append([]string{c.binary}, args...), Env: c.environ, Credential: c.as}
}

// Orchestrator runs a command to its end.
func (c *Commands) Orchestrator(args ...string) Result {
	c.Env.TB.Helper()
	return c.Env.Run(commandWithin, c.command(args...), "")
}

// Must runs a command that has to succeed, and gives its output.
func (c *Commands) Must(args ...string) string {
	c.Env.TB.Helper()
	r := c.Orchestrator(args...)
	if r.Code != 0 {
		c.Env.TB.Fatal(r)
	}
	return r.Stdout
}

// Ready tells why the cluster is not ready, if it is not: a node does not run in its role, a standby does not
// stream, or the router does not answer.
func (c *Commands) Ready() error {
	topology, err := parseTopology(c.Orchestrator("topology", "-o", "json"))
	if err != nil {
		return err
	}
	for _, n := range topology.Nodes() {
		if err := n.ready(); err != nil {
			return err
		}
	}
	connstr, err := c.connstr()
	if err != nil {
		return err
	}
	return Ping(connstr)
}

// Topology is what `orchestrator topology` shows now.
func (c *Commands) Topology() Topology {
	c.Env.TB.Helper()
	t, err := parseTopology(c.Orchestrator("topology", "-o", "json"))
	if err != nil {
		c.Env.TB.Fatal(err)
	}
	return t
}

// Finding is a line of `orchestrator status`.
type Finding struct {
	Kind, Level, Node, Host, Message, Remedy string
}

// Status is what `orchestrator status` finds now.
func (c *Commands) Status() []Finding {
	c.Env.TB.Helper()
	var status struct {
		Findings []Finding `json:"findings"`
	}
	r := c.Orchestrator("status", "-o", "json")
	if err := json.Unmarshal([]byte(r.Stdout), &status); err != nil {
		c.Env.TB.Fatalf("read the status: %v\n%s", err, r)
	}
	return status.Findings
}

// Until waits until the topology is as f wants it; f's error says what is missing.
func (c *Commands) Until(what string, f func(Topology) error) {
	c.Env.TB.Helper()
	err := poll(readyWithin, 100*time.Millisecond, func() error {
		t, err := parseTopology(c.Orchestrator("topology", "-o", "json"))
		if err != nil {
			return err
		}
		return f(t)
	})
	if err != nil {
		c.Env.TB.Fatalf("%s: not within %s: %v", what, readyWithin, err)
	}
}

// Connstr is what `orchestrator connstr` prints, with the arguments given.
func (c *Commands) Connstr(args ...string) string {
	c.Env.TB.Helper()
	s, err := c.connstr(args...)
	if err != nil {
		c.Env.TB.Fatal(err)
	}
	return s
}

func (c *Commands) connstr(args ...string) (string, error) {
	r := c.Orchestrator(append([]string{"connstr"}, args...)...)
	if r.Code != 0 {
		return "", errors.New(r.String())
	}
	return strings.TrimSpace(r.Stdout), nil
}

// Connect opens a connection through the router.
func (c *Commands) Connect() *pgx.Conn {
	c.Env.TB.Helper()
	return c.Env.Connect(c.Connstr())
}

// ConnectNode opens a connection to a node itself.
func (c *Commands) ConnectNode(node string) *pgx.Conn {
	c.Env.TB.Helper()
	config, err := pgx.ParseConfig(c.Connstr())
	if err != nil {
		c.Env.TB.Fatal(err)
	}
	n := c.Topology().Node(node)
	return c.Env.Connect(connstr(config.User, config.Password, n.Address, n.Port, config.Database))
}
