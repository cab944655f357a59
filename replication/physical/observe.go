package physical

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/sql"
)

// Connect opens a connection as superuser over the private socket.
func (s *Server) Connect(ctx context.Context, password, database string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s dbname=%s password=%s sslmode=disable connect_timeout=5",
		quoteConninfo(s.SocketDir()), s.cfg.Port, Superuser, quoteConninfo(database), quoteConninfo(password)))
	if err != nil {
		return nil, s.errorf("connect: %w", err)
	}
	cfg.RuntimeParams = map[string]string{"application_name": "multicoord agent", "client_encoding": "UTF8"}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, s.errorf("connect: %w", err)
	}
	return conn, nil
}

// Observation is what a running server says of itself.
type Observation struct {
	Role     cluster.Role
	SystemID string
	// Timeline that the primary writes, or the latest that the standby has received or replayed.
	Timeline uint32
	// LSN is a primary's write position; a standby's is Replayed.
	LSN      cluster.LSN
	Received cluster.LSN
	Replayed cluster.LSN
	// ReplayPaused: somebody has paused replay on the standby.
	ReplayPaused bool
	Receiver     Receiver
	// PendingRestart are the settings whose new value waits for a restart, in order.
	PendingRestart []string
	// Slots are the physical slots whose names begin with our prefix.
	Slots     []string
	StartedAt time.Time
	Version   string
}

// Receiver is the standby's WAL receiver; the zero value if there is none.
type Receiver struct {
	// Status is "streaming" when all is well.
	Status string
	Host   string
	Port   int
	Slot   string
}

// Observe asks the server. It fails if the server was promoted in that very moment.
func (s *Server) Observe(ctx context.Context, conn *pgx.Conn) (Observation, error) {
	var o Observation
	var inRecovery bool
	var timeline int64
	var current, received, replayed *string
	err := conn.QueryRow(ctx, sql.PhysicalObserve).Scan(&inRecovery, &o.SystemID, &timeline, &current, &received, &replayed,
		&o.ReplayPaused, &o.Receiver.Status, &o.Receiver.Host, &o.Receiver.Port, &o.Receiver.Slot,
		&o.StartedAt, &o.Version, &o.PendingRestart, &o.Slots)
	if err != nil {
		return o, s.errorf("observe: %w", err)
	}
	o.Role, o.Timeline = cluster.Primary, uint32(timeline)
	if inRecovery {
		o.Role = cluster.Standby
	}
	for _, l := range []struct {
		text *string
		to   *cluster.LSN
	}{{current, &o.LSN}, {received, &o.Received}, {replayed, &o.Replayed}} {
		if l.text == nil {
			continue
		}
		if *l.to, err = cluster.ParseLSN(*l.text); err != nil {
			return o, s.errorf("observe: %w", err)
		}
	}
	if inRecovery {
		o.LSN = o.Replayed
	}
	o.Version, _, _ = strings.Cut(o.Version, " ")
	changed, err := s.changedArguments(ctx, conn)
	if err != nil {
		return o, err
	}
	o.PendingRestart = slices.Compact(slices.Sorted(slices.Values(append(o.PendingRestart, changed...))))
	return o, nil
}

// changedArguments names the settings on the command line that would be others if the server were started now (its port
// was changed in the spec, say): PostgreSQL cannot know of them.
func (s *Server) changedArguments(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	want := map[string]string{}
	var names []string
	for _, c := range s.commandLine() {
		want[c.name] = c.value
		names = append(names, c.name)
	}
	rows, err := conn.Query(ctx, sql.PhysicalCommandLine, names)
	if err != nil {
		return nil, s.errorf("observe: %w", err)
	}
	var name, value string
	var changed []string
	_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error {
		if value != want[name] {
			changed = append(changed, name)
		}
		return nil
	})
	if err != nil {
		return nil, s.errorf("observe: %w", err)
	}
	return changed, nil
}
