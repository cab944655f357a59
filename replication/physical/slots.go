package physical

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/multicoord/multicoord/sql"
)

// EnsureSlots makes the physical slots that begin with our prefix be those that are wanted: missing ones are created, with
// WAL reserved from now on, and others dropped unless somebody is streaming through them (a later call gets them). Slots
// of other names are left alone.
func (s *Server) EnsureSlots(ctx context.Context, conn *pgx.Conn, want []string) (created, dropped []string, err error) {
	rows, err := conn.Query(ctx, sql.PhysicalSlots, likePrefix)
	if err != nil {
		return nil, nil, s.errorf("list slots: %w", err)
	}
	have := map[string]bool{}
	var name string
	var active bool
	if _, err := pgx.ForEachRow(rows, []any{&name, &active}, func() error { have[name] = active; return nil }); err != nil {
		return nil, nil, s.errorf("list slots: %w", err)
	}
	for _, name := range want {
		if _, ok := have[name]; ok {
			continue
		}
		_, err := conn.Exec(ctx, "SELECT pg_create_physical_replication_slot($1, true)", name)
		if err != nil && !isCode(err, "42710") { // duplicate_object: somebody was quicker
			return created, dropped, s.errorf("create slot %q: %w", name, err)
		}
		created = append(created, name)
	}
	for name, active := range have {
		if active || slices.Contains(want, name) {
			continue
		}
		_, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot($1)", name)
		switch {
		case err == nil:
			dropped = append(dropped, name)
		case isCode(err, "42704"), isCode(err, "55006"): // gone, or in use again
		default:
			return created, dropped, s.errorf("drop slot %q: %w", name, err)
		}
	}
	slices.Sort(dropped)
	return created, dropped, nil
}

func isCode(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}

// Promote makes the standby a primary and returns when it accepts writes. The guard must have been given a deadline before.
// A server that is primary already is fine. wait bounds it; a promotion that takes longer goes on.
func (s *Server) Promote(ctx context.Context, conn *pgx.Conn, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if _, err := conn.Exec(ctx, "SELECT pg_promote(false) WHERE pg_is_in_recovery()"); err != nil {
		return s.errorf("promote: %w", err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var inRecovery bool
		if err := conn.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&inRecovery); err != nil {
			return s.errorf("promote: %w", err)
		}
		if !inRecovery {
			return nil
		}
		select {
		case <-ctx.Done():
			return s.errorf("promote: the server is still in recovery after %s: %w", wait, context.Cause(ctx))
		case <-tick.C:
		}
	}
}
