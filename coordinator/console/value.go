package console

import (
	"encoding/binary"
	"math"
	"strconv"
	"time"

	"github.com/multicoord/multicoord/coordinator/wire"
)

// kind is a column's type.
type kind int

const (
	text kind = iota
	number
	float
	boolean
	timestamp
)

// The OIDs and sizes of the types (src/include/catalog/pg_type.dat).
func (k kind) oid() (oid uint32, size int16) {
	switch k {
	case number:
		return 20, 8 // int8
	case float:
		return 701, 8 // float8
	case boolean:
		return 16, 1
	case timestamp:
		return 1184, 8 // timestamptz
	default:
		return 25, -1
	}
}

// column is a column of an answer.
type column struct {
	name string
	kind kind
}

// describe gives the columns for a RowDescription; formats are those of a Bind message (none, one for all, or one for
// each).
func describe(cols []column, formats []int16) []wire.Column {
	out := make([]wire.Column, len(cols))
	for i, c := range cols {
		oid, size := c.kind.oid()
		out[i] = wire.Column{Name: c.name, OID: oid, Size: size, Format: formatOf(formats, i)}
	}
	return out
}

func formatOf(formats []int16, i int) int16 {
	switch {
	case len(formats) == 0:
		return 0
	case len(formats) == 1:
		return formats[0]
	default:
		return formats[i]
	}
}

// The values of a row are nil (NULL), string, int64, float64, bool or time.Time, as their columns are.

// count makes a value of any whole number.
func count[T ~int | ~int32 | ~int64 | ~uint32 | ~uint64](n T) any { return int64(n) }

// ms makes a value of a duration: milliseconds.
func ms(d time.Duration) any { return float64(d) / float64(time.Millisecond) }

// at makes a value of a time; the zero time is NULL.
func at(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

// known makes a value of a text; the empty one is NULL.
func known[T ~string](s T) any {
	if s == "" {
		return nil
	}
	return string(s)
}

// encode gives a value in text (0) or binary (1) format.
func encode(v any, format int16) []byte {
	if format == 1 {
		return encodeBinary(v)
	}
	switch v := v.(type) {
	case string:
		return append([]byte{}, v...) // not nil, even if empty
	case int64:
		return strconv.AppendInt(nil, v, 10)
	case float64:
		return strconv.AppendFloat(nil, v, 'g', -1, 64)
	case bool:
		if v {
			return []byte{'t'}
		}
		return []byte{'f'}
	case time.Time:
		return v.UTC().AppendFormat(nil, "2006-01-02 15:04:05.999999-07")
	default:
		return nil
	}
}

// encodeBinary gives a value as the send functions of PostgreSQL do.
func encodeBinary(v any) []byte {
	switch v := v.(type) {
	case string:
		return append([]byte{}, v...)
	case int64:
		return binary.BigEndian.AppendUint64(nil, uint64(v))
	case float64:
		return binary.BigEndian.AppendUint64(nil, math.Float64bits(v))
	case bool:
		if v {
			return []byte{1}
		}
		return []byte{0}
	case time.Time:
		// Microseconds since 2000-01-01 (timestamptz_send).
		return binary.BigEndian.AppendUint64(nil, uint64(v.UnixMicro()-postgresEpoch))
	default:
		return nil
	}
}

// postgresEpoch is 2000-01-01 00:00:00 UTC in microseconds of Unix time.
const postgresEpoch = 946_684_800_000_000

// appendRow adds a row as DataRow.
func appendRow(dst []byte, row []any, formats []int16) []byte {
	values := make([][]byte, len(row))
	for i, v := range row {
		values[i] = encode(v, formatOf(formats, i))
	}
	return wire.AppendDataRow(dst, values)
}
