package workload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// table holds the rows of all writers of a database.
const table = "workload_writes"

// Config says how a Writer writes.
type Config struct {
	// Connstr is where to write.
	Connstr string
	// Workers is the number of connections (default 4).
	Workers int
	// Every is the least time between two writes of one worker; 0 writes as fast as answers come.
	Every time.Duration
	// Timeout bounds one attempt, connecting included (default 10 s).
	Timeout time.Duration
}

// Writer inserts rows until it is stopped, through every error.
type Writer struct {
	cfg    Config
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu        sync.Mutex
	acked     map[row]struct{}
	uncertain map[row]struct{}
	lastAck   time.Time
	gap       time.Duration
	lastErr   error
	failures  int
	arrived   chan struct{} // closed and replaced at each acknowledgement
}

type row struct{ worker, n int }

// Start makes the table if it is missing and begins to write. The Writer ends with ctx or by Stop.
func Start(ctx context.Context, cfg Config) (*Writer, error) {
	if cfg.Workers == 0 {
		cfg.Workers = 4
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if err := prepare(ctx, cfg.Connstr); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &Writer{
		cfg: cfg, cancel: cancel, acked: map[row]struct{}{}, uncertain: map[row]struct{}{},
		lastAck: time.Now(), arrived: make(chan struct{}),
	}
	for i := range cfg.Workers {
		w.done.Go(func() { w.work(ctx, i) })
	}
	return w, nil
}

func prepare(ctx context.Context, connstr string) error {
	conn, err := pgx.Connect(ctx, connstr)
	if err != nil {
		return fmt.Errorf("prepare the workload: %w", err)
	}
	defer conn.Close(ctx)
	for _, sql := range []string{
		"CREATE TABLE IF NOT EXISTS " + table + " (worker int, n int, PRIMARY KEY (worker, n))",
		"TRUNCATE " + table,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("prepare the workload: %w", err)
		}
	}
	return nil
}

func (w *Writer) work(ctx context.Context, worker int) {
	var conn *pgx.Conn
	defer func() { closeConn(conn) }()
	for n := 0; ctx.Err() == nil; n++ {
		err := w.attempt(ctx, &conn, row{worker, n})
		if err != nil {
			closeConn(conn)
			conn = nil
		}
		pause := w.cfg.Every
		if err != nil {
			pause = max(pause, 5*time.Millisecond) // a server that is away is not asked in a busy loop
		}
		if pause > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
}

// attempt sends one row. A row whose connection could not even be made was never sent and is not tried again:
// the next attempt has a number of its own.
func (w *Writer) attempt(ctx context.Context, conn **pgx.Conn, r row) error {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	if *conn == nil {
		c, err := pgx.Connect(ctx, w.cfg.Connstr)
		if err != nil {
			w.failed(err)
			return err
		}
		*conn = c
	}
	_, err := (*conn).Exec(ctx, "INSERT INTO "+table+" (worker, n) VALUES ($1, $2)", r.worker, r.n)
	if err != nil {
		w.mu.Lock()
		w.uncertain[r] = struct{}{}
		w.mu.Unlock()
		w.failed(err)
		return err
	}
	w.acknowledged(r)
	return nil
}

func (w *Writer) acknowledged(r row) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked[r] = struct{}{}
	now := time.Now()
	w.gap = max(w.gap, now.Sub(w.lastAck))
	w.lastAck = now
	close(w.arrived)
	w.arrived = make(chan struct{})
}

func (w *Writer) failed(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !errors.Is(err, context.Canceled) {
		w.lastErr = err
		w.failures++
	}
}

func closeConn(c *pgx.Conn) {
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.Close(ctx)
}

// Await waits until n more rows have been acknowledged.
func (w *Writer) Await(ctx context.Context, n int) error {
	want := w.Acknowledged() + n
	for {
		w.mu.Lock()
		have, arrived, lastErr := len(w.acked), w.arrived, w.lastErr
		w.mu.Unlock()
		if have >= want {
			return nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return fmt.Errorf("wait for %d more acknowledged writes: %w (last error of a write: %w)", want-have, ctx.Err(), lastErr)
		}
	}
}

// Stop ends the writing and waits for it.
func (w *Writer) Stop() {
	w.cancel()
	w.done.Wait()
}

// Acknowledged is the number of rows whose commit was answered.
func (w *Writer) Acknowledged() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// Failures is the number of attempts that ended in an error, and the last of these errors.
func (w *Writer) Failures() (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failures, w.lastErr
}

// Gap is the longest time between two acknowledgements, over all workers.
func (w *Writer) Gap() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gap
}

// Check compares what connstr holds with what was acknowledged; call it after Stop. The error names how many
// acknowledged rows are missing and how many rows are there that nobody sent, with some of them.
func (w *Writer) Check(ctx context.Context, connstr string) error {
	conn, err := pgx.Connect(ctx, connstr)
	if err != nil {
		return fmt.Errorf("check the workload: %w", err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT worker, n FROM "+table)
	if err != nil {
		return fmt.Errorf("check the workload: %w", err)
	}
	there, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (row, error) {
		var v row
		return v, r.Scan(&v.worker, &v.n)
	})
	if err != nil {
		return fmt.Errorf("check the workload: %w", err)
	}
	return w.compare(there)
}

func (w *Writer) compare(there []row) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	present := make(map[row]struct{}, len(there))
	var strange, lost []row
	for _, r := range there {
		present[r] = struct{}{}
		_, acked := w.acked[r]
		_, uncertain := w.uncertain[r]
		if !acked && !uncertain {
			strange = append(strange, r)
		}
	}
	for r := range w.acked {
		if _, ok := present[r]; !ok {
			lost = append(lost, r)
		}
	}
	if len(lost) == 0 && len(strange) == 0 {
		return nil
	}
	return fmt.Errorf("of %d acknowledged rows %d are lost%s; %d rows are there that nobody sent%s",
		len(w.acked), len(lost), some(lost), len(strange), some(strange))
}

func some(rows []row) string {
	if len(rows) == 0 {
		return ""
	}
	slices.SortFunc(rows, func(a, b row) int { return (a.worker-b.worker)<<32 + a.n - b.n })
	var words []string
	for _, r := range rows[:min(len(rows), 5)] {
		words = append(words, fmt.Sprintf("worker %d row %d", r.worker, r.n))
	}
	return " (" + strings.Join(words, ", ") + ")"
}
