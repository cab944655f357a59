package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// hostRow is a row of `nodes list`.
type hostRow struct {
	Host       string   `json:"host"`
	Address    string   `json:"address"`
	BasePort   int      `json:"base_port"`
	Agent      string   `json:"agent"`
	PostgreSQL string   `json:"postgresql"`
	Nodes      []string `json:"nodes"`
}

func newNodesCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "nodes",
		Short:   "List hosts, bring hosts in and take them out",
		Long:    `Hosts are the machines on which agents keep PostgreSQL servers. (The word "nodes" for them is Shardman's.)`,
		Example: "  orchestrator nodes list\n  orchestrator nodes add -n host3=10.0.0.3,host4=10.0.0.4",
		RunE:    parentRun,
	}
	cmd.AddCommand(newNodesListCommand(a), newNodesAddCommand(a), newNodesRmCommand(a))
	return cmd
}

func newNodesListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the hosts with their agents and servers",
		Long:    "Lists the hosts of the spec, whether their agents run, and which servers are placed on them.",
		Example: "  orchestrator nodes list -o yaml",
		Args:    noArgs,
	}
	o := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		h, err := a.openCluster(cmd.Context())
		if err != nil {
			return err
		}
		defer h.Close()
		spec, err := h.Spec()
		if err != nil {
			return err
		}
		rows := hostRows(h.Snapshot, spec)
		return a.emit(o, rows, func() []sheet {
			s := sheet{Title: "hosts", Columns: []column{
				{Name: "host", Align: center},
				{Name: "address", Align: center},
				{Name: "base port", Align: center},
				{Name: "agent", Align: center},
				{Name: "postgresql", Align: center},
				{Name: "nodes", Wrap: true},
			}}
			for _, r := range rows {
				s.Rows = append(s.Rows, []string{r.Host, r.Address, strconv.Itoa(r.BasePort), r.Agent, r.PostgreSQL, strings.Join(r.Nodes, ", ")})
			}
			return []sheet{s}
		})
	}
	return cmd
}

func hostRows(snap cluster.Snapshot, spec cluster.Spec) []hostRow {
	rows := []hostRow{}
	for _, host := range spec.Hosts {
		r := hostRow{Host: host.Name, Address: host.Address, BasePort: host.BasePort, Agent: "not running", Nodes: []string{}}
		if st, ok := snap.Agents[host.Name]; ok {
			r.Agent, r.PostgreSQL = "running", st.PostgreSQL
		}
		for _, g := range spec.Groups {
			for _, n := range g.Nodes {
				if n.Host == host.Name {
					r.Nodes = append(r.Nodes, n.Name)
				}
			}
		}
		rows = append(rows, r)
	}
	return rows
}

const nodesAddLong = `Brings hosts into the cluster, each given as NAME or NAME=ADDRESS, and gives them work: under policy
manual each new host gets a worker group of its own, under policy cross the new hosts form clovers, so
their number must be a multiple of repfactor + 1. Start "orchestrator agent --name NAME" on each.

With --idle the hosts come in without servers, for standbys to be added to them.`

func newNodesAddCommand(a *app) *cobra.Command {
	var names []string
	var idle bool
	var basePort int
	cmd := &cobra.Command{
		Use:   "add -n HOST[=ADDRESS],…",
		Short: "Bring hosts in",
		Long:  nodesAddLong,
		Example: `  orchestrator nodes add -n host3=10.0.0.3,host4=10.0.0.4
  orchestrator nodes add --idle -n host5`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.StringSliceVarP(&names, "nodes", "n", nil, "hosts to bring in, each NAME or NAME=ADDRESS")
	f.BoolVar(&idle, "idle", false, "place no servers on them")
	f.IntVar(&basePort, "base-port", 0, "first port for servers on these hosts (default 5432)")
	_ = cmd.MarkFlagRequired("nodes")
	complete(cmd, "nodes", cobra.NoFileCompletions)
	e := editFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var hosts []cluster.Host
		for _, text := range names {
			host, err := cluster.ParseHost(text)
			if err != nil {
				return usageError{err}
			}
			host.BasePort = basePort
			hosts = append(hosts, host)
		}
		return a.editSpec(cmd.Context(), e, func(_ cluster.Snapshot, spec cluster.Spec) (cluster.Spec, error) {
			if idle {
				return spec.AddIdleHosts(hosts...)
			}
			return spec.AddHosts(hosts...)
		})
	}
	return cmd
}

func newNodesRmCommand(a *app) *cobra.Command {
	var names []string
	cmd := &cobra.Command{
		Use:   "rm -n HOST,…",
		Short: "Take hosts out that have no servers",
		Long: `Takes hosts out of the spec. A host that still has servers is refused: remove its standbys with
"orchestrator group rm-standby" first.`,
		Example: "  orchestrator nodes rm -n host5",
		Args:    noArgs,
	}
	cmd.Flags().StringSliceVarP(&names, "nodes", "n", nil, "hosts to take out")
	_ = cmd.MarkFlagRequired("nodes")
	complete(cmd, "nodes", a.completeFrom(hostNames))
	e := editFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.editSpec(cmd.Context(), e, func(_ cluster.Snapshot, spec cluster.Spec) (cluster.Spec, error) {
			return spec.RemoveHosts(names...)
		})
	}
	return cmd
}

// findGroup finds a group by its id, by words such as "coordinators", "group-1" and "worker-1", by the name of
// one of its nodes, or by Shardman's name of a replication group, "clover-1-HOST", whose host is that of the
// group's first node.
func findGroup(spec cluster.Spec, name string) (int, error) {
	text := strings.ToLower(strings.TrimSpace(name))
	id, isNumber := groupNumber(text)
	if isNumber {
		if _, ok := spec.GroupOf(id); ok {
			return id, nil
		}
	}
	if _, g, ok := spec.NodeOf(text); ok {
		return g.ID, nil
	}
	if rest, ok := strings.CutPrefix(text, "clover-"); ok {
		if _, host, ok := strings.Cut(rest, "-"); ok {
			return groupOnHost(spec, name, host)
		}
	}
	var ids []string
	for _, g := range spec.Groups {
		ids = append(ids, strconv.Itoa(g.ID))
	}
	return 0, fmt.Errorf("there is no group %q; the groups are %s", name, strings.Join(ids, ", "))
}

func groupNumber(text string) (int, bool) {
	switch text {
	case "coordinator", "coordinators":
		return cluster.CoordinatorGroup, true
	}
	for _, prefix := range []string{"group-", "group", "worker-", "worker"} {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			text = rest
			break
		}
	}
	id, err := strconv.Atoi(text)
	return id, err == nil && id >= 0
}

// groupOnHost finds the worker group whose first node is on the host.
func groupOnHost(spec cluster.Spec, name, host string) (int, error) {
	var found []int
	for _, g := range spec.Groups {
		if g.ID != cluster.CoordinatorGroup && len(g.Nodes) > 0 && g.Nodes[0].Host == host {
			found = append(found, g.ID)
		}
	}
	slices.SortFunc(found, cmp.Compare)
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, fmt.Errorf("there is no group %q: no worker group has its first node on host %s", name, host)
	default:
		return 0, fmt.Errorf("%q could be any of the groups %v: give the number", name, found)
	}
}
