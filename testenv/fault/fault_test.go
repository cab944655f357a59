package fault

import (
	"io"
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Address())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func say(t *testing.T, c net.Conn, word string) {
	t.Helper()
	_, err := c.Write([]byte(word))
	require.NoError(t, err)
}

// hear reads n bytes within the time; "" when nothing comes.
func hear(t *testing.T, c net.Conn, n int, within time.Duration) string {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(within)))
	buf := make([]byte, n)
	n, _ = io.ReadFull(c, buf)
	return string(buf[:n])
}

func TestProxyPassesBytesBothWays(t *testing.T) {
	p := NewProxy(t, "127.0.0.1:0", echo(t))
	c := dial(t, p)
	say(t, c, "hello")
	require.Equal(t, "hello", hear(t, c, 5, 5*time.Second))
	require.Equal(t, 1, p.Connections())
}

func TestPartitionKeepsBytesBackAndHealDeliversThem(t *testing.T) {
	for _, way := range []Way{ToServer, ToClient} {
		p := NewProxy(t, "127.0.0.1:0", echo(t))
		c := dial(t, p)
		say(t, c, "before")
		require.Equal(t, "before", hear(t, c, 6, 5*time.Second))
		p.Partition(way)
		say(t, c, "during")
		require.Empty(t, hear(t, c, 6, 50*time.Millisecond))
		p.Heal()
		require.Equal(t, "during", hear(t, c, 6, 5*time.Second))
	}
}

func TestDelayTakesItsTime(t *testing.T) {
	p := NewProxy(t, "127.0.0.1:0", echo(t))
	c := dial(t, p)
	p.Delay(60*time.Millisecond, ToClient)
	began := time.Now()
	say(t, c, "late")
	require.Equal(t, "late", hear(t, c, 4, 5*time.Second))
	require.GreaterOrEqual(t, time.Since(began), 60*time.Millisecond)
}

func TestRefuseAndBreakEndConnections(t *testing.T) {
	p := NewProxy(t, "127.0.0.1:0", echo(t))
	c := dial(t, p)
	say(t, c, "x")
	require.Equal(t, "x", hear(t, c, 1, 5*time.Second))
	p.Break()
	require.Empty(t, hear(t, c, 1, 5*time.Second))
	p.Refuse()
	refused := dial(t, p)
	_, err := refused.Read(make([]byte, 1))
	require.Error(t, err)
}

func TestClosingAPartitionedProxyEndsItsGoroutines(t *testing.T) {
	p := NewProxy(t, "127.0.0.1:0", echo(t))
	p.Partition()
	c := dial(t, p)
	say(t, c, "nobody hears this")
	require.Empty(t, hear(t, c, 1, 20*time.Millisecond))
	p.Close()
}

func TestSignalsShowTheirEffectBeforeTheyReturn(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	require.NoError(t, cmd.Start())
	pid := cmd.Process.Pid
	Stop(t, pid)
	require.Equal(t, "T", stateOf(pid))
	Cont(t, pid)
	require.NotEqual(t, "T", stateOf(pid))
	require.True(t, Alive(pid))
	_, err := CPU(pid)
	require.NoError(t, err)
	Kill(t, pid)
	require.False(t, Alive(pid))
	require.Error(t, cmd.Wait())
}
