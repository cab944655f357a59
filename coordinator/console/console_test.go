package console

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/coordinator/wire"
)

func (r running) config(t *testing.T, mode, more string) *pgx.ConnConfig {
	t.Helper()
	cfg, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%s user=postgres password='%s' dbname=spqr-console sslmode=disable default_query_exec_mode=%s %s",
		r.host, r.port, adminPassword, mode, more))
	require.NoError(t, err)
	return cfg
}

func (r running) connect(t *testing.T, mode string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), r.config(t, mode, ""))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

var modes = []string{"simple_protocol", "exec", "describe_exec", "cache_describe", "cache_statement"}

func TestPgxReadsEveryTableInEveryMode(t *testing.T) {
	r := start(t, config(t))
	src := sample()
	in := input{snap: src.snap, view: src.view, version: "1.0-test"}
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			conn := r.connect(t, mode)
			for _, s := range shows() {
				for range 2 { // the second time from the statement cache
					rows, err := conn.Query(t.Context(), "SHOW "+s.name+";")
					require.NoError(t, err)
					var got [][]any
					for rows.Next() {
						values, err := rows.Values()
						require.NoError(t, err)
						for i, v := range values {
							if v, ok := v.(time.Time); ok {
								values[i] = v.UTC()
							}
						}
						got = append(got, values)
					}
					require.NoError(t, rows.Err())
					require.Equal(t, "SHOW", rows.CommandTag().String())
					require.Equal(t, s.rows(in), got, s.name)
				}
			}
		})
	}
}

func TestRouteIsTold(t *testing.T) {
	r := start(t, config(t))
	for _, mode := range modes {
		conn := r.connect(t, mode)
		var statement, class, node string
		require.NoError(t, conn.QueryRow(t.Context(), "SHOW route 'SELECT ''x'''").Scan(&statement, &class, &node, nil, nil))
		require.Equal(t, []string{"SELECT 'x'", "read", "c2"}, []string{statement, class, node})
		_, err := conn.Exec(t.Context(), "SHOW route 'broken'")
		require.ErrorContains(t, err, "no table of servers yet")
		if mode == "simple_protocol" {
			continue // pgx puts the parameter into the text
		}
		require.NoError(t, conn.QueryRow(t.Context(), "SHOW route $1", "SELECT 'y'").Scan(&statement, &class, &node, nil, nil))
		require.Equal(t, "SELECT 'y'", statement)
		_, err = conn.Exec(t.Context(), "SHOW route $1", nil)
		requireCode(t, err, "22004")
	}
	cfg := config(t)
	src := sample()
	src.view.Route = nil
	cfg.Source, cfg.Reload = src, nil
	conn := start(t, cfg).connect(t, "exec")
	_, err := conn.Exec(t.Context(), "SHOW route 'SELECT 1'")
	requireCode(t, err, "0A000")
	_, err = conn.Exec(t.Context(), "RELOAD")
	requireCode(t, err, "0A000")
}

func requireCode(t *testing.T, err error, code string) *pgconn.PgError {
	t.Helper()
	var e *pgconn.PgError
	require.ErrorAs(t, err, &e)
	require.Equal(t, code, e.Code, e.Message)
	return e
}

func TestReload(t *testing.T) {
	cfg := config(t)
	var failure error
	calls := 0
	cfg.Reload = func(context.Context) error { calls++; return failure }
	r := start(t, cfg)
	for _, mode := range modes {
		conn := r.connect(t, mode)
		tag, err := conn.Exec(t.Context(), "reload")
		require.NoError(t, err)
		require.Equal(t, "RELOAD", tag.String())
	}
	require.Equal(t, len(modes), calls)
	failure = errors.New("read /etc/x: permission denied")
	_, err := r.connect(t, "exec").Exec(t.Context(), "RELOAD;")
	e := requireCode(t, err, "F0000")
	require.Equal(t, "read /etc/x: permission denied", e.Message)
}

func TestTransactionsAreWhatDriversExpect(t *testing.T) {
	r := start(t, config(t))
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			ctx := t.Context()
			conn := r.connect(t, mode)
			tx, err := conn.Begin(ctx)
			require.NoError(t, err)
			require.Equal(t, byte('T'), conn.PgConn().TxStatus())
			nested, err := tx.Begin(ctx) // a savepoint
			require.NoError(t, err)
			require.NoError(t, nested.Commit(ctx))
			_, err = tx.Exec(ctx, "SHOW version")
			require.NoError(t, err)
			_, err = tx.Exec(ctx, "SHOW nonsense")
			requireCode(t, err, "42601")
			require.Equal(t, byte('E'), conn.PgConn().TxStatus())
			_, err = conn.Exec(ctx, "RELOAD")
			requireCode(t, err, "25P02")
			require.ErrorIs(t, tx.Commit(ctx), pgx.ErrTxCommitRollback)
			require.Equal(t, byte('I'), conn.PgConn().TxStatus())
			_, err = conn.Exec(ctx, "ROLLBACK")
			require.NoError(t, err)
			require.NoError(t, conn.Ping(ctx))
			_, err = conn.Exec(ctx, "SET application_name TO 'someone'")
			require.NoError(t, err)
			var name string
			require.NoError(t, conn.QueryRow(ctx, "SHOW application_name").Scan(&name))
			require.Equal(t, "someone", name)
			require.Equal(t, "someone", conn.PgConn().ParameterStatus("application_name"))
			_, err = conn.Exec(ctx, "DISCARD ALL")
			require.NoError(t, err)
			_, err = conn.Exec(ctx, "DEALLOCATE ALL")
			require.NoError(t, err)
		})
	}
}

func TestATargetSessionOfReadWriteIsFound(t *testing.T) {
	r := start(t, config(t))
	conn, err := pgx.ConnectConfig(t.Context(), r.config(t, "exec", "target_session_attrs=read-write"))
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}

func (r running) psql(t *testing.T, user, password string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/psql", append([]string{"-X", "-h", r.host, "-p", r.port, "-U", user}, args...)...)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password, "PGAPPNAME=psql test")
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func TestPsql(t *testing.T) {
	r := start(t, config(t))
	for _, c := range []struct {
		args []string
		out  string
	}{
		{[]string{"-Atc", "SHOW VERSION;", "pgbouncer"}, "multicoord orchestrator 1.0-test\n"},
		{[]string{"-Atc", "show routers; reload; show version", "any database at all"}, "" +
			"r1|127.0.0.1:6432|127.0.0.1:7432|1.0|7|t|2026-03-01 12:00:00.123456+00\n" +
			"r2|10.0.0.2:6432||1.0|6|f|2026-03-01 12:00:00.123456+00\nRELOAD\nmulticoord orchestrator 1.0-test\n"},
		{[]string{"-At", "-c", `\pset null (null)`, "-c", "show lag", "spqr-console"}, "" +
			"Null display is \"(null)\".\n" +
			"c2|10.0.0.2:5432|standby|standby|t|(null)|256|40|0|0/3000100|2|7300000000000000001|t|100|2|2026-03-01 12:00:00.123456+00\n" +
			"c1|10.0.0.1:5432|primary|primary|t|(null)|9|0|0|0/3000200|2|7300000000000000001|f|100|1|2026-03-01 12:00:00.123456+00\n" +
			"c3|10.0.0.2:5433|standby|(null)|f|not reachable: connection refused|(null)|(null)|0|(null)|(null)|(null)|f|100|0|(null)\n"},
		{[]string{"-Atc", "SET client_encoding TO 'UTF8'; BEGIN; SHOW server_encoding; COMMIT", "x"}, "SET\nBEGIN\nUTF8\nCOMMIT\n"},
		{[]string{"-Atc", "SHOW application_name", "x"}, "psql test\n"},
		{[]string{"-Atc", "-- nothing", "x"}, ""},
		{[]string{"-c", "SHOW pools", "x"}, "" +
			" database | user  | node | cl_active | cl_waiting | sv_active | sv_idle | sv_login | maxwait | maxwait_us |  pool_mode  | pool_size \n" +
			"----------+-------+------+-----------+------------+-----------+---------+----------+---------+------------+-------------+-----------\n" +
			" shop     | alice | c1   |         2 |          1 |         2 |       3 |        1 |       2 |     500000 | transaction |        20\n(1 row)\n\n"},
	} {
		out, stderr, err := r.psql(t, "postgres", adminPassword, c.args...)
		require.NoError(t, err, stderr)
		require.Equal(t, c.out, out)
		require.Empty(t, stderr)
	}
	for args, message := range map[string]string{
		"SHOW tables": "ERROR:  SHOW \"tables\" is not a command of this console\nHINT:  The commands are: SHOW clients, SHOW config, SHOW groups, SHOW help, " +
			"SHOW lag, SHOW nodes, SHOW pools, SHOW routers, SHOW servers, SHOW stats, SHOW version, SHOW route '<statement>', RELOAD.\n",
		"SHOW version; SELECT 1":   "ERROR:  syntax error: \"select 1\" is not a command of this console\nHINT:",
		"SHOW route $1":            "ERROR:  there is no parameter $1\n",
		"SET default_pool_size=10": "ERROR:  unrecognized configuration parameter \"default_pool_size\"\nHINT:  The router's settings are changed in the spec",
		"SHOW 'x":                  "ERROR:  unterminated quoted string\n",
	} {
		out, stderr, err := r.psql(t, "postgres", adminPassword, "-Atc", args, "x")
		require.Error(t, err)
		require.Empty(t, out, "nothing of a string that is not understood is carried out")
		require.Contains(t, stderr, message)
	}
}

func TestOnlyThoseWhoMayAreLetIn(t *testing.T) {
	r := start(t, config(t))
	for _, user := range []string{"postgres", "mallory", "pgbouncer"} {
		_, stderr, err := r.psql(t, user, "wrong", "-c", "SHOW version", "pgbouncer")
		require.Error(t, err)
		require.Contains(t, stderr, fmt.Sprintf("FATAL:  password authentication failed for user %q", user))
	}
	_, stderr, err := r.psql(t, "mallory", adminPassword, "-c", "SHOW version", "pgbouncer")
	require.Error(t, err)
	require.Contains(t, stderr, "password authentication failed")
}

func TestLimits(t *testing.T) {
	cfg := config(t)
	cfg.MaxClients = 2
	r := start(t, cfg)
	first := r.connect(t, "exec")
	r.connect(t, "exec")
	_, err := pgx.ConnectConfig(t.Context(), r.config(t, "exec", ""))
	e := requireCode(t, err, "53300")
	require.Equal(t, "FATAL", e.Severity)
	require.NoError(t, first.Close(t.Context()))
	require.Eventually(t, func() bool {
		conn, err := pgx.ConnectConfig(t.Context(), r.config(t, "exec", ""))
		if err != nil {
			return false
		}
		conn.Close(t.Context())
		return true
	}, 10*time.Second, 5*time.Millisecond, "a place that became free can be taken")

	// Many who say nothing keep nobody out for longer than the login timeout, and take no more than the limit.
	cfg.LoginTimeout = 100 * time.Millisecond
	r = start(t, cfg)
	var silent []net.Conn
	for range 3 * pendingClients {
		conn, err := net.Dial("tcp", r.addr)
		require.NoError(t, err)
		silent = append(silent, conn)
	}
	for _, conn := range silent {
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err := conn.Read(make([]byte, 1))
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it is sent away")
		conn.Close()
	}
	require.NoError(t, r.connect(t, "exec").Ping(t.Context()))
}

func TestTheEndOfItsContextEndsSessions(t *testing.T) {
	r := start(t, config(t))
	idle := r.connect(t, "exec")
	silent, err := net.Dial("tcp", r.addr)
	require.NoError(t, err)
	defer silent.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := idle.WaitForNotification(t.Context()) // reads until something comes
		requireCode(t, err, "57P01")
	})
	require.NoError(t, r.connect(t, "exec").Ping(t.Context()))
	r.stop()
	wg.Wait()
	_, err = net.Dial("tcp", r.addr)
	require.Error(t, err)
}

func TestABrokenListenerIsAnError(t *testing.T) {
	var l net.Listener
	r := launch(t, func(ctx context.Context, listener net.Listener) error {
		l = listener
		l.Close()
		err := Serve(ctx, l, config(t))
		require.ErrorIs(t, err, net.ErrClosed)
		return nil
	})
	<-r.done
}

func TestTLSConsole(t *testing.T) {
	cfg := config(t)
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(t)}}
	r := start(t, cfg)
	for _, mode := range []string{"sslmode=require", "sslmode=disable"} {
		conn, err := pgx.ConnectConfig(t.Context(), r.config(t, "exec", mode))
		require.NoError(t, err)
		require.NoError(t, conn.Ping(t.Context()))
		require.NoError(t, conn.Close(t.Context()))
	}
	out, stderr, err := r.psql(t, "postgres", adminPassword, "-Atc", "show version", "sslmode=require dbname=x")
	require.NoError(t, err, stderr)
	require.NotEmpty(t, out)
}

// login makes a raw, logged-in connection.
func (r running) login(t *testing.T) *wire.Server {
	t.Helper()
	s, err := wire.Connect(t.Context(), wire.ServerConfig{
		Network: "tcp", Address: r.addr, Credentials: wire.Credentials{User: "postgres", Password: adminPassword},
	})
	require.NoError(t, err)
	t.Cleanup(func() { s.Conn.Close() })
	s.Conn.SetDeadline(time.Now().Add(20 * time.Second))
	return s
}

func TestAHostileClientStopsNobodyElse(t *testing.T) {
	cfg := config(t)
	src := sample()
	src.view.Route = func(context.Context, string) ([]Routed, error) { panic("a mistake somewhere") }
	cfg.Source = src
	r := start(t, cfg)
	good := r.connect(t, "exec")
	frame := func(typ byte, body string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{typ}, uint32(4+len(body))), body...)
	}
	for name, say := range map[string][]byte{
		"unknown type":        frame('?', ""),
		"length 0":            {'Q', 0, 0, 0, 0},
		"2 GiB":               {'Q', 0x7f, 0xff, 0xff, 0xff},
		"over the limit":      binary.BigEndian.AppendUint32([]byte{'Q'}, maxMessage+1),
		"no terminator":       frame('Q', "SHOW version"),
		"broken parse":        frame('P', "\x00\x00\xff\xff"),
		"broken bind":         frame('B', "\x00\x00\xff\xff"),
		"broken describe":     frame('D', "x"),
		"broken close":        frame('C', ""),
		"broken execute":      frame('E', "\x00"),
		"a panic of the host": frame('Q', "SHOW route 'x'\x00"),
	} {
		s := r.login(t)
		_, err := s.Conn.Write(say)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, s.Conn)
		if !errors.Is(err, net.ErrClosed) && err != nil {
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, name)
		}
		require.NoError(t, good.Ping(t.Context()), name)
	}
	for _, raw := range []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01", "\x00\x00\x00\x08\x04\xd2\x16\x2e", "\x00\x00\x00\x09\x00\x03\x00\x00\x00"} {
		conn, err := net.Dial("tcp", r.addr)
		require.NoError(t, err)
		conn.Write([]byte(raw))
		conn.(*net.TCPConn).CloseWrite()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, err = io.Copy(io.Discard, conn)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		conn.Close()
	}
	require.NoError(t, good.Ping(t.Context()))
}

func TestAClientThatDoesNotReadHoldsNothingUp(t *testing.T) {
	r := start(t, config(t))
	s := r.login(t)
	question := wire.AppendQuery(nil, "SHOW config")
	var asked []byte
	for range 50 {
		asked = append(asked, question...)
	}
	for { // until its answers and our questions have filled all buffers
		s.Conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		if _, err := s.Conn.Write(asked); err != nil {
			break
		}
	}
	began := time.Now()
	r.stop()
	require.Less(t, time.Since(began), 10*time.Second)
}
