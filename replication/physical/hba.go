package physical

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// CheckHBA refuses lines for pg_hba.conf that PostgreSQL would not load, that include other files, or that let somebody in
// without proof (trust).
func CheckHBA(lines []string) error {
	var errs []error
	for i, line := range lines {
		if err := checkHBALine(line); err != nil {
			errs = append(errs, fmt.Errorf("hba[%d] %q: %w", i, line, err))
		}
	}
	return errors.Join(errs...)
}

func checkHBALine(line string) error {
	if strings.ContainsAny(line, "\n\r\x00") {
		return errors.New("more than one line")
	}
	if strings.HasSuffix(strings.TrimRight(line, " \t"), `\`) {
		return errors.New("ends with a backslash, which would join it with the next line")
	}
	f, err := hbaFields(line)
	if err != nil {
		return err
	}
	if len(f) == 0 {
		return nil
	}
	method := 4
	switch strings.ToLower(f[0]) {
	case "local":
		method = 3
	case "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc":
		// An address may be followed by a mask of its own.
		if len(f) > 5 && !strings.Contains(f[3], "/") && strings.ContainsAny(f[4], ".:") {
			method = 5
		}
	default:
		return fmt.Errorf("begins with %q; a line begins with local, host, hostssl, hostnossl, hostgssenc or hostnogssenc", f[0])
	}
	if len(f) <= method {
		return errors.New("too few fields: type, database, user, address (not for local), method")
	}
	m := strings.ToLower(f[method])
	if m == "trust" {
		return errors.New("the method trust lets anybody in and is refused; use scram-sha-256")
	}
	known := []string{"reject", "md5", "password", "scram-sha-256", "gss", "sspi", "ident", "peer", "pam", "ldap", "radius", "cert", "oauth", "bsd"}
	if !slices.Contains(known, m) {
		return fmt.Errorf("%q is not an authentication method", f[method])
	}
	return nil
}

// hbaFields splits a line as next_token does (src/backend/libpq/hba.c): blanks separate, commas continue a list, double quotes
// protect, # begins a comment.
func hbaFields(line string) ([]string, error) {
	var fields []string
	var cur strings.Builder
	quoted, begun := false, false
	for _, r := range line {
		switch {
		case r == '"':
			quoted, begun = !quoted, true
		case quoted:
			cur.WriteRune(r)
		case r == '#':
			if begun {
				fields = append(fields, cur.String())
			}
			return fields, nil
		case r == ' ' || r == '\t':
			if begun && !strings.HasSuffix(cur.String(), ",") {
				fields = append(fields, cur.String())
				cur.Reset()
				begun = false
			}
		default:
			cur.WriteRune(r)
			begun = true
		}
	}
	if quoted {
		return nil, errors.New("a quotation mark is missing")
	}
	if begun {
		fields = append(fields, cur.String())
	}
	return fields, nil
}

// hbaFile renders pg_hba.conf.
func hbaFile(node string, lines []string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, generated+" for node %s. Do not edit: it is written anew.\n", node)
	b.WriteString("# Add lines with postgresql.hba in the spec.\n\n")
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
	b.WriteString("local all all scram-sha-256\n")
	for _, net := range []string{"0.0.0.0/0", "::/0"} {
		fmt.Fprintf(&b, "host replication %s %s scram-sha-256\n", Replicator, net)
		fmt.Fprintf(&b, "host all all %s scram-sha-256\n", net)
	}
	return []byte(b.String())
}
