package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// maxFromServer bounds a message of a server during start-up, in bytes; ParameterStatus and errors are far smaller.
const maxFromServer = 1 << 20

// ErrStaleKeys says that the server asks for a salt or an iteration count other than those that the keys belong to:
// the role's password has been changed since the client logged in. It must log in again.
var ErrStaleKeys = errors.New("the role's password has changed since the client logged in")

// Credentials prove who we are to a server: a password, or the keys of a client's own login. With neither, only a
// server that asks for none (peer, cert) lets us in.
type Credentials struct {
	User     string
	Password string
	// Keys, when set, are used instead of Password.
	Keys *Keys
	// Verifier is the one that the keys were checked against. With it, changed passwords are told apart
	// (ErrStaleKeys) before anything is proved to the server.
	Verifier *Verifier
}

// ServerConfig says how to reach a server.
type ServerConfig struct {
	Network, Address string // as for net.Dial: "tcp" or "unix"
	// Params are start-up parameters (database, options, application_name, …); the user comes from Credentials.
	Params      map[string]string
	Credentials Credentials
	// Timeout bounds the whole of Connect (default 1 minute).
	Timeout time.Duration
	// TLS requires encryption. ServerName is taken from Address if it is empty.
	TLS *tls.Config
	// Protocol is the version to ask for (default Protocol32); a server that speaks only 3.0 says so, and that is
	// what is spoken then.
	Protocol uint32
}

// Server is a connection to a server that is ready for a query.
type Server struct {
	Conn net.Conn
	// PID and Secret cancel its statements (Cancel). The secret has 4 to 256 bytes; none if the server sent none.
	PID    uint32
	Secret []byte
	// Params are what the server has reported (ParameterStatus).
	Params map[string]string
	// Protocol is the version that is spoken.
	Protocol uint32
}

// Connect makes a connection up to the first ReadyForQuery. Errors of the server come back as *Error, wrapped. The
// server is authenticated too: with a password or keys in the credentials, one that lets us in without proving that
// it knows the password is refused, and so is one that asks for the password in clear or as md5.
func Connect(ctx context.Context, cfg ServerConfig) (*Server, error) {
	timeout := cfg.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, cfg.Network, cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("connect to server %s: %w", cfg.Address, err)
	}
	// The end of ctx ends every read and write on the connection.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	s, err := startServer(ctx, conn, cfg)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("connect to server %s as %q: %w", cfg.Address, cfg.Credentials.User, err)
	}
	return s, nil
}

func startServer(ctx context.Context, conn net.Conn, cfg ServerConfig) (*Server, error) {
	if cfg.TLS != nil {
		encrypted, err := startTLS(ctx, conn, cfg)
		if err != nil {
			return nil, err
		}
		conn = encrypted
	}
	h := handshake{
		cfg:    cfg,
		server: &Server{Conn: conn, Params: make(map[string]string), Protocol: cfg.Protocol},
	}
	if h.server.Protocol == 0 {
		h.server.Protocol = Protocol32
	}
	packet, err := startupPacket(h.server.Protocol, cfg)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(packet); err != nil {
		return nil, fmt.Errorf("send startup packet: %w", err)
	}
	for !h.ready {
		typ, body, err := readMessage(conn, maxFromServer)
		if err != nil {
			return nil, fmt.Errorf("read server's answer: %w", unexpected(err))
		}
		if err := h.step(typ, body); err != nil {
			return nil, err
		}
	}
	return h.server, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func startTLS(ctx context.Context, conn net.Conn, cfg ServerConfig) (net.Conn, error) {
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil { // SSLRequest
		return nil, fmt.Errorf("request TLS: %w", err)
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return nil, fmt.Errorf("request TLS: %w", unexpected(err))
	}
	if answer[0] != 'S' {
		return nil, errors.New("the server does not offer TLS; set ssl = on there, or connect without TLS")
	}
	c := cfg.TLS.Clone()
	c.NextProtos = []string{alpnProtocol}
	if c.ServerName == "" && !c.InsecureSkipVerify {
		host, _, err := net.SplitHostPort(cfg.Address)
		if err != nil {
			host = cfg.Address
		}
		c.ServerName = host
	}
	encrypted := tls.Client(conn, c)
	if err := encrypted.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return encrypted, nil
}

func startupPacket(protocol uint32, cfg ServerConfig) ([]byte, error) {
	if cfg.Credentials.User == "" {
		return nil, errors.New("no user name given")
	}
	p := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 0}, protocol)
	add := func(s string) error {
		if bytes.IndexByte([]byte(s), 0) >= 0 {
			return errors.New("a start-up parameter holds a zero byte")
		}
		p = append(append(p, s...), 0)
		return nil
	}
	errs := []error{add("user"), add(cfg.Credentials.User)}
	for k, v := range cfg.Params {
		if k != "user" && k != "" {
			errs = append(errs, add(k), add(v))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	p = append(p, 0)
	if len(p) > maxStartup {
		return nil, fmt.Errorf("the start-up parameters take %d bytes, more than the %d that PostgreSQL accepts", len(p), maxStartup)
	}
	binary.BigEndian.PutUint32(p, uint32(len(p)))
	return p, nil
}

// handshake is the state of a server's start-up: authentication, then parameters, then ready.
//
//	begin ─ SASL ─► challenged ─ SASLContinue ─► proved ─ SASLFinal ─► verified ─ Ok ─► admitted ─ Z ─► ready
//	  └──────────────── Ok (only without credentials) ──────────────────────────────────────┘
type handshake struct {
	cfg    ServerConfig
	server *Server
	stage  stage
	scram  clientExchange
	ready  bool
}

type stage int

const (
	begun stage = iota
	challenged
	proved
	verified
	admitted
)

func (h *handshake) step(typ byte, body []byte) error {
	switch {
	case typ == 'E':
		e, err := ParseError(body)
		if err != nil {
			return err
		}
		return e
	case typ == 'N':
		if _, err := ParseError(body); err != nil {
			return err
		}
		return nil
	case typ == 'v' && h.stage == begun:
		return h.negotiate(body)
	case typ == 'R' && h.stage < admitted:
		return h.authenticate(body)
	case typ == 'S' && h.stage == admitted:
		k, rest, ok := cString(body)
		v, rest, ok2 := cString(rest)
		if !ok || !ok2 || len(rest) != 0 {
			return malformed("ParameterStatus")
		}
		h.server.Params[k] = v
		return nil
	case typ == 'K' && h.stage == admitted:
		if len(body) < 8 || len(body) > 4+maxSecret {
			return malformed("BackendKeyData")
		}
		h.server.PID, h.server.Secret = binary.BigEndian.Uint32(body), bytes.Clone(body[4:])
		return nil
	case typ == 'Z' && h.stage == admitted:
		if len(body) != 1 || body[0] != 'I' {
			return malformed("ReadyForQuery")
		}
		h.ready = true
		return nil
	default:
		return fmt.Errorf("unexpected message %q during start-up", typ)
	}
}

// negotiate takes NegotiateProtocolVersion: the server speaks less than we asked for.
func (h *handshake) negotiate(body []byte) error {
	if len(body) < 8 {
		return malformed("NegotiateProtocolVersion")
	}
	version := binary.BigEndian.Uint32(body)
	if version>>16 == 0 { // the documentation speaks of the minor version alone
		version |= Protocol30
	}
	if version < Protocol30 || version > h.server.Protocol {
		return fmt.Errorf("the server offers protocol %d.%d, which was not asked for", version>>16, version&0xffff)
	}
	h.server.Protocol = version
	return nil
}

func (h *handshake) authenticate(body []byte) error {
	if len(body) < 4 {
		return malformed("Authentication")
	}
	code, data := binary.BigEndian.Uint32(body), body[4:]
	switch {
	case code == authSASL && h.stage == begun:
		return h.beginSCRAM(data)
	case code == authSASLContinue && h.stage == challenged:
		msg, err := h.scram.final(data)
		if err != nil {
			return err
		}
		h.stage = proved
		out, start := begin(nil, 'p')
		return send(h.server.Conn, finish(append(out, msg...), start))
	case code == authSASLFinal && h.stage == proved:
		h.stage = verified
		return h.scram.verify(data)
	case code == authOK && h.stage == verified, code == authOK && h.stage == begun && !h.cfg.Credentials.given():
		h.stage = admitted
		return nil
	case code == authOK:
		return errors.New("the server let us in without proving that it knows the password; " +
			"use scram-sha-256 in its pg_hba.conf instead of trust")
	case code == authCleartext:
		return errors.New("the server asks for the password in clear, which is never sent; use scram-sha-256 in its pg_hba.conf")
	case code == authMD5:
		return errors.New("the server asks for an md5 password, which is never sent; use scram-sha-256 in its pg_hba.conf " +
			"and set the role's password anew with password_encryption = 'scram-sha-256'")
	default:
		return fmt.Errorf("the server asks for authentication method %d, which is not supported here; use scram-sha-256 in its pg_hba.conf", code)
	}
}

func (c Credentials) given() bool { return c.Password != "" || c.Keys != nil }

func (h *handshake) beginSCRAM(mechanisms []byte) error {
	var offered []string
	for {
		name, rest, ok := cString(mechanisms)
		if !ok || len(offered) > 16 {
			return malformed("AuthenticationSASL")
		}
		if name == "" {
			break
		}
		offered, mechanisms = append(offered, name), rest
	}
	if !slices.Contains(offered, scramMechanism) {
		return fmt.Errorf("the server offers only the SASL mechanisms %q, not %s", offered, scramMechanism)
	}
	if !h.cfg.Credentials.given() {
		return errors.New("the server asks for a password, and none was given")
	}
	h.scram = clientExchange{nonce: nonce(), keys: h.cfg.Credentials.keysFor}
	first := h.scram.first()
	out, start := begin(nil, 'p')
	out = appendString(out, scramMechanism)
	out = binary.BigEndian.AppendUint32(out, uint32(len(first)))
	h.stage = challenged
	return send(h.server.Conn, finish(append(out, first...), start))
}

// keysFor gives the keys for what the server asks.
func (c Credentials) keysFor(salt []byte, iterations int) (Keys, error) {
	if c.Keys != nil {
		if v := c.Verifier; v != nil && (v.Iterations != iterations || !bytes.Equal(v.Salt, salt)) {
			return Keys{}, ErrStaleKeys
		}
		if len(c.Keys.ClientKey) != keySize || len(c.Keys.ServerKey) != keySize {
			return Keys{}, fmt.Errorf("the keys have %d and %d bytes instead of %d", len(c.Keys.ClientKey), len(c.Keys.ServerKey), keySize)
		}
		return *c.Keys, nil
	}
	if iterations > maxIterations {
		return Keys{}, fmt.Errorf("the server asks for %d iterations of the password's hash, more than the %d that are allowed; "+
			"lower scram_iterations and set the role's password anew", iterations, maxIterations)
	}
	return DeriveKeys(c.Password, salt, iterations)
}
