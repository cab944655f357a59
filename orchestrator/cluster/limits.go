package cluster

import (
	"strconv"
	"time"
)

// Unit is what a limited number counts.
type Unit int

// The units of limits.
const (
	Number Unit = iota
	TimeSpan
	Size
)

// Limit is the allowed range of a number in the spec, and what it is when it is not given. Validation, defaults
// and the generated comments of a spec file all read it, so that they cannot contradict each other.
type Limit struct {
	// Key is the path in the spec with [] for list elements and * for map keys: "groups[].nodes[].port".
	Key  string
	Unit Unit
	// Min and Max are inclusive; times are in nanoseconds, sizes in bytes.
	Min, Max int64
	// Default replaces a missing value; 0 where there is none (or where 0 itself is the default).
	Default int64
}

var limits = []Limit{
	{"postgresql.version", Number, 15, 18, 0},
	{"hosts[].base_port", Number, 1024, 65000, 5432},
	{"placement.repfactor", Number, 0, 8, 1},
	{"groups[].id", Number, 0, 9999, 0},
	{"groups[].standbys", Number, 0, 31, 0},
	{"groups[].nodes[].port", Number, 1024, 65535, 0},
	{"failover.ttl", TimeSpan, int64(2 * time.Second), int64(5 * time.Minute), int64(5 * time.Second)},
	{"failover.maximum_lag_on_failover", Size, 1, 1 << 40, 1 << 20},
	{"router.max_client_conn", Number, 1, 100000, 1000},
	{"router.default_pool_size", Number, 1, 10000, 20},
	{"router.server_idle_timeout", TimeSpan, int64(time.Second), int64(24 * time.Hour), int64(10 * time.Minute)},
	{"router.query_wait_timeout", TimeSpan, int64(time.Millisecond), int64(time.Hour), int64(30 * time.Second)},
	{"router.reads.max_lag_bytes", Size, 1, 1 << 40, 16 << 20},
	{"router.reads.max_lag", TimeSpan, int64(time.Millisecond), int64(24 * time.Hour), int64(5 * time.Second)},
	{"router.reads.check_interval", TimeSpan, int64(20 * time.Millisecond), int64(time.Minute), int64(200 * time.Millisecond)},
	{"router.reads.primary_fallback_limit", Number, 1, 100000, 100},
	{"router.reads.overrides.*.max_lag_bytes", Size, 1, 1 << 40, 0},
	{"router.reads.overrides.*.max_lag", TimeSpan, int64(time.Millisecond), int64(24 * time.Hour), 0},
	{"router.reads.overrides.*.weight", Number, 1, 10000, 0},
}

// LimitOf finds the limit of a key.
func LimitOf(key string) (Limit, bool) {
	for _, l := range limits {
		if l.Key == key {
			return l, true
		}
	}
	return Limit{}, false
}

// Format writes a value with the limit's unit.
func (l Limit) Format(v int64) string {
	switch l.Unit {
	case TimeSpan:
		return Duration(v).String()
	case Size:
		return Bytes(v).String()
	default:
		return strconv.FormatInt(v, 10)
	}
}

// Range is the limit in words: "2s to 5m".
func (l Limit) Range() string { return l.Format(l.Min) + " to " + l.Format(l.Max) }

// defaultOf is the default of a limited key; a key without a limit is a mistake of the program.
func defaultOf(key string) int64 {
	l, ok := LimitOf(key)
	if !ok {
		panic("cluster: no limit for " + key)
	}
	return l.Default
}
