package bench

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/multicoord/multicoord/testenv"
)

// PgBouncer is pgbouncer in front of one server.
type PgBouncer struct {
	*testenv.Process
	// Connstr is a connection string through it.
	Connstr string
	// Mode is its pool_mode.
	Mode string
}

// preparedSince is the version since which pgbouncer carries protocol-level prepared statements from one server
// connection to another in transaction mode (max_prepared_statements).
var preparedSince = version{1, 21}

type version struct{ major, minor int }

func (v version) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

func (v version) atLeast(w version) bool {
	return v.major > w.major || v.major == w.major && v.minor >= w.minor
}

var versionLine = regexp.MustCompile(`(?m)^PgBouncer (\d+)\.(\d+)`)

func parseVersion(out string) (version, error) {
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return version{}, fmt.Errorf("read pgbouncer's version: %q", out)
	}
	major, err := strconv.Atoi(m[1])
	if err != nil {
		return version{}, fmt.Errorf("read pgbouncer's version: %w", err)
	}
	minor, err := strconv.Atoi(m[2])
	if err != nil {
		return version{}, fmt.Errorf("read pgbouncer's version: %w", err)
	}
	return version{major, minor}, nil
}

// target is the server behind pgbouncer.
type target struct {
	host                     string
	port                     int
	user, password, database string
}

// config is pgbouncer.ini: the pool is as large as the router's is by default, everything else is pgbouncer's own.
func config(t target, port int, mode, users string, v version) string {
	lines := []string{
		"[databases]",
		fmt.Sprintf("%s = host=%s port=%d", t.database, t.host, t.port),
		"[pgbouncer]",
		"listen_addr = 127.0.0.1",
		fmt.Sprintf("listen_port = %d", port),
		"unix_socket_dir =",
		"auth_type = scram-sha-256",
		"auth_file = " + users,
		"pool_mode = " + mode,
		"default_pool_size = 20",
		"max_client_conn = 200",
		"log_connections = 0",
		"log_disconnections = 0",
	}
	if v.atLeast(preparedSince) {
		lines = append(lines, "max_prepared_statements = 200")
	}
	return strings.Join(lines, "\n") + "\n"
}

// startPgBouncer starts pgbouncer in a pool mode and waits until it answers.
func startPgBouncer(env *testenv.Env, t target, mode string, v version) *PgBouncer {
	env.TB.Helper()
	owner := env.ServerCredential() // pgbouncer refuses root as well
	dir := env.Mkdir("pgbouncer-"+mode, 0o755, owner)
	port := env.Port()
	// The password in plain text is for a server that lives as long as this run.
	users := env.WriteFile("pgbouncer-"+mode+"/users.txt", fmt.Sprintf("%q %q\n", t.user, t.password), 0o644)
	ini := env.WriteFile("pgbouncer-"+mode+"/pgbouncer.ini", config(t, port, mode, users, v), 0o644)
	b := &PgBouncer{Mode: mode, Connstr: fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", t.user, t.password, port, t.database)}
	b.Process = env.Start(testenv.Command{
		Name: "pgbouncer-" + mode, Argv: []string{env.Program("pgbouncer"), ini}, Credential: owner, Dir: dir,
	})
	env.Until(20*time.Second, "pgbouncer answers", func() error { return testenv.Ping(b.Connstr) })
	return b
}
