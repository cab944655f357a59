package cluster

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// isLabel reports whether s is 1 to limit of a-z, 0-9 and '-', beginning with a letter.
func isLabel(s string, limit int) bool {
	if s == "" || len(s) > limit || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// isHostName reports whether s is 1 to 63 of a-z, 0-9, '-' and '.', with a letter or digit at both ends and no empty
// part (a name is also the name of a folder and of a key).
func isHostName(s string) bool {
	if s == "" || len(s) > 63 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
		return false
	}
	return !strings.Contains(s, "..") && strings.IndexByte("-.", s[0]) < 0 && strings.IndexByte("-.", s[len(s)-1]) < 0
}

// isDNSName reports whether s can be a name in the DNS (RFC 1123, with '_' as some networks have it).
func isDNSName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for part := range strings.SplitSeq(strings.ToLower(s), ".") {
		if part == "" || len(part) > 63 || part[0] == '-' || part[len(part)-1] == '-' {
			return false
		}
		if strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	// What ends in a number is an IPv4 address that did not parse ("10.0.0.256").
	last := s[strings.LastIndexByte(s, '.')+1:]
	return strings.Trim(last, "0123456789") != ""
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (s[i] == '-') {
			return false
		}
	}
	return strings.Trim(s, "0123456789abcdefABCDEF-") == ""
}

// hasControl reports control characters, line breaks among them, and bytes that are not UTF-8: neither survives on one
// line of a file, in JSON or in PostgreSQL's text.
func hasControl(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// addressProblem says why an address cannot be a host's.
func addressProblem(a string) string {
	if a == "" {
		return "is missing; give the IP address or host name under which others reach the host"
	}
	ip, err := netip.ParseAddr(a)
	switch {
	case err == nil && ip.Zone() != "":
		return fmt.Sprintf("%s has a zone, which means nothing on other hosts", a)
	case err == nil && ip.IsUnspecified():
		return fmt.Sprintf("%s means every address; give the one under which others reach the host", a)
	case err == nil && ip.IsMulticast():
		return fmt.Sprintf("%s is a multicast address", a)
	case err == nil:
		return ""
	}
	if host, _, err := net.SplitHostPort(a); err == nil && host != "" {
		return fmt.Sprintf("%q has a port; give the address alone, ports are counted from base_port", a)
	}
	if !isDNSName(a) {
		return fmt.Sprintf("%q is neither an IP address nor a host name", a)
	}
	return ""
}

// canonicalAddress makes spellings of one address equal.
func canonicalAddress(a string) string {
	if ip, err := netip.ParseAddr(a); err == nil {
		return ip.Unmap().String()
	}
	a = strings.ToLower(a)
	if a == "localhost" {
		return "127.0.0.1"
	}
	return a
}

// Machine is equal for hosts that are surely on one machine: those that share an address, and all on loopback.
func (h Host) Machine() string {
	if isLoopback(h.Address) {
		return "loopback"
	}
	return canonicalAddress(h.Address)
}

func isLoopback(a string) bool {
	ip, err := netip.ParseAddr(canonicalAddress(a))
	return err == nil && ip.IsLoopback()
}

// listener is one of the router's addresses, with the rules that hold for it.
type listener struct {
	path, text string
	mayBeOff   bool
	loopback   bool
}

func (r Router) addresses() []listener {
	return []listener{
		{"router.listen", r.Listen, false, false},
		{"router.admin", r.Admin, true, false},
		{"router.monitor", r.Monitor, true, true},
	}
}

// bound is an address on which the router listens.
type bound struct {
	path, host string
	port       int
}

// endpoints lists the router's addresses that are well-formed and not off.
func (r Router) endpoints() []bound {
	var bs []bound
	for _, a := range r.addresses() {
		if b, msg := a.parse(); msg == "" && b.port != 0 {
			bs = append(bs, b)
		}
	}
	return bs
}

// parse reads the address, or says what is wrong with it. The port is 0 when the listener is off.
func (a listener) parse() (bound, string) {
	if a.mayBeOff && a.text == Off {
		return bound{path: a.path}, ""
	}
	example := "127.0.0.1:6432"
	if a.mayBeOff {
		example += ` or "off"`
	}
	host, port, err := net.SplitHostPort(a.text)
	if err != nil || (host != "" && !isDNSName(host) && !isIP(host)) {
		return bound{}, fmt.Sprintf("%q is not an address; write HOST:PORT, such as %s", a.text, example)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 {
		return bound{}, fmt.Sprintf("the port of %q is out of range 1 to 65535", a.text)
	}
	if a.loopback && !isLoopback(host) {
		return bound{}, fmt.Sprintf("%q is not a loopback address; the monitor asks for no password, so it listens on 127.0.0.1 or ::1 only", a.text)
	}
	return bound{a.path, host, n}, ""
}

func isIP(a string) bool {
	_, err := netip.ParseAddr(a)
	return err == nil
}

// anywhere tells whether b listens on all addresses.
func (b bound) anywhere() bool {
	ip, err := netip.ParseAddr(b.host)
	return b.host == "" || (err == nil && ip.IsUnspecified())
}

// covers tells whether listening on b surely takes the port on a node's address too. A router may run on a host of its
// own, so one that listens everywhere takes the loopback ports for sure, and others perhaps.
func (b bound) covers(address string) bool {
	if b.anywhere() {
		return isLoopback(address)
	}
	return canonicalAddress(b.host) == canonicalAddress(address)
}
