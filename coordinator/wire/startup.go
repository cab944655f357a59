package wire

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"
)

// The versions of the protocol, and the codes that stand in their place in special requests.
const (
	Protocol30 uint32 = 3 << 16
	Protocol32 uint32 = 3<<16 | 2

	cancelRequestCode = 1234<<16 | 5678
	sslRequestCode    = 1234<<16 | 5679
	gssRequestCode    = 1234<<16 | 5680
)

const (
	// maxStartup is PostgreSQL's MAX_STARTUP_PACKET_LENGTH (src/include/libpq/pqcomm.h).
	maxStartup = 10_000
	// maxSecret is the longest secret of a cancel key since protocol 3.2.
	maxSecret = 256
	// defaultTimeout is PostgreSQL's authentication_timeout.
	defaultTimeout = time.Minute
	// alpnProtocol is the protocol name of TLS connections that are made without an SSLRequest (PostgreSQL 17).
	alpnProtocol = "postgresql"
)

// StartupConfig says how clients are received.
type StartupConfig struct {
	// TLS accepts encrypted connections; nil answers an SSLRequest with "N".
	TLS *tls.Config
	// Timeout bounds the whole of ReadStartup (default 1 minute).
	Timeout time.Duration
}

// Startup is what a client asks for when it connects.
type Startup struct {
	// Protocol is the version that both sides speak from now on: what the client asked for, or Protocol32 if it
	// asked for more. From Protocol32 on a cancel key's secret may have more than 4 bytes.
	Protocol uint32
	// Params are the start-up parameters without _pq_. options. "user" is always there; "database" is not (its
	// default is the user's name).
	Params map[string]string
	// Cancel is set when the connection asks for nothing but a cancellation; then Params is nil. Nothing is ever
	// answered to it.
	Cancel *CancelKey
	// TLS tells that the connection is encrypted.
	TLS bool
}

// CancelKey names a session whose statement is to be cancelled. The secret has 4 to 256 bytes.
type CancelKey struct {
	PID    uint32
	Secret []byte
}

// ReadStartup reads a new client connection up to its StartupMessage or CancelRequest. An SSLRequest is accepted if
// cfg.TLS is set (as is TLS from the first byte on, with ALPN "postgresql"), a GSSENCRequest is declined. A newer minor version
// or unknown _pq_. options are answered with NegotiateProtocolVersion. At most 10,000 bytes are read for a packet, and
// never a byte beyond it.
//
// The connection returned is the one to go on with: the TLS connection if TLS was made. It is returned with errors
// too: an *Error is meant to be sent on it before closing. io.EOF means that the client left without a word, as
// health checks do. The connection's deadline is cleared at the end. Whoever wants to end the wait early closes conn.
func ReadStartup(conn net.Conn, cfg StartupConfig) (Startup, net.Conn, error) {
	timeout := cfg.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return Startup{}, conn, fmt.Errorf("set start-up deadline: %w", err)
	}
	n := negotiation{conn: conn, tls: cfg.TLS}
	s, err := n.run()
	if err != nil {
		return Startup{}, n.conn, err
	}
	if err := n.conn.SetDeadline(time.Time{}); err != nil {
		return Startup{}, n.conn, fmt.Errorf("clear start-up deadline: %w", err)
	}
	return s, n.conn, nil
}

// negotiation is the state of ReadStartup. Each kind of encryption may be asked for once (ProcessStartupPacket in
// src/backend/tcop/backend_startup.c).
type negotiation struct {
	conn               net.Conn
	tls                *tls.Config
	askedSSL, askedGSS bool
	encrypted          bool
}

func (n *negotiation) run() (Startup, error) {
	for {
		packet, err := n.packet()
		if err != nil {
			return Startup{}, err
		}
		if packet == nil {
			continue // TLS from the first byte on was made
		}
		switch code := binary.BigEndian.Uint32(packet); {
		case code == cancelRequestCode:
			key, err := parseCancel(packet[4:])
			return Startup{Cancel: key, TLS: n.encrypted}, err
		case code == sslRequestCode && !n.askedSSL && !n.encrypted && len(packet) == 4:
			n.askedSSL = true
			if err := n.answerSSL(); err != nil {
				return Startup{}, err
			}
		case code == gssRequestCode && !n.askedGSS && !n.encrypted && len(packet) == 4:
			n.askedGSS = true
			if _, err := n.conn.Write([]byte{'N'}); err != nil {
				return Startup{}, fmt.Errorf("decline GSS encryption: %w", err)
			}
		default:
			s, unknown, err := parseStartup(code, packet[4:])
			if err != nil {
				return Startup{}, err
			}
			s.TLS = n.encrypted
			return s, n.answerVersion(code, unknown)
		}
	}
}

// packet reads one start-up packet without its length. It gives nil after making TLS for a client that began with
// it.
func (n *negotiation) packet() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(n.conn, head[:]); err == io.EOF {
		return nil, err
	} else if err != nil {
		return nil, incomplete(err)
	}
	if head[0] == 0x16 && !n.askedSSL && !n.askedGSS && !n.encrypted {
		return nil, n.directTLS(head[:])
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < 8 || size > maxStartup+4 {
		return nil, Fatal("08P01", "invalid length of startup packet")
	}
	packet := make([]byte, size-4)
	if _, err := io.ReadFull(n.conn, packet); err != nil {
		return nil, incomplete(err)
	}
	return packet, nil
}

func incomplete(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("incomplete startup packet: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("read startup packet: %w", err)
}

func (n *negotiation) answerSSL() error {
	if n.tls == nil {
		if _, err := n.conn.Write([]byte{'N'}); err != nil {
			return fmt.Errorf("decline TLS: %w", err)
		}
		return nil
	}
	if _, err := n.conn.Write([]byte{'S'}); err != nil {
		return fmt.Errorf("accept TLS: %w", err)
	}
	// Not a byte beyond the request was read, so whatever someone has put between it and the handshake is read by
	// the handshake, and refused there: it can never pass for something said under encryption (CVE-2021-23222).
	return n.handshake(n.conn)
}

// directTLS makes TLS with a client that did not ask for it but began; ALPN is then required, as PostgreSQL does.
func (n *negotiation) directTLS(first []byte) error {
	if n.tls == nil {
		return Fatal("08P01", "received direct SSL connection request, but TLS is not configured here")
	}
	if err := n.handshake(&prefixed{Conn: n.conn, first: first}); err != nil {
		return err
	}
	if n.conn.(*tls.Conn).ConnectionState().NegotiatedProtocol != alpnProtocol {
		return Fatal("08P01", "received direct SSL connection request without ALPN protocol negotiation extension")
	}
	return nil
}

func (n *negotiation) handshake(raw net.Conn) error {
	cfg := n.tls.Clone()
	cfg.NextProtos = []string{alpnProtocol}
	conn := tls.Server(raw, cfg)
	if err := conn.Handshake(); err != nil { //nolint:noctx // the connection's deadline bounds it
		var header tls.RecordHeaderError
		if errors.As(err, &header) {
			return &Error{
				Severity: SeverityFatal, Code: "08P01", Message: "received unencrypted data after SSL request",
				Detail: "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
			}
		}
		return fmt.Errorf("TLS handshake: %w", err)
	}
	n.conn, n.encrypted = conn, true
	return nil
}

// prefixed gives back bytes that were read ahead.
type prefixed struct {
	net.Conn
	first []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.first) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

func parseCancel(body []byte) (*CancelKey, error) {
	if len(body) < 8 || len(body) > 4+maxSecret {
		return nil, Fatal("08P01", "invalid length of cancel request packet")
	}
	return &CancelKey{PID: binary.BigEndian.Uint32(body), Secret: body[4:]}, nil
}

// parseStartup reads the parameters of a StartupMessage, and the names of its _pq_. options, none of which is known
// here.
func parseStartup(version uint32, body []byte) (s Startup, unknown []string, err error) {
	if version>>16 != 3 {
		return Startup{}, nil, Fatal("0A000", "unsupported frontend protocol %d.%d: server supports 3.0 to 3.2",
			version>>16, version&0xffff)
	}
	s = Startup{Protocol: min(version, Protocol32), Params: make(map[string]string)}
	for {
		name, rest, ok := cString(body)
		if !ok {
			return Startup{}, nil, Fatal("08P01", "invalid startup packet layout: expected terminator as last byte")
		}
		if name == "" {
			if len(rest) != 0 {
				return Startup{}, nil, Fatal("08P01", "invalid startup packet layout: expected terminator as last byte")
			}
			break
		}
		value, rest, ok := cString(rest)
		if !ok {
			return Startup{}, nil, Fatal("08P01", "invalid startup packet layout: expected terminator as last byte")
		}
		body = rest
		if strings.HasPrefix(name, "_pq_.") {
			if !slices.Contains(unknown, name) {
				unknown = append(unknown, name)
			}
			continue
		}
		s.Params[name] = value
	}
	if s.Params["user"] == "" {
		return Startup{}, nil, Fatal("28000", "no PostgreSQL user name specified in startup packet")
	}
	return s, unknown, nil
}

func cString(b []byte) (s string, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return "", nil, false
	}
	return string(b[:i]), b[i+1:], true
}

// answerVersion tells the client what we do not speak, if it asked for it.
func (n *negotiation) answerVersion(asked uint32, unknown []string) error {
	if asked <= Protocol32 && len(unknown) == 0 {
		return nil
	}
	msg, start := begin(nil, 'v')
	msg = binary.BigEndian.AppendUint32(msg, min(asked, Protocol32))
	msg = binary.BigEndian.AppendUint32(msg, uint32(len(unknown)))
	for _, name := range unknown {
		msg = appendString(msg, name)
	}
	if _, err := n.conn.Write(finish(msg, start)); err != nil {
		return fmt.Errorf("negotiate protocol version: %w", err)
	}
	return nil
}
