package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
)

// headerSize is the type byte and the length word of a frame.
const headerSize = 5

// bufferSize is what a Reader takes from the pool. Every small transaction fits; what is larger is relayed in
// pieces (Chunk), or the buffer grows with the bytes as they arrive (Next).
const bufferSize = 8 << 10

// keepSize is the largest buffer that a Reader keeps once it is empty.
const keepSize = 64 << 10

// buffers is shared by all readers: the buffers of idle connections are there for the busy ones. (A pool holds
// no state that anyone could observe, hence the one global of this package.)
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// MessageTooLongError is returned by Next for a message that is larger than the Reader's limit. The message has
// not been consumed: it could still be relayed with Chunk.
type MessageTooLongError struct {
	Type byte
	// Size is the whole message's claimed size, Max the limit, both in bytes.
	Size, Max int
}

func (e *MessageTooLongError) Error() string {
	return fmt.Sprintf("message %q of %d bytes is longer than the %d bytes allowed", e.Type, e.Size, e.Max)
}

// Frame is one message with its header.
type Frame struct {
	Type byte
	// Raw is header and body, in the Reader's buffer: valid until the next call that may read (Next when Ready is
	// false, Peek, Chunk, Release).
	Raw []byte
}

// Body is the message without its header.
func (f Frame) Body() []byte { return f.Raw[headerSize:] }

// Reader cuts a stream into frames. One read of the source fills the buffer with whatever has come, and frames are
// handed out as slices of the buffer.
//
// Whole messages:
//
//	f, err := r.Next()
//
// Many messages with one write, without copying (frames that follow one another are adjacent in the buffer):
//
//	r.Mark()
//	f, err := r.Next()      // may wait
//	for r.Ready() {         // another whole frame is there: Next neither waits nor moves anything
//		f, err = r.Next()
//	}
//	dst.Write(r.Marked())
//
// Messages of any size (up to the protocol's 2 GiB) in bounded memory:
//
//	typ, size, err := r.Peek()          // the header has come; nothing is consumed
//	if size > r.Window() {
//		for more := true; more; {
//			var piece []byte
//			piece, more, err = r.Chunk()    // the first piece begins with the header
//			dst.Write(piece)
//		}
//	}
//
// A Reader over a *net.TCPConn or *net.UnixConn holds no buffer while it waits for the first byte of a message; over
// other sources it keeps one until Release.
//
// Errors of the source, timeouts included, leave the Reader as it was: after a deadline has passed and was moved,
// the call may be repeated. A broken header is an *Error with 08P01, and the stream cannot be used any more; the
// end of the stream between messages is io.EOF, within one io.ErrUnexpectedEOF.
//
// A Reader is used by one goroutine at a time.
type Reader struct {
	src io.Reader
	max int

	buf  []byte            // nil while idle
	pool *[bufferSize]byte // buf's array when it belongs to the pool
	r, w int               // buf[r:w] has arrived and was not handed out
	mark int               // beginning of the bytes that Marked gives
	left int               // bytes of a message begun by Chunk that were not handed out

	raw     syscall.RawConn // set when the source can wait without a buffer
	attempt func(fd uintptr) bool
	n       int // result of the last attempt
	err     error
}

// NewReader reads frames from src. Next refuses messages of more than maxMessage bytes (header included); 0 allows
// the protocol's 2 GiB, for which the buffer grows as the bytes arrive.
func NewReader(src io.Reader, maxMessage int) *Reader {
	if maxMessage <= 0 {
		maxMessage = 1<<31 + 1
	}
	r := &Reader{src: src, max: max(maxMessage, headerSize)}
	// Only these two very types: a type that embeds one of them may have a Read of its own.
	switch c := src.(type) {
	case *net.TCPConn:
		r.raw, _ = c.SyscallConn()
	case *net.UnixConn:
		r.raw, _ = c.SyscallConn()
	}
	if r.raw != nil {
		r.attempt = r.try
	}
	return r
}

// SetMax changes the limit of Next: small before authentication, larger after.
func (r *Reader) SetMax(maxMessage int) { r.max = max(maxMessage, headerSize) }

// Buffered is the number of bytes that have arrived and were not handed out.
func (r *Reader) Buffered() int { return r.w - r.r }

// Window is the size up to which a message is better taken whole with Next than in pieces with Chunk.
func (r *Reader) Window() int { return bufferSize }

// Ready tells whether a whole frame, or the rest of a message begun by Chunk, is in the buffer: then Next (or Chunk)
// returns without reading, and slices handed out before stay valid.
func (r *Reader) Ready() bool {
	if r.left > 0 {
		return r.w-r.r >= r.left
	}
	if r.w-r.r < headerSize {
		return false
	}
	size, err := r.size()
	return err == nil && size <= r.w-r.r && size <= r.max
}

// Mark begins a span of frames for Marked.
func (r *Reader) Mark() { r.mark = r.r }

// Marked gives the bytes that Next and Chunk have handed out since Mark, in one piece. It is valid as long as they
// are: a call that reads in between (Next when Ready was false) drops what came before and marks anew.
func (r *Reader) Marked() []byte { return r.buf[r.mark:r.r:r.r] }

// Peek waits for the header of the next message and gives its type and its whole size (header included, 5 to
// 2^31). Nothing is consumed, and no limit but the protocol's applies.
func (r *Reader) Peek() (typ byte, size int, err error) {
	if r.left > 0 {
		return 0, 0, errors.New("peek within a message: take its remaining pieces first")
	}
	if err := r.want(headerSize); err != nil {
		return 0, 0, err
	}
	size, err = r.size()
	return r.buf[r.r], size, err
}

// Next gives the next message, whole.
func (r *Reader) Next() (Frame, error) {
	typ, size, err := r.Peek()
	if err != nil {
		return Frame{}, err
	}
	if size > r.max {
		return Frame{}, &MessageTooLongError{Type: typ, Size: size, Max: r.max}
	}
	if err := r.want(size); err != nil {
		return Frame{}, err
	}
	f := Frame{Type: typ, Raw: r.buf[r.r : r.r+size : r.r+size]}
	r.r += size
	return f, nil
}

// Chunk gives the next piece of the current message: whatever has arrived of it, at least one byte. The first piece
// of a message begins with its header. more is false with the last piece.
func (r *Reader) Chunk() (piece []byte, more bool, err error) {
	if r.left == 0 {
		_, size, err := r.Peek()
		if err != nil {
			return nil, true, err
		}
		r.left = size
	} else if err := r.want(1); err != nil {
		return nil, true, err
	}
	n := min(r.left, r.w-r.r)
	piece = r.buf[r.r : r.r+n : r.r+n]
	r.r += n
	r.left -= n
	return piece, r.left > 0, nil
}

// Release hands the buffer back to the pool if nothing is buffered, and tells whether it did. All slices handed out
// before become invalid. The next call that reads takes a buffer again.
func (r *Reader) Release() bool {
	if r.r != r.w {
		return false
	}
	r.drop()
	return true
}

func (r *Reader) drop() {
	if r.pool != nil {
		buffers.Put(r.pool)
	}
	r.buf, r.pool = nil, nil
	r.r, r.w, r.mark = 0, 0, 0
}

func (r *Reader) size() (int, error) {
	n := binary.BigEndian.Uint32(r.buf[r.r+1:])
	if n < 4 || n > 1<<31-1 {
		return 0, &Error{
			Severity: SeverityFatal, Code: "08P01", Message: "invalid message length",
			Detail: fmt.Sprintf("Message type 0x%02x claims a length of %d.", r.buf[r.r], n),
		}
	}
	return int(n) + 1, nil
}

// want reads until n bytes are buffered.
func (r *Reader) want(n int) error {
	for r.w-r.r < n {
		got, err := r.fill()
		r.w += got
		if got > 0 {
			continue
		}
		if errors.Is(err, io.EOF) && (r.w > r.r || r.left > 0) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fill makes room and reads once.
func (r *Reader) fill() (int, error) {
	if r.r == r.w {
		r.r, r.w = 0, 0
		if len(r.buf) > keepSize {
			r.drop()
		}
	} else if r.r > 0 {
		// A message lies across the end of what was read: its beginning moves to the front (less than a buffer).
		copy(r.buf, r.buf[r.r:r.w])
		r.r, r.w = 0, r.w-r.r
	}
	r.mark = 0
	if r.w == len(r.buf) && r.w > 0 {
		r.grow()
	}
	if r.raw != nil {
		return r.readRaw()
	}
	r.take()
	return r.src.Read(r.buf[r.w:])
}

// grow doubles the buffer. It is called only when the buffer is full of bytes that have arrived, so memory stays
// within twice of them.
func (r *Reader) grow() {
	bigger := make([]byte, 2*len(r.buf))
	copy(bigger, r.buf[:r.w])
	if r.pool != nil {
		buffers.Put(r.pool)
	}
	r.buf, r.pool = bigger, nil
}

// take makes sure that there is a buffer.
func (r *Reader) take() {
	if r.buf == nil {
		r.pool = buffers.Get().(*[bufferSize]byte)
		r.buf = r.pool[:]
	}
}

// readRaw reads once from the descriptor, waiting for bytes without holding a buffer if it holds no data. It costs
// the same system calls as Read.
func (r *Reader) readRaw() (int, error) {
	r.n, r.err = 0, nil
	if err := r.raw.Read(r.attempt); err != nil {
		return 0, err
	}
	if r.err != nil {
		return 0, &net.OpError{Op: "read", Net: "socket", Err: r.err}
	}
	if r.n == 0 {
		return 0, io.EOF
	}
	return r.n, nil
}

// try is the attempt that the runtime repeats whenever the descriptor becomes readable.
func (r *Reader) try(fd uintptr) bool {
	r.take()
	for {
		n, err := syscall.Read(int(fd), r.buf[r.w:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			if r.w == 0 {
				r.drop()
			}
			return false
		case err != nil:
			r.n, r.err = 0, err
		default:
			r.n = n
		}
		return true
	}
}
