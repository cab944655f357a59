// Package worker handles what belongs to the shards on the workers.
//
// Level: adapter; it runs the statements of package sql on a worker group's primary.
//
// Duties in this edition: Prepare makes the place in which shards will live. It never decides which shard is where.
package worker

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/multicoord/multicoord/sql"
)

// Prepare makes the schema of the shards, owned by the shard owner's role (which must exist). It can be repeated.
func Prepare(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, sql.ClusterWorker); err != nil {
		return fmt.Errorf("prepare the schema of the shards: %w", err)
	}
	return nil
}
