package wire

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Every target: whatever comes, there is no panic, and memory stays within a small multiple of what has come (the fuzzer
// would be killed by an allocation of a claimed length, and the ceilings below see smaller ones).

const fuzzCeiling = 256 << 10

func within(t *testing.T, input int, f func()) {
	t.Helper()
	if got := allocated(f); got > uint64(fuzzCeiling+16*input) {
		t.Fatalf("%d bytes allocated for %d bytes of input", got, input)
	}
}

func FuzzReadStartup(f *testing.F) {
	f.Add(packet(Protocol30, "user\x00me\x00\x00"))
	f.Add(packet(Protocol32+1, "user\x00me\x00_pq_.a\x00b\x00\x00"))
	f.Add(append(packet(sslRequestCode, ""), packet(cancelRequestCode, "12345678")...))
	f.Add([]byte{0x16, 3, 1, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		within(t, len(in), func() {
			s, _, err := ReadStartup(&scripted{in: bytes.NewReader(in)}, StartupConfig{})
			if err == nil && s.Cancel == nil && s.Params["user"] == "" {
				t.Fatal("accepted without a user")
			}
			if err == nil && s.Cancel != nil && (len(s.Cancel.Secret) < 4 || len(s.Cancel.Secret) > maxSecret) {
				t.Fatal("accepted a secret of a wrong length")
			}
		})
	})
}

func FuzzReader(f *testing.F) {
	f.Add(append(frame('Q', []byte("SELECT 1\x00")), frame('X', nil)...), 3, true)
	f.Add([]byte{'d', 0x7f, 0xff, 0xff, 0xff, 1, 2, 3}, 1, false)
	f.Fuzz(func(t *testing.T, in []byte, read int, whole bool) {
		within(t, len(in), func() {
			r := NewReader(&pieces{data: bytes.Clone(in), sizes: []int{max(1, read&0xffff)}}, 1<<16)
			var got []byte
			for {
				var piece []byte
				var err error
				if whole {
					var m Frame
					m, err = r.Next()
					piece = m.Raw
				} else {
					piece, _, err = r.Chunk()
				}
				if err != nil {
					break
				}
				got = append(got, piece...)
			}
			if !bytes.HasPrefix(in, got) {
				t.Fatal("what came out is not what went in")
			}
		})
	})
}

// same compares our decoding with pgx's. Where we refuse what pgx takes, that must be for a reason: bytes behind the
// message, or a kind that does not exist.
func same(t *testing.T, ours, theirs error, equal func() bool, stricter func() bool) {
	t.Helper()
	switch {
	case ours == nil && theirs != nil:
		t.Fatalf("accepted what pgx refuses: %v", theirs)
	case ours == nil && !equal():
		t.Fatal("decoded otherwise than pgx")
	case ours != nil && theirs == nil && !stricter():
		t.Fatalf("refused what pgx accepts: %v", ours)
	}
}

func guarded(f func([]byte) error, b []byte) (err error) {
	defer func() {
		if recover() != nil {
			err = io.ErrNoProgress
		}
	}()
	return f(b)
}

// longer tells whether encoding what was decoded gives another body: then there was something more in it.
func longer(t *testing.T, m interface{ Encode([]byte) ([]byte, error) }, in []byte) bool {
	t.Helper()
	b, err := m.Encode(nil)
	return err != nil || !bytes.Equal(b[headerSize:], in)
}

func FuzzDecodeQuery(f *testing.F) {
	f.Add([]byte("SELECT 1\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		var got string
		var err error
		within(t, len(in), func() { got, err = DecodeQuery(in) })
		var m pgproto3.Query
		same(t, err, guarded(m.Decode, in), func() bool { return got == m.String }, func() bool { return longer(t, &m, in) })
	})
}

func FuzzDecodeParse(f *testing.F) {
	f.Add([]byte("s\x00SELECT $1\x00\x00\x01\x00\x00\x00\x17"))
	f.Add([]byte("\x00\x00\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var got Parse
		var err error
		within(t, len(in), func() { got, err = DecodeParse(in) })
		var m pgproto3.Parse
		same(t, err, guarded(m.Decode, in), func() bool {
			return got.Name == m.Name && got.Query == m.Query && slices.Equal(got.ParamOIDs, m.ParameterOIDs)
		}, func() bool { return longer(t, &m, in) })
		if err == nil {
			name, query, types, err := SplitParse(in)
			if err != nil || !bytes.Equal(AppendParse(nil, name, query, types)[headerSize:], in) {
				t.Fatal("split otherwise than decoded")
			}
		}
	})
}

func FuzzDecodeBind(f *testing.F) {
	f.Add([]byte("c\x00s\x00\x00\x01\x00\x01\x00\x02\xff\xff\xff\xff\x00\x00\x00\x01x\x00\x01\x00\x01"))
	f.Add([]byte("\x00\x00\xff\xff\xff\xff"))
	f.Add([]byte("\x00\x00\x00\x010000")) // pgx makes room for 0x3030 parameters that are not there
	f.Add([]byte("\x00\x00\x00\x00\x00\x01\xff\xff\xff\xfe\x00\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var got Bind
		var err error
		within(t, len(in), func() { got, err = DecodeBind(in) })
		var m pgproto3.Bind
		same(t, err, guarded(m.Decode, in), func() bool {
			return got.Portal == m.DestinationPortal && got.Statement == m.PreparedStatement &&
				slices.Equal(got.FormatCodes, m.ParameterFormatCodes) && slices.Equal(got.ResultFormats, m.ResultFormatCodes) &&
				slices.EqualFunc(got.Params, m.Parameters, func(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) })
		}, func() bool { return longer(t, &m, in) })
		if err == nil {
			portal, statement, rest, err := SplitBind(in)
			if err != nil || !bytes.Equal(AppendBind(nil, portal, statement, rest)[headerSize:], in) {
				t.Fatal("split otherwise than decoded")
			}
		}
	})
}

func FuzzDecodeDescribe(f *testing.F) {
	f.Add([]byte("Sname\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		kind, name, err := DecodeDescribe(in)
		var m pgproto3.Describe
		same(t, err, guarded(m.Decode, in), func() bool { return kind == m.ObjectType && name == m.Name },
			func() bool { return m.ObjectType != 'S' && m.ObjectType != 'P' })
	})
}

func FuzzDecodeClose(f *testing.F) {
	f.Add([]byte("Pname\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		kind, name, err := DecodeClose(in)
		var m pgproto3.Close
		same(t, err, guarded(m.Decode, in), func() bool { return kind == m.ObjectType && name == m.Name },
			func() bool { return m.ObjectType != 'S' && m.ObjectType != 'P' })
	})
}

func FuzzDecodeExecute(f *testing.F) {
	f.Add([]byte("c\x00\x00\x00\x00\x05"))
	f.Fuzz(func(t *testing.T, in []byte) {
		portal, rows, err := DecodeExecute(in)
		var m pgproto3.Execute
		same(t, err, guarded(m.Decode, in), func() bool { return portal == m.Portal && rows == m.MaxRows },
			func() bool { return longer(t, &m, in) })
	})
}

func FuzzParseError(f *testing.F) {
	f.Add(Errorf("42601", "syntax error").Append(nil)[headerSize:])
	f.Fuzz(func(t *testing.T, in []byte) {
		within(t, len(in), func() {
			e, err := ParseError(in)
			if err != nil {
				return
			}
			if _, err := ParseError(e.Append(nil)[headerSize:]); err != nil {
				t.Fatal(err)
			}
		})
	})
}

func FuzzParseVerifier(f *testing.F) {
	f.Add(MockVerifier("a", []byte("b")).String())
	f.Add("md5c3b4cf8a6d4d8e0a1b2c3d4e5f607182")
	f.Add("SCRAM-SHA-256$4096:c2FsdA==$AAAA:BBBB")
	f.Fuzz(func(t *testing.T, s string) {
		within(t, len(s), func() {
			v, err := ParseVerifier(s)
			if err != nil {
				return
			}
			again, err := ParseVerifier(v.String())
			if err != nil || again.String() != v.String() {
				t.Fatalf("%q does not survive: %v", s, err)
			}
		})
	})
}

func FuzzSCRAMServer(f *testing.F) {
	f.Add([]byte("n,,n=,r=abc"), []byte("c=biws,r=abcserver,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="))
	f.Add([]byte("p=x,,n=,r=abc"), []byte{})
	v := MockVerifier("a", []byte("b"))
	f.Fuzz(func(t *testing.T, first, final []byte) {
		x := serverExchange{verifier: v}
		if _, err := x.first(first, "server"); err != nil {
			return
		}
		if _, _, err := x.final(final); err == nil {
			t.Fatal("let in without the password")
		}
	})
}

func FuzzSCRAMClient(f *testing.F) {
	f.Add([]byte("r=mineX,s=c2FsdA==,i=1"), []byte("v=AAAA"))
	f.Add([]byte("e=other-error"), []byte("e=x"))
	f.Fuzz(func(t *testing.T, first, final []byte) {
		x := clientExchange{nonce: "mine", keys: func([]byte, int) (Keys, error) {
			return Keys{ClientKey: make([]byte, keySize), ServerKey: make([]byte, keySize)}, nil
		}}
		if _, err := x.final(first); err == nil {
			if x.verify(final) == nil && !bytes.HasPrefix(final, []byte("v=")) {
				t.Fatal("verified without a signature")
			}
		}
	})
}

func FuzzConnect(f *testing.F) {
	f.Add(AppendReady(AppendAuthenticationOK(nil), 'I'))
	f.Add(appendAuthentication(nil, authSASL, []byte(scramMechanism+"\x00\x00")))
	f.Add(binary.BigEndian.AppendUint32([]byte{'R'}, 1<<31-1))
	f.Fuzz(func(t *testing.T, in []byte) {
		within(t, len(in), func() {
			conn := &scripted{in: bytes.NewReader(in)}
			if _, err := startServer(t.Context(), conn, ServerConfig{Credentials: Credentials{User: "me", Password: "secret"}}); err == nil {
				t.Fatal("a server that proved nothing was accepted")
			}
		})
	})
}
