package pool

import (
	"maps"
	"slices"
	"strings"
)

// Params is an immutable set of the parameters that a server session has reported (ParameterStatus). The nil pointer
// is the empty set.
type Params struct {
	m     map[string]string
	names []string
	key   string
}

// private parameters describe the server rather than the session: a client behind the router is not told about them,
// because the server changes from statement to statement.
func private(name string) bool { return name == "in_hot_standby" }

// NewParams copies what a server has reported.
func NewParams(m map[string]string) *Params {
	p := &Params{m: make(map[string]string, len(m))}
	for k, v := range m {
		if !private(k) {
			p.m[k] = v
		}
	}
	p.names = slices.Sorted(maps.Keys(p.m))
	var b strings.Builder
	for _, k := range p.names {
		b.WriteString(k)
		b.WriteByte(0)
		b.WriteString(p.m[k])
		b.WriteByte(0)
	}
	p.key = b.String()
	return p
}

// With returns the set with one parameter changed.
func (p *Params) With(name, value string) *Params {
	if private(name) || (p != nil && p.m[name] == value && value != "") {
		return p
	}
	m := map[string]string{name: value}
	if p != nil {
		m = maps.Clone(p.m)
		m[name] = value
	}
	return NewParams(m)
}

// Get gives one parameter.
func (p *Params) Get(name string) string {
	if p == nil {
		return ""
	}
	return p.m[name]
}

// Same tells whether two sets are equal.
func (p *Params) Same(o *Params) bool {
	if p == o {
		return true
	}
	return p != nil && o != nil && p.key == o.key
}

// Each calls f for each parameter of p that told lacks or has with another value, in the order of the names.
func (p *Params) Each(told *Params, f func(name, value string)) {
	if p == nil {
		return
	}
	for _, k := range p.names {
		if told != nil {
			if v, ok := told.m[k]; ok && v == p.m[k] {
				continue
			}
		}
		f(k, p.m[k])
	}
}
