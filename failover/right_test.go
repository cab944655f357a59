package failover

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestAPrimaryIsDeadBeforeItsLeaseCanEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ttl := time.Duration(rapid.Int64Range(int64(MinTTL), int64(5*time.Minute)).Draw(t, "ttl"))
		began := Instant(rapid.Int64Range(1, 1<<60).Draw(t, "began"))
		deadline := Deadline(began, ttl, Margin(ttl))
		// etcd counts from some moment at or after began. A tenth of a percent is five times what real clocks differ by.
		leaseEnds := began.Add(ttl - ttl/1000)
		if dead := deadline.Add(StopBound); dead > leaseEnds {
			t.Fatalf("ttl %s: dead %s after the lease's end", ttl, dead.Sub(leaseEnds))
		}
	})
}

func TestALostRenewalDoesNotStopAPrimary(t *testing.T) {
	for ttl := MinTTL; ttl <= 5*time.Minute; ttl += 100 * time.Millisecond {
		// The renewal after the next one has a tenth of the TTL to arrive.
		require.Greater(t, ttl-Margin(ttl), 2*RenewEvery(ttl), "ttl %s", ttl)
	}
}

func TestAGrantShorterThanItsMarginIsNoRight(t *testing.T) {
	require.Equal(t, Instant(100), Deadline(100, time.Second, 2*time.Second))
}

func TestRightsOfATerm(t *testing.T) {
	renew := func(term uint64, d Instant) func(Right) (Right, error) {
		return func(r Right) (Right, error) { return r.Renew(term, d) }
	}
	fence := func(term uint64) func(Right) (Right, error) {
		return func(r Right) (Right, error) { return r.Fence(term) }
	}
	for _, c := range []struct {
		rule string
		have Right
		do   func(Right) (Right, error)
		want Right
		err  error
	}{
		{"the first term is taken", Right{}, renew(1, 10), Right{Term: 1, Deadline: 10}, nil},
		{"within a term a deadline moves later", Right{Term: 2, Deadline: 10}, renew(2, 11), Right{Term: 2, Deadline: 11}, nil},
		{"within a term a deadline does not move earlier", Right{Term: 2, Deadline: 10}, renew(2, 9), Right{Term: 2, Deadline: 10}, nil},
		{"a higher term replaces, even with an earlier deadline", Right{Term: 2, Deadline: 10}, renew(3, 9), Right{Term: 3, Deadline: 9}, nil},
		{"a lower term is refused", Right{Term: 2, Deadline: 10}, renew(1, 99), Right{Term: 2, Deadline: 10}, ErrStaleTerm},
		{"what was given up is not renewed", Right{Term: 2, Fenced: true}, renew(2, 99), Right{Term: 2, Fenced: true}, ErrFenced},
		{"a higher term ends the fence", Right{Term: 2, Fenced: true}, renew(3, 99), Right{Term: 3, Deadline: 99}, nil},
		{"fencing takes the deadline away", Right{Term: 2, Deadline: 10}, fence(2), Right{Term: 2, Fenced: true}, nil},
		{"a fence of a higher term is remembered", Right{Term: 2, Deadline: 10}, fence(5), Right{Term: 5, Fenced: true}, nil},
		{"a fence of a lower term is refused", Right{Term: 2, Deadline: 10}, fence(1), Right{Term: 2, Deadline: 10}, ErrStaleTerm},
	} {
		t.Run(c.rule, func(t *testing.T) {
			got, err := c.do(c.have)
			require.ErrorIs(t, err, c.err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestARightEnds(t *testing.T) {
	require.NotEmpty(t, Right{}.Ended(1), "none")
	require.NotEmpty(t, Right{Term: 1, Deadline: 10, Fenced: true}.Ended(1), "fenced")
	require.NotEmpty(t, Right{Term: 1, Deadline: 10}.Ended(10), "at the deadline")
	require.Empty(t, Right{Term: 1, Deadline: 10}.Ended(9), "before it")
}

func TestTermsNeverGoBackAndDeadlinesOnlyWithANewTerm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Right{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			term, was := rapid.Uint64Range(1, 5).Draw(t, "term"), r
			if rapid.Bool().Draw(t, "fence") {
				r, _ = r.Fence(term)
			} else {
				r, _ = r.Renew(term, Instant(rapid.Int64Range(1, 50).Draw(t, "deadline")))
			}
			if r.Term < was.Term {
				t.Fatalf("%+v after %+v", r, was)
			}
			if r.Term == was.Term && (was.Fenced && !r.Fenced || !r.Fenced && r.Deadline < was.Deadline) {
				t.Fatalf("%+v after %+v", r, was)
			}
		}
	})
}
