package physical

import (
	"context"
	"encoding/json"
	"fmt"
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
