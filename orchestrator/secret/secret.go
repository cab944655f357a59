// Package secret keeps the passwords of the cluster's own roles: made at random, sealed in the agreed state under a
// key that only the hosts have.
//
// Level: leaf with files (the key file).
//
// It never logs a secret, never puts one on a command line, and never reads a key file that others can read.
package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// The cluster's own roles.
const (
	SuperuserRole   = "postgres"
	ReplicationRole = "multicoord_replicator"
	RouterRole      = "multicoord_router"
	OwnerRole       = "multicoord_owner"
)

// Secrets are the passwords of the cluster's own roles.
type Secrets struct {
	Superuser   string `json:"superuser"`
	Replication string `json:"replication"`
	Router      string `json:"router"`
	Owner       string `json:"owner"`
}

// String hides the passwords from logs and messages.
func (Secrets) String() string { return "(secrets)" }

// GoString does so for %#v.
func (Secrets) GoString() string { return "(secrets)" }

// ErrWrongKey means that what was sealed cannot be opened with this key (or was sealed for another cluster, or damaged;
// the cipher cannot tell these apart).
var ErrWrongKey = errors.New("wrong key")

// passwordBytes of randomness make 43 characters.
const passwordBytes = 32

// Password makes a password of 43 characters from A-Z, a-z, 0-9, '-' and '_' with 256 bits of randomness. It needs no
// quoting in SQL literals, URLs or password files.
func Password() string {
	b := make([]byte, passwordBytes)
	_, _ = rand.Read(b) // documented never to fail
	return base64.RawURLEncoding.EncodeToString(b)
}

// Generate makes a password for each role.
func Generate() Secrets {
	return Secrets{Superuser: Password(), Replication: Password(), Router: Password(), Owner: Password()}
}

// version is the first byte of what Seal makes.
const version = 1

// Seal encrypts the secrets with AES-256-GCM under a random nonce. aad (the cluster's ID) is bound to the result:
// Open needs the same.
func Seal(key Key, aad string, s Secrets) ([]byte, error) {
	gcm, err := key.cipher()
	if err != nil {
		return nil, fmt.Errorf("seal secrets: %w", err)
	}
	plain, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("seal secrets: %w", err)
	}
	nonce := make([]byte, gcm.NonceSize())
	_, _ = rand.Read(nonce)
	out := append([]byte{version}, nonce...)
	return gcm.Seal(out, nonce, plain, []byte(aad)), nil
}

// Open decrypts what Seal made with the same key and aad; ErrWrongKey if it was not.
func Open(key Key, aad string, sealed []byte) (Secrets, error) {
	gcm, err := key.cipher()
	if err != nil {
		return Secrets{}, fmt.Errorf("open secrets: %w", err)
	}
	if len(sealed) < 1+gcm.NonceSize()+gcm.Overhead() {
		return Secrets{}, fmt.Errorf("open secrets: only %d bytes are stored; restore the key \"secrets\" of the agreed state from a backup", len(sealed))
	}
	if sealed[0] != version {
		return Secrets{}, fmt.Errorf("open secrets: they are in form %d, this version knows form %d only; use a newer orchestrator", sealed[0], version)
	}
	nonce, box := sealed[1:1+gcm.NonceSize()], sealed[1+gcm.NonceSize():]
	plain, err := gcm.Open(nil, nonce, box, []byte(aad))
	if err != nil {
		return Secrets{}, fmt.Errorf("open secrets of cluster %s: %w: the key file is not the one that this cluster was made with; copy it from the host where `orchestrator init` ran", aad, ErrWrongKey)
	}
	var s Secrets
	if err := json.Unmarshal(plain, &s); err != nil {
		return Secrets{}, errors.New("open secrets: the content does not parse")
	}
	return s, nil
}

func (k Key) cipher() (cipher.AEAD, error) {
	if k.b == nil {
		return nil, errors.New("no key given")
	}
	block, err := aes.NewCipher(k.b[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
