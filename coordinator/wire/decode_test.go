package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// encoded gives the body of a message as pgx writes it.
func encoded(tb testing.TB, m interface{ Encode([]byte) ([]byte, error) }) []byte {
	tb.Helper()
	b, err := m.Encode(nil)
	require.NoError(tb, err)
	return b[headerSize:]
}

func TestDecodingGivesWhatPgxHasEncoded(t *testing.T) {
	q, err := DecodeQuery(encoded(t, &pgproto3.Query{String: "SELECT 'é'"}))
	require.NoError(t, err)
	require.Equal(t, "SELECT 'é'", q)
	q, err = DecodeQuery([]byte{0})
	require.NoError(t, err)
	require.Empty(t, q)

	p, err := DecodeParse(encoded(t, &pgproto3.Parse{Name: "s1", Query: "SELECT $1", ParameterOIDs: []uint32{23, 0}}))
	require.NoError(t, err)
	require.Equal(t, Parse{Name: "s1", Query: "SELECT $1", ParamOIDs: []uint32{23, 0}}, p)

	b, err := DecodeBind(encoded(t, &pgproto3.Bind{
		DestinationPortal: "c", PreparedStatement: "s1", ParameterFormatCodes: []int16{1}, Parameters: [][]byte{nil, {}, []byte("x")},
		ResultFormatCodes: []int16{0, 1},
	}))
	require.NoError(t, err)
	require.Equal(t, Bind{
		Portal: "c", Statement: "s1", FormatCodes: []int16{1}, Params: [][]byte{nil, {}, []byte("x")}, ResultFormats: []int16{0, 1},
	}, b)

	kind, name, err := DecodeDescribe(encoded(t, &pgproto3.Describe{ObjectType: 'S', Name: "s1"}))
	require.NoError(t, err)
	require.Equal(t, byte('S'), kind)
	require.Equal(t, "s1", name)
	kind, name, err = DecodeClose(encoded(t, &pgproto3.Close{ObjectType: 'P'}))
	require.NoError(t, err)
	require.Equal(t, byte('P'), kind)
	require.Empty(t, name)

	portal, rows, err := DecodeExecute(encoded(t, &pgproto3.Execute{Portal: "c", MaxRows: 1 << 31}))
	require.NoError(t, err)
	require.Equal(t, "c", portal)
	require.Equal(t, uint32(1<<31), rows)
}

func TestHostileBodiesAreRefused(t *testing.T) {
	u16 := func(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
	u32 := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, c := range []struct {
		name   string
		decode func([]byte) error
		bodies [][]byte
	}{
		{"Query", func(b []byte) error { _, err := DecodeQuery(b); return err }, [][]byte{
			nil, []byte("x"), []byte("a\x00b\x00"), []byte("\x00\x00"),
		}},
		{"Parse", func(b []byte) error { _, err := DecodeParse(b); return err }, [][]byte{
			nil, {0}, {0, 0}, {0, 0, 0}, {0, 0, 0xff, 0xff}, {0, 0, 0, 1}, {0, 0, 0, 1, 0, 0, 0}, {0, 0, 0, 0, 0}, []byte("name"), []byte("name\x00query"),
		}},
		{"Bind", func(b []byte) error { _, err := DecodeBind(b); return err }, [][]byte{
			nil,
			{0},
			{0, 0},
			{0, 0, 0xff, 0xff},
			{0, 0, 0, 0},
			{0, 0, 0, 0, 0xff, 0xff},
			{0, 0, 0, 0, 0, 0},
			{0, 0, 0, 0, 0, 0, 0xff, 0xff},
			join(u16(0), u16(0), u16(1), u32(0xfffffffe), u16(0)),
			join(u16(0), u16(0), u16(1), u32(0x80000000), u16(0)),
			join(u16(0), u16(0), u16(1), u32(0x7fffffff), u16(0)),
			join(u16(0), u16(0), u16(0), u16(0), []byte{1}),
			join(u16(0), u16(0), u16(0), u16(1), []byte{1}),
		}},
		{"Describe", func(b []byte) error { _, _, err := DecodeDescribe(b); return err }, [][]byte{
			nil, {'S'}, {0}, {'S', 'x'}, {'S', 0, 0}, {'x', 0}, {0, 0},
		}},
		{"Close", func(b []byte) error { _, _, err := DecodeClose(b); return err }, [][]byte{
			nil, {'S'}, {0}, {'S', 'x'}, {'S', 0, 0}, {'x', 0}, {0, 0},
		}},
		{"Execute", func(b []byte) error { _, _, err := DecodeExecute(b); return err }, [][]byte{
			nil, {0}, {0, 0, 0, 0}, {0, 0, 0, 0, 0, 0}, []byte("portal"),
		}},
		{"ErrorResponse", func(b []byte) error { _, err := ParseError(b); return err }, [][]byte{
			nil, {'S'}, []byte("Serror"), []byte("Serror\x00"), []byte("Serror\x00M"),
		}},
	} {
		for _, body := range c.bodies {
			var err error
			grown := allocated(func() { err = c.decode(body) })
			var e *Error
			require.Truef(t, errors.As(err, &e) && e.Code == "08P01", "%s %q: %v", c.name, body, err)
			require.Lessf(t, grown, uint64(8<<10), "%s %q", c.name, body)
		}
	}
}

func TestADecoderThatPanicsIsAnError(t *testing.T) {
	err := decode("Bind", func([]byte) error { panic("index out of range") }, nil)
	require.True(t, isCode("08P01")(err))
}

func TestSplitMessagesGoTogetherAgain(t *testing.T) {
	parse := encoded(t, &pgproto3.Parse{Name: "s1", Query: "SELECT $1", ParameterOIDs: []uint32{23}})
	_, query, types, err := SplitParse(parse)
	require.NoError(t, err)
	p, err := DecodeParse(AppendParse(nil, []byte("new"), query, types)[headerSize:])
	require.NoError(t, err)
	require.Equal(t, Parse{Name: "new", Query: "SELECT $1", ParamOIDs: []uint32{23}}, p)
	p, err = DecodeParse(AppendParse(nil, nil, []byte("SELECT 1"), nil)[headerSize:])
	require.NoError(t, err)
	require.Equal(t, Parse{Query: "SELECT 1"}, p)

	bind := encoded(t, &pgproto3.Bind{PreparedStatement: "s1", Parameters: [][]byte{[]byte("7")}})
	portal, _, rest, err := SplitBind(bind)
	require.NoError(t, err)
	b, err := DecodeBind(AppendBind(nil, portal, []byte("new"), rest)[headerSize:])
	require.NoError(t, err)
	require.Equal(t, "new", b.Statement)
	require.Equal(t, [][]byte{[]byte("7")}, b.Params)
}

// What is appended here must read the same for pgx.
func TestPgxReadsWhatIsAppendedHere(t *testing.T) {
	var out []byte
	e := &Error{
		Severity: "FEHLER", SeverityV: "ERROR", Code: "42601", Message: "m", Detail: "d", Hint: "h", Position: 3, InternalPosition: 4,
		InternalQuery: "q", Where: "w", Schema: "s", Table: "t", Column: "c", DataType: "d", Constraint: "n", File: "f", Line: 7, Routine: "r",
	}
	out = AppendAuthenticationOK(out)
	out = AppendParameterStatus(out, "k", "v")
	out = AppendBackendKeyData(out, 42, []byte("secret-of-any-length"))
	out = AppendReady(out, 'T')
	out = AppendRowDescription(out, []Column{{Name: "a"}, {Name: "b", OID: 20, Table: 3, Attribute: 2, Size: 8, Modifier: 5, Format: 1}})
	out = AppendDataRow(out, [][]byte{nil, {}, []byte("x")})
	out = AppendCommandComplete(out, "SELECT 1")
	out = AppendParameterDescription(out, []uint32{23, 25})
	out = AppendEmptyQuery(out)
	out = AppendParseComplete(out)
	out = AppendBindComplete(out)
	out = AppendCloseComplete(out)
	out = AppendNoData(out)
	out = AppendPortalSuspended(out)
	out = e.Append(out)
	out = AppendNotice(out, e)
	want := []pgproto3.BackendMessage{
		&pgproto3.AuthenticationOk{},
		&pgproto3.ParameterStatus{Name: "k", Value: "v"},
		&pgproto3.BackendKeyData{ProcessID: 42, SecretKey: []byte("secret-of-any-length")},
		&pgproto3.ReadyForQuery{TxStatus: 'T'},
		&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{
			{Name: []byte("a"), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1},
			{Name: []byte("b"), TableOID: 3, TableAttributeNumber: 2, DataTypeOID: 20, DataTypeSize: 8, TypeModifier: 5, Format: 1},
		}},
		&pgproto3.DataRow{Values: [][]byte{nil, {}, []byte("x")}},
		&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")},
		&pgproto3.ParameterDescription{ParameterOIDs: []uint32{23, 25}},
		&pgproto3.EmptyQueryResponse{},
		&pgproto3.ParseComplete{},
		&pgproto3.BindComplete{},
		&pgproto3.CloseComplete{},
		&pgproto3.NoData{},
		&pgproto3.PortalSuspended{},
	}
	front := pgproto3.NewFrontend(bytes.NewReader(out), nil)
	for _, m := range want {
		got, err := front.Receive()
		require.NoError(t, err)
		if d := cmp.Diff(m, got, cmpopts.IgnoreUnexported(pgproto3.ErrorResponse{})); d != "" {
			t.Fatal(d)
		}
	}
	got, err := front.Receive()
	require.NoError(t, err)
	r := got.(*pgproto3.ErrorResponse)
	require.Equal(t, []any{"FEHLER", "ERROR", "42601", "m", "d", "h", int32(3), int32(4), "q", "w", "s", "t", "c", "d", "n", "f", int32(7), "r"},
		[]any{
			r.Severity, r.SeverityUnlocalized, r.Code, r.Message, r.Detail, r.Hint, r.Position, r.InternalPosition, r.InternalQuery, r.Where,
			r.SchemaName, r.TableName, r.ColumnName, r.DataTypeName, r.ConstraintName, r.File, r.Line, r.Routine,
		})
	got, err = front.Receive()
	require.NoError(t, err)
	require.IsType(t, &pgproto3.NoticeResponse{}, got)
}

func TestFrontendMessagesReadTheSameForPgx(t *testing.T) {
	var out []byte
	out = AppendQuery(out, "SELECT 1")
	out = AppendDescribe(out, 'S', "a")
	out = AppendClose(out, 'P', "b")
	out = AppendSync(out)
	out = AppendFlush(out)
	out = AppendTerminate(out)
	back := pgproto3.NewBackend(bytes.NewReader(out), nil)
	for _, want := range []pgproto3.FrontendMessage{
		&pgproto3.Query{String: "SELECT 1"}, &pgproto3.Describe{ObjectType: 'S', Name: "a"}, &pgproto3.Close{ObjectType: 'P', Name: "b"},
		&pgproto3.Sync{}, &pgproto3.Flush{}, &pgproto3.Terminate{},
	} {
		got, err := back.Receive()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestErrorsSurviveTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[^\x00]{0,20}`)
		e := &Error{
			Severity: rapid.SampledFrom([]string{"ERROR", "FATAL", "WARNING"}).Draw(t, "severity"), Code: "XX000",
			Message: text.Draw(t, "message"), Detail: text.Draw(t, "detail"), Hint: text.Draw(t, "hint"),
			Position: rapid.IntRange(0, 1<<30).Draw(t, "position"), Where: text.Draw(t, "where"),
		}
		e.SeverityV = e.Severity
		got, err := ParseError(e.Append(nil)[headerSize:])
		if err != nil || !cmp.Equal(e, got) {
			t.Fatalf("%v: %s", err, cmp.Diff(e, got))
		}
	})
}

func TestTextWithAZeroByteCannotForgeFields(t *testing.T) {
	e := &Error{Severity: "ERROR", Code: "XX000", Message: "a\x00Cforged"}
	got, err := ParseError(e.Append(nil)[headerSize:])
	require.NoError(t, err)
	require.Equal(t, "XX000", got.Code)
	require.Equal(t, "a", got.Message)
	require.Equal(t, "ERROR: a\x00Cforged (SQLSTATE XX000)", e.Error())
	require.False(t, e.IsFatal())
	require.True(t, Fatal("57P01", "x").IsFatal())
}
