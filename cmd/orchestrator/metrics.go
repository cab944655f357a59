package main

import (
	"errors"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/multicoord/multicoord/orchestrator/agent"
	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/control"
)

// processMetrics are the numbers of a process's agents and of its part in the control plane. Routers have their own
// collector in the same registry.
type processMetrics struct {
	registry *prometheus.Registry

	mu     sync.Mutex
	agents []*agent.Agent
	plane  *control.Plane

	leading, decisions                         *prometheus.Desc
	up, restarts, pending, lag, lagBytes, left *prometheus.Desc
}

func newProcessMetrics() *processMetrics {
	node := []string{"node", "group", "role"}
	m := &processMetrics{
		registry:  prometheus.NewRegistry(),
		leading:   prometheus.NewDesc("multicoord_control_leading", "1 if this process leads the control plane.", nil, nil),
		decisions: prometheus.NewDesc("multicoord_control_decisions_total", "Decisions that this process has committed as leader.", nil, nil),
		up:        prometheus.NewDesc("multicoord_node_up", "1 if the server accepts connections.", node, nil),
		restarts:  prometheus.NewDesc("multicoord_node_restarts_total", "Ends of the server that nobody asked for, since the agent's start.", node, nil),
		pending:   prometheus.NewDesc("multicoord_node_pending_restart", "Settings that wait for a restart of the server.", node, nil),
		lag:       prometheus.NewDesc("multicoord_node_lag_seconds", "How long ago the primary was where the standby's replay is.", node, nil),
		lagBytes:  prometheus.NewDesc("multicoord_node_receive_backlog_bytes", "Log that the standby has received and not yet replayed.", node, nil),
		left:      prometheus.NewDesc("multicoord_node_right_left_seconds", "Time until the guard would stop the primary for want of a renewed grant.", node, nil),
	}
	m.registry.MustRegister(m)
	return m
}

func (m *processMetrics) addAgent(a *agent.Agent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agents = append(m.agents, a)
}

func (m *processMetrics) setPlane(p *control.Plane) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.plane = p
}

// ready says what keeps the process's agents from doing their work.
func (m *processMetrics) ready() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, a := range m.agents {
		errs = append(errs, a.Ready())
	}
	return errors.Join(errs...)
}

// Describe implements prometheus.Collector.
func (m *processMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.leading, m.decisions, m.up, m.restarts, m.pending, m.lag, m.lagBytes, m.left} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *processMetrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if m.plane != nil {
		gauge(m.leading, oneIf(m.plane.Leading()))
		ch <- prometheus.MustNewConstMetric(m.decisions, prometheus.CounterValue, float64(m.plane.Decisions()))
	}
	for _, a := range m.agents {
		for _, st := range a.Statuses() {
			labels := []string{st.Name, strconv.Itoa(st.Group), string(st.Role)}
			gauge(m.up, oneIf(st.State == cluster.NodeRunning), labels...)
			ch <- prometheus.MustNewConstMetric(m.restarts, prometheus.CounterValue, float64(st.Restarts), labels...)
			gauge(m.pending, float64(len(st.PendingRestart)), labels...)
			if st.RightLeft > 0 {
				gauge(m.left, st.RightLeft.Seconds(), labels...)
			}
			if st.Role == cluster.Standby {
				gauge(m.lagBytes, float64(st.LSN.Behind(st.Received)), labels...)
				if st.LagMS != nil {
					gauge(m.lag, float64(*st.LagMS)/1000, labels...)
				}
			}
		}
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
