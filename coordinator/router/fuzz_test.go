package router_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// Nothing that a client sends stops the router, before its login or after.
func TestHostileClients(t *testing.T) {
	f := serve(t)
	good := f.raw()
	stop := make(chan struct{})
	time.AfterFunc(4*time.Second, func() { close(stop) })
	var wg sync.WaitGroup
	for i := range 4 {
		rnd := rand.New(rand.NewPCG(uint64(i), 42))
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if rnd.IntN(3) == 0 {
					f.stranger(rnd)
				} else {
					f.intruder(rnd)
				}
			}
		}()
	}
	for running := true; running; {
		select {
		case <-stop:
			running = false
		default:
			require.Equal(t, []string{"D:1", "C:SELECT 1", "ZI"}, good.query("select 1"))
		}
	}
	wg.Wait()
	require.NoError(t, f.r.Ready())
	eventually(t, func() error {
		for _, p := range f.r.Stats().Pools {
			if p.Active > 0 {
				return errActive
			}
		}
		return nil
	})
}

var errActive = errors.New("connections are still in use")

// stranger sends noise instead of a start-up packet.
func (f *fixture) stranger(rnd *rand.Rand) {
	c, err := net.Dial("tcp", f.addr)
	if err != nil {
		return
	}
	defer c.Close()
	b := make([]byte, rnd.IntN(200))
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	if len(b) > 8 && rnd.IntN(2) == 0 {
		binary.BigEndian.PutUint32(b, uint32(len(b)))
		binary.BigEndian.PutUint32(b[4:], []uint32{3 << 16, 3<<16 | 2, 80877103, 80877102, 80877104}[rnd.IntN(5)])
	}
	_, _ = c.Write(b)
}

// intruder is a client with a password that sends valid, broken and random messages in any order.
func (f *fixture) intruder(rnd *rand.Rand) {
	c, err := connect(ctx(f.t), f.addr, "app", appPassword, "app", "")
	if err != nil {
		return
	}
	h, err := c.PgConn().Hijack()
	if err != nil {
		return
	}
	defer h.Conn.Close()
	go func() { // reads, so that nothing blocks
		b := make([]byte, 4096)
		for {
			if _, err := h.Conn.Read(b); err != nil {
				return
			}
		}
	}()
	valid := []pgproto3.FrontendMessage{
		&pgproto3.Query{String: "select 1"}, &pgproto3.Query{String: "begin"}, &pgproto3.Query{String: "copy pg_temp.x from stdin"},
		&pgproto3.Query{String: "create temp table if not exists x (a text); copy x from stdin"},
		&pgproto3.Query{String: "set work_mem = '1MB'; rollback"}, &pgproto3.Query{String: "show multicoord.route"},
		parse("a", "select $1::int"), parse("", "select 1/0"), parse("", "show multicoord.route"), parse("", "copy x from stdin"),
		bind("", "a", "1"), bind("", ""), bind("p", "a", "x"), execute("", 0), execute("p", 1),
		&pgproto3.Describe{ObjectType: 'S', Name: "a"}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Close{ObjectType: 'S', Name: "a"},
		&pgproto3.Close{ObjectType: 'P', Name: "p"}, syncMsg, syncMsg, flushMsg,
		&pgproto3.CopyData{Data: []byte("1\n")}, &pgproto3.CopyDone{}, &pgproto3.CopyFail{Message: "no"},
		&pgproto3.FunctionCall{Function: 177}, parse("", "deallocate all"), &pgproto3.Query{String: "discard all"},
	}
	for range rnd.IntN(60) {
		m, _ := valid[rnd.IntN(len(valid))].Encode(nil)
		switch rnd.IntN(12) {
		case 0:
			if len(m) > 5 {
				m[5+rnd.IntN(len(m)-5)] = byte(rnd.Uint32())
			}
		case 1:
			m = m[:rnd.IntN(len(m))]
		case 2:
			m[0] = byte(rnd.Uint32())
		case 3:
			if rnd.IntN(4) == 0 {
				binary.BigEndian.PutUint32(m[1:], rnd.Uint32())
			}
		}
		if _, err := h.Conn.Write(m); err != nil {
			return
		}
	}
}
