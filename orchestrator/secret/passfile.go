package secret

import (
	"fmt"
	"strconv"
	"strings"
)

// PassfileEntry is one line of a libpq password file (PostgreSQL documentation, "The Password File"). Empty Host,
// Database or User and a zero Port match anything. For a socket the host is the socket's folder, and libpq
// looks for the host "localhost" too if the folder is its default.
type PassfileEntry struct {
	Host     string
	Port     int
	Database string
	User     string
	Password string
}

// Line renders the entry with a newline at the end. A line break or zero byte in a field cannot be expressed and is
// an error, which does not repeat the password.
func (e PassfileEntry) Line() (string, error) {
	port := ""
	if e.Port != 0 {
		port = strconv.Itoa(e.Port)
	}
	fields := []struct{ name, value string }{
		{"host", e.Host}, {"port", port}, {"database", e.Database}, {"user", e.User}, {"password", e.Password},
	}
	escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`)
	var b strings.Builder
	for i, f := range fields {
		if strings.ContainsAny(f.value, "\n\r\x00") {
			return "", fmt.Errorf("a password file cannot hold the %s of user %q: it has a line break or a zero byte", f.name, e.User)
		}
		if i > 0 {
			b.WriteByte(':')
		}
		if f.value == "" {
			if f.name != "password" {
				b.WriteByte('*')
			}
			continue
		}
		if f.value == "*" || (i == 0 && f.value[0] == '#') {
			b.WriteByte('\\') // else it would match anything, or be a comment
		}
		b.WriteString(escape.Replace(f.value))
	}
	b.WriteByte('\n')
	return b.String(), nil
}

// Passfile renders a whole file. It has to be written with mode 0600: libpq ignores one that others can read.
func Passfile(entries ...PassfileEntry) ([]byte, error) {
	var b strings.Builder
	for _, e := range entries {
		line, err := e.Line()
		if err != nil {
			return nil, err
		}
		b.WriteString(line)
	}
	return []byte(b.String()), nil
}
