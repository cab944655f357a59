package physical

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// CheckParameters asks PostgreSQL whether it would take these settings, on a scratch configuration: no server is touched or
// needed. The error names every setting that it refuses, and why. Settings that only a running server can judge (an
// extension's, the memory that there is) pass.
func CheckParameters(ctx context.Context, bin Binaries, account Account, params map[string]string) error {
	base := "" // TMPDIR
	if account.Switch {
		base = "/tmp" // ours may be where the account cannot follow
	}
	return checkParametersIn(ctx, base, bin, account, params)
}

// checkParametersIn is CheckParameters with its scratch folder below base.
func checkParametersIn(ctx context.Context, base string, bin Binaries, account Account, params map[string]string) error {
	if err := checkNames(params); err != nil {
		return err
	}
	all := defaults(0)
	for name, value := range params {
		all[canonical(name)] = value
	}
	dir, err := os.MkdirTemp(base, "multicoord-check-")
	if err != nil {
		return fmt.Errorf("check parameters: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := account.chown(dir); err != nil {
		return fmt.Errorf("check parameters: %w", err)
	}
	// A name that PostgreSQL does not know keeps it from looking at the values: what was refused is taken out, and the rest
	// is tried again.
	problems := map[string]string{}
	for {
		refused, err := tryParameters(ctx, bin, account, dir, all)
		if err != nil {
			return fmt.Errorf("check parameters: %w", err)
		}
		if len(refused) == 0 {
			break
		}
		for name, why := range refused {
			problems[name] = why
			delete(all, name)
		}
	}
	maps.Copy(problems, combinations(all))
	maps.Copy(problems, missingLibraries(ctx, bin, all))
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(problems)) {
		errs = append(errs, fmt.Errorf("parameter %q: %s", name, problems[name]))
	}
	return errors.Join(errs...)
}

// tryParameters runs `postgres -C`, which reads the configuration and exits before it looks at any data, and gives those
// settings of ours that it complains about.
func tryParameters(ctx context.Context, bin Binaries, account Account, dir string, all map[string]string) (map[string]string, error) {
	conf := filepath.Join(dir, "postgresql.conf")
	if _, err := replaceFile(conf, confFile("scratch", all), &account); err != nil {
		return nil, err
	}
	var said []string
	_, err := command{
		account: account, lines: func(line string) { said = append(said, line) },
		argv: []string{bin.program("postgres"), "-D", dir, "-C", "max_connections", "-c", "log_line_prefix=", "-c", "logging_collector=off"},
	}.run(ctx)
	if err == nil {
		return nil, nil
	}
	refused := complaints(said, all)
	if len(refused) == 0 {
		return nil, err
	}
	return refused, nil
}

// complaints reads the server's messages (set_config_option and ProcessConfigFileInternal in guc.c): each names a parameter,
// and may be followed by a hint or a detail.
func complaints(said []string, all map[string]string) map[string]string {
	refused := map[string]string{}
	last := ""
	for _, line := range said {
		_, text, _ := strings.Cut(line, ": ")
		text = strings.TrimSpace(text)
		if i := strings.Index(text, ` in file "`); i > 0 {
			text = text[:i]
		}
		_, after, _ := strings.Cut(text, `parameter "`)
		name, _, _ := strings.Cut(after, `"`)
		switch {
		case has(all, name):
			last = strings.ToLower(name)
			refused[last] = text
		case last != "" && (strings.Contains(line, "HINT:") || strings.Contains(line, "DETAIL:")):
			refused[last] += " (" + strings.TrimSuffix(text, ".") + ")"
		default:
			last = ""
		}
	}
	return refused
}

func has(all map[string]string, name string) bool {
	_, ok := all[strings.ToLower(name)]
	return ok
}

// combinations are what the postmaster checks only when it starts (PostmasterMain).
func combinations(all map[string]string) map[string]string {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(strings.TrimSpace(all[name])); err == nil {
			return n
		}
		return otherwise
	}
	problems := map[string]string{}
	most, reserved := number("max_connections", 100), number("superuser_reserved_connections", 3)+number("reserved_connections", 0)
	if reserved >= most {
		problems["max_connections"] = fmt.Sprintf("%d connections, of which %d are reserved for superusers and others: none is left", most, reserved)
	}
	return problems
}

// missingLibraries names libraries to be preloaded that do not exist: the server would not start, or no session would.
func missingLibraries(ctx context.Context, bin Binaries, all map[string]string) map[string]string {
	out, err := command{argv: []string{bin.program("pg_config"), "--pkglibdir"}}.run(ctx)
	if err != nil {
		return nil // pg_config is in another package, and not there: the server will tell
	}
	libdir := strings.TrimSpace(out)
	problems := map[string]string{}
	for _, name := range []string{"shared_preload_libraries", "session_preload_libraries", "local_preload_libraries"} {
		for lib := range strings.SplitSeq(all[name], ",") {
			lib = strings.Trim(strings.TrimSpace(lib), `"`)
			path := strings.Replace(lib, "$libdir", libdir, 1)
			if !strings.Contains(path, "/") {
				path = filepath.Join(libdir, path)
			}
			if lib != "" && !isFile(path) && !isFile(path+".so") {
				problems[name] = fmt.Sprintf("there is no library %q in %s; install it on this host first", lib, libdir)
			}
		}
	}
	return problems
}
