package agent

import (
	"time"

	"github.com/cenkalti/backoff/v5"
)

// trouble is something that failed, and the rest before it is tried again: 0.2 s at first, 15 s at most.
type trouble struct {
	reason string
	until  time.Time
	pause  *backoff.ExponentialBackOff
}

func newTrouble() *trouble {
	p := backoff.NewExponentialBackOff()
	p.InitialInterval, p.MaxInterval, p.Multiplier, p.RandomizationFactor = 200*time.Millisecond, 15*time.Second, 2, 0.1
	return &trouble{pause: p}
}

// failed notes a failure and lengthens the rest.
func (t *trouble) failed(reason string, now time.Time) {
	t.reason, t.until = reason, now.Add(t.pause.NextBackOff())
}

// over forgets it.
func (t *trouble) over() {
	if t.reason != "" {
		t.reason, t.until = "", time.Time{}
		t.pause.Reset()
	}
}

// resting gives the reason while the rest is not over.
func (t *trouble) resting(now time.Time) string {
	if t.reason != "" && now.Before(t.until) {
		return t.reason
	}
	return ""
}
