package failover

import (
	"errors"
	"fmt"
	"time"
)

// Instant is a reading of the host's CLOCK_BOOTTIME in nanoseconds: comparable between the processes of one boot, not
// between hosts, and not across boots. Zero is "none".
type Instant int64

// Add moves the instant by d.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub is the time from o to i.
func (i Instant) Sub(o Instant) time.Duration { return time.Duration(i - o) }

const (
	// KillAfter is how long the guard gives a primary past its deadline between SIGQUIT and SIGKILL. An immediate stop
	// takes some 20 ms; whatever needs longer is not worth waiting for, since both end in crash recovery.
	KillAfter = 200 * time.Millisecond
	// StopBound is the time within which the processes of a primary past its deadline are dead: KillAfter, the second
	// signal, and the guard's own delay in being scheduled.
	StopBound = 400 * time.Millisecond
	// MinTTL is the shortest life of a grant for which Margin and RenewEvery leave room for a lost renewal.
	MinTTL = 2 * time.Second
)

// Margin is the part of a grant's TTL that is not used: a fifth, at least 500 ms (StopBound and something for clocks
// that do not run alike) and at most 5 s.
func Margin(ttl time.Duration) time.Duration {
	return min(max(ttl/5, 500*time.Millisecond), 5*time.Second)
}

// RenewEvery is the time between the beginnings of two renewals: a third of the TTL, so that one may be lost.
func RenewEvery(ttl time.Duration) time.Duration { return ttl / 3 }

// Deadline is when a primary must begin to die, if its grant's last successful renewal was begun (not: answered) at began.
// A grant too short for its margin gives began itself: a right that has already ended.
func Deadline(began Instant, ttl, margin time.Duration) Instant {
	return began.Add(max(ttl-margin, 0))
}

// What a change of a right may be refused for.
var (
	// ErrStaleTerm: the term is lower than one that was seen. The sender has been replaced and must stop acting.
	ErrStaleTerm = errors.New("the term is lower than one already seen")
	// ErrFenced: the right of this term was given up; only a higher term brings a new one.
	ErrFenced = errors.New("the right to be primary was given up under this term")
)

// Right is what a guard knows of its server's right to be primary. The zero value is no right.
type Right struct {
	Term     uint64
	Deadline Instant
	Fenced   bool
}

// Renew gives the right after a renewal. A higher term replaces what was there; within a term the deadline only moves
// later (an earlier one changes nothing); a lower term and a fenced one are refused.
func (r Right) Renew(term uint64, deadline Instant) (Right, error) {
	switch {
	case term > r.Term:
		return Right{Term: term, Deadline: deadline}, nil
	case term < r.Term:
		return r, fmt.Errorf("term %d: %w (%d)", term, ErrStaleTerm, r.Term)
	case r.Fenced:
		return r, fmt.Errorf("term %d: %w", term, ErrFenced)
	}
	r.Deadline = max(r.Deadline, deadline)
	return r, nil
}

// Fence gives the right up, for this term. A lower term is refused; a higher one is remembered, so that nothing older is
// obeyed later.
func (r Right) Fence(term uint64) (Right, error) {
	if term < r.Term {
		return r, fmt.Errorf("term %d: %w (%d)", term, ErrStaleTerm, r.Term)
	}
	return Right{Term: term, Fenced: true}, nil
}

// Ended tells why a primary must stop now, or "" while it may go on.
func (r Right) Ended(now Instant) string {
	switch {
	case r.Fenced:
		return fmt.Sprintf("the right to be primary was given up under term %d", r.Term)
	case r.Deadline == 0:
		return "a primary without a deadline: nobody has granted it the right to be primary"
	case now >= r.Deadline:
		return fmt.Sprintf("deadline of term %d passed %s ago: the grant was not renewed in time", r.Term,
			now.Sub(r.Deadline).Round(time.Millisecond))
	}
	return ""
}
