package cluster

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

var (
	hbaTypes   = []string{"local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"}
	hbaMethods = []string{"reject", "scram-sha-256", "md5", "password", "gss", "sspi", "ident", "peer", "ldap", "radius", "cert", "pam", "bsd"}
)

// hbaProblem says what is wrong with a line of pg_hba.conf, or nothing. A server refuses a file with a wrong line as
// a whole, so all that can be known without a server is checked (parse_hba_line, src/backend/libpq/hba.c).
func hbaProblem(line string) string {
	if hasControl(strings.ReplaceAll(line, "\t", " ")) {
		return "has a line break or a control character; write one entry per line"
	}
	if strings.HasSuffix(line, `\`) {
		return "ends with a backslash, which would join it with the line after it"
	}
	fields, ok := hbaFields(line)
	switch {
	case !ok:
		return "has a quote that is not closed"
	case len(fields) == 0:
		return "is empty; remove it"
	case !slices.Contains(hbaTypes, fields[0]):
		return fmt.Sprintf("begins with %q; use one of %s", fields[0], strings.Join(hbaTypes, ", "))
	}
	rest := fields[1:]
	const shape = "is incomplete; write TYPE DATABASE USER ADDRESS METHOD (no ADDRESS for local)"
	if len(rest) < 2 {
		return shape
	}
	rest = rest[2:]
	if fields[0] != "local" {
		if len(rest) < 1 {
			return shape
		}
		taken, msg := hbaAddress(rest)
		if msg != "" {
			return msg
		}
		rest = rest[taken:]
	}
	if len(rest) == 0 {
		return shape
	}
	method, options := rest[0], rest[1:]
	switch {
	case method == "trust":
		return "the method trust lets anybody in without a password; use scram-sha-256"
	case !slices.Contains(hbaMethods, method):
		return fmt.Sprintf("%q is not an authentication method; use scram-sha-256", method)
	case method == "password" && fields[0] != "hostssl":
		return "the method password sends passwords in plain text; use scram-sha-256"
	case method == "peer" && fields[0] != "local":
		return "the method peer works for local lines only"
	case method == "cert" && fields[0] != "hostssl":
		return "the method cert works for hostssl lines only"
	}
	for _, o := range options {
		if name, _, ok := strings.Cut(o, "="); !ok || name == "" {
			return fmt.Sprintf("the option %q is not of the form NAME=VALUE", o)
		}
	}
	return ""
}

// hbaAddress checks the address at the head of fields and tells how many of them it takes.
func hbaAddress(fields []string) (int, string) {
	a := fields[0]
	if strings.Contains(a, "/") {
		if _, err := netip.ParsePrefix(a); err != nil {
			return 0, fmt.Sprintf("the address %q is not of the form ADDRESS/BITS", a)
		}
		return 1, ""
	}
	if isIP(a) {
		if len(fields) < 2 || !isIP(fields[1]) {
			return 0, fmt.Sprintf("the address %s has no mask; write %s/%d for this address alone", a, a, netip.MustParseAddr(a).BitLen())
		}
		return 2, ""
	}
	if a != "all" && a != "samehost" && a != "samenet" && !isDNSName(strings.TrimPrefix(a, ".")) {
		return 0, fmt.Sprintf("%q is not an address", a)
	}
	return 1, ""
}

// hbaFields splits a line as PostgreSQL does: at blanks and outside of double quotes, up to a '#'. A list
// ("a, b") is one field.
func hbaFields(line string) (fields []string, ok bool) {
	var b strings.Builder
	quoted, started, comma := false, false, false
	flush := func() {
		if started && !comma {
			fields = append(fields, b.String())
			b.Reset()
			started = false
		}
	}
	for _, r := range line {
		switch {
		case r == '"':
			quoted, started, comma = !quoted, true, false
		case quoted:
			b.WriteRune(r)
		case r == '#':
			flush()
			return fields, true
		case r == ' ' || r == '\t':
			flush()
		case r == ',':
			comma = true
			b.WriteRune(r)
		default:
			started, comma = true, false
			b.WriteRune(r)
		}
	}
	comma = false
	flush()
	return fields, !quoted
}
