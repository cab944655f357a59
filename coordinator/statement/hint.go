package statement

import "strings"

// hintOf reads the route from comments before the first word: /* route: primary */ or -- route: primary. The first
// comment that names a known route counts; anything else is an ordinary comment.
func hintOf(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\n\r\f\v;")
		var body string
		switch {
		case strings.HasPrefix(sql, "--"):
			n := strings.IndexAny(sql, "\r\n")
			if n < 0 {
				n = len(sql)
			}
			body, sql = sql[2:n], sql[n:]
		case strings.HasPrefix(sql, "/*"):
			n := commentEnd(sql, 0)
			if n < 0 {
				return ""
			}
			body, sql = sql[2:n-2], sql[n:]
		default:
			return ""
		}
		if r := routeOf(body); r != "" {
			return r
		}
	}
}

func routeOf(comment string) string {
	key, value, ok := strings.Cut(strings.TrimLeft(comment, "+"), ":")
	if !ok {
		key, value, ok = strings.Cut(comment, "=")
	}
	if !ok || !strings.EqualFold(strings.TrimSpace(key), "route") {
		return ""
	}
	switch v := strings.ToLower(strings.TrimSpace(value)); v {
	case "primary", "standby", "eventual", "session", "strong":
		return v
	}
	return ""
}
