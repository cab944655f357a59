package workload

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// PairsConfig says how write-then-read pairs are made.
type PairsConfig struct {
	Connstr string
	// Sessions is the number of connections, each with its share of the pairs (default 8).
	Sessions int
	// Pairs is the number of pairs over all sessions.
	Pairs int
	// Mode is pgx's way to send statements: simple, extended, or prepared ones (the default).
	Mode pgx.QueryExecMode
}

// PairsReport is what was seen.
type PairsReport struct {
	Pairs int
	// Misses are reads that did not see the write before them in their session.
	Misses int
	// Reads counts the reads by the port of the server that answered, Writes the writes.
	Reads, Writes map[int]int
}

// Pairs writes a value and reads it back in the same session, as many times as asked.
func Pairs(ctx context.Context, cfg PairsConfig) (PairsReport, error) {
	if cfg.Sessions == 0 {
		cfg.Sessions = 8
	}
	if cfg.Mode == 0 {
		cfg.Mode = pgx.QueryExecModeCacheStatement
	}
	if err := preparePairs(ctx, cfg); err != nil {
		return PairsReport{}, fmt.Errorf("prepare the pairs: %w", err)
	}
	total := PairsReport{Reads: map[int]int{}, Writes: map[int]int{}}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	for s := range cfg.Sessions {
		share := cfg.Pairs / cfg.Sessions
		if s < cfg.Pairs%cfg.Sessions {
			share++
		}
		group.Go(func() error {
			part, err := session(ctx, cfg, s, share)
			mu.Lock()
			defer mu.Unlock()
			total.add(part)
			return err
		})
	}
	err := group.Wait()
	return total, err
}

func (r *PairsReport) add(part PairsReport) {
	r.Pairs += part.Pairs
	r.Misses += part.Misses
	for _, c := range []struct{ to, from map[int]int }{{r.Reads, part.Reads}, {r.Writes, part.Writes}} {
		for port := range maps.Keys(c.from) {
			c.to[port] += c.from[port]
		}
	}
}

func preparePairs(ctx context.Context, cfg PairsConfig) error {
	conn, err := pgx.Connect(ctx, cfg.Connstr)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range []string{
		"CREATE TABLE IF NOT EXISTS workload_pairs (session int PRIMARY KEY, value int NOT NULL)",
		"TRUNCATE workload_pairs",
		fmt.Sprintf("INSERT INTO workload_pairs SELECT s, 0 FROM generate_series(0, %d) s", cfg.Sessions-1),
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

func session(ctx context.Context, cfg PairsConfig, id, pairs int) (PairsReport, error) {
	report := PairsReport{Reads: map[int]int{}, Writes: map[int]int{}}
	config, err := pgx.ParseConfig(cfg.Connstr)
	if err != nil {
		return report, err
	}
	config.DefaultQueryExecMode = cfg.Mode
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return report, err
	}
	defer conn.Close(ctx)
	for value := 1; value <= pairs; value++ {
		var port, seen int
		err := conn.QueryRow(ctx, "UPDATE workload_pairs SET value = $2 WHERE session = $1 RETURNING inet_server_port()", id, value).Scan(&port)
		if err != nil {
			return report, fmt.Errorf("write of pair %d of session %d: %w", value, id, err)
		}
		report.Writes[port]++
		err = conn.QueryRow(ctx, "SELECT value, inet_server_port() FROM workload_pairs WHERE session = $1", id).Scan(&seen, &port)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return report, fmt.Errorf("read of pair %d of session %d: %w", value, id, err)
		}
		report.Reads[port]++
		report.Pairs++
		if seen != value {
			report.Misses++
		}
	}
	return report, nil
}
