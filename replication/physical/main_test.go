package physical

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/failover/guard"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// TestMain makes the test's binary a guard when it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "guard" {
		if err := guard.Main(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 4 && os.Args[1] == "agent" {
		if err := agentAct(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// agentAct does one thing to a server in a process of its own, which a test can kill.
func agentAct(what, config string) error {
	var cfg Config
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		return err
	}
	ctx, s := context.Background(), New(cfg)
	switch what {
	case "initdb":
		return s.InitDB(ctx, superPassword)
	case "start": // and then hang around
		_, err := s.Launch(ctx, 1, guard.Now().Add(2*time.Second))
		if err == nil {
			fmt.Println("started")
			select {}
		}
		return err
	}
	var up Upstream
	if err := json.Unmarshal([]byte(what), &up); err != nil {
		return err
	}
	return s.BaseBackup(ctx, up, nil)
}

// agent starts agentAct in its own process.
func (l *lab) agent(what string, cfg Config) *exec.Cmd {
	l.t.Helper()
	cfg.Log = nil
	raw, err := json.Marshal(cfg)
	require.NoError(l.t, err)
	cmd := exec.Command(cfg.Self, "agent", what, string(raw))
	cmd.Stderr = os.Stderr
	return cmd
}

const (
	superPassword = "s3cret: of the 'superuser' \\"
	replPassword  = "s3cret: of the replicator"
	clusterID     = "4d5ab0f6-5b8f-4e8e-9d3c-000000000001"
)

// lab is a folder for servers of one test.
type lab struct {
	t       *testing.T
	dir     string
	bin     Binaries
	account Account
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	bin, err := FindBinaries(t.Context(), FindOptions{PGBin: os.Getenv("PGBIN"), Getenv: os.Getenv})
	if err != nil {
		t.Skip(err)
	}
	account, err := LookupAccount("", os.Geteuid())
	require.NoError(t, err)
	// Not t.TempDir(): its parent is closed to the account.
	dir, err := os.MkdirTemp("/tmp", "mcp") //nolint:usetesting // see above
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return &lab{t: t, dir: dir, bin: bin, account: account}
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

func (l *lab) config(node string) Config {
	self, err := os.Executable()
	require.NoError(l.t, err)
	return Config{
		Log: slog.New(slog.NewTextHandler(l.t.Output(), nil)), Self: self, Bin: l.bin, Account: l.account,
		Dir: filepath.Join(l.dir, node), ClusterID: clusterID, ClusterName: "test", Node: node,
		Address: "127.0.0.1", Port: freePort(l.t),
	}
}

// server makes a Server whose processes are ended with the test, and must then be gone.
func (l *lab) server(node string) *Server {
	s := New(l.config(node))
	l.keepClean(s)
	return s
}

func (l *lab) keepClean(s *Server) {
	l.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		require.NoError(l.t, s.Stop(ctx, guard.Immediate, time.Second))
		pids, err := guard.Processes(s.DataDir())
		require.NoError(l.t, err)
		require.Empty(l.t, pids)
	})
}

// hour is a deadline that no test reaches.
func hour() guard.Instant { return guard.Now().Add(time.Hour) }

func (l *lab) ctx() context.Context {
	ctx, cancel := context.WithTimeout(l.t.Context(), 60*time.Second)
	l.t.Cleanup(cancel)
	return ctx
}

// primary makes and starts a primary with the replicator role.
func (l *lab) primary(node string) *Server {
	l.t.Helper()
	s := l.server(node)
	ctx := l.ctx()
	require.NoError(l.t, s.InitDB(ctx, superPassword))
	_, err := s.Configure(ctx, Settings{Role: cluster.Primary, Parameters: fast()})
	require.NoError(l.t, err)
	require.NoError(l.t, s.Start(ctx, 1, hour()))
	conn := l.connect(s)
	_, err = conn.Exec(ctx, "CREATE ROLE multicoord_replicator REPLICATION LOGIN PASSWORD '"+replPassword+"'")
	require.NoError(l.t, err)
	return s
}

// standby makes and starts a standby of up.
func (l *lab) standby(node string, up *Server, params map[string]string) *Server {
	l.t.Helper()
	s := l.server(node)
	ctx := l.ctx()
	_, _, err := up.EnsureSlots(ctx, l.connect(up), []string{SlotName(node)})
	require.NoError(l.t, err)
	upstream := l.upstream(up, node)
	require.NoError(l.t, s.BaseBackup(ctx, upstream, nil))
	all := fast()
	for k, v := range params {
		all[k] = v
	}
	_, err = s.Configure(ctx, Settings{Role: cluster.Standby, Parameters: all, Upstream: &upstream})
	require.NoError(l.t, err)
	require.NoError(l.t, s.Start(ctx, 0, 0))
	return s
}

func (l *lab) upstream(up *Server, node string) Upstream {
	return Upstream{Address: up.cfg.Address, Port: up.cfg.Port, Password: replPassword, Slot: SlotName(node)}
}

// fast keeps the tests' servers small.
func fast() map[string]string {
	return map[string]string{"shared_buffers": "16MB", "max_wal_size": "64MB", "min_wal_size": "32MB"}
}

func (l *lab) connect(s *Server) *pgx.Conn {
	l.t.Helper()
	conn, err := s.Connect(l.ctx(), superPassword, "postgres")
	require.NoError(l.t, err)
	l.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// eventually waits for a condition, looking at it every few milliseconds.
func eventually(t *testing.T, bound time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(bound)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", bound, what)
		}
		<-tick.C
	}
}
