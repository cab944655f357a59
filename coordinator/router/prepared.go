package router

import (
	"crypto/sha256"
	"encoding/hex"
	"runtime"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/multicoord/multicoord/coordinator/statement"
)

// prepared is a prepared statement of the protocol. A named one is shared by all sessions that have prepared the same
// text with the same types, under a name made from both: so a server connection that has prepared it for one session
// serves the others too.
type prepared struct {
	// name is what the servers know it by; empty for a session's unnamed statement.
	name string
	// id tells one Parse of an unnamed statement from the next, over all sessions.
	id          uint64
	text, types []byte
	info        *statement.Info
	// generation grows when servers turn out to have it with a plan that is no longer good.
	generation atomic.Uint64
}

// fingerprint identifies a text with its parameter types.
type fingerprint [sha256.Size]byte

// library holds the named prepared statements of all sessions, as long as any session has them.
type library struct {
	mu sync.Mutex
	m  map[fingerprint]weak.Pointer[prepared]
}

func newLibrary() *library { return &library{m: make(map[fingerprint]weak.Pointer[prepared])} }

// take finds or makes the statement for a text and its parameter types.
func (l *library) take(text, types []byte, info func() *statement.Info) *prepared {
	h := sha256.New()
	h.Write(types)
	h.Write(text)
	var key fingerprint
	h.Sum(key[:0])
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.m[key].Value(); p != nil {
		return p
	}
	p := &prepared{
		name: "multicoord_" + hex.EncodeToString(key[:16]),
		text: append([]byte(nil), text...), types: append([]byte(nil), types...), info: info(),
	}
	l.m[key] = weak.Make(p)
	runtime.AddCleanup(p, l.forget, key)
	return p
}

// forget drops the entry of a statement that no session has any more, unless it was made anew.
func (l *library) forget(key fingerprint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m[key].Value() == nil {
		delete(l.m, key)
	}
}

func (l *library) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.m)
}
