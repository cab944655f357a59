package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgproto3/v2"
)

// Parse is the Parse message.
type Parse struct {
	Name, Query string
	ParamOIDs   []uint32
}

// Bind is the Bind message. A nil parameter is NULL; parameters are slices of the decoded body.
type Bind struct {
	Portal, Statement string
	FormatCodes       []int16
	Params            [][]byte
	ResultFormats     []int16
}

// QueryText gives the text of a Query message as a slice of its body.
func QueryText(body []byte) ([]byte, error) {
	if i := bytes.IndexByte(body, 0); i < 0 || i != len(body)-1 {
		return nil, malformed("Query")
	}
	return body[:len(body)-1], nil
}

// DecodeQuery gives the text of a Query message.
func DecodeQuery(body []byte) (string, error) {
	text, err := QueryText(body)
	return string(text), err
}

// SplitParse gives the name and the query of a Parse message, and types: the count and OIDs of the parameter types
// as they stand in the message, checked. All are slices of the body, made for AppendParse.
func SplitParse(body []byte) (name, query, types []byte, err error) {
	name, query, types, ok := twoStrings(body)
	if !ok || len(types) < 2 || len(types) != 2+4*int(binary.BigEndian.Uint16(types)) {
		return nil, nil, nil, malformed("Parse")
	}
	return name, query, types, nil
}

// SplitBind gives the names of a Bind message, and rest: formats and parameters as they stand in the message (not
// checked; DecodeBind does that). All are slices of the body, made for AppendBind.
func SplitBind(body []byte) (portal, statement, rest []byte, err error) {
	portal, statement, rest, ok := twoStrings(body)
	if !ok {
		return nil, nil, nil, malformed("Bind")
	}
	return portal, statement, rest, nil
}

func twoStrings(body []byte) (a, b, rest []byte, ok bool) {
	i := bytes.IndexByte(body, 0)
	if i < 0 {
		return nil, nil, nil, false
	}
	j := bytes.IndexByte(body[i+1:], 0)
	if j < 0 {
		return nil, nil, nil, false
	}
	return body[:i], body[i+1 : i+1+j], body[i+j+2:], true
}

// DecodeParse decodes a Parse message; its counts are checked against the bytes that are there.
func DecodeParse(body []byte) (Parse, error) {
	if _, _, _, err := SplitParse(body); err != nil {
		return Parse{}, err
	}
	var m pgproto3.Parse
	if err := decode("Parse", m.Decode, body); err != nil {
		return Parse{}, err
	}
	return Parse{Name: m.Name, Query: m.Query, ParamOIDs: m.ParameterOIDs}, nil
}

// DecodeBind decodes a Bind message; its counts and lengths are checked against the bytes that are there.
func DecodeBind(body []byte) (Bind, error) {
	_, _, rest, err := SplitBind(body)
	if err != nil {
		return Bind{}, err
	}
	if !bindCounts(rest) {
		return Bind{}, malformed("Bind")
	}
	var m pgproto3.Bind
	if err := decode("Bind", m.Decode, body); err != nil {
		return Bind{}, err
	}
	return Bind{
		Portal: m.DestinationPortal, Statement: m.PreparedStatement, FormatCodes: m.ParameterFormatCodes,
		Params: m.Parameters, ResultFormats: m.ResultFormatCodes,
	}, nil
}

// bindCounts tells whether the counts and lengths behind the names of a Bind message are exactly those of the bytes
// that follow. pgproto3 makes slices of the counts before it looks at what follows, and takes lengths below -1.
func bindCounts(rest []byte) bool {
	skip := func(size int) bool {
		if len(rest) < 2 {
			return false
		}
		n := int(binary.BigEndian.Uint16(rest))
		rest = rest[2:]
		if len(rest) < n*size {
			return false
		}
		rest = rest[n*size:]
		return true
	}
	if !skip(2) || len(rest) < 2 {
		return false
	}
	params := int(binary.BigEndian.Uint16(rest))
	rest = rest[2:]
	for range params {
		if len(rest) < 4 {
			return false
		}
		n := int(int32(binary.BigEndian.Uint32(rest)))
		rest = rest[4:]
		if n == -1 {
			continue
		}
		if n < 0 || n > len(rest) {
			return false
		}
		rest = rest[n:]
	}
	return skip(2) && len(rest) == 0
}

// DecodeDescribe decodes a Describe message: kind is 'S' (statement) or 'P' (portal).
func DecodeDescribe(body []byte) (kind byte, name string, err error) {
	if !kindAndName(body) {
		return 0, "", malformed("Describe")
	}
	var m pgproto3.Describe
	err = decode("Describe", m.Decode, body)
	return m.ObjectType, m.Name, err
}

// DecodeClose decodes a Close message: kind is 'S' (statement) or 'P' (portal).
func DecodeClose(body []byte) (kind byte, name string, err error) {
	if !kindAndName(body) {
		return 0, "", malformed("Close")
	}
	var m pgproto3.Close
	err = decode("Close", m.Decode, body)
	return m.ObjectType, m.Name, err
}

func kindAndName(body []byte) bool {
	return len(body) >= 2 && (body[0] == 'S' || body[0] == 'P') && bytes.IndexByte(body, 0) == len(body)-1
}

// DecodeExecute decodes an Execute message; maxRows 0 means all rows.
func DecodeExecute(body []byte) (portal string, maxRows uint32, err error) {
	if i := bytes.IndexByte(body, 0); i < 0 || len(body) != i+5 {
		return "", 0, malformed("Execute")
	}
	var m pgproto3.Execute
	err = decode("Execute", m.Decode, body)
	return m.Portal, m.MaxRows, err
}

// decode calls a decoder of pgproto3, which is known to panic on hostile input that the checks above should have
// kept from it.
func decode(message string, f func([]byte) error, body []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			e := malformed(message)
			e.Detail = fmt.Sprintf("The %s message is malformed (%v).", message, p)
			err = e
		}
	}()
	if err := f(body); err != nil {
		return malformed(message)
	}
	return nil
}
