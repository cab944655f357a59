package pool

import (
	"slices"
	"strings"
)

// Setting is one session setting.
type Setting struct {
	// Name is in lower case; SQL is the single statement that makes the setting.
	Name, SQL string
	// Primary marks a setting under which all statements must go to the primary.
	Primary bool
}

// Settings is an immutable set of session settings, in the order in which they are applied. The nil pointer is the
// empty set: a server session as it was started.
type Settings struct {
	list    []Setting
	key     string
	primary bool
}

// Unknown stands for a server session whose settings nobody knows any more; a Diff from it starts from scratch.
func Unknown() *Settings { return &Settings{key: "\x00unknown"} }

func (s *Settings) known() bool { return s == nil || s.key != "\x00unknown" }

// rank puts what changes the meaning of later settings first: SET SESSION AUTHORIZATION resets the role.
func rank(name string) int {
	switch name {
	case "session_authorization":
		return 0
	case "role":
		return 1
	}
	return 2
}

func compareNames(a, b string) int {
	if d := rank(a) - rank(b); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

// Lookup finds the statement that makes the setting name.
func (s *Settings) Lookup(name string) (string, bool) {
	if s == nil {
		return "", false
	}
	i, ok := slices.BinarySearchFunc(s.list, name, func(e Setting, n string) int { return compareNames(e.Name, n) })
	if !ok {
		return "", false
	}
	return s.list[i].SQL, true
}

// List gives the settings in their order.
func (s *Settings) List() []Setting {
	if s == nil {
		return nil
	}
	return s.list
}

// Key identifies the set: equal sets have equal keys.
func (s *Settings) Key() string {
	if s == nil {
		return ""
	}
	return s.key
}

// Same tells whether two sets are equal.
func (s *Settings) Same(o *Settings) bool { return s == o || s.Key() == o.Key() }

// PrimaryOnly tells that one of the settings needs the primary.
func (s *Settings) PrimaryOnly() bool { return s != nil && s.primary }

// With returns the set with one setting made or replaced. An unknown set stays unknown.
func (s *Settings) With(e Setting) *Settings {
	if !s.known() {
		return s
	}
	if old, ok := s.Lookup(e.Name); ok && old == e.SQL {
		return s
	}
	list := slices.Clone(s.List())
	i, ok := slices.BinarySearchFunc(list, e.Name, func(e Setting, n string) int { return compareNames(e.Name, n) })
	if ok {
		list[i] = e
	} else {
		list = slices.Insert(list, i, e)
	}
	return newSettings(list)
}

// Without returns the set without one setting.
func (s *Settings) Without(name string) *Settings {
	if _, ok := s.Lookup(name); !ok {
		return s
	}
	list := slices.DeleteFunc(slices.Clone(s.list), func(e Setting) bool { return e.Name == name })
	return newSettings(list)
}

// Reset returns what RESET ALL leaves: role and session authorization (guc.c: GUC_NO_RESET_ALL).
func (s *Settings) Reset() *Settings {
	if !s.known() {
		return s
	}
	list := slices.DeleteFunc(slices.Clone(s.List()), func(e Setting) bool { return rank(e.Name) == 2 })
	return newSettings(list)
}

func newSettings(list []Setting) *Settings {
	if len(list) == 0 {
		return nil
	}
	var b strings.Builder
	primary := false
	for _, e := range list {
		b.WriteString(e.SQL)
		b.WriteByte(0)
		primary = primary || e.Primary
	}
	return &Settings{list: list, key: b.String(), primary: primary}
}

// Diff gives the statements that turn a server session which has s into one which has want, as one query string;
// empty when there is nothing to do.
func (s *Settings) Diff(want *Settings) string {
	if s.Same(want) {
		return ""
	}
	var b strings.Builder
	add := func(sql string) {
		if b.Len() > 0 {
			b.WriteByte(';')
		}
		b.WriteString(sql)
	}
	if !s.known() {
		add("RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL")
		for _, e := range want.List() {
			add(e.SQL)
		}
		return b.String()
	}
	// A change of identity voids what was set under the old one: put it all again, as a superuser's setting may not
	// be settable afterwards.
	identity := false
	for _, name := range []string{"session_authorization", "role"} {
		have, a := s.Lookup(name)
		target, w := want.Lookup(name)
		if have == target {
			continue
		}
		identity = true
		if a && !w {
			add("RESET " + QuoteName(name))
		}
	}
	for _, e := range s.List() {
		if _, ok := want.Lookup(e.Name); !ok && rank(e.Name) == 2 {
			add("RESET " + QuoteName(e.Name))
		}
	}
	for _, e := range want.List() {
		if have, ok := s.Lookup(e.Name); !ok || have != e.SQL || (identity && rank(e.Name) == 1) {
			add(e.SQL)
		}
	}
	return b.String()
}

// QuoteName quotes the name of a setting, part by part: my.setting becomes "my"."setting".
func QuoteName(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		parts[i] = `"` + strings.ReplaceAll(p, `"`, `""`) + `"`
	}
	return strings.Join(parts, ".")
}
