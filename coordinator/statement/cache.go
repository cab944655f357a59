package statement

import (
	"hash/maphash"
	"sync"
	"unsafe"
)

// Cache remembers what texts are. It is safe for concurrent use and takes no more than about the memory that
// NewCache was given.
//
// There are two levels. The first knows texts as they are. The second knows texts with their constants replaced by
// marks and without comments, so that "… WHERE id = 17" and "… WHERE id = 18" are one: it holds only plain SELECT, INSERT,
// UPDATE, DELETE and MERGE, whose nature no constant can change. A text that is known to neither is analysed.
type Cache struct {
	seed    maphash.Seed
	exact   [shards]shard // by text
	normal  [shards]shard // by key; kept apart, since a text may look like another text's key
	half    int           // bytes of a generation of one shard
	scratch sync.Pool
	parsing chan struct{}
}

const (
	shards = 32
	// maxCached is the longest text that is remembered, in bytes.
	maxCached = 16 << 10
	// infoBytes is what an Info with its map entry takes, roughly: its statements and functions come on top.
	infoBytes     = 256
	statementSize = int(unsafe.Sizeof(Statement{})) + 256
)

// shard holds two generations: what is used moves to the younger one; when that is full the older one is dropped.
type shard struct {
	mu         sync.RWMutex
	young, old map[string]*Info
	bytes      int // of young
	_          [64]byte
}

// NewCache makes a cache of at most about maxBytes (at least 128 kB).
func NewCache(maxBytes int) *Cache {
	c := &Cache{seed: maphash.MakeSeed(), half: max(maxBytes, 128<<10) / shards / 4}
	c.scratch.New = func() any { b := make([]byte, 0, 1024); return &b }
	c.parsing = make(chan struct{}, maxParsers)
	for i := range shards {
		c.exact[i].young, c.normal[i].young = make(map[string]*Info), make(map[string]*Info)
	}
	return c
}

// maxParsers bounds the threads that are inside the C parser at one time.
const maxParsers = 16

// Analyze does what the function Analyze does. A hit allocates nothing. The bytes are not kept.
func (c *Cache) Analyze(sql []byte) *Info {
	// The string lives no longer than this call unless it is cloned.
	return c.analyze(unsafe.String(unsafe.SliceData(sql), len(sql)), true)
}

// AnalyzeString is Analyze for a text that is a string already.
func (c *Cache) AnalyzeString(sql string) *Info { return c.analyze(sql, false) }

func (c *Cache) analyze(sql string, borrowed bool) *Info {
	if len(sql) > maxCached {
		return c.parse(sql, borrowed)
	}
	h := maphash.String(c.seed, sql)
	exact := &c.exact[h%shards]
	if i := exact.get(sql, c.half); i != nil {
		return i
	}
	buf := c.scratch.Get().(*[]byte)
	key, constants, ok := normalize((*buf)[:0], sql)
	*buf = key[:0]
	defer c.scratch.Put(buf)
	var s *shard
	if ok && constants {
		k := unsafe.String(unsafe.SliceData(key), len(key))
		s = &c.normal[maphash.String(c.seed, k)%shards]
		if i := s.get(k, c.half); i != nil {
			return i
		}
	}
	info := c.parse(sql, borrowed)
	switch {
	case s != nil && info.normal():
		s.put(string(key), info, c.half)
	default:
		exact.put(string([]byte(sql)), info, c.half)
	}
	return info
}

func (c *Cache) parse(sql string, borrowed bool) *Info {
	c.parsing <- struct{}{}
	defer func() { <-c.parsing }()
	if borrowed { // an Info's strings may be parts of the text
		sql = string([]byte(sql))
	}
	return Analyze(sql)
}

func (s *shard) get(key string, half int) *Info {
	s.mu.RLock()
	i, ok := s.young[key]
	if ok {
		s.mu.RUnlock()
		return i
	}
	i, ok = s.old[key]
	s.mu.RUnlock()
	if ok {
		s.put(string([]byte(key)), i, half)
	}
	return i
}

func (s *shard) put(key string, i *Info, half int) {
	size := len(key) + infoBytes + i.size()
	if size > half {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.young[key]; ok {
		return
	}
	if s.bytes+size > half {
		s.old, s.young, s.bytes = s.young, make(map[string]*Info, len(s.young)), 0
	}
	s.young[key] = i
	s.bytes += size
}

// size estimates the memory that an Info takes.
func (i *Info) size() int {
	n := len(i.Statements) * statementSize
	for k := range i.Statements {
		st := &i.Statements[k]
		n += len(st.Functions)*64 + len(st.Value)*3 + len(st.SetSQL)*2 + len(st.Name)
	}
	return n
}

// normal tells that the Info holds nothing that a constant of the text could have decided, so that it stands for all
// texts that differ in their constants.
func (i *Info) normal() bool {
	if i.Err != nil || i.Backslash || len(i.Statements) != 1 {
		return false
	}
	st := &i.Statements[0]
	if st.Kind != Read && st.Kind != Write {
		return false
	}
	switch st.Tag {
	case "SELECT", "INSERT", "UPDATE", "DELETE", "MERGE":
	default:
		return false
	}
	for _, f := range st.Functions {
		if f.Name == "set_config" {
			return false
		}
	}
	return st.Settings == nil && st.Name == "" && st.Value == "" && st.SetSQL == "" && !st.setConfig
}
