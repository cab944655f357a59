package physical

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/multicoord/multicoord/failover/guard"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

func TestAPrimaryAndItsStandbyComeUpAndStream(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	l := newLab(t)
	ctx := l.ctx()
	p := l.primary("a-1")
	s := l.standby("a-2", p, nil)
	pc, sc := l.connect(p), l.connect(s)
	_, err := pc.Exec(ctx, "CREATE TABLE t AS SELECT 1 AS x")
	require.NoError(t, err)
	po, err := p.Observe(ctx, pc)
	require.NoError(t, err)
	require.Equal(t, cluster.Primary, po.Role)
	require.Empty(t, po.PendingRestart)
	require.Equal(t, []string{"multicoord_a_2"}, po.Slots)
	eventually(t, 10*time.Second, "the standby has the table", func() bool {
		o, err := s.Observe(ctx, sc)
		require.NoError(t, err)
		return o.Replayed >= po.LSN && o.Receiver.Status == "streaming"
	})
	o, err := s.Observe(ctx, sc)
	require.NoError(t, err)
	require.Equal(t, cluster.Standby, o.Role)
	require.Equal(t, po.SystemID, o.SystemID)
	require.Equal(t, uint32(1), o.Timeline)
	require.Equal(t, Receiver{Status: "streaming", Host: "127.0.0.1", Port: p.cfg.Port, Slot: "multicoord_a_2"}, o.Receiver)
	require.Empty(t, o.PendingRestart)
	require.Equal(t, l.bin.Version, o.Version)
	require.False(t, o.ReplayPaused)
	d, err := s.Inspect(ctx)
	require.NoError(t, err)
	require.Equal(t, Ours, d.State)
	require.Equal(t, po.SystemID, d.SystemID)
	require.True(t, d.StandbySignal)
	require.Equal(t, 100, d.ControlMax["max_connections"])

	require.ErrorIs(t, s.Remove(ctx), ErrRunning)
	require.ErrorIs(t, s.Start(ctx, 0, 0), ErrRunning)
	require.NoError(t, s.Stop(ctx, guard.Fast, 10*time.Second))
	require.NoError(t, s.Stop(ctx, guard.Fast, 10*time.Second), "a stopped server is fine")
	require.NoError(t, p.Stop(ctx, guard.Fast, 10*time.Second))
	e, err := p.LastExit()
	require.NoError(t, err)
	require.True(t, e.Clean(), "%+v", e)
	require.NoError(t, s.Remove(ctx))
	require.NoError(t, s.Remove(ctx), "a folder that is gone is fine")
	require.NoDirExists(t, s.cfg.Dir)
}

func TestAStandbyIsPromotedOnANewTimeline(t *testing.T) {
	l := newLab(t)
	ctx := l.ctx()
	p := l.primary("a-1")
	s := l.standby("a-2", p, nil)
	require.NoError(t, p.Stop(ctx, guard.Fast, 10*time.Second))
	client, err := s.Guard(ctx)
	require.NoError(t, err)
	require.NoError(t, client.SetDeadline(ctx, 2, hour()))
	conn := l.connect(s)
	require.NoError(t, s.Promote(ctx, conn, 20*time.Second))
	require.NoError(t, s.Promote(ctx, conn, 20*time.Second), "a primary is fine")
	_, err = conn.Exec(ctx, "CREATE TABLE t AS SELECT 1 AS x")
	require.NoError(t, err)
	o, err := s.Observe(ctx, conn)
	require.NoError(t, err)
	require.Equal(t, cluster.Primary, o.Role)
	require.Equal(t, uint32(2), o.Timeline)
	eventually(t, 5*time.Second, "the guard sees a primary", func() bool {
		st, err := client.Status(ctx)
		require.NoError(t, err)
		return st.Primary
	})
}

func TestACrashedServerIsStartedAgainWithItsData(t *testing.T) {
	l := newLab(t)
	ctx := l.ctx()
	p := l.primary("a-1")
	conn := l.connect(p)
	_, err := conn.Exec(ctx, "CREATE TABLE t AS SELECT 42 AS x")
	require.NoError(t, err)
	client, err := p.Guard(ctx)
	require.NoError(t, err)
	st, err := client.Status(ctx)
	require.NoError(t, err)
	require.NoError(t, unix.Kill(st.PostmasterPID, unix.SIGKILL))
	e, err := client.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, "signal: killed", e.Signal)
	pids, err := guard.Processes(p.DataDir())
	require.NoError(t, err)
	require.Empty(t, pids, "nothing is left when the guard says so")
	require.NoError(t, p.Start(ctx, 1, hour()))
	var x int
	require.NoError(t, l.connect(p).QueryRow(ctx, "SELECT x FROM t").Scan(&x))
	require.Equal(t, 42, x)
}

func TestAServerThatDoesNotComeUpSaysWhy(t *testing.T) {
	l := newLab(t)
	ctx := l.ctx()
	p := l.primary("a-1")
	require.NoError(t, p.Stop(ctx, guard.Fast, 10*time.Second))
	for name, c := range map[string]struct {
		params map[string]string
		want   string
	}{
		"before the logging collector": {map[string]string{"work_mem": "much"}, `invalid value for parameter "work_mem": "much"`},
		"after it":                     {map[string]string{"shared_preload_libraries": "no_such_library"}, "no_such_library"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := p.Configure(ctx, Settings{Role: cluster.Primary, Parameters: c.params})
			require.NoError(t, err)
			require.ErrorContains(t, p.Start(ctx, 1, hour()), c.want)
			_, err = p.Guard(ctx)
			require.ErrorIs(t, err, ErrNotRunning)
		})
	}
	require.ErrorContains(t, p.Start(ctx, 1, guard.Now()), "refuse to start a primary")
}

func TestAServerStillRecoveringIsStarting(t *testing.T) {
	l := newLab(t)
	p := l.primary("a-1")
	s := l.standby("a-2", p, nil)
	ctx := l.ctx()
	require.NoError(t, s.Stop(ctx, guard.Immediate, time.Second))
	// A standby without WAL, and whose backup has not become consistent, waits.
	require.NoError(t, os.RemoveAll(s.cfg.Dir))
	up := l.upstream(p, "a-2")
	require.NoError(t, s.BaseBackup(ctx, up, nil))
	require.NoError(t, os.RemoveAll(filepath.Join(s.DataDir(), "pg_wal")))
	require.NoError(t, os.MkdirAll(filepath.Join(s.DataDir(), "pg_wal", "archive_status"), 0o700))
	require.NoError(t, l.account.chown(filepath.Join(s.DataDir(), "pg_wal")))
	require.NoError(t, l.account.chown(filepath.Join(s.DataDir(), "pg_wal", "archive_status")))
	up.Port = freePort(t)
	_, err := s.Configure(ctx, Settings{Role: cluster.Standby, Parameters: fast(), Upstream: &up})
	require.NoError(t, err)
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Start(short, 0, 0), ErrStarting)
	_, err = s.Guard(ctx)
	require.NoError(t, err)
	t.Run("and becomes ready when its upstream is there", func(t *testing.T) {
		up := l.upstream(p, "a-2")
		changed, err := s.Configure(ctx, Settings{Role: cluster.Standby, Parameters: fast(), Upstream: &up})
		require.NoError(t, err)
		require.True(t, changed)
		require.NoError(t, s.Reload(ctx))
		require.NoError(t, s.Ready(ctx))
	})
}

func TestSlots(t *testing.T) {
	l := newLab(t)
	ctx := l.ctx()
	p := l.primary("a-1")
	conn := l.connect(p)
	_, err := conn.Exec(ctx, "SELECT pg_create_physical_replication_slot('theirs'), pg_create_logical_replication_slot('multicoord_move', 'pgoutput')")
	require.NoError(t, err)
	created, dropped, err := p.EnsureSlots(ctx, conn, []string{SlotName("a-2"), SlotName("a-3")})
	require.NoError(t, err)
	require.Equal(t, []string{"multicoord_a_2", "multicoord_a_3"}, created)
	require.Empty(t, dropped)
	s := l.standby("a-2", p, nil)
	eventually(t, 10*time.Second, "a-2 streams", func() bool {
		o, err := s.Observe(ctx, l.connect(s))
		require.NoError(t, err)
		return o.Receiver.Status == "streaming"
	})
	// standby() has asked for a-2's alone.
	require.Equal(t, []string{"multicoord_a_2"}, slotsOf(t, l, p))
	_, dropped, err = p.EnsureSlots(ctx, conn, nil)
	require.NoError(t, err)
	require.Empty(t, dropped, "one that is in use stays")
	require.NoError(t, s.Stop(ctx, guard.Fast, 10*time.Second))
	eventually(t, 10*time.Second, "it is dropped when the standby has gone", func() bool {
		_, dropped, err := p.EnsureSlots(ctx, conn, nil)
		require.NoError(t, err)
		return len(dropped) == 1
	})
	var n int
	require.NoError(t, conn.QueryRow(ctx, "SELECT count(*) FROM pg_replication_slots").Scan(&n))
	require.Equal(t, 2, n, "those that are not ours stay")
}

func TestASlotTellsHowMuchWALItKeepsAndThatItIsLost(t *testing.T) {
	l := newLab(t)
	ctx := l.ctx()
	p := l.primary("a-1")
	conn := l.connect(p)
	_, _, err := p.EnsureSlots(ctx, conn, []string{SlotName("a-2"), SlotName("a-3")})
	require.NoError(t, err)
	_, err = conn.Exec(ctx, "SELECT pg_create_physical_replication_slot('theirs', true)")
	require.NoError(t, err)
	look := func() []SlotState {
		states, err := p.SlotStates(ctx, conn)
		require.NoError(t, err)
		require.Len(t, states, 2)
		require.Equal(t, "multicoord_a_2", states[0].Name)
		require.Equal(t, "multicoord_a_3", states[1].Name)
		return states
	}
	const chunk = 1 << 20
	// Messages of 1 MB each, in WAL only.
	write := func(chunks int) {
		_, err := conn.Exec(ctx, "SELECT pg_logical_emit_message(true, 'filler', repeat('x', $1::int)) FROM generate_series(1, $2::int)", chunk, chunks)
		require.NoError(t, err)
	}
	before := look()[0]
	require.Equal(t, "reserved", before.WALStatus)
	require.False(t, before.Active)
	write(2)
	require.GreaterOrEqual(t, look()[0].RetainedBytes-before.RetainedBytes, int64(2*chunk))

	for _, setting := range []string{"max_slot_wal_keep_size = '1MB'", "wal_keep_size = 0", "max_wal_size = '32MB'"} {
		_, err = conn.Exec(ctx, "ALTER SYSTEM SET "+setting)
		require.NoError(t, err)
	}
	require.NoError(t, p.Reload(ctx))
	eventually(t, 10*time.Second, "the new limit holds", func() bool {
		var is string
		require.NoError(t, l.connect(p).QueryRow(ctx, "SHOW max_slot_wal_keep_size").Scan(&is))
		return is == "1MB"
	})
	eventually(t, 30*time.Second, "the slots are lost", func() bool {
		write(20)
		_, err := conn.Exec(ctx, "CHECKPOINT")
		require.NoError(t, err)
		states := look()
		return states[0].Lost() && states[1].Lost()
	})
	require.Zero(t, look()[0].RetainedBytes)
	names, err := p.Slots(ctx, conn)
	require.NoError(t, err)
	require.Equal(t, []string{"multicoord_a_2", "multicoord_a_3"}, names)
}

func slotsOf(t *testing.T, l *lab, s *Server) []string {
	t.Helper()
	o, err := s.Observe(l.ctx(), l.connect(s))
	require.NoError(t, err)
	return o.Slots
}

func TestSlotNamesAreValidAndDiffer(t *testing.T) {
	require.Equal(t, "multicoord_coordinator_1", SlotName("coordinator-1"))
	require.Len(t, SlotName(strings.Repeat("a", 40)), 51)
}

func TestNothingSecretIsReadableOrListed(t *testing.T) {
	l := newLab(t)
	ctx := l.ctx()
	p := l.primary("a-1")
	s := l.standby("a-2", p, nil)
	for _, srv := range []*Server{p, s} {
		require.NoError(t, filepath.WalkDir(srv.cfg.Dir, func(path string, d os.DirEntry, err error) error {
			if err != nil { // the servers are running, and remove files
				return nil //nolint:nilerr // what is gone by now cannot be read by anybody
			}
			info, err := d.Info()
			if err != nil {
				return nil //nolint:nilerr // what is gone by now cannot be read by anybody
			}
			switch {
			case path == srv.cfg.Dir, path == srv.run.dir:
				require.Zero(t, info.Mode().Perm()&0o066, "%s: %s", path, info.Mode())
			case !info.IsDir() && info.Mode().IsRegular() || path == srv.DataDir() || path == srv.path("log") || path == srv.SocketDir():
				require.Zero(t, info.Mode().Perm()&0o077, "%s: %s", path, info.Mode())
			}
			return nil
		}))
		pids, err := guard.Processes(srv.DataDir())
		require.NoError(t, err)
		require.NotEmpty(t, pids)
		client, err := srv.Guard(ctx)
		require.NoError(t, err)
		st, err := client.Status(ctx)
		require.NoError(t, err)
		for _, pid := range append(pids, st.GuardPID) {
			for _, file := range []string{"cmdline", "environ"} {
				raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
				if err == nil {
					require.NotContains(t, string(raw), "s3cret")
				}
			}
		}
		for _, leftover := range []string{"pwfile", "data.partial"} {
			require.NoFileExists(t, srv.path(leftover))
			require.NoDirExists(t, srv.path(leftover))
		}
	}
	var trust int
	require.NoError(t, l.connect(p).QueryRow(ctx, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256' OR error IS NOT NULL").Scan(&trust))
	require.Zero(t, trust)
	_, err := p.Connect(ctx, "wrong", "postgres")
	require.ErrorContains(t, err, "28P01")
}
