package physical

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

// quoteConf makes a value for postgresql.conf (src/backend/utils/misc/guc-file.l, DeescapeQuotedString).
func quoteConf(v string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`, "\n", `\n`, "\r", `\r`).Replace(v) + "'"
}

// quoteConninfo makes a value of a connection string (conninfo_parse in src/interfaces/libpq/fe-connect.c).
func quoteConninfo(v string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
}

// conninfo is how the node reaches its upstream. It holds no password: that is in the passfile. A connection that is dead
// without saying so is given up after some 10 s.
func (s *Server) conninfo(up Upstream) string {
	parts := []struct{ key, value string }{
		{"host", up.Address},
		{"port", strconv.Itoa(up.Port)},
		{"user", up.user()},
		{"passfile", s.passfile()},
		{"application_name", s.cfg.Node},
		{"sslmode", "prefer"},
		{"connect_timeout", "5"},
		{"keepalives_idle", "5"},
		{"keepalives_interval", "2"},
		{"keepalives_count", "3"},
		{"tcp_user_timeout", "10000"},
	}
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(p.key + "=" + quoteConninfo(p.value))
	}
	return b.String()
}

func (s *Server) passfile() string { return filepath.Join(s.cfg.Dir, "pgpass") }

// writePassfile writes the password for the upstream as libpq's passwordFromFile wants it.
func (s *Server) writePassfile(up Upstream) error {
	if strings.ContainsAny(up.Password, "\r\n") {
		return fmt.Errorf("write the passfile: the password has more than one line")
	}
	esc := strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace
	line := fmt.Sprintf("%s:%d:*:%s:%s\n", esc(up.Address), up.Port, esc(up.user()), esc(up.Password))
	_, err := replaceFile(s.passfile(), []byte(line), &s.cfg.Account)
	if err != nil {
		return fmt.Errorf("write the passfile: %w", err)
	}
	return nil
}

func hostPort(address string, port int) string { return net.JoinHostPort(address, strconv.Itoa(port)) }
