package agent

import (
	"context"
	"net"
	"reflect"
	"strconv"
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// status puts what was seen into the form that is published.
func (k *keeper) status(o order, s Seen, running Running, step Step, now time.Time) cluster.NodeStatus {
	st := cluster.NodeStatus{
		Name: k.name, Host: o.host.Name, Address: o.host.Address, Port: o.view.Node.Port,
		SystemID: s.Disk.SystemID, SpecRevision: k.appliedRev, Restarts: k.restarts, At: now,
		Group: o.group,
	}
	trouble := k.step
	if trouble.reason == "" {
		trouble = k.crash
	}
	switch {
	case s.Unknown != "":
		st.State = k.sent.State
	case s.Running && s.Ready:
		st.State = cluster.NodeRunning
		k.describe(&st, o, s.Server, now)
	case s.Running:
		st.State = cluster.NodeStarting
	case trouble.reason != "":
		st.State, st.NextTry = cluster.NodeFailed, trouble.until
	case s.Disk.Present:
		st.State = cluster.NodeStopped
	default:
		st.State = cluster.NodeAbsent
	}
	if s.Running {
		st.PID, st.StartedAt = running.PID, running.StartedAt
	}
	st.Term = s.HeldTerm
	switch {
	case step.Kind == Refuse:
		st.Reason = step.Reason
	case k.step.reason != "":
		st.Reason = k.step.reason
	case k.crash.reason != "" && !s.Running && s.Unknown == "":
		st.Reason = k.crash.reason
	case step.Kind != Keep:
		st.Reason = string(step.Kind)
		if step.Reason != "" {
			st.Reason += ": " + step.Reason
		}
		if step.Kind == Wait {
			st.Reason = step.Reason
		}
	}
	if step.Kind == Refuse && !s.Running {
		st.State = cluster.NodeFailed
	}
	return st
}

// describe fills in what a running server says of itself.
func (k *keeper) describe(st *cluster.NodeStatus, o order, obs Observation, now time.Time) {
	st.SystemID, st.Timeline, st.LSN, st.Received = obs.SystemID, obs.Timeline, obs.LSN, obs.Received
	st.PendingRestart, st.Version, st.Slots = obs.PendingRestart, obs.Version, obs.Slots
	st.Retained, st.LostSlots = obs.Retained, obs.Lost
	st.Role = cluster.Primary
	if !obs.InRecovery {
		return
	}
	st.Role = cluster.Standby
	up := o.settings.Upstream
	if up != nil && obs.UpstreamAddress != "" && obs.UpstreamAddress == net.JoinHostPort(up.Address, strconv.Itoa(up.Port)) {
		st.Upstream = up.Node
	}
	if p := o.view.Primary; p != nil && p.Role == cluster.Primary && p.Timeline == obs.Timeline {
		k.lag.saw(p.LSN, p.At, now)
		if d, ok := k.lag.behind(obs.LSN, now); ok && st.Upstream != "" {
			ms := d.Milliseconds()
			st.LagMS = &ms
		}
	}
}

// report publishes the node's status: at once when something else than positions has changed, and once a second
// otherwise.
func (k *keeper) report(ctx context.Context, o order, s Seen, running Running, step Step) {
	now := time.Now()
	st := k.status(o, s, running, step, now)
	k.latest.Store(&st)
	if o.silent {
		return
	}
	if now.Sub(k.sentAt) < publishEvery && quiet(st, k.sent) {
		return
	}
	k.send(ctx, st, now)
}

// reportBusy says that the data directory is being made, which may take long.
func (k *keeper) reportBusy(ctx context.Context, o order, what string) {
	now := time.Now()
	st := k.status(o, Seen{}, Running{}, Step{Kind: Keep}, now)
	st.State, st.Reason = cluster.NodeCreating, what
	k.send(ctx, st, now)
}

func (k *keeper) send(ctx context.Context, st cluster.NodeStatus, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, publishEvery)
	defer cancel()
	if err := k.publish(ctx, st); err != nil {
		k.log.Debug("status not published", "err", err)
		return
	}
	k.sent, k.sentAt = st, now
}

// quiet tells whether two statuses differ in nothing but what moves all the time.
func quiet(a, b cluster.NodeStatus) bool {
	still := func(n cluster.NodeStatus) cluster.NodeStatus {
		n.LSN, n.Received, n.LagMS, n.Retained, n.At, n.NextTry = 0, 0, nil, nil, time.Time{}, time.Time{}
		return n
	}
	return reflect.DeepEqual(still(a), still(b))
}

// lagRing remembers when the primary was at which position, to read a standby's lag in time off it.
type lagRing struct {
	points []lagPoint
}

type lagPoint struct {
	lsn cluster.LSN
	at  time.Time // this host's clock, when the position became known here
	src time.Time // the reporter's clock, to tell a new report from a repeated one
}

const lagPoints = 120

func (r *lagRing) saw(lsn cluster.LSN, src, now time.Time) {
	if n := len(r.points); n > 0 {
		last := r.points[n-1]
		if src.Equal(last.src) {
			return
		}
		if lsn < last.lsn {
			r.points = nil
		}
	}
	r.points = append(r.points, lagPoint{lsn, now, src})
	if len(r.points) > lagPoints {
		r.points = r.points[1:]
	}
}

// behind tells for how long the primary has been ahead of lsn; ok is false when that is not known.
func (r *lagRing) behind(lsn cluster.LSN, now time.Time) (time.Duration, bool) {
	if len(r.points) == 0 {
		return 0, false
	}
	for _, p := range r.points {
		if p.lsn > lsn {
			return now.Sub(p.at), true
		}
	}
	return 0, true
}
