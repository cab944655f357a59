package storetest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"pgregory.net/rapid"

	"github.com/multicoord/multicoord/orchestrator/store"
)

// Fate is what happens on one way of a call: to the store, or back.
type Fate struct {
	Delay time.Duration
	// Lost: the request or the answer does not arrive.
	Lost bool
	// Deaf: the end of the caller's ctx goes unnoticed during the delay, as in a frozen process.
	Deaf bool
}

// Fates draws a fate: mostly calm (up to 20 ms), at times rough (up to 4 s, lost, deaf).
func Fates() *rapid.Generator[Fate] {
	ms := func(most int) *rapid.Generator[time.Duration] {
		return rapid.Map(rapid.IntRange(0, most), func(n int) time.Duration { return time.Duration(n) * time.Millisecond })
	}
	calm := rapid.Custom(func(rt *rapid.T) Fate { return Fate{Delay: ms(20).Draw(rt, "delay")} })
	rough := rapid.Custom(func(rt *rapid.T) Fate {
		return Fate{Delay: ms(4000).Draw(rt, "delay"), Lost: rapid.Bool().Draw(rt, "lost"), Deaf: rapid.Bool().Draw(rt, "deaf")}
	})
	return rapid.OneOf(calm, calm, calm, rough)
}

// Troubled is a store whose calls meet the given fates in turn, over and over. Its watches are not troubled.
func Troubled(s store.Store, fates []Fate) store.Store {
	var mu sync.Mutex
	n := 0
	way := func(ctx context.Context, _ Op) error {
		mu.Lock()
		f := fates[n%len(fates)]
		n++
		mu.Unlock()
		if f.Deaf {
			time.Sleep(f.Delay)
		} else {
			select {
			case <-ctx.Done():
				return fmt.Errorf("%w: %w", store.ErrUnavailable, ctx.Err())
			case <-time.After(f.Delay):
			}
		}
		if f.Lost {
			return store.ErrUnavailable
		}
		return nil
	}
	return &Proxy{Store: s, Before: way, After: way}
}
