package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// The codes of authentication requests (src/include/libpq/protocol.h).
const (
	authOK           = 0
	authCleartext    = 3
	authMD5          = 5
	authSASL         = 10
	authSASLContinue = 11
	authSASLFinal    = 12
)

// maxBeforeAuth bounds every message before authentication, in bytes without its header.
const maxBeforeAuth = 10_000

// AuthenticateClient runs the server's side of SCRAM-SHA-256 and gives the client's keys, recovered from its proof:
// with them the client's role can log in to any server that has the same verifier. user appears in messages only;
// v is its verifier. With mock the exchange is carried out just the same and fails at the end as for a wrong password
// (use MockVerifier for users that do not exist).
//
// Messages are bounded to 10,000 bytes. Not a byte behind the exchange is read. The caller sets and clears the
// connection's deadline. The last SASL message is sent here; AuthenticationOk is the caller's, as are errors: an *Error
// is to be sent before closing, other errors mean that the connection is lost.
func AuthenticateClient(conn net.Conn, user string, v Verifier, mock bool) (Keys, error) {
	refused := Fatal("28P01", "password authentication failed for user %q", user)
	if err := send(conn, appendAuthentication(nil, authSASL, []byte(scramMechanism+"\x00\x00"))); err != nil {
		return Keys{}, err
	}
	body, err := readPassword(conn)
	if err != nil {
		return Keys{}, err
	}
	msg, err := parseSASLInitial(body)
	if err != nil {
		return Keys{}, err
	}
	if msg == nil {
		// No initial response: an empty challenge asks for it (scram_exchange in auth-scram.c).
		if err := send(conn, appendAuthentication(nil, authSASLContinue, nil)); err != nil {
			return Keys{}, err
		}
		if msg, err = readPassword(conn); err != nil {
			return Keys{}, err
		}
	}
	x := serverExchange{verifier: v}
	challenge, err := x.first(msg, nonce())
	if err != nil {
		return Keys{}, err
	}
	if err := send(conn, appendAuthentication(nil, authSASLContinue, []byte(challenge))); err != nil {
		return Keys{}, err
	}
	if msg, err = readPassword(conn); err != nil {
		return Keys{}, err
	}
	final, keys, err := x.final(msg)
	if errors.Is(err, errProof) || err == nil && mock {
		return Keys{}, refused
	}
	if err != nil {
		return Keys{}, err
	}
	return keys, send(conn, appendAuthentication(nil, authSASLFinal, []byte(final)))
}

func send(w io.Writer, b []byte) error {
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("send authentication message: %w", err)
	}
	return nil
}

// readPassword reads one 'p' message.
func readPassword(conn io.Reader) ([]byte, error) {
	typ, body, err := readMessage(conn, maxBeforeAuth)
	var tooLong *MessageTooLongError
	switch {
	case errors.As(err, &tooLong):
		return nil, Fatal("08P01", "invalid message length")
	case err != nil:
		return nil, fmt.Errorf("read authentication message: %w", err)
	case typ != 'p':
		return nil, Fatal("08P01", "expected SASL response, got message type %d", typ)
	}
	return body, nil
}

// parseSASLInitial gives the initial response of a SASLInitialResponse; nil when there is none.
func parseSASLInitial(body []byte) ([]byte, error) {
	i := bytes.IndexByte(body, 0)
	if i < 0 || len(body) < i+5 {
		return nil, malformed("SASLInitialResponse")
	}
	if string(body[:i]) != scramMechanism {
		return nil, Fatal("08P01", "client selected an invalid SASL authentication mechanism")
	}
	n := int64(int32(binary.BigEndian.Uint32(body[i+1:])))
	rest := body[i+5:]
	if n == -1 && len(rest) == 0 {
		return nil, nil
	}
	if n != int64(len(rest)) {
		return nil, malformed("SASLInitialResponse")
	}
	return rest, nil
}

// readMessage reads one message and not a byte more. The body's memory grows as it arrives. A body of more than limit
// bytes is a *MessageTooLongError; the end of the stream is io.EOF between messages, else io.ErrUnexpectedEOF.
func readMessage(conn io.Reader, limit int) (typ byte, body []byte, err error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n < 4 || n > 1<<31-1 {
		return 0, nil, Fatal("08P01", "invalid message length")
	}
	size := int(n) - 4
	if size > limit {
		return 0, nil, &MessageTooLongError{Type: head[0], Size: size + headerSize, Max: limit + headerSize}
	}
	for len(body) < size {
		step := min(size-len(body), max(len(body), 4096))
		body = append(body, make([]byte, step)...)
		if _, err := io.ReadFull(conn, body[len(body)-step:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, nil, err
		}
	}
	return head[0], body, nil
}
