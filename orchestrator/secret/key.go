package secret

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const keySize = 32

// Key is an AES-256 key. The zero value is no key.
type Key struct{ b *[keySize]byte }

// String hides the key from logs and messages.
func (Key) String() string { return "(key)" }

// GoString does so for %#v.
func (Key) GoString() string { return "(key)" }

// Equal tells whether two keys are the same.
func (k Key) Equal(o Key) bool {
	if k.b == nil || o.b == nil {
		return k.b == o.b
	}
	return *k.b == *o.b
}

// NewKey makes a random key.
func NewKey() Key {
	k := Key{b: new([keySize]byte)}
	_, _ = rand.Read(k.b[:])
	return k
}

// LoadKey reads a key file: one line of base64. A file that others than its owner can read or write is refused;
// fs.ErrNotExist when there is none.
func LoadKey(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Key{}, fmt.Errorf("read key file: %w; copy it from a host of the cluster (mode 0600)", err)
		}
		return Key{}, fmt.Errorf("read key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Key{}, fmt.Errorf("read key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Key{}, fmt.Errorf("read key file: %s is not a file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Key{}, fmt.Errorf("key file %s can be read by others (mode %04o); run: chmod 600 '%s'", path, info.Mode().Perm(), path)
	}
	text, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return Key{}, fmt.Errorf("read key file: %w", err)
	}
	raw, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(raw) != keySize {
		return Key{}, fmt.Errorf("key file %s is not a key (expected one line of base64 for %d bytes); copy it again from a host of the cluster", path, keySize)
	}
	k := Key{b: new([keySize]byte)}
	copy(k.b[:], raw)
	return k, nil
}

// LoadOrCreateKey reads a key file, or makes one with a random key, mode 0600, whole or not at all, and durable
// before it returns. Of several processes that do this at once, all get the same key.
func LoadOrCreateKey(path string) (Key, error) {
	k, err := LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := create(path, NewKey()); err != nil && !errors.Is(err, fs.ErrExist) {
		return Key{}, fmt.Errorf("create key file: %w", err)
	}
	return LoadKey(path)
}

// create writes a temporary file and links it to its name, which fails if the name exists.
func create(path string, k Key) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".key-*") // O_EXCL, 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	if err := write(tmp, base64.StdEncoding.EncodeToString(k.b[:])+"\n"); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func write(f *os.File, text string) error {
	_, err := f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
