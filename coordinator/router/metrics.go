package router

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// counters are one session's; only it adds to them, anybody may read.
type counters struct {
	queries, primary, standby, retries atomic.Uint64
	readsPrimary                       atomic.Uint64 // the part of primary that only read
	sent, received                     atomic.Uint64 // bytes to the client, and from servers for it
}

func (c *counters) add(o *counters) {
	c.queries.Add(o.queries.Load())
	c.primary.Add(o.primary.Load())
	c.standby.Add(o.standby.Load())
	c.readsPrimary.Add(o.readsPrimary.Load())
	c.retries.Add(o.retries.Load())
	c.sent.Add(o.sent.Load())
	c.received.Add(o.received.Load())
}

// metrics are the router's own numbers.
type metrics struct {
	waiting  atomic.Int64  // statements that wait for a server
	refused  atomic.Uint64 // clients beyond max_client_conn
	poolWait prometheus.Histogram
}

func (m *metrics) init() {
	m.poolWait = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "multicoord_router_pool_wait_seconds", Help: "How long statements waited for a free server connection.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 4, 9),
	})
}

func (m *metrics) waited(d time.Duration) { m.poolWait.Observe(d.Seconds()) }

// collector reads everything when it is asked to; nothing is counted twice, and nothing costs the data path anything.
type collector struct{ r *Router }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("multicoord_router_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector; the metrics are described by what Collect gives.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	r := c.r
	counter := func(v uint64, name, help string, labels ...string) {
		c.emit(ch, prometheus.CounterValue, float64(v), name, help, labels)
	}
	gauge := func(v float64, name, help string, labels ...string) {
		c.emit(ch, prometheus.GaugeValue, v, name, help, labels)
	}
	t := r.totals()
	counter(t.queries.Load(), "queries_total", "Statements received from clients.")
	counter(t.primary.Load(), "routed_total", "Transactions (or statements outside of one) by where they went.", "to", "primary")
	counter(t.standby.Load(), "routed_total", "Transactions (or statements outside of one) by where they went.", "to", "standby")
	counter(t.retries.Load(), "retries_total", "Reads that were run again elsewhere, unseen by their clients.")
	counter(t.sent.Load(), "client_sent_bytes_total", "Bytes written to clients.")
	counter(t.received.Load(), "server_received_bytes_total", "Bytes read from servers for clients.")
	counter(r.metrics.refused.Load(), "clients_refused_total", "Clients refused because of max_client_conn.")
	gauge(float64(r.sessions.count.Load()), "clients", "Client connections.")
	gauge(float64(r.metrics.waiting.Load()), "waiting_statements", "Statements that wait for a server.")
	gauge(float64(r.library.size()), "prepared_statements", "Different named prepared statements that clients hold.")
	for _, p := range r.pools.Stats() {
		for state, n := range map[string]int{"active": p.Active, "idle": p.Idle, "opening": p.Opening} {
			gauge(float64(n), "server_connections", "Server connections.", "node", p.Node, "database", p.Database, "user", p.User, "state", state)
		}
		gauge(float64(p.Waiting), "pool_waiting", "Statements that wait for a connection of the pool.", "node", p.Node, "database", p.Database, "user", p.User)
	}
	table := r.view.Load().table
	for i := range table.Servers {
		s := &table.Servers[i]
		eligible := 0.0
		if s.Eligible {
			eligible = 1
		}
		gauge(eligible, "server_eligible", "1 while the server may serve its part: writes (primary) or reads (standby).", "node", s.Name, "role", string(s.Role))
		if s.Role == cluster.Standby && s.LagKnown {
			gauge(float64(s.LagBytes), "lag_bytes", "Bytes that the standby's replay is behind the primary.", "node", s.Name)
			gauge(s.LagTime.Seconds(), "lag_seconds", "How long ago the primary was where the standby's replay is.", "node", s.Name)
		}
	}
	r.metrics.poolWait.Collect(ch)
}

// emit adds one metric; labels are names and values in turn.
func (c *collector) emit(ch chan<- prometheus.Metric, kind prometheus.ValueType, v float64, name, help string, labels []string) {
	var names, values []string
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	ch <- prometheus.MustNewConstMetric(describe(name, help, names...), kind, v, values...)
}

// totals sums up the sessions that are there and those that were.
func (r *Router) totals() *counters {
	t := new(counters)
	r.sessions.mu.Lock()
	defer r.sessions.mu.Unlock()
	t.add(&r.sessions.past)
	for _, s := range r.sessions.m {
		t.add(&s.counters)
	}
	return t
}
