package workload_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/multicoord/multicoord/testenv"
	"github.com/multicoord/multicoord/testenv/fault"
	"github.com/multicoord/multicoord/testenv/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWriterProvesWhatWasAcknowledged(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	env := testenv.New(t)
	pg := env.Postgres(testenv.PostgresOptions{})
	w, err := workload.Start(ctx, workload.Config{Connstr: pg.Connstr()})
	require.NoError(t, err)
	require.NoError(t, w.Await(ctx, 100))
	// Once a worker has sent its second row, its first was acknowledged: until now nothing has failed.
	conn := env.Connect(pg.Connstr())
	env.Await(30*time.Second, "the second row of worker 0", func() error {
		if testenv.Scan[int](env, conn, "SELECT count(*) FROM workload_writes WHERE worker = 0 AND n = 1") == 0 {
			return errors.New("it is not there yet")
		}
		return nil
	})

	// A server process that dies takes all connections with it: the writer goes on by itself.
	fault.Kill(t, testenv.Scan[int](env, conn, "SELECT min(pid) FROM pg_stat_activity WHERE query LIKE 'INSERT%'"))
	require.NoError(t, w.Await(ctx, 100))
	w.Stop()
	failures, lastErr := w.Failures()
	require.Positive(t, failures)
	require.Error(t, lastErr)
	require.Positive(t, w.Gap())
	require.NoError(t, w.Check(ctx, pg.Connstr()))

	conn = env.Connect(pg.Connstr())
	testenv.Exec(env, conn, "DELETE FROM workload_writes WHERE worker = 0 AND n = 0")
	require.ErrorContains(t, w.Check(ctx, pg.Connstr()), "1 are lost (worker 0 row 0)")
	testenv.Exec(env, conn, "INSERT INTO workload_writes VALUES (0, 0), (99, 1)")
	require.ErrorContains(t, w.Check(ctx, pg.Connstr()), "1 rows are there that nobody sent (worker 99 row 1)")
}

func TestPairsCountReadsThatMissTheirWrite(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	env := testenv.New(t)
	pg := env.Postgres(testenv.PostgresOptions{})
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement} {
		report, err := workload.Pairs(ctx, workload.PairsConfig{Connstr: pg.Connstr(), Pairs: 101, Mode: mode})
		require.NoError(t, err)
		require.Equal(t, workload.PairsReport{
			Pairs: 101, Reads: map[int]int{pg.Port: 101}, Writes: map[int]int{pg.Port: 101},
		}, report)
	}
	// A trigger that takes every write back is what a stale read looks like.
	conn := env.Connect(pg.Connstr())
	testenv.Exec(env, conn, "CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.value = 0; RETURN NEW; END'")
	testenv.Exec(env, conn, "CREATE TRIGGER undo BEFORE UPDATE ON workload_pairs FOR EACH ROW EXECUTE FUNCTION undo()")
	report, err := workload.Pairs(ctx, workload.PairsConfig{Connstr: pg.Connstr(), Pairs: 10, Sessions: 2})
	require.NoError(t, err)
	require.Equal(t, 10, report.Misses)
}
