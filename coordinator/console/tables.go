package console

import (
	"strings"

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
}

// shows are the tables. Where a column means the same as in pgbouncer it has pgbouncer's name.
func shows() []*show {
	return []*show{
		{"nodes", "the PostgreSQL servers of all groups, as their agents report them", columns("" +
			"name, group int8, host, address, port int8, role, state, reason, timeline int8, lsn, lag_bytes int8, " +
			"lag_ms int8, upstream, term int8, pid int8, restarts int8, version, pending_restart, started_at timestamptz, " +
			"reported_at timestamptz"), nodeRows},
		{"groups", "the groups with their agreed primaries", columns("" +
			"group int8, kind, phase, primary, term int8, granted_to, granted_term int8, nodes int8, running int8, sync, " +
			"system_id, changed_at timestamptz"), groupRows},
		{"servers", "this router's connections to servers", columns("" +
			"type, user, database, state, node, addr, port int8, connect_time timestamptz, request_time timestamptz, " +
			"remote_pid int8, link int8, prepared_statements int8, tls"), connectionRows},
		{"lag", "the coordinators in this router's table: who serves reads, who does not, and why", columns("" +
			"node, address, role, says, eligible bool, reason, lag_bytes int8, lag_ms float8, stalled_ms float8, lsn, " +
			"timeline int8, system_id, receiving bool, weight int8, in_flight int8, sampled_at timestamptz"), lagRows},
		{"pools", "this router's pools of server connections", columns("" +
			"database, user, node, cl_active int8, cl_waiting int8, sv_active int8, sv_idle int8, sv_login int8, " +
			"maxwait int8, maxwait_us int8, pool_mode, pool_size int8"), poolRows},
		{"clients", "this router's client connections", columns("" +
			"type, id int8, user, database, state, addr, port int8, connect_time timestamptz, request_time timestamptz, " +
			"wait int8, wait_us int8, transaction, node, remote_pid int8, pinned, last_route, prepared_statements int8, " +
			"tls, application_name"), clientRows},
		{"stats", "what this router has done since its start", columns("" +
			"database, total_xact_count int8, total_query_count int8, total_received int8, total_sent int8, " +
			"total_reads_standby int8, total_reads_primary int8, total_writes int8"), statRows},
		{"routers", "all routers of the cluster", columns("id, listen, admin, version, epoch int8, this bool, reported_at timestamptz"), routerRows},
		{"config", "this router's settings", columns("key, value, default, changeable"), configRows},
		{"version", "this router's version", columns("version"), func(in input) [][]any {
			return [][]any{{"multicoord orchestrator " + in.version}}
		}},
		{"help", "this list", columns("command, description"), helpRows},
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

func routeColumns() []column {
	return columns("statement, class, node, address, reason")
}

// columns makes columns of a list of names, each with its type unless it is text.
func columns(list string) []column {
	kinds := map[string]kind{"": text, "int8": number, "float8": float, "bool": boolean, "timestamptz": timestamp}
	var cols []column
	for item := range strings.SplitSeq(list, ", ") {
		name, typ, _ := strings.Cut(item, " ")
		cols = append(cols, column{name, kinds[typ]})
	}
	return cols
}
