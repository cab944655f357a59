package pool

// Statements remembers which prepared statements a server session holds, least recently used first out. Not safe for
// concurrent use: it belongs to whoever holds the connection.
type Statements struct {
	m          map[string]*held
	head, tail *held // head is the most recently used
}

type held struct {
	name       string
	generation uint64
	prev, next *held
}

// Has tells whether the session holds the statement as prepared at that generation or later, and marks it as used.
func (s *Statements) Has(name string, generation uint64) bool {
	h := s.m[name]
	if h == nil || h.generation < generation {
		return false
	}
	if h != s.head {
		s.unlink(h)
		s.push(h)
	}
	return true
}

// Stale tells whether the session holds the statement, but as prepared before that generation.
func (s *Statements) Stale(name string, generation uint64) bool {
	h := s.m[name]
	return h != nil && h.generation < generation
}

// Add notes that the session holds the statement.
func (s *Statements) Add(name string, generation uint64) {
	if s.m == nil {
		s.m = make(map[string]*held)
	}
	if h := s.m[name]; h != nil {
		s.unlink(h)
		h.generation = generation
		s.push(h)
		return
	}
	h := &held{name: name, generation: generation}
	s.m[name] = h
	s.push(h)
}

// Remove forgets a statement.
func (s *Statements) Remove(name string) {
	if h := s.m[name]; h != nil {
		s.unlink(h)
		delete(s.m, name)
	}
}

// Oldest gives the statement that was used longest ago, when the session holds more than limit.
func (s *Statements) Oldest(limit int) (string, bool) {
	if len(s.m) <= limit || s.tail == nil {
		return "", false
	}
	return s.tail.name, true
}

// Clear forgets all of them.
func (s *Statements) Clear() { *s = Statements{} }

// Len gives the number of statements held.
func (s *Statements) Len() int { return len(s.m) }

func (s *Statements) push(h *held) {
	h.prev, h.next = nil, s.head
	if s.head != nil {
		s.head.prev = h
	}
	s.head = h
	if s.tail == nil {
		s.tail = h
	}
}

func (s *Statements) unlink(h *held) {
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		s.head = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	} else {
		s.tail = h.prev
	}
	h.prev, h.next = nil, nil
}
