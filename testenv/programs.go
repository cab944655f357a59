package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// PGBin is the folder of PostgreSQL's programs: ORCHESTRATOR_PG_BIN, pg_config's, or the newest of the
// distribution.
func (e *Env) PGBin() string {
	e.TB.Helper()
	var dirs []string
	if dir := os.Getenv("ORCHESTRATOR_PG_BIN"); dir != "" {
		dirs = append(dirs, dir)
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		e.TB.Fatal(err)
	}
	slices.SortFunc(found, func(a, b string) int { return majorOf(b) - majorOf(a) })
	found = append(found, "/usr/local/pgsql/bin")
	for _, dir := range append(dirs, found...) {
		if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil {
			return dir
		}
	}
	e.TB.Fatal("PostgreSQL's server programs are not installed: run .ci/packages.sh test")
	return ""
}

// majorOf reads the version out of /usr/lib/postgresql/15/bin.
func majorOf(dir string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
	if err != nil {
		return 0
	}
	return n
}

// Program finds a program in PATH or in the folders of system daemons, which are not in everybody's PATH.
func (e *Env) Program(name string) string {
	e.TB.Helper()
	for _, candidate := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name, "/usr/bin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	e.TB.Fatalf("%s is not installed: run .ci/packages.sh test", name)
	return ""
}
