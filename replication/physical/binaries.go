package physical

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"
)

// MinMajor and MaxMajor are the PostgreSQL versions that are supported.
const (
	MinMajor = 15
	MaxMajor = 18
)

// Binaries is a folder with PostgreSQL's programs.
type Binaries struct {
	Dir     string
	Major   int
	Version string // "15.18"
}

// FindOptions says where to look.
type FindOptions struct {
	// PGBin is --pg-bin: if it is set, nothing else is looked at.
	PGBin string
	// Major is the version wanted; 0 takes the newest that is supported.
	Major  int
	Getenv func(string) string
}

// programs are those that we run.
func programs() []string {
	return []string{"postgres", "initdb", "pg_basebackup", "pg_controldata"}
}

// FindBinaries finds PostgreSQL's programs: --pg-bin; else $PG_CONFIG, pg_config and postgres in PATH, and the usual folders
// of packages. The error lists every place that was looked at and what was found there.
func FindBinaries(ctx context.Context, o FindOptions) (Binaries, error) {
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	var looked []string
	var best Binaries
	for _, c := range candidates(ctx, o) {
		b, err := lookAt(ctx, c.dir)
		switch {
		case err != nil:
			looked = append(looked, fmt.Sprintf("%s (%s): %v", c.dir, c.source, err))
		case o.Major != 0 && b.Major != o.Major:
			looked = append(looked, fmt.Sprintf("%s (%s): version %s, not %d", c.dir, c.source, b.Version, o.Major))
		case b.Major < MinMajor || b.Major > MaxMajor:
			looked = append(looked, fmt.Sprintf("%s (%s): version %s is not supported", c.dir, c.source, b.Version))
		case b.Major > best.Major:
			best = b
		}
	}
	if best.Dir != "" {
		return best, nil
	}
	want := fmt.Sprintf("PostgreSQL %d to %d", MinMajor, MaxMajor)
	pkg := "postgresql"
	if o.Major != 0 {
		want, pkg = fmt.Sprintf("PostgreSQL %d", o.Major), fmt.Sprintf("postgresql-%d", o.Major)
	}
	if len(looked) == 0 {
		looked = []string{"no folder with programs of PostgreSQL is in PATH or among the usual ones"}
	}
	return Binaries{}, fmt.Errorf("the programs of %s were not found; install the server (Debian, Ubuntu: `apt-get install %s`; Fedora, RHEL: `dnf install postgresql-server`) or name the folder with --pg-bin. Looked at:\n  %s",
		want, pkg, strings.Join(looked, "\n  "))
}

type candidate struct{ dir, source string }

func candidates(ctx context.Context, o FindOptions) []candidate {
	if o.PGBin != "" {
		return []candidate{{o.PGBin, "--pg-bin"}}
	}
	var all []candidate
	if v := o.Getenv("PG_CONFIG"); v != "" {
		all = append(all, candidate{bindir(ctx, v), "PG_CONFIG=" + v})
	}
	path := filepath.SplitList(o.Getenv("PATH"))
	for _, dir := range path {
		if isFile(filepath.Join(dir, "postgres")) {
			all = append(all, candidate{dir, "PATH"})
		}
	}
	for _, dir := range path {
		if p := filepath.Join(dir, "pg_config"); isFile(p) {
			all = append(all, candidate{bindir(ctx, p), p})
		}
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/lib64/postgresql/*/bin", "/usr/lib64/postgresql-*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql*/bin",
		"/usr/local/bin", "/opt/postgresql*/bin", "/opt/pgpro/*/bin", "/usr/libexec/postgresql*", "/opt/homebrew/opt/postgresql@*/bin", "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
		"/nix/var/nix/profiles/default/bin",
	} {
		dirs, _ := filepath.Glob(pattern) // the patterns are well formed
		sort.Sort(sort.Reverse(sort.StringSlice(dirs)))
		for _, dir := range dirs {
			if isFile(filepath.Join(dir, "postgres")) {
				all = append(all, candidate{dir, pattern})
			}
		}
	}
	return unique(all)
}

func unique(all []candidate) []candidate {
	seen := map[string]bool{}
	var out []candidate
	for _, c := range all {
		if !seen[c.dir] {
			seen[c.dir] = true
			out = append(out, c)
		}
	}
	return out
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// bindir asks a pg_config. It gives the folder of pg_config itself if that does not work.
func bindir(ctx context.Context, pgConfig string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, pgConfig, "--bindir").Output()
	if dir := strings.TrimSpace(string(out)); err == nil && filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Dir(pgConfig)
}

func lookAt(ctx context.Context, dir string) (Binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Binaries{}, err
	}
	for _, name := range programs() {
		if !isFile(filepath.Join(dir, name)) {
			return Binaries{}, fmt.Errorf("there is no %s", name)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("postgres --version: %w", err)
	}
	b, err := parseVersion(string(out))
	b.Dir = dir
	return b, err
}

// parseVersion reads "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "… 17beta1", "… 18devel".
func parseVersion(out string) (Binaries, error) {
	m := regexp.MustCompile(`\(PostgreSQL\) (([0-9]+)[0-9a-z.]*)`).FindStringSubmatch(out)
	if m == nil {
		return Binaries{}, fmt.Errorf("%q is not a version of PostgreSQL", strings.TrimSpace(out))
	}
	major, err := strconv.Atoi(m[2])
	if err != nil {
		return Binaries{}, fmt.Errorf("version %q: %w", m[1], err)
	}
	return Binaries{Major: major, Version: m[1]}, nil
}

func (b Binaries) program(name string) string { return filepath.Join(b.Dir, name) }
