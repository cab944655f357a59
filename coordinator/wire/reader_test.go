package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func frame(typ byte, body []byte) []byte {
	out, start := begin(nil, typ)
	return finish(append(out, body...), start)
}

// pieces gives a stream in reads of the given sizes, in turn.
type pieces struct {
	data  []byte
	sizes []int
	i     int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := len(p.data)
	if len(p.sizes) > 0 {
		n = min(n, p.sizes[p.i%len(p.sizes)])
		p.i++
	}
	n = copy(b, p.data[:n])
	p.data = p.data[n:]
	return n, nil
}

func TestFramesComeOutAsTheyWentInHoweverTheStreamIsCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bodies := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) []byte {
			n := rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(bufferSize-8, bufferSize+8), rapid.IntRange(0, 5*bufferSize)).Draw(t, "size")
			return bytes.Repeat([]byte{byte(n)}, n)
		}), 1, 12).Draw(t, "bodies")
		var stream []byte
		for i, b := range bodies {
			stream = append(stream, frame('a'+byte(i), b)...)
		}
		sizes := rapid.SliceOfN(rapid.IntRange(1, 2*bufferSize), 1, 5).Draw(t, "reads")
		r := NewReader(&pieces{data: bytes.Clone(stream), sizes: sizes}, 0)
		var relayed []byte
		for i, b := range bodies {
			switch rapid.IntRange(0, 2).Draw(t, "how") {
			case 0:
				f, err := r.Next()
				if err != nil || f.Type != 'a'+byte(i) || !bytes.Equal(f.Body(), b) {
					t.Fatalf("frame %d: type %q, %d bytes instead of %d, %v", i, f.Type, len(f.Raw), len(b), err)
				}
				relayed = append(relayed, f.Raw...)
			case 1:
				typ, size, err := r.Peek()
				if err != nil || typ != 'a'+byte(i) || size != len(b)+5 {
					t.Fatalf("peek at %d: %q %d %v", i, typ, size, err)
				}
				fallthrough
			default:
				for more := true; more; {
					piece, m, err := r.Chunk()
					if err != nil || len(piece) == 0 {
						t.Fatalf("chunk of %d: %d bytes, %v", i, len(piece), err)
					}
					relayed, more = append(relayed, piece...), m
				}
			}
			if rapid.Bool().Draw(t, "release") && r.Buffered() == 0 && !r.Release() {
				t.Fatal("an empty buffer was not released")
			}
		}
		if !bytes.Equal(relayed, stream) {
			t.Fatal("the relayed bytes differ")
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("after the last frame: %v", err)
		}
	})
}

func TestMarkedGivesWholeFramesInOnePiece(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		for range rapid.IntRange(1, 200).Draw(t, "frames") {
			stream = append(stream, frame('D', make([]byte, rapid.IntRange(0, 300).Draw(t, "size")))...)
		}
		r := NewReader(&pieces{data: bytes.Clone(stream), sizes: []int{rapid.IntRange(1, 20000).Draw(t, "read")}}, 0)
		var relayed []byte
		for {
			r.Mark()
			f, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			first := f.Raw
			for r.Ready() {
				if f, err = r.Next(); err != nil {
					t.Fatal(err)
				}
			}
			span := r.Marked()
			if &span[0] != &first[0] || &span[len(span)-1] != &f.Raw[len(f.Raw)-1] {
				t.Fatal("the span is not the frames themselves")
			}
			relayed = append(relayed, span...)
		}
		if !bytes.Equal(relayed, stream) {
			t.Fatal("the relayed bytes differ")
		}
	})
}

func TestManyFramesTakeOneRead(t *testing.T) {
	var stream []byte
	for range 100 {
		stream = append(stream, frame('D', []byte("0123456789"))...)
	}
	src := &counted{r: bytes.NewReader(stream)}
	r := NewReader(src, 0)
	for range 100 {
		_, err := r.Next()
		require.NoError(t, err)
	}
	require.Equal(t, 1, src.reads)
}

type counted struct {
	r     io.Reader
	reads int
}

func (c *counted) Read(b []byte) (int, error) { c.reads++; return c.r.Read(b) }

func TestBrokenStreams(t *testing.T) {
	for _, c := range []struct {
		name   string
		stream []byte
		max    int
		want   func(error) bool
	}{
		{"nothing", nil, 0, func(err error) bool { return errors.Is(err, io.EOF) }},
		{"part of a header", []byte{'Q', 0, 0}, 0, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		{"part of a body", []byte{'Q', 0, 0, 0, 9, 1}, 0, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		{"length 0", []byte{'Q', 0, 0, 0, 0}, 0, isCode("08P01")},
		{"length 3", []byte{'Q', 0, 0, 0, 3}, 0, isCode("08P01")},
		{"negative length", []byte{'Q', 0xff, 0xff, 0xff, 0xff}, 0, isCode("08P01")},
		{"longest negative length", []byte{'Q', 0x80, 0, 0, 0}, 0, isCode("08P01")},
		{"over the limit", []byte{'Q', 0, 0, 0, 100}, 100, func(err error) bool {
			var tooLong *MessageTooLongError
			return errors.As(err, &tooLong) && tooLong.Size == 101 && tooLong.Max == 100
		}},
		{"error of the source", nil, 0, func(err error) bool { return errors.Is(err, iotest.ErrTimeout) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var src io.Reader = bytes.NewReader(c.stream)
			if c.name == "error of the source" {
				src = iotest.ErrReader(iotest.ErrTimeout)
			}
			_, err := NewReader(src, c.max).Next()
			require.Truef(t, c.want(err), "%v", err)
		})
	}
}

func isCode(code string) func(error) bool {
	return func(err error) bool {
		var e *Error
		return errors.As(err, &e) && e.Code == code
	}
}

func TestATooLongMessageCanStillBeRelayed(t *testing.T) {
	want := frame('d', make([]byte, 100_000))
	r := NewReader(bytes.NewReader(want), 1000)
	_, err := r.Next()
	require.Error(t, err)
	var got []byte
	for more := true; more; {
		var piece []byte
		piece, more, err = r.Chunk()
		require.NoError(t, err)
		got = append(got, piece...)
	}
	require.Equal(t, want, got)
}

func TestMemoryFollowsArrivedBytesNotClaimedLengths(t *testing.T) {
	stream := binary.BigEndian.AppendUint32([]byte{'Q'}, 1<<31-1)
	stream = append(stream, make([]byte, 1000)...)
	require.Less(t, allocated(func() {
		for range 100 {
			_, err := NewReader(bytes.NewReader(stream), 0).Next()
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		}
	}), uint64(100*32<<10))
	require.Less(t, allocated(func() {
		for range 100 {
			_, _, err := readMessage(bytes.NewReader(stream), 1<<31)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		}
	}), uint64(100*32<<10))
}

// allocated gives the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestALargeMessageIsStreamedInBoundedMemory(t *testing.T) {
	const size = 1 << 30
	head := binary.BigEndian.AppendUint32([]byte{'d'}, size+4)
	r := NewReader(io.MultiReader(bytes.NewReader(head), io.LimitReader(zeros{}, size)), 1000)
	total := 0
	require.Less(t, allocated(func() {
		for more := true; more; {
			piece, m, err := r.Chunk()
			require.NoError(t, err)
			total, more = total+len(piece), m
		}
	}), uint64(64<<10+bufferSize))
	require.Equal(t, size+headerSize, total)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// pair gives both ends of a TCP connection.
func pair(tb testing.TB) (a, b *net.TCPConn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(tb, err)
	d, err := l.Accept()
	require.NoError(tb, err)
	tb.Cleanup(func() { c.Close(); d.Close() })
	return c.(*net.TCPConn), d.(*net.TCPConn)
}

func TestAWaitingConnectionHoldsNoBuffer(t *testing.T) {
	a, b := pair(t)
	r := NewReader(a, 0)
	_, err := b.Write(append(frame('Q', []byte("x\x00")), 'S'))
	require.NoError(t, err)
	f, err := r.Next()
	require.NoError(t, err)
	require.Equal(t, byte('Q'), f.Type)

	// Half a header is there: the buffer stays over a passed deadline, and the reader is as good as before.
	require.NoError(t, a.SetReadDeadline(time.Now().Add(-time.Second)))
	_, err = r.Next()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, a.SetReadDeadline(time.Time{}))
	_, err = b.Write([]byte{0, 0, 0, 4})
	require.NoError(t, err)
	f, err = r.Next()
	require.NoError(t, err)
	require.Equal(t, byte('S'), f.Type)

	// Nothing is there: while it waits it has no buffer.
	require.NoError(t, a.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, _, err = r.Peek()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Nil(t, r.buf)
	require.Empty(t, r.Marked())
	require.NoError(t, a.SetReadDeadline(time.Time{}))
	b.Close()
	_, err = r.Next()
	require.Equal(t, io.EOF, err)
}

func TestAClosedConnectionEndsTheWait(t *testing.T) {
	a, _ := pair(t)
	done := make(chan error)
	go func() { _, err := NewReader(a, 0).Next(); done <- err }()
	a.Close()
	require.ErrorIs(t, <-done, net.ErrClosed)
}

func TestReadingAllocatesNothing(t *testing.T) {
	a, b := pair(t)
	r := NewReader(a, 1<<20)
	msg := frame('Q', []byte("SELECT 1\x00"))
	allocs := testing.AllocsPerRun(200, func() {
		if _, err := b.Write(msg); err != nil {
			panic(err)
		}
		if _, err := r.Next(); err != nil {
			panic(err)
		}
	})
	require.LessOrEqual(t, allocs, 0.5) // the pool may be emptied by a garbage collection
}

func BenchmarkReaderNext(b *testing.B) {
	c, d := pair(b)
	r := NewReader(c, 1<<20)
	msg := frame('Q', []byte("SELECT abalance FROM pgbench_accounts WHERE aid = 1;\x00"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Write(msg); err != nil {
			b.Fatal(err)
		}
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReaderRows(b *testing.B) {
	var rows []byte
	for range 100 {
		rows = append(rows, frame('D', make([]byte, 60))...)
	}
	src := bytes.NewReader(rows)
	r := NewReader(src, 1<<20)
	b.SetBytes(int64(len(rows)))
	b.ReportAllocs()
	for b.Loop() {
		src.Reset(rows)
		for range 100 {
			if _, err := r.Next(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
