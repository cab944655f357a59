package physical

import (
	"errors"
	"fmt"
	"strings"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// checkHBA refuses lines for pg_hba.conf that would keep a server of this version from loading the file, and those that
// are refused in a spec.
func checkHBA(set Settings, major int) error {
	var errs []error
	for i, line := range set.HBA {
		if err := cluster.CheckHBALine(line, cluster.PostgreSQL{Version: major, Parameters: set.Parameters}); err != nil {
			errs = append(errs, fmt.Errorf("hba[%d] %q: %w", i, line, err))
		}
	}
	return errors.Join(errs...)
}

// hbaFile renders pg_hba.conf.
func hbaFile(node string, lines []string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, generated+" for node %s. Do not edit: it is written anew.\n", node)
	b.WriteString("# Add lines with postgresql.hba in the spec.\n\n")
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
	b.WriteString("local all all scram-sha-256\n")
	for _, net := range []string{"0.0.0.0/0", "::/0"} {
		fmt.Fprintf(&b, "host replication %s %s scram-sha-256\n", Replicator, net)
		fmt.Fprintf(&b, "host all all %s scram-sha-256\n", net)
	}
	return []byte(b.String())
}
