package physical

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/failover/guard"
	"github.com/multicoord/multicoord/orchestrator/cluster"
	"time"
)

func TestAPrimaryAndItsStandbyComeUpAndStream(t *testing.T) {
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
	eventually(t, 10*time.Second, "the standby has the table", func() bool {
		o, err := s.Observe(ctx, sc)
		require.NoError(t, err)
		return o.Replayed >= po.LSN && o.Receiver.Status == "streaming"
	})
	o, err := s.Observe(ctx, sc)
	require.NoError(t, err)
	require.Equal(t, po.SystemID, o.SystemID)
	require.Equal(t, uint32(1), o.Timeline)
	require.Equal(t, p.cfg.Port, o.Receiver.Port)
	require.Empty(t, o.PendingRestart)
	require.Equal(t, "multicoord_a_2", o.Receiver.Slot)
	require.NoError(t, s.Stop(ctx, guard.Fast, 10*time.Second))
	require.NoError(t, p.Stop(ctx, guard.Fast, 10*time.Second))
	e, err := p.LastExit()
	require.NoError(t, err)
	require.True(t, e.Clean(), "%+v", e)
}
