package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// postgres is a real server with SCRAM on every connection, shared by the tests of this package.
type postgres struct {
	dir, port string
	version   int // major
	account   *syscall.Credential
	process   *exec.Cmd
	log       *os.File
}

const superPassword = "correct horse"

var shared struct {
	once sync.Once
	pg   *postgres
	err  error
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(tests{m}) }

type tests struct{ m *testing.M }

func (t tests) Run() int {
	code := t.m.Run()
	if shared.pg != nil {
		if err := shared.pg.stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

// server gives the address of the shared PostgreSQL, which is started at first need.
func server(t *testing.T) *postgres {
	t.Helper()
	shared.once.Do(func() { shared.pg, shared.err = startPostgres() })
	require.NoError(t, shared.err)
	return shared.pg
}

func (p *postgres) address() string { return "127.0.0.1:" + p.port }

// connect opens a superuser session.
func (p *postgres) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf(
		"host=127.0.0.1 port=%s user=postgres password='%s' dbname=postgres sslmode=disable", p.port, superPassword))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// newestBinaries finds PostgreSQL where Debian puts it.
func newestBinaries() (dir string, version int, err error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	for _, path := range found {
		n, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		if err == nil && n > version {
			dir, version = filepath.Dir(path)+"/", n
		}
	}
	if dir == "" {
		return "", 0, errors.Join(errors.New("no PostgreSQL server in /usr/lib/postgresql; install the package postgresql"), err)
	}
	return dir, version, nil
}

func startPostgres() (*postgres, error) {
	bin, version, err := newestBinaries()
	if err != nil {
		return nil, err
	}
	p := &postgres{version: version}
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 { // PostgreSQL does not run as root
		account, err := user.Lookup("postgres")
		if err != nil {
			return nil, err
		}
		if uid, err = strconv.Atoi(account.Uid); err != nil {
			return nil, err
		}
		if gid, err = strconv.Atoi(account.Gid); err != nil {
			return nil, err
		}
		p.account = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	if p.dir, err = os.MkdirTemp("", "wire"); err != nil {
		return nil, err
	}
	passwords, data := filepath.Join(p.dir, "password"), filepath.Join(p.dir, "data")
	if err := errors.Join(
		os.WriteFile(passwords, []byte(superPassword), 0o600),
		os.Chown(passwords, uid, gid), os.Chown(p.dir, uid, gid),
	); err != nil {
		return nil, err
	}
	initdb := exec.Command(bin+"initdb", "-D", data, "-U", "postgres", "--auth=scram-sha-256", "--pwfile="+passwords,
		"--no-sync", "--encoding=UTF8", "--locale=C.UTF-8")
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: p.account}
	initdb.Dir = p.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, p.port, _ = net.SplitHostPort(l.Addr().String())
	l.Close()
	if p.log, err = os.Create(filepath.Join(p.dir, "log")); err != nil {
		return nil, err
	}
	p.process = exec.Command(bin+"postgres", "-D", data, "-p", p.port, "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=50")
	p.process.SysProcAttr = &syscall.SysProcAttr{Credential: p.account, Pdeathsig: syscall.SIGQUIT}
	p.process.Dir = p.dir
	p.process.Stdout, p.process.Stderr = p.log, p.log
	if err := p.process.Start(); err != nil {
		return nil, err
	}
	return p, p.wait()
}

// wait polls until the server accepts a session.
func (p *postgres) wait() error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		select {
		case <-deadline:
			out, _ := os.ReadFile(p.log.Name())
			return fmt.Errorf("postgres does not come up: %s", bytes.TrimSpace(out))
		case <-tick.C:
			s, err := Connect(context.Background(), ServerConfig{
				Network: "tcp", Address: p.address(), Params: map[string]string{"database": "postgres"},
				Credentials: Credentials{User: "postgres", Password: superPassword},
			})
			if err == nil {
				return s.Conn.Close()
			}
		}
	}
}

func (p *postgres) stop() error {
	var err error
	if p.process != nil && p.process.Process != nil {
		err = p.process.Process.Signal(syscall.SIGINT) // fast shutdown
		p.process.Wait()
	}
	return errors.Join(err, p.log.Close(), os.RemoveAll(p.dir))
}
