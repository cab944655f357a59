package wire

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

const (
	// DefaultIterations is PostgreSQL's SCRAM_SHA_256_DEFAULT_ITERATIONS.
	DefaultIterations = 4096
	// maxIterations bounds the work that a server may ask of us where a password is hashed (about half a second).
	maxIterations = 1_000_000
	// saltSize is PostgreSQL's SCRAM_DEFAULT_SALT_LEN; maxSalt bounds what is accepted.
	saltSize = 16
	maxSalt  = 1024
	keySize  = sha256.Size

	verifierPrefix = "SCRAM-SHA-256$"
)

// ErrNotSCRAM says that a role has no SCRAM verifier: it has no password, or one hashed with md5.
var ErrNotSCRAM = errors.New("the role has no SCRAM-SHA-256 password; set it anew with password_encryption = 'scram-sha-256'")

// Verifier is what a server stores instead of a password (pg_authid.rolpassword). It proves nothing by itself: a
// login needs the client key.
type Verifier struct {
	Iterations                 int
	Salt, StoredKey, ServerKey []byte
}

// Keys are what proves a password in a SCRAM exchange with the same salt and iterations. They are as secret as the
// password is.
type Keys struct {
	ClientKey, ServerKey []byte
}

// ParseVerifier reads PostgreSQL's form "SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>"
// (parse_scram_secret in src/backend/libpq/auth-scram.c). It gives ErrNotSCRAM when the role has md5 or no password.
// The text never stands in the error.
func ParseVerifier(s string) (Verifier, error) {
	rest, ok := strings.CutPrefix(s, verifierPrefix)
	if !ok {
		return Verifier{}, ErrNotSCRAM
	}
	head, tail, ok := strings.Cut(rest, "$")
	iterations, salt, ok1 := strings.Cut(head, ":")
	stored, server, ok2 := strings.Cut(tail, ":")
	n, err := strconv.ParseInt(iterations, 10, 32)
	if !ok || !ok1 || !ok2 || err != nil || n < 1 || n > math.MaxInt32 || len(salt) > 2*maxSalt || len(tail) > 4*keySize {
		return Verifier{}, errors.New("parse SCRAM verifier: not of the form SCRAM-SHA-256$iterations:salt$stored:server")
	}
	v := Verifier{Iterations: int(n)}
	for _, p := range []struct {
		name, text string
		dst        *[]byte
	}{{"salt", salt, &v.Salt}, {"stored key", stored, &v.StoredKey}, {"server key", server, &v.ServerKey}} {
		if *p.dst, err = base64.StdEncoding.Strict().DecodeString(p.text); err != nil {
			return Verifier{}, fmt.Errorf("parse SCRAM verifier: the %s is not base64", p.name)
		}
	}
	if len(v.Salt) == 0 || len(v.StoredKey) != keySize || len(v.ServerKey) != keySize {
		return Verifier{}, errors.New("parse SCRAM verifier: a key or the salt has a wrong length")
	}
	return v, nil
}

// String gives PostgreSQL's form.
func (v Verifier) String() string {
	b64 := base64.StdEncoding.EncodeToString
	return verifierPrefix + strconv.Itoa(v.Iterations) + ":" + b64(v.Salt) + "$" + b64(v.StoredKey) + ":" + b64(v.ServerKey)
}

// NewVerifier hashes a password with a new random salt. iterations 0 means DefaultIterations.
func NewVerifier(password string, iterations int) (Verifier, error) {
	if iterations == 0 {
		iterations = DefaultIterations
	}
	if iterations < 1 || iterations > math.MaxInt32 {
		return Verifier{}, fmt.Errorf("hash password: %d iterations are out of range 1 to %d", iterations, math.MaxInt32)
	}
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails
	keys, err := DeriveKeys(password, salt, iterations)
	if err != nil {
		return Verifier{}, err
	}
	stored := sha256.Sum256(keys.ClientKey)
	return Verifier{Iterations: iterations, Salt: salt, StoredKey: stored[:], ServerKey: keys.ServerKey}, nil
}

// MockVerifier stands in for a role that does not exist or has no SCRAM password: the same one for the same user and
// secret, so that asking twice does not reveal it (scram_mock_salt in auth-scram.c). secret is random, at least 32
// bytes, and the same on all routers of a cluster. No password fits it.
func MockVerifier(user string, secret []byte) Verifier {
	derive := func(purpose string) []byte { return mac(secret, "multicoord mock "+purpose+"\x00"+user) }
	return Verifier{
		Iterations: DefaultIterations, Salt: derive("salt")[:saltSize],
		StoredKey: derive("stored"), ServerKey: derive("server"),
	}
}

// DeriveKeys computes the keys that a password gives with a salt (RFC 5802, section 3).
func DeriveKeys(password string, salt []byte, iterations int) (Keys, error) {
	salted, err := pbkdf2.Key(sha256.New, prepare(password), salt, iterations, keySize)
	if err != nil {
		return Keys{}, fmt.Errorf("hash password: %w", err)
	}
	return Keys{ClientKey: mac(salted, "Client Key"), ServerKey: mac(salted, "Server Key")}, nil
}

// Matches tells whether the keys are those of v's password.
func (v Verifier) Matches(k Keys) bool {
	stored := sha256.Sum256(k.ClientKey)
	return hmac.Equal(stored[:], v.StoredKey) && hmac.Equal(k.ServerKey, v.ServerKey)
}

func mac(key []byte, data string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(data))
	return h.Sum(nil)
}
