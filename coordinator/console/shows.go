package console

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// show is one table of the console.
type show struct {
	name, help string
	columns    []column
	rows       func(input) [][]any
}

// input is what the rows are made of.
type input struct {
	snap    cluster.Snapshot
	view    View
	version string
	grammar grammar
}

// shows are the tables. Where a column means the same as in pgbouncer it has pgbouncer's name.
func shows() []*show {
	return []*show{
		{"nodes", "the PostgreSQL servers of all groups, as their agents report them", []column{
			{"name", text},
			{"group", number},
			{"host", text},
			{"address", text},
			{"port", number},
			{"role", text},
			{"state", text},
			{"reason", text},
			{"timeline", number},
			{"lsn", text},
			{"lag_bytes", number},
			{"lag_ms", number},
			{"upstream", text},
			{"term", number},
			{"pid", number},
			{"restarts", number},
			{"version", text},
			{"pending_restart", text},
			{"started_at", timestamp},
			{"reported_at", timestamp},
		}, nodeRows},
		{"groups", "the groups with their agreed primaries", []column{
			{"group", number},
			{"kind", text},
			{"phase", text},
			{"primary", text},
			{"term", number},
			{"granted_to", text},
			{"granted_term", number},
			{"nodes", number},
			{"running", number},
			{"sync", text},
			{"system_id", text},
			{"changed_at", timestamp},
		}, groupRows},
		{"servers", "this router's connections to servers", []column{
			{"type", text},
			{"user", text},
			{"database", text},
			{"state", text},
			{"node", text},
			{"addr", text},
			{"port", number},
			{"connect_time", timestamp},
			{"request_time", timestamp},
			{"remote_pid", number},
			{"link", number},
			{"prepared_statements", number},
			{"tls", text},
		}, connectionRows},
		{"lag", "the coordinators in this router's table: who serves reads, who does not, and why", []column{
			{"node", text},
			{"address", text},
			{"role", text},
			{"says", text},
			{"eligible", boolean},
			{"reason", text},
			{"lag_bytes", number},
			{"lag_ms", float},
			{"stalled_ms", float},
			{"lsn", text},
			{"timeline", number},
			{"system_id", text},
			{"receiving", boolean},
			{"weight", number},
			{"in_flight", number},
			{"sampled_at", timestamp},
		}, lagRows},
		{"pools", "this router's pools of server connections", []column{
			{"database", text},
			{"user", text},
			{"node", text},
			{"cl_active", number},
			{"cl_waiting", number},
			{"sv_active", number},
			{"sv_idle", number},
			{"sv_login", number},
			{"maxwait", number},
			{"maxwait_us", number},
			{"pool_mode", text},
			{"pool_size", number},
		}, poolRows},
		{"clients", "this router's client connections", []column{
			{"type", text},
			{"id", number},
			{"user", text},
			{"database", text},
			{"state", text},
			{"addr", text},
			{"port", number},
			{"connect_time", timestamp},
			{"request_time", timestamp},
			{"wait", number},
			{"wait_us", number},
			{"transaction", text},
			{"node", text},
			{"remote_pid", number},
			{"pinned", text},
			{"last_route", text},
			{"prepared_statements", number},
			{"tls", text},
			{"application_name", text},
		}, clientRows},
		{"stats", "what this router has done since its start, by database (times in microseconds)", []column{
			{"database", text},
			{"total_xact_count", number},
			{"total_query_count", number},
			{"total_received", number},
			{"total_sent", number},
			{"total_xact_time", number},
			{"total_query_time", number},
			{"total_wait_time", number},
			{"total_reads_standby", number},
			{"total_reads_primary", number},
			{"total_writes", number},
		}, statRows},
		{"routers", "all routers of the cluster", []column{
			{"id", text}, {"listen", text}, {"admin", text}, {"version", text}, {"epoch", number}, {"this", boolean}, {"reported_at", timestamp},
		}, routerRows},
		{"config", "this router's settings", []column{{"key", text}, {"value", text}, {"default", text}, {"changeable", text}}, configRows},
		{"version", "this router's version", []column{{"version", text}}, func(in input) [][]any {
			return [][]any{{"multicoord orchestrator " + in.version}}
		}},
		{"help", "this list", []column{{"command", text}, {"description", text}}, helpRows},
	}
}

func helpRows(in input) [][]any {
	var rows [][]any
	for _, s := range shows() {
		rows = append(rows, []any{"SHOW " + s.name, s.help})
	}
	return append(rows,
		[]any{"SHOW route '<statement>'", "where a statement would go, and why; it is not carried out"},
		[]any{"RELOAD", "read the configuration again"})
}

func nodeRows(in input) [][]any {
	heads := map[int]cluster.LSN{} // the primaries' positions
	for _, n := range in.snap.Nodes {
		if n.RunsAs(cluster.Primary) && in.snap.Groups[n.Group].Primary == n.Name {
			heads[n.Group] = n.LSN
		}
	}
	var rows [][]any
	for _, n := range allNodes(in.snap) {
		var lag, lagMS, group, port any
		if head, ok := heads[n.Group]; ok && n.RunsAs(cluster.Standby) && n.LSN != 0 {
			lag = count(n.LSN.Behind(head))
		}
		if n.LagMS != nil {
			lagMS = *n.LagMS
		}
		group, port = count(n.Group), count(n.Port)
		rows = append(rows, []any{
			n.Name, group, n.Host, n.Address, port, known(n.Role), known(n.State), known(n.Reason), orNull(uint64(n.Timeline)), lsn(n.LSN), lag, lagMS,
			known(n.Upstream), orNull(n.Term), orNull(uint64(max(n.PID, 0))), count(n.Restarts), known(n.Version), known(strings.Join(n.PendingRestart, ", ")),
			at(n.StartedAt), at(n.At),
		})
	}
	return rows
}

// allNodes are the nodes of the spec, those that nobody has reported yet included, and those that were reported and
// are in no spec any more; by group and name.
func allNodes(s cluster.Snapshot) []cluster.NodeStatus {
	nodes := maps.Clone(s.Nodes)
	if nodes == nil {
		nodes = map[string]cluster.NodeStatus{}
	}
	if s.Spec != nil {
		for _, g := range s.Spec.Groups {
			for _, n := range g.Nodes {
				if _, ok := nodes[n.Name]; !ok {
					host, _ := s.Spec.HostOf(n.Host)
					nodes[n.Name] = cluster.NodeStatus{
						Name: n.Name, Group: g.ID, Host: n.Host, Address: host.Address, Port: n.Port, Reason: "its agent has not reported it",
					}
				}
			}
		}
	}
	return slices.SortedFunc(maps.Values(nodes), func(a, b cluster.NodeStatus) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Name, b.Name))
	})
}

func groupRows(in input) [][]any {
	total, running := map[int]int{}, map[int]int{}
	for _, n := range allNodes(in.snap) {
		total[n.Group]++
		if n.State == cluster.NodeRunning {
			running[n.Group]++
		}
	}
	ids := map[int]bool{}
	for id := range in.snap.Groups {
		ids[id] = true
	}
	if in.snap.Spec != nil {
		for _, g := range in.snap.Spec.Groups {
			ids[g.ID] = true
		}
	}
	var rows [][]any
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		g := in.snap.Groups[id]
		kind := "worker"
		if id == cluster.CoordinatorGroup {
			kind = "coordinator"
		}
		var holder, term any
		if grant, ok := in.snap.Grants[id]; ok {
			holder, term = grant.Node, count(grant.Term)
		}
		rows = append(rows, []any{
			count(id), kind, known(g.Phase), known(g.Primary), orNull(g.Term), holder, term, count(total[id]), count(running[id]),
			known(strings.Join(g.Sync, ", ")), known(g.SystemID), at(g.At),
		})
	}
	return rows
}

func connectionRows(in input) [][]any {
	var rows [][]any
	for _, c := range in.view.Connections {
		host, port := hostPort(c.Address)
		rows = append(rows, []any{
			"S", c.User, c.Database, c.State, c.Node, host, port, at(c.ConnectedAt), at(c.RequestedAt), orNull(uint64(c.PID)), orNull(c.Client),
			count(c.Statements), c.TLS,
		})
	}
	return rows
}

func lagRows(in input) [][]any {
	var rows [][]any
	for _, s := range in.view.Servers {
		var bytes, time any
		if s.LagKnown {
			bytes, time = count(s.LagBytes), ms(s.LagTime)
		}
		rows = append(rows, []any{
			s.Name, s.Address, known(s.Role), known(s.Says), s.Eligible, known(s.Reason), bytes, time, ms(s.Stalled), lsn(s.LSN),
			orNull(uint64(s.Timeline)), known(s.SystemID), s.Receiving, count(s.Weight), count(s.InFlight), at(s.SampledAt),
		})
	}
	return rows
}

func poolRows(in input) [][]any {
	var rows [][]any
	for _, p := range in.view.Pools {
		s, us := wait(p.MaxWait)
		rows = append(rows, []any{
			p.Database, p.User, p.Node, count(p.ClientsActive), count(p.ClientsWaiting), count(p.ServersActive), count(p.ServersIdle),
			count(p.ServersLogin), s, us, p.Mode, count(p.Size),
		})
	}
	return rows
}

func clientRows(in input) [][]any {
	status := map[byte]string{'I': "idle", 'T': "active", 'E': "failed"}
	var rows [][]any
	for _, c := range in.view.Clients {
		host, port := hostPort(c.Address)
		s, us := wait(c.Wait)
		rows = append(rows, []any{
			"C", count(c.ID), c.User, c.Database, c.State, host, port, at(c.ConnectedAt), at(c.RequestedAt), s, us, known(status[c.Transaction]),
			known(c.Node), orNull(uint64(c.ServerPID)), known(c.Pinned), known(c.LastRoute), count(c.Statements), c.TLS, c.Application,
		})
	}
	return rows
}

func statRows(in input) [][]any {
	var rows [][]any
	for _, s := range in.view.Stats {
		rows = append(rows, []any{
			s.Database, count(s.Transactions), count(s.Queries), count(s.Received), count(s.Sent), s.TransactionTime.Microseconds(),
			s.QueryTime.Microseconds(), s.ServerWait.Microseconds(), count(s.ReadsStandby), count(s.ReadsPrimary), count(s.Writes),
		})
	}
	return rows
}

func routerRows(in input) [][]any {
	var rows [][]any
	for _, key := range slices.Sorted(maps.Keys(in.snap.Routers)) {
		r := in.snap.Routers[key]
		rows = append(rows, []any{r.ID, r.Listen, known(r.Admin), r.Version, count(r.Epoch), r.ID == in.view.ID, at(r.At)})
	}
	return rows
}

func configRows(in input) [][]any {
	var rows [][]any
	for _, s := range in.view.Settings {
		changeable := "no"
		if s.Changeable {
			changeable = "yes"
		}
		rows = append(rows, []any{s.Key, s.Value, s.Default, changeable})
	}
	return rows
}

func routeColumns() []column {
	return []column{{"statement", text}, {"class", text}, {"node", text}, {"address", text}, {"reason", text}}
}

func routeRows(routed []Routed) [][]any {
	var rows [][]any
	for _, r := range routed {
		rows = append(rows, []any{r.Statement, known(r.Class), known(r.Node), known(r.Address), known(r.Reason)})
	}
	return rows
}

// lsn makes a value of a position; an unknown one is NULL.
func lsn(l cluster.LSN) any {
	if l == 0 {
		return nil
	}
	return l.String()
}

// orNull makes a value of a number of which 0 means none.
func orNull(n uint64) any {
	if n == 0 {
		return nil
	}
	return count(n)
}

// wait splits a time as pgbouncer does: whole seconds, and the microseconds beyond.
func wait(d time.Duration) (seconds, micros any) {
	return int64(d / time.Second), int64(d % time.Second / time.Microsecond)
}

func hostPort(address string) (host, port any) {
	h, p, err := net.SplitHostPort(address)
	if err != nil {
		return known(address), nil
	}
	n, err := strconv.ParseInt(p, 10, 32)
	if err != nil {
		return h, nil
	}
	return h, n
}
