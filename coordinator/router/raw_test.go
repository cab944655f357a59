package router_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// raw is a client that speaks the protocol message by message.
type raw struct {
	t    *testing.T
	conn net.Conn
	fe   *pgproto3.Frontend
	pid  uint32
	key  []byte
}

// raw logs in through the router with the given runtime parameters (name, value, …).
func (f *fixture) raw(params ...string) *raw {
	f.t.Helper()
	return rawTo(f.t, f.addr, params...)
}

func rawTo(t *testing.T, addr string, params ...string) *raw {
	t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	cfg, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s sslmode=disable", host, port))
	require.NoError(t, err)
	cfg.User, cfg.Password, cfg.Database = "app", appPassword, "app"
	for i := 0; i+1 < len(params); i += 2 {
		cfg.RuntimeParams[params[i]] = params[i+1]
	}
	c, err := pgconn.ConnectConfig(ctx(t), cfg)
	require.NoError(t, err)
	h, err := c.Hijack()
	require.NoError(t, err)
	r := &raw{t: t, conn: h.Conn, fe: h.Frontend, pid: h.PID, key: h.SecretKey}
	t.Cleanup(func() { _ = r.conn.Close() })
	return r
}

// send sends messages in one write.
func (r *raw) send(msgs ...pgproto3.FrontendMessage) {
	r.t.Helper()
	for _, m := range msgs {
		r.fe.Send(m)
	}
	require.NoError(r.t, r.fe.Flush())
}

// next reads one message, for at most ten seconds; it is shown as text.
func (r *raw) next() string {
	r.t.Helper()
	require.NoError(r.t, r.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	m, err := r.fe.Receive()
	require.NoError(r.t, err)
	return show(m)
}

func show(m pgproto3.BackendMessage) string {
	switch m := m.(type) {
	case *pgproto3.ReadyForQuery:
		return "Z" + string(m.TxStatus)
	case *pgproto3.CommandComplete:
		return "C:" + string(m.CommandTag)
	case *pgproto3.DataRow:
		var v []string
		for _, x := range m.Values {
			v = append(v, string(x))
		}
		return "D:" + strings.Join(v, ",")
	case *pgproto3.ErrorResponse:
		return "E:" + m.Code
	case *pgproto3.NoticeResponse:
		return "N:" + m.Message
	case *pgproto3.ParameterStatus:
		return "S:" + m.Name + "=" + m.Value
	case *pgproto3.RowDescription:
		return "T"
	case *pgproto3.ParameterDescription:
		return "t"
	case *pgproto3.ParseComplete:
		return "1"
	case *pgproto3.BindComplete:
		return "2"
	case *pgproto3.CloseComplete:
		return "3"
	case *pgproto3.NoData:
		return "n"
	case *pgproto3.PortalSuspended:
		return "s"
	case *pgproto3.EmptyQueryResponse:
		return "I"
	case *pgproto3.CopyInResponse:
		return "G"
	case *pgproto3.CopyOutResponse:
		return "H"
	case *pgproto3.CopyData:
		return "d:" + strings.TrimSpace(string(m.Data))
	case *pgproto3.CopyDone:
		return "c"
	case *pgproto3.NotificationResponse:
		return "A:" + m.Channel + "=" + m.Payload
	case *pgproto3.FunctionCallResponse:
		return "V:" + string(m.Result)
	}
	return fmt.Sprintf("%T", m)
}

// until reads up to the n-th ReadyForQuery; rows and row descriptions included.
func (r *raw) until(n int) []string {
	r.t.Helper()
	var got []string
	for n > 0 {
		m := r.next()
		got = append(got, m)
		if m[0] == 'Z' {
			n--
		}
	}
	return got
}

// query runs a Query and gives the answers without row descriptions.
func (r *raw) query(sql string) []string {
	r.t.Helper()
	r.send(&pgproto3.Query{String: sql})
	return without(r.until(1), "T")
}

func without(list []string, what string) []string {
	var out []string
	for _, m := range list {
		if m != what {
			out = append(out, m)
		}
	}
	return out
}

func code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

func parse(name, sql string) *pgproto3.Parse { return &pgproto3.Parse{Name: name, Query: sql} }
func bind(portal, name string, params ...string) *pgproto3.Bind {
	b := &pgproto3.Bind{DestinationPortal: portal, PreparedStatement: name}
	for _, p := range params {
		b.Parameters = append(b.Parameters, []byte(p))
	}
	return b
}

func execute(portal string, max uint32) *pgproto3.Execute {
	return &pgproto3.Execute{Portal: portal, MaxRows: max}
}

var (
	syncMsg  = &pgproto3.Sync{}
	flushMsg = &pgproto3.Flush{}
)
