package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresOptions says how a stock server is made.
type PostgresOptions struct {
	// Parameters go into postgresql.conf.
	Parameters map[string]string
	// Name is for messages.
	Name string
}

// Postgres is one stock PostgreSQL server on 127.0.0.1, without anything of ours: what the orchestrator is
// compared with. Its superuser is "postgres" with the password "stock".
type Postgres struct {
	*Process
	Port    int
	DataDir string
}

// stockPassword is the superuser's password at servers that live for one test.
const stockPassword = "stock"

// Postgres makes and starts a stock server and waits until it answers.
func (e *Env) Postgres(o PostgresOptions) *Postgres {
	e.TB.Helper()
	if o.Name == "" {
		o.Name = "postgres"
	}
	owner := e.ServerCredential()
	dir := e.Mkdir(o.Name, 0o700, owner)
	data := filepath.Join(dir, "data")
	port := e.Port()
	pwfile := e.WriteFile(o.Name+".password", stockPassword, 0o644)
	r := e.Run(time.Minute, Command{
		Argv: []string{
			filepath.Join(e.PGBin(), "initdb"), "-D", data, "-U", "postgres", "--pwfile", pwfile,
			"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--data-checksums",
		},
		Credential: owner, Dir: dir,
	}, "")
	if r.Code != 0 {
		e.TB.Fatalf("make a stock server: %s", r)
	}
	argv := []string{
		filepath.Join(e.PGBin(), "postgres"), "-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(port),
		"-k", dir, "-c", "fsync=off",
	}
	for name, value := range o.Parameters {
		argv = append(argv, "-c", name+"="+value)
	}
	p := &Postgres{Port: port, DataDir: data}
	p.Process = e.Start(Command{Name: o.Name, Argv: argv, Credential: owner, Dir: dir, StopSignal: syscall.SIGINT})
	e.Until(30*time.Second, o.Name+" answers", func() error { return Ping(p.Connstr()) })
	return p
}

// Connstr is the URL of the server's database "postgres".
func (p *Postgres) Connstr() string {
	return connstr("postgres", stockPassword, "127.0.0.1", p.Port, "postgres")
}

func connstr(user, password, host string, port int, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(user, password),
		Host: net.JoinHostPort(host, strconv.Itoa(port)), Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Ping connects and runs one statement, within five seconds.
func Ping(connstr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, connstr)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var one int
	return conn.QueryRow(ctx, "SELECT 1").Scan(&one)
}

// Connect opens a connection that is closed when the test ends.
func (e *Env) Connect(connstr string) *pgx.Conn {
	e.TB.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, connstr)
	if err != nil {
		e.TB.Fatalf("connect: %v", err)
	}
	e.TB.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

// Psql runs psql against connstr (-X, stops at the first error) and gives its output without the last line
// break. It fails the test when psql does.
func (e *Env) Psql(connstr string, args ...string) string {
	e.TB.Helper()
	r := e.psql(connstr, args...)
	if r.Code != 0 {
		e.TB.Fatalf("psql: %s", r)
	}
	return strings.TrimRight(r.Stdout, "\n")
}

// TryPsql runs one statement with psql and gives its error, if any.
func (e *Env) TryPsql(connstr, statement string) error {
	e.TB.Helper()
	if r := e.psql(connstr, "-c", statement); r.Code != 0 {
		return errors.New(r.Stderr)
	}
	return nil
}

func (e *Env) psql(connstr string, args ...string) Result {
	e.TB.Helper()
	return e.Run(2*time.Minute, Command{Argv: append([]string{
		filepath.Join(e.PGBin(), "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", connstr,
	}, args...)}, "")
}

// Pgbench runs pgbench against connstr and gives its report. It fails the test when pgbench does, which includes
// every transaction that ended in an error.
func (e *Env) Pgbench(within time.Duration, connstr string, args ...string) string {
	e.TB.Helper()
	// pgbench takes the connection string as its last argument.
	r := e.Run(within, Command{Argv: append(append([]string{filepath.Join(e.PGBin(), "pgbench")}, args...), connstr)}, "")
	if r.Code != 0 {
		e.TB.Fatalf("pgbench: %s", r)
	}
	return r.Stdout
}

// Scan runs a query that gives one row with one column.
func Scan[T any](e *Env, conn *pgx.Conn, query string, args ...any) T {
	e.TB.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var v T
	if err := conn.QueryRow(ctx, query, args...).Scan(&v); err != nil {
		e.TB.Fatal(fmt.Errorf("%s: %w", query, err))
	}
	return v
}

// Exec runs a statement.
func Exec(e *Env, conn *pgx.Conn, query string, args ...any) {
	e.TB.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := conn.Exec(ctx, query, args...); err != nil {
		e.TB.Fatal(fmt.Errorf("%s: %w", query, err))
	}
}
