package route

import (
	"fmt"
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// judgement is what the samples prove about a standby's lag at one moment.
type judgement struct {
	reason string // why the lag is unknown, or the server out of the question; empty when the rest holds
	known  bool
	bytes  uint64
	// bound is proved, estimate is likely.
	bound, estimate time.Duration
	// total is how long ago, counted from now, a sample proves that the standby had everything; slack is what of
	// it is owed to sampling alone.
	total, slack time.Duration
	stalled      time.Duration
}

// judge reads a standby's lag off the primary's history.
func (t *Tracker) judge(n *node, now time.Time) judgement {
	g := n.good
	j := judgement{slack: t.staleAfter()}
	switch age := now.Sub(g.At); {
	case g.At.IsZero() && n.last.Err != "":
		j.reason = "cannot be reached: " + n.last.Err
	case g.At.IsZero():
		j.reason = "has not answered yet"
	case age > t.staleAfter() && n.last.Err != "":
		j.reason = fmt.Sprintf("lag unknown: cannot be reached for %s: %s", round(age), n.last.Err)
	case age > t.staleAfter():
		j.reason = fmt.Sprintf("lag unknown: has not answered for %s", round(age))
	case g.Role == cluster.Primary:
		j.reason = "calls itself primary, but is not the agreed one"
		if t.primary != "" {
			j.reason += fmt.Sprintf(" (%s, term %d)", t.primary, t.term)
		}
	case g.Role != cluster.Standby:
		j.reason = "lag unknown: its role is not known"
	case g.LSN == 0:
		j.reason = "lag unknown: it has replayed nothing yet"
	default:
		t.measure(n, now, &j)
	}
	return j
}

func (t *Tracker) measure(n *node, now time.Time, j *judgement) {
	g := n.good
	head, ok := t.history.newest()
	switch {
	case !ok:
		j.reason = "lag unknown: the primary's position is not known"
		return
	case g.SystemID != t.systemID:
		j.reason = fmt.Sprintf("belongs to another database system (%s, the primary to %s)", g.SystemID, t.systemID)
		return
	case g.Timeline != t.timeline:
		j.reason = fmt.Sprintf("lag unknown: is on timeline %d, the primary on %d", g.Timeline, t.timeline)
		return
	}
	if !reached(g.LSN, head.lsn) {
		j.bytes = g.LSN.Behind(head.lsn)
		j.stalled = max(0, now.Sub(n.moved))
	}
	have, after, ok := t.history.proof(g.LSN)
	if !ok {
		j.bound = now.Sub(t.history.oldest())
		j.estimate = j.bound
		j.reason = fmt.Sprintf("lag unknown: %d bytes behind, for longer than the primary has been watched (%s)", j.bytes,
			round(j.bound))
		return
	}
	j.known = true
	j.total = now.Sub(have.began)
	j.bound = head.began.Sub(have.began)
	if !g.Receiving {
		j.bound, j.estimate = j.total, j.total
		return
	}
	j.estimate = min(j.bound, between(have, after, g))
}

// between estimates the lag at the moment of the standby's sample, taking it that the primary wrote evenly between
// two marks.
func between(have, after mark, g Sample) time.Duration {
	if after.lsn <= have.lsn { // nothing newer is known
		return 0
	}
	part := float64(g.LSN-min(have.lsn, g.LSN)) / float64(after.lsn-have.lsn)
	at := have.began.Add(time.Duration(part * float64(after.began.Sub(have.began))))
	return max(0, g.Began.Sub(at))
}

// within tells that the lag keeps to 1/part of both limits. What is proved is held against the limit, and its age
// may exceed it by what sampling takes, not more: so it ends when the primary's samples stop.
func (j judgement) within(l limits, part int) bool {
	return j.bytes <= l.bytes/uint64(part) && j.bound <= l.lag/time.Duration(part) && j.total <= l.lag+j.slack
}

// over says in words which limit is exceeded.
func (j judgement) over(l limits) string {
	switch {
	case j.bytes > l.bytes && j.stalled > l.lag:
		return fmt.Sprintf("lags %d bytes (limit %d), replay has not moved for %s", j.bytes, l.bytes, round(j.stalled))
	case j.bytes > l.bytes:
		return fmt.Sprintf("lags %d bytes (limit %d)", j.bytes, l.bytes)
	case j.bound > l.lag && j.stalled > l.lag:
		return fmt.Sprintf("lags %s (limit %s), replay has not moved for %s", round(j.bound), l.lag, round(j.stalled))
	case j.bound > l.lag:
		return fmt.Sprintf("lags %s (limit %s)", round(j.bound), l.lag)
	}
	return fmt.Sprintf("lag unknown: the primary's position is not known since %s", round(j.total))
}

func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}
