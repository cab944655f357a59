package console

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/coordinator/wire"
)

// talk sends messages and gives the answers up to as many ReadyForQuery as there are Sync and Query messages, each as
// its type, with the code of errors.
func talk(t *testing.T, s *wire.Server, messages ...pgproto3.FrontendMessage) []string {
	t.Helper()
	front := pgproto3.NewFrontend(s.Conn, s.Conn)
	ready := 0
	for _, m := range messages {
		front.Send(m)
		switch m.(type) {
		case *pgproto3.Sync, *pgproto3.Query, *pgproto3.FunctionCall:
			ready++
		}
	}
	require.NoError(t, front.Flush())
	var got []string
	for ready > 0 {
		m, err := front.Receive()
		require.NoError(t, err)
		switch m := m.(type) {
		case *pgproto3.ReadyForQuery:
			got = append(got, "Z"+string(m.TxStatus))
			ready--
		case *pgproto3.ErrorResponse:
			got = append(got, m.Code)
		case *pgproto3.NoticeResponse:
			got = append(got, "notice "+m.Code)
		case *pgproto3.CommandComplete:
			got = append(got, string(m.CommandTag))
		case *pgproto3.DataRow:
			got = append(got, "row")
		case *pgproto3.RowDescription:
			got = append(got, "columns")
		default:
			b, err := m.(interface{ Encode([]byte) ([]byte, error) }).Encode(nil)
			require.NoError(t, err)
			got = append(got, string(b[0]))
		}
	}
	return got
}

func TestExtendedProtocol(t *testing.T) {
	r := start(t, config(t))
	type m = pgproto3.FrontendMessage
	parse := func(name, q string) m { return &pgproto3.Parse{Name: name, Query: q} }
	bind := func(portal, name string) m {
		return &pgproto3.Bind{DestinationPortal: portal, PreparedStatement: name}
	}
	execute := func(portal string, rows uint32) m { return &pgproto3.Execute{Portal: portal, MaxRows: rows} }
	describe := func(kind byte, name string) m { return &pgproto3.Describe{ObjectType: kind, Name: name} }
	shut := func(kind byte, name string) m { return &pgproto3.Close{ObjectType: kind, Name: name} }
	query := func(q string) m { return &pgproto3.Query{String: q} }
	sync := &pgproto3.Sync{}
	for _, c := range []struct {
		name string
		say  []m
		want []string
	}{
		{
			"a table",
			[]m{parse("", "SHOW routers"), describe('S', ""), bind("", ""), describe('P', ""), execute("", 0), sync},
			[]string{"1", "t", "columns", "2", "columns", "row", "row", "SHOW", "ZI"},
		},
		{"no rows", []m{parse("", "RELOAD"), bind("", ""), describe('P', ""), execute("", 0), sync}, []string{"1", "2", "n", "RELOAD", "ZI"}},
		{"nothing", []m{parse("", " ; "), describe('S', ""), bind("", ""), execute("", 0), sync}, []string{"1", "t", "n", "2", "I", "ZI"}},
		{
			"in portions",
			[]m{parse("", "SHOW nodes"), bind("p", ""), execute("p", 3), execute("p", 3), execute("p", 3), sync},
			[]string{"1", "2", "row", "row", "row", "s", "row", "SHOW", "SHOW", "ZI"},
		},
		{"a portal outlives Sync only in a transaction", []m{
			query("BEGIN"), parse("", "SHOW nodes"), bind("p", ""), execute("p", 1), sync, execute("p", 0), sync, query("COMMIT"), execute("p", 0), sync,
		}, []string{"BEGIN", "ZT", "1", "2", "row", "s", "ZT", "row", "row", "row", "SHOW", "ZT", "COMMIT", "ZI", "34000", "ZI"}},
		{
			"an error skips to Sync",
			[]m{parse("", "SHOW nonsense"), bind("", ""), execute("", 0), &pgproto3.Flush{}, sync, query("RELOAD")},
			[]string{"42601", "ZI", "RELOAD", "ZI"},
		},
		{"more than one command", []m{parse("", "RELOAD; RELOAD"), sync}, []string{"42601", "ZI"}},
		{"no such statement", []m{bind("", "gone"), sync, describe('S', "gone"), sync}, []string{"26000", "ZI", "26000", "ZI"}},
		{"no such portal", []m{describe('P', "gone"), sync, execute("gone", 0), sync}, []string{"34000", "ZI", "34000", "ZI"}},
		{"a name twice", []m{parse("s", "RELOAD"), parse("s", "RELOAD"), sync}, []string{"1", "42P05", "ZI"}},
		{"a name again", []m{parse("s", "RELOAD"), shut('S', "s"), parse("s", "SHOW version"), sync}, []string{"1", "3", "1", "ZI"}},
		{
			"forgotten",
			[]m{parse("s", "RELOAD"), sync, query("DEALLOCATE s"), bind("", "s"), sync, query("DEALLOCATE s")},
			[]string{"1", "ZI", "DEALLOCATE", "ZI", "26000", "ZI", "26000", "ZI"},
		},
		{"all forgotten", []m{parse("s", "RELOAD"), sync, query("DISCARD ALL"), bind("", "s"), sync}, []string{"1", "ZI", "DISCARD ALL", "ZI", "26000", "ZI"}},
		{"a portal twice", []m{parse("", "RELOAD"), bind("p", ""), bind("p", ""), sync}, []string{"1", "2", "42P03", "ZI"}},
		{"a portal closed", []m{parse("", "RELOAD"), bind("p", ""), shut('P', "p"), execute("p", 0), sync}, []string{"1", "2", "3", "34000", "ZI"}},
		{"once only", []m{parse("", "RELOAD"), bind("", ""), execute("", 0), execute("", 0), sync}, []string{"1", "2", "RELOAD", "55000", "ZI"}},
		{"too many parameters", []m{parse("", "SHOW nodes"), &pgproto3.Bind{Parameters: [][]byte{nil}}, sync}, []string{"1", "08P01", "ZI"}},
		{"too few parameters", []m{parse("", "SHOW route $1"), bind("", ""), sync}, []string{"1", "08P01", "ZI"}},
		{"a wrong number of formats", []m{parse("", "SHOW nodes"), &pgproto3.Bind{ResultFormatCodes: []int16{1, 0}}, sync}, []string{"1", "08P01", "ZI"}},
		{"a wrong format", []m{parse("", "SHOW nodes"), &pgproto3.Bind{ResultFormatCodes: []int16{2}}, sync}, []string{"1", "22023", "ZI"}},
		{
			"a failed transaction",
			[]m{query("BEGIN"), query("SHOW x"), parse("", "RELOAD"), bind("", ""), execute("", 0), sync, query("END")},
			[]string{"BEGIN", "ZT", "42601", "ZE", "1", "2", "25P02", "ZE", "ROLLBACK", "ZI"},
		},
		{
			"needless transactions",
			[]m{query("BEGIN; BEGIN; COMMIT; COMMIT")},
			[]string{"BEGIN", "notice 25001", "BEGIN", "COMMIT", "notice 25P01", "COMMIT", "ZI"},
		},
		{"Flush", []m{parse("", "RELOAD"), &pgproto3.Flush{}, sync}, []string{"1", "ZI"}},
		{"function call", []m{&pgproto3.FunctionCall{}}, []string{"0A000", "ZI"}},
		{"what is left of a COPY", []m{&pgproto3.CopyData{}, &pgproto3.CopyDone{}, &pgproto3.CopyFail{}, sync}, []string{"ZI"}},
		{"an empty query", []m{query("")}, []string{"I", "ZI"}},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, talk(t, r.login(t), c.say...)) })
	}
	t.Run("statements and portals are limited", func(t *testing.T) {
		s := r.login(t)
		var say []m
		for i := range maxStatements + 1 {
			say = append(say, parse("s"+big.NewInt(int64(i)).String(), "RELOAD"))
		}
		got := talk(t, s, append(say, sync)...)
		require.Equal(t, []string{"1", "53400", "ZI"}, got[len(got)-3:])
		say = say[:0]
		for i := range maxPortals + 1 {
			say = append(say, bind("p"+big.NewInt(int64(i)).String(), "s0"))
		}
		got = talk(t, s, append(say, sync)...)
		require.Equal(t, []string{"2", "53400", "ZI"}, got[len(got)-3:])
	})
}

func TestACancelRequestIsTakenAndDoesNothing(t *testing.T) {
	r := start(t, config(t))
	s := r.login(t)
	require.Equal(t, wire.Protocol32, s.Protocol)
	require.Len(t, s.Secret, 32)
	require.NoError(t, wire.Cancel(t.Context(), "tcp", r.addr, wire.CancelKey{PID: s.PID, Secret: s.Secret}))
	require.Equal(t, []string{"RELOAD", "ZI"}, talk(t, s, &pgproto3.Query{String: "RELOAD"}))
}

// spoken is a connection on which everything has been said already.
type spoken struct {
	net.Conn
	rest []byte
}

func (s *spoken) Read(b []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, net.ErrClosed
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}
func (s *spoken) Write(b []byte) (int, error)      { return len(b), nil }
func (s *spoken) SetWriteDeadline(time.Time) error { return nil }

func FuzzSession(f *testing.F) {
	f.Add(wire.AppendQuery(nil, "SHOW nodes; BEGIN; RELOAD"))
	f.Add(wire.AppendSync(wire.AppendDescribe(wire.AppendParse(nil, nil, []byte("SHOW route $1"), nil), 'S', "")))
	bound := wire.AppendBind(wire.AppendParse(nil, nil, []byte("SHOW lag"), nil), nil, nil, []byte("\x00\x00\x00\x00\x00\x01\x00\x01"))
	f.Add(append(bound, "E\x00\x00\x00\x09\x00\x00\x00\x00\x01S\x00\x00\x00\x04"...))
	c := &console{cfg: Config{Source: sample(), Reload: func(context.Context) error { return nil }}, grammar: newGrammar()}
	c.cfg.Log = discard()
	f.Fuzz(func(t *testing.T, in []byte) {
		s := newSession(c, &spoken{rest: in}, wire.Startup{Params: map[string]string{"user": "postgres"}})
		if err := s.run(t.Context()); err == nil && len(in) < 5 {
			t.Fatal("ended in peace without a Terminate")
		}
	})
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
