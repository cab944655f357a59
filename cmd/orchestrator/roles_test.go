package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheRolesOfAStageEndSideBySideAndAfterTheNextStage(t *testing.T) {
	var mu sync.Mutex
	var ended []string
	ctx, cancel := context.WithCancel(t.Context())
	both := make(chan struct{}, 2)
	met := make(chan struct{})
	begun := make(chan struct{}, 4)
	one := func(name string, meet bool) role {
		return role{name, func(ctx context.Context) error {
			begun <- struct{}{}
			<-ctx.Done()
			if meet { // goes on only when the other one has been told to end, too
				both <- struct{}{}
				<-met
			}
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, name)
			return nil
		}}
	}
	go func() {
		for range 4 {
			<-begun
		}
		cancel()
		<-both
		<-both
		close(met)
	}()
	stages := [][]role{{one("etcd", false)}, {one("agent", true), one("agent", true)}, {one("router", false)}}
	require.NoError(t, runStages(ctx, slog.New(slog.DiscardHandler), stages))
	require.Equal(t, []string{"router", "agent", "agent", "etcd"}, ended)
}

func TestARoleThatFailsEndsTheOthersAndWhatFailsAtTheEndIsSaid(t *testing.T) {
	untilEnd := func(err error) func(context.Context) error {
		return func(ctx context.Context) error { <-ctx.Done(); return err }
	}
	log := slog.New(slog.DiscardHandler)
	boom, stuck := errors.New("boom"), errors.New("the server does not stop")
	err := runRoles(t.Context(), log,
		role{"agent", untilEnd(stuck)},
		role{"control", untilEnd(fmt.Errorf("read: %w", context.Canceled))},
		role{"router", func(context.Context) error { return boom }})
	require.ErrorIs(t, err, boom)
	require.ErrorIs(t, err, stuck)
	require.NotErrorIs(t, err, context.Canceled)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, runRoles(ctx, log, role{"agent", untilEnd(stuck)}), stuck)
	require.ErrorContains(t, runRoles(t.Context(), log, role{"agent", func(context.Context) error { return nil }}), "agent: ended by itself")
}
