package wire

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The messages of SCRAM-SHA-256 (RFC 5802 section 7, RFC 7677), as values: nothing here reads or writes a connection.

const scramMechanism = "SCRAM-SHA-256"

// maxNonce bounds a nonce; RFC 5802 names no limit, real ones have 24 to 48 characters.
const maxNonce = 1024

// nonce gives 18 random bytes in base64, as PostgreSQL does (SCRAM_RAW_NONCE_LEN).
func nonce() string {
	var b [18]byte
	rand.Read(b[:]) // never fails
	return base64.StdEncoding.EncodeToString(b[:])
}

func badSCRAM(detail string) *Error {
	return &Error{Severity: SeverityFatal, Code: "08P01", Message: "malformed SCRAM message", Detail: detail}
}

// serverExchange is the server's side of one exchange.
type serverExchange struct {
	verifier    Verifier
	gs2         string // the client's header: "n,," or "y,,"
	clientFirst string // client-first-message-bare
	serverFirst string
	nonce       string // client's and server's
}

// first takes the client-first-message and gives the server-first-message (read_client_first_message in
// src/backend/libpq/auth-scram.c). The user name in it is ignored, as PostgreSQL does: the start-up packet's counts.
func (x *serverExchange) first(msg []byte, serverNonce string) (string, error) {
	if bytes.IndexByte(msg, 0) >= 0 {
		return "", badSCRAM("The message contains a zero byte.")
	}
	s := string(msg)
	flag, rest, ok := strings.Cut(s, ",")
	authzid, bare, ok2 := strings.Cut(rest, ",")
	if !ok || !ok2 {
		return "", badSCRAM("The client's first message has no GS2 header.")
	}
	switch {
	case flag == "n" || flag == "y": // 'y': it could bind to the channel, and saw rightly that we do not offer it
	case strings.HasPrefix(flag, "p="):
		return "", &Error{
			Severity: SeverityFatal, Code: "08P01", Message: "malformed SCRAM message",
			Detail: "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.",
			Hint:   "Connect with channel_binding=disable or prefer.",
		}
	default:
		return "", badSCRAM("Unexpected channel-binding flag.")
	}
	if authzid != "" {
		return "", Fatal("0A000", "client uses authorization identity, but it is not supported")
	}
	if strings.HasPrefix(bare, "m=") {
		return "", Fatal("0A000", "client requires an unsupported SCRAM extension")
	}
	attrs := strings.Split(bare, ",")
	if len(attrs) < 2 || !strings.HasPrefix(attrs[0], "n=") || !strings.HasPrefix(attrs[1], "r=") {
		return "", badSCRAM("The client's first message has no user name or no nonce.")
	}
	clientNonce := attrs[1][2:]
	if !validNonce(clientNonce) {
		return "", badSCRAM("The client's nonce is empty, too long or not printable.")
	}
	if !validExtensions(attrs[2:]) {
		return "", badSCRAM("The client's first message has a malformed extension.")
	}
	x.gs2 = flag + ",,"
	x.clientFirst = bare
	x.nonce = clientNonce + serverNonce
	x.serverFirst = "r=" + x.nonce + ",s=" + base64.StdEncoding.EncodeToString(x.verifier.Salt) +
		",i=" + strconv.Itoa(x.verifier.Iterations)
	return x.serverFirst, nil
}

// errProof says that the client does not know the password.
var errProof = errors.New("the client's proof does not fit the verifier")

// final takes the client-final-message, verifies the proof and gives the server-final-message and the client's keys.
// A wrong proof is errProof; anything else means a malformed message.
func (x *serverExchange) final(msg []byte) (string, Keys, error) {
	if bytes.IndexByte(msg, 0) >= 0 {
		return "", Keys{}, badSCRAM("The message contains a zero byte.")
	}
	s := string(msg)
	end := strings.LastIndex(s, ",p=")
	if end < 0 {
		return "", Keys{}, badSCRAM("The client's final message has no proof.")
	}
	withoutProof, proof64 := s[:end], s[end+3:]
	attrs := strings.Split(withoutProof, ",")
	if len(attrs) < 2 || attrs[0] != "c="+base64.StdEncoding.EncodeToString([]byte(x.gs2)) {
		return "", Keys{}, badSCRAM("Unexpected channel binding in the client's final message.")
	}
	if !strings.HasPrefix(attrs[1], "r=") || !hmac.Equal([]byte(attrs[1][2:]), []byte(x.nonce)) {
		return "", Keys{}, badSCRAM("The nonce does not match.")
	}
	if !validExtensions(attrs[2:]) {
		return "", Keys{}, badSCRAM("The client's final message has a malformed extension.")
	}
	proof, err := base64.StdEncoding.Strict().DecodeString(proof64)
	if err != nil || len(proof) != keySize {
		return "", Keys{}, badSCRAM("The client's proof is malformed.")
	}
	auth := x.clientFirst + "," + x.serverFirst + "," + withoutProof
	clientKey := xor(proof, mac(x.verifier.StoredKey, auth))
	stored := sha256.Sum256(clientKey)
	if !hmac.Equal(stored[:], x.verifier.StoredKey) {
		return "", Keys{}, errProof
	}
	final := "v=" + base64.StdEncoding.EncodeToString(mac(x.verifier.ServerKey, auth))
	return final, Keys{ClientKey: clientKey, ServerKey: bytes.Clone(x.verifier.ServerKey)}, nil
}

// clientExchange is the client's side of one exchange.
type clientExchange struct {
	nonce string
	// keys gives the keys for the server's salt and iterations.
	keys      func(salt []byte, iterations int) (Keys, error)
	signature []byte // what the server has to prove
}

// first gives the client-first-message. The user name stays empty, as with libpq: the start-up packet has it.
func (x *clientExchange) first() string { return "n,," + x.firstBare() }

func (x *clientExchange) firstBare() string { return "n=,r=" + x.nonce }

// final takes the server-first-message and gives the client-final-message.
func (x *clientExchange) final(msg []byte) (string, error) {
	combined, salt, iterations, err := parseServerFirst(string(msg))
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(combined, x.nonce) || len(combined) == len(x.nonce) {
		return "", errors.New("the server's SCRAM nonce does not continue ours")
	}
	keys, err := x.keys(salt, iterations)
	if err != nil {
		return "", err
	}
	withoutProof := "c=biws,r=" + combined // biws: "n,,"
	auth := x.firstBare() + "," + string(msg) + "," + withoutProof
	stored := sha256.Sum256(keys.ClientKey)
	proof := xor(keys.ClientKey, mac(stored[:], auth))
	x.signature = mac(keys.ServerKey, auth)
	return withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof), nil
}

// verify takes the server-final-message: it must prove that the server knows the password too.
func (x *clientExchange) verify(msg []byte) error {
	s := string(msg)
	if reason, ok := strings.CutPrefix(s, "e="); ok {
		return fmt.Errorf("the server ended the SCRAM exchange: %q", clip(reason))
	}
	value, ok := strings.CutPrefix(s, "v=")
	if !ok {
		return errors.New("the server's last SCRAM message has no signature")
	}
	value, _, _ = strings.Cut(value, ",")
	got, err := base64.StdEncoding.Strict().DecodeString(value)
	if err != nil || x.signature == nil || !hmac.Equal(got, x.signature) {
		return errors.New("the server could not prove that it knows the password; it may not be the server that it claims to be")
	}
	return nil
}

func parseServerFirst(s string) (combined string, salt []byte, iterations int, err error) {
	bad := errors.New("the server's first SCRAM message is malformed")
	if strings.HasPrefix(s, "m=") {
		return "", nil, 0, errors.New("the server requires an unsupported SCRAM extension")
	}
	attrs := strings.Split(s, ",")
	if len(attrs) < 3 || !strings.HasPrefix(attrs[0], "r=") || !strings.HasPrefix(attrs[1], "s=") || !strings.HasPrefix(attrs[2], "i=") {
		return "", nil, 0, bad
	}
	combined = attrs[0][2:]
	salt, err = base64.StdEncoding.Strict().DecodeString(attrs[1][2:])
	if err != nil || len(salt) == 0 || len(salt) > maxSalt || !validNonce(combined) || !validExtensions(attrs[3:]) {
		return "", nil, 0, bad
	}
	n, err := strconv.ParseInt(attrs[2][2:], 10, 32)
	if err != nil || n < 1 {
		return "", nil, 0, bad
	}
	return combined, salt, int(n), nil
}

// validNonce: printable ASCII without the comma (RFC 5802: "printable").
func validNonce(s string) bool {
	if s == "" || len(s) > 2*maxNonce {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e || s[i] == ',' {
			return false
		}
	}
	return true
}

// validExtensions: optional extensions are letter=value, and ignored.
func validExtensions(attrs []string) bool {
	for _, a := range attrs {
		if len(a) < 2 || a[1] != '=' || a[0]|0x20 < 'a' || a[0]|0x20 > 'z' {
			return false
		}
	}
	return true
}

func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	for i := range a {
		out[i] = a[i] ^ b[i]
	}
	return out
}

func clip(s string) string { return s[:min(len(s), 200)] }
