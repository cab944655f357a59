package physical

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"github.com/multicoord/multicoord/sql"
)

// Place is whose a node's folder is, by its marker.
type Place struct {
	ClusterID, Cluster string
	Node               string
	Group              int
	// Host is the host that made the folder; "" if its marker does not tell (one of an earlier version).
	Host string
}

// PlaceOf reads the marker of a node's folder; an error that is fs.ErrNotExist if it has none.
func PlaceOf(dir string) (Place, error) {
	raw, err := os.ReadFile(filepath.Join(dir, markerFile))
	if err != nil {
		return Place{}, fmt.Errorf("read the marker: %w", err)
	}
	var m marker
	if err := json.Unmarshal(raw, &m); err != nil {
		return Place{}, fmt.Errorf("read the marker in %s: %w", dir, err)
	}
	return Place(m), nil
}

// SlotState is how one of our physical slots stands.
type SlotState struct {
	Name   string
	Active bool
	// WALStatus is pg_replication_slots': "reserved", "extended", "unreserved" (the next checkpoint may take its WAL), "lost";
	// "" for a slot that has never reserved any.
	WALStatus string
	// RetainedBytes is how much WAL the server keeps for it; 0 for a lost one.
	RetainedBytes int64
}

// Lost tells whether WAL that the slot's user needs is gone, or its slot was invalidated. Unless it is streaming all the
// same, it cannot catch up.
func (s SlotState) Lost() bool { return s.WALStatus == "lost" }

// SlotStates tells how the physical slots that begin with our prefix stand, in order of their names.
func (s *Server) SlotStates(ctx context.Context, conn *pgx.Conn) ([]SlotState, error) {
	rows, err := conn.Query(ctx, sql.PhysicalSlotStates, likePrefix)
	if err != nil {
		return nil, s.errorf("look at slots: %w", err)
	}
	states, err := pgx.CollectRows(rows, pgx.RowToStructByPos[SlotState])
	if err != nil {
		return nil, s.errorf("look at slots: %w", err)
	}
	return states, nil
}

// Slots lists the physical slots that begin with our prefix, in order.
func (s *Server) Slots(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	rows, err := conn.Query(ctx, sql.PhysicalSlots, likePrefix)
	if err != nil {
		return nil, s.errorf("list slots: %w", err)
	}
	var names []string
	var name string
	var active bool
	if _, err := pgx.ForEachRow(rows, []any{&name, &active}, func() error {
		names = append(names, name)
		return nil
	}); err != nil {
		return nil, s.errorf("list slots: %w", err)
	}
	return names, nil
}

// Configured tells whether the data directory has a configuration that Configure has written, perhaps an old one.
func (s *Server) Configured() bool {
	f, err := os.Open(filepath.Join(s.DataDir(), "postgresql.conf"))
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, len(generated))
	_, err = io.ReadFull(f, head)
	return err == nil && string(head) == generated
}
