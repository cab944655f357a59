package physical

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/failover/guard"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// programsIn counts the processes whose command line names a folder.
func programsIn(dir string) int {
	n := 0
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if raw, err := os.ReadFile(f); err == nil && strings.Contains(string(raw), dir) {
			n++
		}
	}
	return n
}

func TestInitDBKilledAtAnyMomentLeavesNothingOrAWholeDirectory(t *testing.T) {
	l := newLab(t)
	cfg := l.config("a-1")
	s := New(cfg)
	l.keepClean(s)
	ctx := l.ctx()
	for _, after := range []time.Duration{0, 20, 60, 150, 300, 500, 800} {
		agent := l.agent("initdb", cfg)
		agent.Stderr = nil
		require.NoError(t, agent.Start())
		kill := time.AfterFunc(after*time.Millisecond, func() { _ = agent.Process.Kill() })
		err := agent.Wait()
		kill.Stop()
		d, inspectErr := s.Inspect(ctx)
		require.NoError(t, inspectErr)
		if err == nil || d.State == Ours {
			require.Equal(t, Ours, d.State)
			require.NotEmpty(t, d.SystemID)
			require.NoError(t, s.Remove(ctx))
			continue
		}
		require.Equal(t, Absent, d.State, "killed after %s ms", after)
		eventually(t, 10*time.Second, "its programs die with it", func() bool { return programsIn(cfg.Dir) == 0 })
	}
	require.NoError(t, s.InitDB(ctx, superPassword))
	require.NoDirExists(t, s.partial())
	require.NoFileExists(t, s.path("pwfile"))
	require.ErrorIs(t, s.InitDB(ctx, superPassword), ErrExists)
	d, err := s.Inspect(ctx)
	require.NoError(t, err)
	require.Equal(t, Ours, d.State)
	require.False(t, d.StandbySignal)
	_, err = s.Configure(ctx, Settings{Role: cluster.Primary, Parameters: fast()})
	require.NoError(t, err)
	require.NoError(t, s.Start(ctx, 1, hour()))
	var checksums, encoding, collate string
	require.NoError(t, l.connect(s).QueryRow(ctx, "SELECT current_setting('data_checksums'), current_setting('server_encoding'), datcollate FROM pg_database WHERE datname = 'postgres'").
		Scan(&checksums, &encoding, &collate))
	require.Equal(t, []string{"on", "UTF8", "C.UTF-8"}, []string{checksums, encoding, collate})
}

func TestABaseBackupKilledOrCancelledCanBeTakenAgain(t *testing.T) {
	l := newLab(t)
	ctx := l.ctx()
	p := l.primary("a-1")
	conn := l.connect(p)
	_, err := conn.Exec(ctx, "CREATE TABLE big AS SELECT repeat(md5(i::text), 30) FROM generate_series(1, 60000) i")
	require.NoError(t, err)
	_, _, err = p.EnsureSlots(ctx, conn, []string{SlotName("a-2")})
	require.NoError(t, err)
	cfg := l.config("a-2")
	s := New(cfg)
	l.keepClean(s)
	up := l.upstream(p, "a-2")
	raw, err := json.Marshal(up)
	require.NoError(t, err)
	for _, after := range []time.Duration{5, 30, 80, 150} {
		agent := l.agent(string(raw), cfg)
		agent.Stderr = nil
		require.NoError(t, agent.Start())
		kill := time.AfterFunc(after*time.Millisecond, func() { _ = agent.Process.Kill() })
		err := agent.Wait()
		kill.Stop()
		d, inspectErr := s.Inspect(ctx)
		require.NoError(t, inspectErr)
		if err == nil || d.State == Ours {
			require.True(t, d.StandbySignal)
			require.NoError(t, s.Remove(ctx))
		} else {
			require.Equal(t, Absent, d.State)
		}
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.BaseBackup(short, up, nil), context.DeadlineExceeded)
	var done, total int64
	require.NoError(t, s.BaseBackup(ctx, up, func(d, t int64) { done, total = d, t }))
	require.Positive(t, total)
	require.GreaterOrEqual(t, done, total*9/10)
	require.Zero(t, programsIn(cfg.Dir))
	_, err = s.Configure(ctx, Settings{Role: cluster.Standby, Parameters: fast(), Upstream: &up})
	require.NoError(t, err)
	require.NoError(t, s.Start(ctx, 0, 0))
	t.Run("and what keeps it from being taken is said", func(t *testing.T) {
		other := l.server("a-3")
		require.ErrorContains(t, other.BaseBackup(ctx, l.upstream(p, "a-3"), nil), "multicoord_a_3")
		wrong := up
		wrong.Password = "wrong"
		err := other.BaseBackup(ctx, wrong, nil)
		require.ErrorContains(t, err, "password authentication failed")
		require.NotContains(t, err.Error(), "wrong")
		gone := up
		gone.Port = freePort(t)
		require.ErrorContains(t, other.BaseBackup(ctx, gone, nil), "Connection refused")
	})
}

func TestAForeignFolderIsRefusedByNameAndNotTouched(t *testing.T) {
	l := newLab(t)
	ctx := l.ctx()
	ours := l.server("a-1")
	require.NoError(t, ours.InitDB(ctx, superPassword))
	stranger := filepath.Join(l.dir, "stranger")
	require.NoError(t, os.Mkdir(stranger, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(stranger, "precious"), []byte("data"), 0o644))
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"another cluster's": {func(c *Config) { c.ClusterID = "other" }, `belongs to cluster "test" (id ` + clusterID},
		"another node's":    {func(c *Config) { c.Node = "b-1" }, "belongs to node a-1"},
		"not a node's":      {func(c *Config) { c.Dir = stranger }, "is not empty and has no marker.json"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := ours.cfg
			c.change(&cfg)
			s := New(cfg)
			before := listing(t, cfg.Dir)
			d, err := s.Inspect(ctx)
			require.NoError(t, err)
			require.Equal(t, Foreign, d.State)
			require.Contains(t, d.Reason, c.want)
			_, configure := s.Configure(ctx, Settings{Role: cluster.Primary})
			for what, err := range map[string]error{
				"init": s.InitDB(ctx, superPassword), "backup": s.BaseBackup(ctx, Upstream{Address: "127.0.0.1", Port: 1}, nil),
				"configure": configure, "start": s.Start(ctx, 1, hour()), "remove": s.Remove(ctx),
			} {
				require.ErrorIs(t, err, ErrForeign, what)
				require.ErrorContains(t, err, c.want, what)
			}
			require.Equal(t, before, listing(t, cfg.Dir))
		})
	}
}

func listing(t *testing.T, dir string) (all []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		all = append(all, path+" "+st.Mode().String()+" "+st.ModTime().String())
		return nil
	}))
	return all
}

func TestTheBeginningsOfAMarkerAreNotForeign(t *testing.T) {
	l := newLab(t)
	s := l.server("a-1")
	require.NoError(t, os.Mkdir(s.cfg.Dir, 0o711))
	begun := s.path(markerFile) + ".0123.tmp"
	require.NoError(t, os.WriteFile(begun, []byte("{"), 0o600))
	d, err := s.Inspect(l.ctx())
	require.NoError(t, err)
	require.Equal(t, Absent, d.State)
	require.NoError(t, s.InitDB(l.ctx(), superPassword))
	require.NoFileExists(t, begun)
}

func TestADamagedDirectoryIsOursAndSaysWhatIsWrong(t *testing.T) {
	l := newLab(t)
	ctx := l.ctx()
	s := l.server("a-1")
	d, err := s.Inspect(ctx)
	require.NoError(t, err)
	require.Equal(t, Disk{State: Absent}, d)
	require.NoError(t, s.InitDB(ctx, superPassword))
	require.NoError(t, os.Truncate(filepath.Join(s.DataDir(), "global", "pg_control"), 10))
	d, err = s.Inspect(ctx)
	require.NoError(t, err)
	require.Equal(t, Ours, d.State)
	require.Contains(t, d.Reason, "control file")
	require.ErrorIs(t, s.InitDB(ctx, superPassword), ErrExists, "it is not for us to throw it away")
	require.NoError(t, s.Remove(ctx), "unless we are asked to")
}

func TestTheFirstFolderThatBarsTheWayIsNamed(t *testing.T) {
	l := newLab(t)
	if !l.account.Switch {
		t.Skip("only root changes accounts")
	}
	closed := filepath.Join(l.dir, "closed")
	require.NoError(t, os.MkdirAll(filepath.Join(closed, "open"), 0o755))
	require.NoError(t, os.Chmod(closed, 0o700))
	cfg := l.config("a-1")
	cfg.Dir = filepath.Join(closed, "open", "a-1")
	err := New(cfg).InitDB(l.ctx(), superPassword)
	require.ErrorContains(t, err, `OS user "postgres" cannot enter `+closed+`, which is on the way to `+cfg.Dir)
	require.ErrorContains(t, err, "chmod o+x "+closed)
	require.NoDirExists(t, cfg.Dir)
}

func TestSocketsOfALongPathAreElsewhereAndFoundAgain(t *testing.T) {
	l := newLab(t)
	ctx := l.ctx()
	cfg := l.config("a-1")
	cfg.Dir = filepath.Join(l.dir, strings.Repeat("long-", 20), "a-1")
	s := New(cfg)
	l.keepClean(s)
	require.NotContains(t, s.SocketDir(), l.dir)
	require.LessOrEqual(t, len(s.SocketDir()+"/"+maxPortName), maxPathLen)
	require.Equal(t, s.SocketDir(), New(cfg).SocketDir())
	require.NoError(t, s.InitDB(ctx, superPassword))
	_, err := s.Configure(ctx, Settings{Role: cluster.Primary, Parameters: fast()})
	require.NoError(t, err)
	require.NoError(t, s.Start(ctx, 1, hour()))
	require.NoError(t, l.connect(New(cfg)).Ping(ctx))
	require.NoError(t, s.Stop(ctx, guard.Fast, 10*time.Second))
	require.NoError(t, s.Remove(ctx))
	require.NoDirExists(t, s.run.dir)
}

func TestASocketFolderOfSomebodyElseIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make one")
	}
	l := newLab(t)
	dir := filepath.Join(l.dir, "run")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.Chown(dir, 12345, 12345))
	require.ErrorContains(t, runDir{dir: dir}.make(l.account), "is not a folder that belongs to uid 0")
	link := filepath.Join(l.dir, "link")
	require.NoError(t, os.Symlink(l.dir, link))
	require.ErrorContains(t, runDir{dir: link}.make(l.account), "is not a folder that belongs to uid 0")
}

func TestUsedPortsAreRefusedByName(t *testing.T) {
	l := newLab(t)
	port := freePort(t)
	require.NoError(t, Preflight(l.ctx(), "a-1", "127.0.0.1", port))
	cmd := exec.Command("python3", "-c", "import socket,sys;s=socket.socket();s.bind(('127.0.0.1',int(sys.argv[1])));s.listen();print(1,flush=True);sys.stdin.read()", itoa(port))
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	_, err = out.Read(make([]byte, 1))
	require.NoError(t, err)
	err = Preflight(l.ctx(), "a-1", "127.0.0.1", port)
	require.EqualError(t, err, "port "+itoa(port)+" of node a-1 is in use by python3 (pid "+itoa(cmd.Process.Pid)+")")
	var portErr *PortError
	require.ErrorAs(t, err, &portErr)
	require.NoError(t, in.Close())
	require.NoError(t, cmd.Wait())
	require.EqualError(t, Preflight(l.ctx(), "a-1", "192.0.2.1", port), "address 192.0.2.1 of node a-1 does not belong to this host")
}
