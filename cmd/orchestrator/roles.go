package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// role is a part of a process that runs until its ctx ends.
type role struct {
	name string
	run  func(ctx context.Context) error
}

// runRoles runs all roles until ctx ends or one of them fails, and then ends them in the reverse order, each one after
// the next has ended. It returns why it ended, nil when ctx did, and what the roles could not do at their end.
func runRoles(ctx context.Context, log *slog.Logger, roles ...role) error {
	stages := make([][]role, len(roles))
	for i, r := range roles {
		stages[i] = []role{r}
	}
	return runStages(ctx, log, stages)
}

// runStages is runRoles for roles of which some depend equally on those before: the roles of one stage are ended side by
// side, after all those of the next stage have ended.
func runStages(ctx context.Context, log *slog.Logger, stages [][]role) error {
	type result struct {
		name string
		err  error
	}
	count := 0
	for _, s := range stages {
		count += len(s)
	}
	results := make(chan result, count)
	cancels := make([]context.CancelFunc, len(stages))
	running := make([]sync.WaitGroup, len(stages))
	for i, stage := range stages {
		// A role outlives ctx for as long as those that depend on it.
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		cancels[i] = cancel
		for _, r := range stage {
			running[i].Go(func() { results <- result{r.name, r.run(own)} })
		}
	}
	var first error
	select {
	case <-ctx.Done():
	case r := <-results:
		if r.err == nil {
			r.err = errors.New("ended by itself")
		}
		first = fmt.Errorf("%s: %w", r.name, r.err)
		log.Error("a part ended; stopping the others", "part", r.name, "err", r.err)
	}
	for i := len(stages) - 1; i >= 0; i-- {
		cancels[i]()
		running[i].Wait()
	}
	close(results)
	errs := []error{first}
	for r := range results {
		if r.err != nil && !errors.Is(r.err, context.Canceled) {
			log.Error("a part did not end as it should", "part", r.name, "err", r.err)
			errs = append(errs, fmt.Errorf("%s: %w", r.name, r.err))
		}
	}
	return errors.Join(errs...)
}
