package workload

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

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
	// Follow makes each session go on reading after every so many pairs until another server than the writer
	// answers: those reads have to see the write, too. 0 never does.
	Follow int
	// Mode is pgx's way to send statements: simple, extended, or prepared ones (the default).
	Mode pgx.QueryExecMode
}

// followWithin bounds the reads after one pair that wait for another server.
const followWithin = 5 * time.Second

// PairsReport is what was seen.
type PairsReport struct {
	Pairs int
	// Misses are reads that did not see the write before them in their session.
	Misses int
	// Reads counts the reads by the port of the server that answered, Writes the writes.
	Reads, Writes map[int]int
	// Followed is the number of pairs whose write was read from another server, as Follow asks.
	Followed int
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
	r.Followed += part.Followed
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
	config, err := pgx.ParseConfig(cfg.Connstr)
	if err != nil {
		return PairsReport{}, err
	}
	config.DefaultQueryExecMode = cfg.Mode
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return PairsReport{}, err
	}
	defer conn.Close(ctx)
	s := pairSession{conn: conn, id: id, report: PairsReport{Reads: map[int]int{}, Writes: map[int]int{}}}
	for value := 1; value <= pairs; value++ {
		follow := cfg.Follow > 0 && value%cfg.Follow == 0
		if err := s.pair(ctx, value, follow); err != nil {
			return s.report, fmt.Errorf("pair %d of session %d: %w", value, id, err)
		}
	}
	return s.report, nil
}

type pairSession struct {
	conn   *pgx.Conn
	id     int
	report PairsReport
}

func (s *pairSession) pair(ctx context.Context, value int, follow bool) error {
	var writer int
	err := s.conn.QueryRow(ctx, "UPDATE workload_pairs SET value = $2 WHERE session = $1 RETURNING inet_server_port()", s.id, value).Scan(&writer)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	s.report.Writes[writer]++
	s.report.Pairs++
	reader, err := s.read(ctx, value)
	if err != nil || !follow {
		return err
	}
	deadline := time.Now().Add(followWithin)
	for reader == writer && time.Now().Before(deadline) {
		if reader, err = s.read(ctx, value); err != nil {
			return err
		}
	}
	if reader != writer {
		s.report.Followed++
	}
	return nil
}

// read reads the session's value once and tells which server answered.
func (s *pairSession) read(ctx context.Context, want int) (int, error) {
	var seen, port int
	err := s.conn.QueryRow(ctx, "SELECT value, inet_server_port() FROM workload_pairs WHERE session = $1", s.id).Scan(&seen, &port)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("read: %w", err)
	}
	s.report.Reads[port]++
	if seen != want {
		s.report.Misses++
	}
	return port, nil
}
