//go:build bench

package bench

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/testenv"
	"github.com/multicoord/multicoord/testenv/fault"
)

var (
	rounds   = flag.Int("bench.rounds", 5, "how often each combination is measured")
	duration = flag.Duration("bench.duration", 5*time.Second, "how long each run takes")
	clients  = flag.Int("bench.clients", 16, "pgbench's clients")
	scale    = flag.Int("bench.scale", 10, "pgbench's scale")
	out      = flag.String("bench.out", "", "file for the result, relative to the module's root")
)

// path is a way to the server.
type path struct {
	name    string
	connstr string
	options string
	// proxy is the process in between, nil for a direct connection.
	proxy *testenv.Process
	modes []Mode
}

// The names of the paths that the text compares.
const (
	direct        = "direct"
	throughRouter = "router, reads on the primary"
	standbyReads  = "router, reads on standbys (default)"
)

// TestRouterAgainstPgbouncer measures pgbench -S over a direct connection, through pgbouncer and through the router. The
// first three go to the same server, the primary coordinator. The router is a process of its own, as on many hosts.
func TestRouterAgainstPgbouncer(t *testing.T) {
	env := testenv.New(t)
	h := env.Hosts(testenv.HostsOptions{Etcd: env.Etcd(testenv.EtcdOptions{}), Hosts: []string{"127.0.0.1"}, Edit: func(s *cluster.Spec) {
		standbys := 2
		s.Groups[0].Standbys = &standbys
		s.PostgreSQL.Parameters = map[string]string{"shared_buffers": "256MB"}
	}})
	h.Init()
	h.Serve()
	h.Agent("host1")
	router := h.Router()
	h.WaitReady()

	cfg, err := pgx.ParseConfig(h.Connstr())
	require.NoError(t, err)
	primary := h.Topology().Node(h.Topology().Group(0).Primary)
	server := target{host: primary.Address, port: primary.Port, user: cfg.User, password: cfg.Password, database: cfg.Database}
	env.Pgbench(5*time.Minute, h.Connstr("--direct"), "-i", "-q", "-s", fmt.Sprint(*scale))

	v, err := parseVersion(env.Run(10*time.Second, testenv.Command{Argv: []string{env.Program("pgbouncer"), "--version"}}, "").Stdout)
	require.NoError(t, err)
	paths := []path{{name: direct, connstr: h.Connstr("--direct"), modes: Modes()}}
	transaction := startPgBouncer(env, server, "transaction", v)
	transactionModes := Modes()
	if !v.atLeast(preparedSince) {
		transactionModes = []Mode{"simple", "extended"}
		session := startPgBouncer(env, server, "session", v)
		paths = append(paths, path{name: "pgbouncer, session", connstr: session.Connstr, proxy: session.Process, modes: []Mode{"prepared"}})
	}
	paths = append(paths,
		path{name: "pgbouncer, transaction", connstr: transaction.Connstr, proxy: transaction.Process, modes: transactionModes},
		path{name: throughRouter, connstr: h.Connstr(), options: "-c multicoord.consistency=strong", proxy: router, modes: Modes()},
		path{name: standbyReads, connstr: h.Connstr(), proxy: router, modes: Modes()},
	)
	text := report(env, measure(t, env, paths), v, h)
	t.Log("\n" + text)
	if *out != "" {
		root, err := testenv.ModuleRoot()
		require.NoError(t, err)
		file := filepath.Join(root, *out)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
}

// measure runs all combinations in turn, round after round, beginning with another path in each round.
func measure(t *testing.T, env *testenv.Env, paths []path) []Sample {
	t.Helper()
	for _, p := range paths { // fills caches and pools
		run(t, env, p, p.modes[0], time.Second)
	}
	var samples []Sample
	for round := range *rounds {
		for _, mode := range Modes() {
			for i := range paths {
				p := paths[(i+round)%len(paths)]
				for _, m := range p.modes {
					if m == mode {
						s := run(t, env, p, mode, *duration)
						s.Round = round
						t.Logf("round %d, %s, %s: %.0f tps, %.4f CPU-s per 1,000", round+1, mode, p.name, s.TPS, s.CPU.Seconds()*1000/float64(s.Transactions))
						samples = append(samples, s)
					}
				}
			}
		}
	}
	return samples
}

func run(t *testing.T, env *testenv.Env, p path, mode Mode, d time.Duration) Sample {
	t.Helper()
	cpu := func() time.Duration {
		if p.proxy == nil {
			return 0
		}
		used, err := fault.CPU(p.proxy.PID())
		require.NoError(t, err)
		return used
	}
	before := cpu()
	r := env.Run(d+time.Minute, testenv.Command{
		Argv: []string{
			filepath.Join(env.PGBin(), "pgbench"), "-n", "-S", "-M", string(mode), "-c", fmt.Sprint(*clients),
			"-j", fmt.Sprint(min(*clients, runtime.NumCPU())), "-T", fmt.Sprint(int(d.Seconds())), p.connstr,
		},
		Env: []string{"PGOPTIONS=" + p.options},
	}, "")
	require.Zero(t, r.Code, r)
	report, err := ParseReport(r.Stdout)
	require.NoError(t, err)
	require.Zero(t, report.Failed, r)
	return Sample{Mode: mode, Path: p.name, Report: report, CPU: cpu() - before}
}

// report is a section for docs/benchmarks.md.
func report(env *testenv.Env, samples []Sample, v version, h *testenv.Hosts) string {
	cells := Summary(samples, direct)
	var b strings.Builder
	fmt.Fprintf(&b, "`pgbench -S`, scale %d, %d clients, %d rounds of %s; PostgreSQL %s, pgbouncer %s, %d cores (%s), %s.\n",
		*scale, *clients, *rounds, *duration, env.Psql(h.Connstr("--direct"), "-c", "SHOW server_version"), v,
		runtime.NumCPU(), cpuModel(), time.Now().UTC().Format(time.DateOnly))
	b.WriteString(`Client, proxy and servers share the machine. All paths but the last lead to one server, the primary coordinator;
the last one is how the router works by default. Every figure is the median over the rounds; "to direct" is the
ratio of the throughputs within one round. CPU seconds are those of the proxy's process for 1,000 queries.

`)
	b.WriteString(Markdown(cells))
	b.WriteString("\nThe router's throughput to pgbouncer's:\n\n| mode | throughput | CPU |\n|---|---:|---:|\n")
	for _, m := range Modes() {
		ours, theirs := find(cells, m, "router, reads on the primary"), find(cells, m, "pgbouncer")
		fmt.Fprintf(&b, "| %s | %.2f | %.1f times |\n", m, ours.Ratio/theirs.Ratio, ours.CPUSeconds/theirs.CPUSeconds)
	}
	if !v.atLeast(preparedSince) {
		fmt.Fprintf(&b, "\npgbouncer %s cannot carry prepared statements in transaction mode (%s can): it was measured in session mode there.\n", v, preparedSince)
	}
	return b.String()
}

// find gives the cell of a mode whose path begins with a name.
func find(cells []Cell, m Mode, prefix string) Cell {
	for _, c := range cells {
		if c.Mode == m && strings.HasPrefix(c.Path, prefix) {
			return c
		}
	}
	return Cell{}
}

func cpuModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
