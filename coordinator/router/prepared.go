package router

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/multicoord/multicoord/coordinator/statement"
)

// prepared is a prepared statement of the protocol. A named one is shared by all sessions that have prepared the same
// text with the same types in the same scope, under a name made from both: so a server connection that has prepared it for one session
// serves the others too.
type prepared struct {
	// name is what the servers know it by; empty for a session's unnamed statement.
	name string
	// id tells one Parse of an unnamed statement from the next, over all sessions.
	id          uint64
	text, types []byte
	// scope is what else decides what the text means: see session.scope.
	scope string
	info  *statement.Info
	// generation grows when servers turn out to have it with a plan that is no longer good.
	generation atomic.Uint64
}

// fingerprint identifies a text with its parameter types and its scope.
type fingerprint [sha256.Size]byte

// library holds the named prepared statements of all sessions, as long as any session has them.
type library struct {
	mu sync.Mutex
	m  map[fingerprint]weak.Pointer[prepared]
}

func newLibrary() *library { return &library{m: make(map[fingerprint]weak.Pointer[prepared])} }

// take finds or makes the statement for a text and its parameter types in a scope.
func (l *library) take(text, types []byte, scope string, info func() *statement.Info) *prepared {
	h := sha256.New()
	var size [8]byte
	binary.BigEndian.PutUint32(size[:4], uint32(len(scope)))
	binary.BigEndian.PutUint32(size[4:], uint32(len(types)))
	h.Write(size[:])
	h.Write([]byte(scope))
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
		text: append([]byte(nil), text...), types: append([]byte(nil), types...),
		scope: scope, info: info(),
	}
	l.m[key] = weak.Make(p)
	runtime.AddCleanup(p, l.forget, key)
	return p
}

// scope tells in which schemas, as whom and after which changes of definitions the session's texts are resolved.
// PostgreSQL settles the types of a statement's parameters when it is prepared, and never again.
func (s *session) scope() string {
	var b strings.Builder
	b.WriteString(strconv.FormatUint(s.catalog.generation.Load(), 36))
	for _, name := range []string{"search_path", "role", "session_authorization"} {
		sql, _ := s.tx.want.Lookup(name)
		b.WriteByte(0)
		b.WriteString(sql)
	}
	b.WriteByte(0)
	b.WriteString(s.tx.localScope)
	return b.String()
}

// resolved notes which types a server has told the client that the parameters have: wherever the session's statement
// is prepared from now on, they are these. p is what was described.
func (s *session) resolved(p *prepared, types []byte) {
	if bytes.Equal(p.types, types) {
		return
	}
	if p.name == "" {
		p.types = append(p.types[:0], types...)
		return
	}
	var settled *prepared
	for name, st := range s.named {
		if st != p {
			continue
		}
		if settled == nil {
			settled = s.r.library.take(p.text, types, p.scope, func() *statement.Info { return p.info })
		}
		s.named[name] = settled
	}
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
