package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// topology is what the command of this name prints.
type topology struct {
	Cluster  string          `json:"cluster"`
	Revision int64           `json:"revision"`
	Groups   []topologyGroup `json:"groups"`
	Routers  []routerRow     `json:"routers"`
}

type topologyGroup struct {
	ID   int    `json:"id"`
	Kind string `json:"kind"`
	// Phase is empty before the group has been created.
	Phase   string         `json:"phase"`
	Primary string         `json:"primary"`
	Term    uint64         `json:"term"`
	Nodes   []topologyNode `json:"nodes"`
}

type topologyNode struct {
	Node    string `json:"node"`
	Host    string `json:"host"`
	Address string `json:"address"`
	Port    int    `json:"port"`
	// Role is what the server runs as; Agreed what it is meant to be.
	Role     string `json:"role"`
	Agreed   string `json:"agreed_role"`
	State    string `json:"state"`
	Timeline uint32 `json:"timeline"`
	LSN      string `json:"lsn"`
	// LagBytes and LagMS are null where they are not known, and on the primary.
	LagBytes *uint64 `json:"lag_bytes"`
	LagMS    *int64  `json:"lag_ms"`
	Upstream string  `json:"upstream"`
	Version  string  `json:"version"`
	Reason   string  `json:"reason"`
	// InSpec is false for a node that is being removed.
	InSpec bool `json:"in_spec"`
}

type routerRow struct {
	ID      string    `json:"id"`
	Listen  string    `json:"listen"`
	Admin   string    `json:"admin"`
	Version string    `json:"version"`
	At      time.Time `json:"at"`
}

const topologyLong = `Shows a table for each group: its servers with their host, port, role and state, timeline and
position in the write-ahead log, and how far each standby is behind its primary, in bytes and in
milliseconds, as last reported by the agents (about once a second).`

func newTopologyCommand(a *app) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:     "topology",
		Short:   "Show the groups, their servers and how far standbys are behind",
		Long:    topologyLong,
		Example: "  orchestrator topology\n  orchestrator topology --watch\n  orchestrator topology -o json",
		Args:    noArgs,
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again after every change, until interrupted")
	o := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		h, err := a.openCluster(cmd.Context())
		if err != nil {
			return err
		}
		defer h.Close()
		if _, err := h.Spec(); err != nil {
			return err
		}
		show := func(snap cluster.Snapshot) error {
			t := topologyOf(snap)
			return a.emit(o, t, t.sheets)
		}
		if watch {
			return a.watch(cmd.Context(), h, o, show)
		}
		return show(h.Snapshot)
	}
	return cmd
}

// topologyOf arranges a snapshot by groups. Nodes of the spec come in its order, those that are leaving after
// them.
func topologyOf(snap cluster.Snapshot) topology {
	t := topology{Revision: snap.Revision, Groups: []topologyGroup{}, Routers: []routerRow{}}
	if snap.Spec == nil {
		return t
	}
	t.Cluster = snap.Spec.Name
	for _, g := range slices.SortedFunc(slices.Values(snap.Spec.Groups), func(a, b cluster.Group) int { return a.ID - b.ID }) {
		st := snap.Groups[g.ID]
		tg := topologyGroup{ID: g.ID, Kind: groupKind(g.ID), Phase: string(st.Phase), Primary: st.Primary, Term: st.Term, Nodes: []topologyNode{}}
		for _, n := range g.Nodes {
			tg.Nodes = append(tg.Nodes, topologyRow(snap, st, n, g.ID, true))
		}
		for _, name := range slices.Sorted(maps.Keys(snap.Nodes)) {
			if n := snap.Nodes[name]; n.Group == g.ID && !slices.ContainsFunc(g.Nodes, func(m cluster.Node) bool { return m.Name == name }) {
				tg.Nodes = append(tg.Nodes, topologyRow(snap, st, cluster.Node{Name: name, Host: n.Host, Port: n.Port}, g.ID, false))
			}
		}
		t.Groups = append(t.Groups, tg)
	}
	for _, id := range slices.Sorted(maps.Keys(snap.Routers)) {
		r := snap.Routers[id]
		t.Routers = append(t.Routers, routerRow{r.ID, r.Listen, r.Admin, r.Version, r.At})
	}
	return t
}

func topologyRow(snap cluster.Snapshot, g cluster.GroupState, n cluster.Node, group int, inSpec bool) topologyNode {
	host, _ := snap.Spec.HostOf(n.Host)
	row := topologyNode{Node: n.Name, Host: n.Host, Address: host.Address, Port: n.Port, State: "unknown", InSpec: inSpec}
	if g.Primary != "" {
		row.Agreed = string(cluster.Standby)
		if g.Primary == n.Name {
			row.Agreed = string(cluster.Primary)
		}
	}
	st, ok := snap.Nodes[n.Name]
	if !ok {
		row.Reason = "its agent reports nothing"
		return row
	}
	row.Address = cmp.Or(st.Address, row.Address)
	row.Role, row.State, row.Timeline = string(st.Role), string(st.State), st.Timeline
	row.Upstream, row.Version, row.Reason = st.Upstream, st.Version, st.Reason
	if st.LSN != 0 {
		row.LSN = st.LSN.String()
	}
	if st.Role != cluster.Standby {
		return row
	}
	row.LagMS = st.LagMS
	if p, ok := snap.Nodes[g.Primary]; ok && lagKnown(p, st, group) {
		lag := st.LSN.Behind(p.LSN)
		row.LagBytes = &lag
	}
	return row
}

// lagKnown tells whether a standby's position means something beside that of the primary: both are known, of
// one database system and of one timeline.
func lagKnown(primary, standby cluster.NodeStatus, group int) bool {
	return primary.Group == group && primary.Role == cluster.Primary && primary.LSN != 0 && standby.LSN != 0 &&
		primary.SystemID == standby.SystemID && primary.Timeline == standby.Timeline
}

func groupKind(id int) string {
	if id == cluster.CoordinatorGroup {
		return "coordinators"
	}
	return "worker"
}

func groupTitle(id int) string { return fmt.Sprintf("group %d, %s", id, groupKind(id)) }

// sheets makes a table for each group, and one for the routers.
func (t topology) sheets() []sheet {
	var sheets []sheet
	for _, g := range t.Groups {
		s := sheet{Title: groupTitle(g.ID), Columns: []column{
			{Name: "node", Align: center},
			{Name: "host", Align: center},
			{Name: "port", Align: center},
			{Name: "role", Align: center, Paint: paintRole},
			{Name: "state", Align: center, Paint: paintState},
			{Name: "timeline", Align: center},
			{Name: "lsn", Align: center},
			{Name: "lag bytes", Align: right},
			{Name: "lag ms", Align: right},
		}}
		for _, n := range g.Nodes {
			s.Rows = append(s.Rows, n.cells())
		}
		sheets = append(sheets, s)
	}
	routers := sheet{Title: "routers", Columns: []column{{Name: "router", Align: center}, {Name: "listens on", Align: center}, {Name: "admin console", Align: center}}}
	for _, r := range t.Routers {
		routers.Rows = append(routers.Rows, []string{r.ID, r.Listen, r.Admin})
	}
	if len(routers.Rows) > 0 {
		sheets = append(sheets, routers)
	}
	return sheets
}

func (n topologyNode) cells() []string {
	role := strings.ToUpper(n.Role)
	switch {
	case role == "" && n.Agreed != "":
		role = "(" + n.Agreed + ")"
	case n.Agreed != "" && n.Role != n.Agreed:
		role += ", to be " + strings.ToUpper(n.Agreed)
	}
	state := n.State
	if !n.InSpec {
		state += ", leaving"
	}
	timeline := ""
	if n.Timeline != 0 {
		timeline = strconv.FormatUint(uint64(n.Timeline), 10)
	}
	return []string{n.Node, n.Host, strconv.Itoa(n.Port), role, state, timeline, n.LSN, number(n.LagBytes), number(n.LagMS)}
}

// number writes a number that may be unknown.
func number[T uint64 | int64](n *T) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n)
}

func paintRole(cell string) color {
	switch {
	case strings.Contains(cell, ","):
		return yellow
	case cell == "PRIMARY":
		return bold
	default:
		return ""
	}
}

func paintState(cell string) color {
	switch cell {
	case string(cluster.NodeRunning):
		return green
	case string(cluster.NodeFailed), string(cluster.NodeStopped), "unknown":
		return red
	default:
		return yellow
	}
}
