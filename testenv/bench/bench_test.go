package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const pgbenchOutput = `pgbench (15.18 (Debian 15.18-0+deb12u1))
transaction type: <builtin: select only>
scaling factor: 10
query mode: prepared
number of clients: 16
number of threads: 2
maximum number of tries: 1
duration: 5 s
number of transactions actually processed: 120345
number of failed transactions: 2 (0.002%)
latency average = 0.664 ms
initial connection time = 21.345 ms
tps = 24088.123456 (without initial connection time)
`

func TestParseReportReadsWhatPgbenchPrints(t *testing.T) {
	r, err := ParseReport(pgbenchOutput)
	require.NoError(t, err)
	require.Equal(t, Report{Transactions: 120345, Failed: 2, TPS: 24088.123456, Latency: 664 * time.Microsecond}, r)
	_, err = ParseReport("pgbench: error: connection refused")
	require.ErrorContains(t, err, "number of transactions")
}

func TestSummaryComparesWithinTheRound(t *testing.T) {
	sample := func(round int, path string, tps float64, cpu time.Duration) Sample {
		return Sample{Round: round, Mode: "simple", Path: path, Report: Report{TPS: tps, Transactions: 10_000}, CPU: cpu}
	}
	// The machine is twice as fast in the second round: the ratio does not move.
	cells := Summary([]Sample{
		sample(1, "direct", 1000, 0), sample(1, "router", 500, 200*time.Millisecond),
		sample(2, "direct", 2000, 0), sample(2, "router", 1000, 300*time.Millisecond),
	}, "direct")
	require.Equal(t, []Cell{
		{Mode: "simple", Path: "direct", TPS: 1500, Ratio: 1, Rounds: 2},
		{Mode: "simple", Path: "router", TPS: 750, Ratio: 0.5, CPUSeconds: 0.025, Rounds: 2},
	}, cells)
	require.Equal(t, `| path | simple: tps | to direct | CPU-s per 1,000 |
|---|---:|---:|---:|
| direct | 1500 | 1.00 | – |
| router | 750 | 0.50 | 0.0250 |
`, Markdown(cells))
}

func TestMedianIsTheMiddle(t *testing.T) {
	require.InDelta(t, 2, median([]float64{3, 1, 2}), 0)
	require.InDelta(t, 2.5, median([]float64{4, 1, 2, 3}), 0)
	require.Zero(t, median(nil))
}

func TestPgbouncersVersionDecidesAboutPreparedStatements(t *testing.T) {
	for out, want := range map[string]bool{
		"PgBouncer 1.18.0\nlibevent 2.1.12-stable\n": false, "PgBouncer 1.21.0\n": true, "PgBouncer 2.0.1\n": true,
	} {
		v, err := parseVersion(out)
		require.NoError(t, err)
		require.Equal(t, want, v.atLeast(preparedSince), out)
		require.Equal(t, want, strings.Contains(config(target{}, 1, "transaction", "", v), "max_prepared_statements"))
	}
	_, err := parseVersion("command not found")
	require.Error(t, err)
}
