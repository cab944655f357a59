package cluster

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in the write-ahead log, in bytes since the beginning of the timeline's history. Zero is
// PostgreSQL's InvalidXLogRecPtr: "not known". LSNs of different system identifiers or diverged timelines
// mean nothing to each other.
type LSN uint64

// ParseLSN reads PostgreSQL's text form "16/B374D848" (src/backend/utils/adt/pg_lsn.c).
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok || len(hi) > 8 || len(lo) > 8 {
		return 0, fmt.Errorf("LSN %q is not of the form X/X", s)
	}
	h, err := strconv.ParseUint(hi, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("LSN %q is not of the form X/X", s)
	}
	l, err := strconv.ParseUint(lo, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("LSN %q is not of the form X/X", s)
	}
	return LSN(h<<32 | l), nil
}

// String gives PostgreSQL's text form.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l)) }

// Behind tells by how many bytes l lags after head; zero when it does not.
func (l LSN) Behind(head LSN) uint64 {
	if l >= head {
		return 0
	}
	return uint64(head - l)
}

// MarshalText makes an LSN a string in JSON and YAML.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads what MarshalText writes; the empty string is zero.
func (l *LSN) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*l = 0
		return nil
	}
	v, err := ParseLSN(string(b))
	if err != nil {
		return err
	}
	*l = v
	return nil
}
