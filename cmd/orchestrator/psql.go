package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/multicoord/multicoord/replication/physical"
)

const psqlLong = `Runs psql with the connection that "orchestrator connstr" prints. All arguments that are not flags
of this command go to psql; after "--" all do, so that "orchestrator psql -- --help" is psql's help.

The connection is handed over in libpq's environment variables (PGHOST, PGPASSFILE, …), so psql's own
options such as -d and -U win over it.`

func newPsqlCommand(a *app) *cobra.Command {
	var o connstrOptions
	var pgBin string
	cmd := &cobra.Command{
		Use:         "psql [ARGUMENTS OF PSQL]",
		Short:       "Run psql on the cluster",
		Long:        psqlLong,
		Annotations: map[string]string{passThrough: "yes"},
		Example: `  orchestrator psql
  orchestrator psql -c 'SELECT inet_server_port()'
  orchestrator psql --read-only -d shop -f report.sql
  orchestrator psql --direct --group 1
  orchestrator psql --admin -c 'SHOW lag'`,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	o.add(a, cmd)
	cmd.Flags().StringVar(&pgBin, "pg-bin", "", "folder of PostgreSQL's programs (default: $PG_CONFIG, PATH, the usual folders)")
	_ = cmd.MarkFlagDirname("pg-bin")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.check(cmd); err != nil {
			return err
		}
		path, err := a.findPsql(cmd.Context(), pgBin)
		if err != nil {
			return err
		}
		h, err := a.openCluster(cmd.Context())
		if err != nil {
			return err
		}
		c, err := a.connection(h, o, false)
		h.Close()
		if err != nil {
			return err
		}
		if err := a.exec(path, append([]string{"psql"}, args...), c.environ(a.environ())); err != nil {
			return fmt.Errorf("run %s: %w", path, err)
		}
		return nil
	}
	return cmd
}

// findPsql prefers the psql that belongs to the servers; a machine that has only clients has it in PATH.
func (a *app) findPsql(ctx context.Context, pgBin string) (string, error) {
	getenv := func(name string) string { v, _ := a.lookupEnv(name); return v }
	bin, err := physical.FindBinaries(ctx, physical.FindOptions{PGBin: pgBin, Getenv: getenv})
	if err == nil {
		if path := filepath.Join(bin.Dir, "psql"); executable(path) {
			return path, nil
		}
	}
	if pgBin != "" {
		if path := filepath.Join(pgBin, "psql"); executable(path) {
			return filepath.Abs(path)
		}
		return "", fmt.Errorf("there is no psql in %s: check --pg-bin", pgBin)
	}
	looked := filepath.SplitList(getenv("PATH"))
	for _, dir := range looked {
		if path := filepath.Join(dir, "psql"); filepath.IsAbs(path) && executable(path) {
			return path, nil
		}
	}
	if bin.Dir != "" {
		looked = append([]string{bin.Dir}, looked...)
	}
	return "", fmt.Errorf("psql was not found in %s: install PostgreSQL's client (on Debian and Ubuntu: apt-get install postgresql-client), or say with --pg-bin where it is", strings.Join(looked, ", "))
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// environ replaces in env what would lead libpq elsewhere.
func (c connection) environ(env []string) []string {
	ports := make([]string, len(c.Ports))
	for i, p := range c.Ports {
		ports[i] = strconv.Itoa(p)
	}
	own := map[string]string{
		"PGHOST": strings.Join(c.Hosts, ","), "PGPORT": strings.Join(ports, ","), "PGDATABASE": c.Database, "PGUSER": c.User,
		"PGHOSTADDR": "", "PGSERVICE": "", "PGSERVICEFILE": "", "PGTARGETSESSIONATTRS": c.Target, "PGOPTIONS": c.Options,
	}
	if c.Passfile != "" {
		own["PGPASSFILE"], own["PGPASSWORD"] = c.Passfile, ""
	}
	var out []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if _, ours := own[name]; !ours {
			out = append(out, e)
		}
	}
	for _, name := range []string{"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSFILE", "PGTARGETSESSIONATTRS", "PGOPTIONS"} {
		if own[name] != "" {
			out = append(out, name+"="+own[name])
		}
	}
	return out
}
