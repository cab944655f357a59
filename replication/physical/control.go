package physical

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// control is what is used of pg_controldata's output.
type control struct {
	systemID string
	timeline uint32
	state    string
	max      map[string]int
}

// controlData reads global/pg_control. It works on a running and on a stopped server.
func (s *Server) controlData(ctx context.Context) (control, error) {
	out, err := command{account: s.cfg.Account, argv: []string{s.cfg.Bin.program("pg_controldata"), "-D", s.DataDir()}}.run(ctx)
	if err != nil {
		return control{}, s.errorf("read the control file: %w", err)
	}
	c, err := parseControl(out)
	if err != nil {
		return control{}, s.errorf("read the control file: %w", err)
	}
	return c, nil
}

// parseControl reads the lines "<label>: <value>" of pg_controldata in English (src/bin/pg_controldata/pg_controldata.c).
func parseControl(out string) (control, error) {
	values := map[string]string{}
	for line := range strings.Lines(out) {
		if label, value, ok := strings.Cut(line, ":"); ok {
			values[strings.TrimSpace(label)] = strings.TrimSpace(value)
		}
	}
	c := control{systemID: values["Database system identifier"], state: values["Database cluster state"], max: map[string]int{}}
	if c.systemID == "" {
		return c, fmt.Errorf("pg_controldata's output has no system identifier")
	}
	tli, err := strconv.ParseUint(values["Latest checkpoint's TimeLineID"], 10, 32)
	if err != nil {
		return c, fmt.Errorf("timeline: %w", err)
	}
	c.timeline = uint32(tli)
	// A standby's position may be on a later timeline than its last restart point.
	if t, err := strconv.ParseUint(values["Min recovery ending loc's timeline"], 10, 32); err == nil && t > tli {
		c.timeline = uint32(t)
	}
	for label, name := range map[string]string{
		"max_connections setting":      "max_connections",
		"max_worker_processes setting": "max_worker_processes",
		"max_wal_senders setting":      "max_wal_senders",
		"max_prepared_xacts setting":   "max_prepared_transactions",
		"max_locks_per_xact setting":   "max_locks_per_transaction",
	} {
		n, err := strconv.Atoi(values[label])
		if err != nil {
			return c, fmt.Errorf("%s: %w", label, err)
		}
		c.max[name] = n
	}
	return c, nil
}
