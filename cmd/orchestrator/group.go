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

// groupRow is a row of `group list`.
type groupRow struct {
	ID       int      `json:"id"`
	Kind     string   `json:"kind"`
	Phase    string   `json:"phase"`
	Primary  string   `json:"primary"`
	Term     uint64   `json:"term"`
	Standbys []string `json:"standbys"`
	SystemID string   `json:"system_id"`
}

func newGroupCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group",
		Short: "List groups, add standbys to them and remove standbys",
		Long: `A group is a primary with its standbys: group 0 holds the coordinators, the others are workers.
GROUP is a number, "coordinators", the name of one of its nodes, or Shardman's "clover-1-HOST".`,
		Example: "  orchestrator group list\n  orchestrator group add-standby 1 -n host2\n  orchestrator group rm-standby 1 -n host2",
		RunE:    parentRun,
	}
	cmd.AddCommand(newGroupListCommand(a))
	add := standbyCommand(a, "add-standby GROUP -n HOST", addStandbyHelp)
	rm := standbyCommand(a, "rm-standby GROUP -n HOST|NODE", rmStandbyHelp)
	cmd.AddCommand(add, rm)
	return cmd
}

func newGroupListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the groups",
		Long:    "Lists the groups with their primaries, terms and standbys.",
		Example: "  orchestrator group list",
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
		rows := groupRows(h.Snapshot, spec)
		return a.emit(o, rows, func() []sheet {
			s := sheet{Title: "groups", Columns: []column{
				{Name: "group", Align: center},
				{Name: "kind", Align: center},
				{Name: "phase", Align: center},
				{Name: "primary", Align: center},
				{Name: "term", Align: center},
				{Name: "standbys", Wrap: true},
			}}
			for _, r := range rows {
				s.Rows = append(s.Rows, []string{strconv.Itoa(r.ID), r.Kind, r.Phase, r.Primary, strconv.FormatUint(r.Term, 10), strings.Join(r.Standbys, ", ")})
			}
			return []sheet{s}
		})
	}
	return cmd
}

func groupRows(snap cluster.Snapshot, spec cluster.Spec) []groupRow {
	rows := []groupRow{}
	for _, g := range spec.Groups {
		st := snap.Groups[g.ID]
		r := groupRow{ID: g.ID, Kind: groupKind(g.ID), Phase: cmp.Or(string(st.Phase), "not created yet"), Primary: st.Primary, Term: st.Term, Standbys: []string{}, SystemID: st.SystemID}
		for i, n := range g.Nodes {
			if n.Name != st.Primary && (st.Primary != "" || i > 0) {
				r.Standbys = append(r.Standbys, n.Name)
			}
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b groupRow) int { return a.ID - b.ID })
	return rows
}

// standbyHelp is what tells the two commands about standbys, and their two names each, apart.
type standbyHelp struct {
	remove               bool
	short, long, example string
	flag                 string
}

var (
	addStandbyHelp = standbyHelp{
		short: "Add standbys to a group",
		long: `Adds a standby to a group on each of the given hosts, or, without -n, one on the host with the fewest
servers. Its agent copies the primary's data and the standby follows from then on.`,
		example: "  orchestrator group add-standby 0 -n host3\n  orchestrator group add-standby 1 --wait 10m",
		flag:    "hosts that get a standby each",
	}
	rmStandbyHelp = standbyHelp{
		remove: true,
		short:  "Remove standbys from a group",
		long: `Removes standbys from a group, each told by its name or by its host. The server is stopped and its data
are deleted. The primary is refused: switch the group to another node first.`,
		example: "  orchestrator group rm-standby 1 -n host2\n  orchestrator group rm-standby 0 -n coordinator-3",
		flag:    "standbys to remove, each by its host or its name",
	}
)

// standbyCommand makes add-standby or rm-standby, with the group as argument.
func standbyCommand(a *app, use string, help standbyHelp) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: help.short, Long: help.long, Example: help.example,
		Args:              args(cobra.ExactArgs(1), "one group (`orchestrator group list` lists them)"),
		ValidArgsFunction: a.firstArg(a.completeFrom(groupNames)),
	}
	standbyBody(a, cmd, help, func(args []string) string { return args[0] })
	return cmd
}

// firstArg completes the first argument only.
func (a *app) firstArg(f cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f(cmd, args, word)
	}
}

func standbyBody(a *app, cmd *cobra.Command, help standbyHelp, groupOf func(args []string) string) {
	var names []string
	cmd.Flags().StringSliceVarP(&names, "nodes", "n", nil, help.flag)
	candidates := hostNames
	if help.remove {
		_ = cmd.MarkFlagRequired("nodes")
		candidates = func(s cluster.Spec) []string { return append(nodeNames(s), hostNames(s)...) }
	}
	complete(cmd, "nodes", a.completeFrom(candidates))
	e := editFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.editSpec(cmd.Context(), e, func(snap cluster.Snapshot, spec cluster.Spec) (cluster.Spec, error) {
			group, err := findGroup(spec, groupOf(args))
			if err != nil {
				return spec, err
			}
			if help.remove {
				return removeStandbys(spec, snap.Groups[group], group, names)
			}
			return addStandbys(spec, group, names)
		})
	}
}

func addStandbys(spec cluster.Spec, group int, hosts []string) (cluster.Spec, error) {
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	for _, host := range hosts {
		next, _, err := spec.AddStandby(group, host)
		if err != nil {
			return spec, err
		}
		spec = next
	}
	return spec, nil
}

// removeStandbys refuses while the leader has not decided who the group's primary is: it might choose the node that goes.
func removeStandbys(spec cluster.Spec, st cluster.GroupState, group int, which []string) (cluster.Spec, error) {
	if st.Phase != cluster.Running || st.Primary == "" {
		return spec, fmt.Errorf("group %d is still being created; wait until `orchestrator status` shows it", group)
	}
	for _, w := range which {
		next, err := spec.RemoveStandby(group, w, st.Primary)
		if err != nil {
			return spec, err
		}
		spec = next
	}
	return spec, nil
}

// newShardCommand is Shardman's way to say add-standby and rm-standby.
func newShardCommand(a *app) *cobra.Command {
	var shard string
	cmd := &cobra.Command{
		Use:   "shard",
		Short: "Shardman's words for group add-standby and rm-standby",
		Long: `Accepts the commands that users of Shardman know: "shard --shard GROUP add -n HOST" is
"group add-standby GROUP -n HOST", and "shard --shard GROUP rm -n HOST" is "group rm-standby".`,
		Example: "  orchestrator shard --shard clover-1-host1 add -n host4\n  orchestrator shard --shard 1 rm -n host4",
		Hidden:  true,
		RunE:    parentRun,
	}
	cmd.PersistentFlags().StringVar(&shard, "shard", "", "group: a number, or a name such as clover-1-HOST")
	complete(cmd, "shard", a.completeFrom(groupNames))
	_ = cmd.MarkPersistentFlagRequired("shard")
	for _, c := range []struct {
		use  string
		help standbyHelp
	}{{"add -n HOST", addStandbyHelp}, {"rm -n HOST|NODE", rmStandbyHelp}} {
		sub := &cobra.Command{Use: c.use, Short: c.help.short, Long: c.help.long, Example: strings.ReplaceAll(strings.ReplaceAll(
			c.help.example, "group add-standby ", "shard add --shard "), "group rm-standby ", "shard rm --shard "), Args: noArgs}
		standbyBody(a, sub, c.help, func([]string) string { return shard })
		cmd.AddCommand(sub)
	}
	return cmd
}

// newClusterCommand is Shardman's way to say topology and status.
func newClusterCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cluster",
		Short:   "Shardman's words for topology and status",
		Long:    `Accepts the commands that users of Shardman know: "cluster topology" is "topology".`,
		Example: "  orchestrator cluster topology",
		Hidden:  true,
		RunE:    parentRun,
	}
	cmd.AddCommand(newTopologyCommand(a), newStatusCommand(a))
	return cmd
}
