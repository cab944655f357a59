package election

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/multicoord/multicoord/orchestrator/store"
	"github.com/multicoord/multicoord/orchestrator/store/memstore"
	"github.com/multicoord/multicoord/orchestrator/store/storetest"
)

// span is a stretch of time in which a lead's ctx was alive.
type span struct {
	id         string
	revision   int64
	start, end time.Time
}

// trial runs candidates with the given fates for a minute and reports what broke the rules, "" if nothing did.
func trial(t *testing.T, all [][]storetest.Fate, ttl time.Duration) (problem string, reigns int) {
	t.Helper()
	s := memstore.New()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	var spans []span
	var wg sync.WaitGroup
	for i, fs := range all {
		id, mine := strconv.Itoa(i), storetest.Troubled(s, fs)
		wg.Go(func() {
			_ = Campaign(ctx, mine, id, ttl, func(ctx context.Context, l Leadership) error {
				sp := span{id: id, revision: l.Revision(), start: time.Now()}
				stop := context.AfterFunc(ctx, func() {
					mu.Lock()
					defer mu.Unlock()
					sp.end = time.Now()
					spans = append(spans, sp)
				})
				defer stop()
				for n := 0; ctx.Err() == nil; n++ {
					// A writer that does not look at its leadership before it writes: the fence alone must hold.
					_, _ = l.Commit(context.WithoutCancel(ctx), store.Tx{Put: []store.Put{{Key: "log", Value: []byte(strconv.FormatInt(l.Revision(), 10))}}})
					time.Sleep(time.Duration(n%7) * 100 * time.Millisecond)
				}
				<-ctx.Done()
				return ctx.Err()
			})
		})
	}
	// The log of accepted writes, as the store has seen it.
	var last int64
	watch, unwatch := context.WithCancel(t.Context())
	states := s.Watch(watch)
	checked := make(chan string, 1)
	go func() {
		bad := ""
		for st := range states {
			it, ok := st.Items["log"]
			if !ok {
				continue
			}
			by, _ := strconv.ParseInt(string(it.Value), 10, 64)
			if by < last {
				bad = fmt.Sprintf("the leader elected at %d wrote after the one elected at %d", by, last)
			}
			last = by
			if l, ok := st.Items["leader"]; ok && it.Modified == st.Revision && l.Created != by {
				bad = fmt.Sprintf("a write of leader %d was accepted while %d was leader", by, l.Created)
			}
		}
		checked <- bad
	}()
	wg.Wait()
	synctest.Wait()
	unwatch()
	if bad := <-checked; bad != "" {
		return bad, len(spans)
	}
	mu.Lock()
	defer mu.Unlock()
	for i, a := range spans {
		for _, b := range spans[i+1:] {
			if a.start.Before(b.end) && b.start.Before(a.end) {
				return fmt.Sprintf("%s led from %s to %s and %s from %s to %s", a.id, a.start, a.end, b.id, b.start, b.end), len(spans)
			}
		}
	}
	return "", len(spans)
}

// Whatever happens to the calls of the candidates, there are never two of them whose lead is running with a living ctx,
// and no write of an older leader is accepted after a newer one was elected.
func TestNeverTwoLeaders(t *testing.T) {
	total := 0
	for round := range 20 {
		t.Run(strconv.Itoa(round), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				n := rapid.IntRange(2, 3).Draw(rt, "candidates")
				all := make([][]storetest.Fate, n)
				for i := range all {
					all[i] = rapid.SliceOfN(storetest.Fates(), 5, 40).Draw(rt, "fates")
				}
				ttl := time.Duration(rapid.IntRange(1, 5).Draw(rt, "ttl")) * time.Second
				var problem string
				synctest.Test(t, func(t *testing.T) {
					var reigns int
					problem, reigns = trial(t, all, ttl)
					total += reigns
				})
				if problem != "" {
					rt.Fatal(problem)
				}
			})
		})
	}
	t.Log(total, "leaderships")
	if total < 1000 {
		t.Fatal("the schedules are too rough: hardly anybody leads")
	}
}
