// Package bench measures the router against a direct connection and against pgbouncer, with pgbench, in turn in
// one run.
//
// Level: wiring, for tests only. The measurement itself is behind the build tag "bench" (`make bench-router`);
// what is here without it reads pgbench's reports and makes the table.
//
// On a machine that others share, throughput means something only as a ratio within one round, and the
// processor time of the proxy for 1,000 queries is the figure to trust.
package bench
