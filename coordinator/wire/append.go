package wire

import (
	"encoding/binary"
	"strings"
)

// Column describes one column of a result.
type Column struct {
	Name string
	// OID is the type's; 0 is sent as text (25).
	OID uint32
	// Table and Attribute say where the column comes from; 0 when it is computed.
	Table     uint32
	Attribute uint16
	// Size is the type's length in bytes, negative for variable length; 0 is sent as -1.
	Size int16
	// Modifier is the type's modifier; 0 is sent as -1 (none).
	Modifier int32
	// Format is 0 for text, 1 for binary.
	Format int16
}

// begin starts a frame of the given type; finish fills in its length.
func begin(dst []byte, typ byte) (out []byte, start int) {
	return append(dst, typ, 0, 0, 0, 0), len(dst) + 1
}

func finish(dst []byte, start int) []byte {
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst
}

// cut ends a string at its first zero byte, which a C string cannot hold.
func cut(s string) string {
	if i := strings.IndexByte(s, 0); i >= 0 {
		return s[:i]
	}
	return s
}

func appendString(dst []byte, s string) []byte { return append(append(dst, cut(s)...), 0) }

func appendEmpty(dst []byte, typ byte) []byte { return append(dst, typ, 0, 0, 0, 4) }

// AppendReady adds ReadyForQuery; status is 'I' (idle), 'T' (in a transaction) or 'E' (in a failed one).
func AppendReady(dst []byte, status byte) []byte { return append(dst, 'Z', 0, 0, 0, 5, status) }

// AppendCommandComplete adds CommandComplete with a tag such as "SELECT 3".
func AppendCommandComplete(dst []byte, tag string) []byte {
	dst, start := begin(dst, 'C')
	return finish(appendString(dst, tag), start)
}

// AppendParameterStatus adds ParameterStatus.
func AppendParameterStatus(dst []byte, key, value string) []byte {
	dst, start := begin(dst, 'S')
	return finish(appendString(appendString(dst, key), value), start)
}

// AppendBackendKeyData adds BackendKeyData. The secret has 4 bytes for clients of protocol 3.0, up to 256 since 3.2.
func AppendBackendKeyData(dst []byte, pid uint32, secret []byte) []byte {
	dst, start := begin(dst, 'K')
	dst = binary.BigEndian.AppendUint32(dst, pid)
	return finish(append(dst, secret...), start)
}

// AppendAuthenticationOK adds AuthenticationOk.
func AppendAuthenticationOK(dst []byte) []byte { return appendAuthentication(dst, authOK, nil) }

func appendAuthentication(dst []byte, code uint32, data []byte) []byte {
	dst, start := begin(dst, 'R')
	dst = binary.BigEndian.AppendUint32(dst, code)
	return finish(append(dst, data...), start)
}

// AppendRowDescription adds RowDescription. At most 65,535 columns fit; the rest is left out.
func AppendRowDescription(dst []byte, cols []Column) []byte {
	cols = cols[:min(len(cols), 0xffff)]
	dst, start := begin(dst, 'T')
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(cols)))
	for _, c := range cols {
		if c.OID == 0 {
			c.OID = 25
		}
		if c.Size == 0 {
			c.Size = -1
		}
		if c.Modifier == 0 {
			c.Modifier = -1
		}
		dst = appendString(dst, c.Name)
		dst = binary.BigEndian.AppendUint32(dst, c.Table)
		dst = binary.BigEndian.AppendUint16(dst, c.Attribute)
		dst = binary.BigEndian.AppendUint32(dst, c.OID)
		dst = binary.BigEndian.AppendUint16(dst, uint16(c.Size))
		dst = binary.BigEndian.AppendUint32(dst, uint32(c.Modifier))
		dst = binary.BigEndian.AppendUint16(dst, uint16(c.Format))
	}
	return finish(dst, start)
}

// AppendDataRow adds DataRow; a nil value is NULL. At most 65,535 values fit; the rest is left out.
func AppendDataRow(dst []byte, values [][]byte) []byte {
	values = values[:min(len(values), 0xffff)]
	dst, start := begin(dst, 'D')
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(values)))
	for _, v := range values {
		if v == nil {
			dst = append(dst, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(v)))
		dst = append(dst, v...)
	}
	return finish(dst, start)
}

// AppendParameterDescription adds ParameterDescription.
func AppendParameterDescription(dst []byte, oids []uint32) []byte {
	oids = oids[:min(len(oids), 0xffff)]
	dst, start := begin(dst, 't')
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(oids)))
	for _, o := range oids {
		dst = binary.BigEndian.AppendUint32(dst, o)
	}
	return finish(dst, start)
}

// AppendEmptyQuery adds EmptyQueryResponse.
func AppendEmptyQuery(dst []byte) []byte { return appendEmpty(dst, 'I') }

// AppendParseComplete adds ParseComplete.
func AppendParseComplete(dst []byte) []byte { return appendEmpty(dst, '1') }

// AppendBindComplete adds BindComplete.
func AppendBindComplete(dst []byte) []byte { return appendEmpty(dst, '2') }

// AppendCloseComplete adds CloseComplete.
func AppendCloseComplete(dst []byte) []byte { return appendEmpty(dst, '3') }

// AppendNoData adds NoData.
func AppendNoData(dst []byte) []byte { return appendEmpty(dst, 'n') }

// AppendPortalSuspended adds PortalSuspended.
func AppendPortalSuspended(dst []byte) []byte { return appendEmpty(dst, 's') }

// AppendQuery adds a Query message (frontend). A zero byte in sql ends it.
func AppendQuery(dst []byte, sql string) []byte {
	dst, start := begin(dst, 'Q')
	return finish(appendString(dst, sql), start)
}

// AppendParse adds a Parse message (frontend); types is the part behind the query as SplitParse gives it, or nil
// for no parameter types.
func AppendParse(dst []byte, name, query, types []byte) []byte {
	dst, start := begin(dst, 'P')
	dst = append(append(dst, name...), 0)
	dst = append(append(dst, query...), 0)
	if types == nil {
		return finish(append(dst, 0, 0), start)
	}
	return finish(append(dst, types...), start)
}

// AppendBind adds a Bind message (frontend); rest is the part behind the names as SplitBind gives it.
func AppendBind(dst []byte, portal, statement, rest []byte) []byte {
	dst, start := begin(dst, 'B')
	dst = append(append(dst, portal...), 0)
	dst = append(append(dst, statement...), 0)
	return finish(append(dst, rest...), start)
}

// AppendDescribe adds a Describe message (frontend); kind is 'S' (statement) or 'P' (portal).
func AppendDescribe(dst []byte, kind byte, name string) []byte {
	dst, start := begin(dst, 'D')
	return finish(appendString(append(dst, kind), name), start)
}

// AppendClose adds a Close message (frontend); kind is 'S' (statement) or 'P' (portal).
func AppendClose(dst []byte, kind byte, name string) []byte {
	dst, start := begin(dst, 'C')
	return finish(appendString(append(dst, kind), name), start)
}

// AppendSync adds a Sync message (frontend).
func AppendSync(dst []byte) []byte { return appendEmpty(dst, 'S') }

// AppendFlush adds a Flush message (frontend).
func AppendFlush(dst []byte) []byte { return appendEmpty(dst, 'H') }

// AppendTerminate adds a Terminate message (frontend).
func AppendTerminate(dst []byte) []byte { return appendEmpty(dst, 'X') }
