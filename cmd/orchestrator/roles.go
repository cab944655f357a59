package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// role is a part of a process that runs until its ctx ends.
type role struct {
	name string
	run  func(ctx context.Context) error
}

// runRoles runs all roles until ctx ends or one of them fails, and then ends them in the reverse order, each one after
// the next has ended. It returns why it ended: nil when ctx did.
func runRoles(ctx context.Context, log *slog.Logger, roles ...role) error {
	type result struct {
		i   int
		err error
	}
	results := make(chan result, len(roles))
	cancels := make([]context.CancelFunc, len(roles))
	done := make([]chan struct{}, len(roles))
	for i, r := range roles {
		// A role outlives ctx for as long as those that depend on it.
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		cancels[i], done[i] = cancel, make(chan struct{})
		go func() {
			defer close(done[i])
			results <- result{i, r.run(own)}
		}()
	}
	var first error
	select {
	case <-ctx.Done():
	case r := <-results:
		if r.err == nil {
			r.err = errors.New("ended by itself")
		}
		first = fmt.Errorf("%s: %w", roles[r.i].name, r.err)
		log.Error("a part ended; stopping the others", "part", roles[r.i].name, "err", r.err)
	}
	for i := len(roles) - 1; i >= 0; i-- {
		cancels[i]()
		<-done[i]
	}
	return first
}
