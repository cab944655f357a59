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
			s.Database, count(s.Transactions), count(s.Queries), count(s.Received), count(s.Sent),
			count(s.ReadsStandby), count(s.ReadsPrimary), count(s.Writes),
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
