package bench

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// Report is what one run of pgbench says of itself.
type Report struct {
	// Transactions is the number that was processed, Failed the number that ended in an error.
	Transactions, Failed int
	// TPS is the rate in transactions per second, without the time to connect.
	TPS     float64
	Latency time.Duration
}

// The lines of pgbench's report (src/bin/pgbench/pgbench.c, printResults). The number of failed transactions is
// printed since PostgreSQL 15.
var (
	transactionsLine = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	failedLine       = regexp.MustCompile(`(?m)^number of failed transactions: (\d+)`)
	latencyLine      = regexp.MustCompile(`(?m)^latency average = ([0-9.]+) ms`)
	tpsLine          = regexp.MustCompile(`(?m)^tps = ([0-9.]+) \(without initial connection time\)`)
)

// ParseReport reads pgbench's standard output.
func ParseReport(out string) (Report, error) {
	var r Report
	var err error
	number := func(line *regexp.Regexp, required bool) float64 {
		m := line.FindStringSubmatch(out)
		if m == nil {
			if required && err == nil {
				err = fmt.Errorf("read pgbench's report: no line like %s in %q", line, out)
			}
			return 0
		}
		v, perr := strconv.ParseFloat(m[1], 64)
		if perr != nil && err == nil {
			err = fmt.Errorf("read pgbench's report: %w", perr)
		}
		return v
	}
	r.Transactions = int(number(transactionsLine, true))
	r.Failed = int(number(failedLine, false))
	r.TPS = number(tpsLine, true)
	r.Latency = time.Duration(number(latencyLine, true) * float64(time.Millisecond))
	return r, err
}
