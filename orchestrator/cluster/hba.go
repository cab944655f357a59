package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

var (
	hbaTypes = []string{"local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"}
	// hbaMethods are those that PostgreSQL can have on Linux.
	hbaMethods = []string{"reject", "scram-sha-256", "md5", "password", "gss", "ident", "peer", "ldap", "radius", "cert", "pam", "oauth"}
	// hbaOptions are the options with the methods that take them (parse_hba_auth_opt); nil for any method.
	hbaOptions = map[string][]string{
		"map": {"ident", "peer", "gss", "cert", "oauth"}, "clientcert": nil, "clientname": nil, "pamservice": {"pam"}, "pam_use_hostname": {"pam"},
		"krb_realm": {"gss"}, "include_realm": {"gss"}, "ldapurl": {"ldap"}, "ldaptls": {"ldap"}, "ldapscheme": {"ldap"},
		"ldapserver": {"ldap"}, "ldapport": {"ldap"}, "ldapbinddn": {"ldap"}, "ldapbindpasswd": {"ldap"}, "ldapsearchattribute": {"ldap"},
		"ldapsearchfilter": {"ldap"}, "ldapbasedn": {"ldap"}, "ldapprefix": {"ldap"}, "ldapsuffix": {"ldap"},
		"issuer": {"oauth"}, "scope": {"oauth"}, "validator": {"oauth"}, "delegate_ident_mapping": {"oauth"},
		"radiusservers": {"radius"}, "radiusports": {"radius"}, "radiussecrets": {"radius"}, "radiusidentifiers": {"radius"},
	}
)

// CheckHBALine tells what is wrong with a line of pg_hba.conf for servers with this version (0: not known yet) and these
// parameters; p's own lines are not looked at. Refused is what PostgreSQL 15 to 18 would not load, since a server refuses
// a file with a wrong line as a whole (parse_hba_line, src/backend/libpq/hba.c); what reads other files; what lets somebody
// in without a proof; and what sends a password in plain text.
func CheckHBALine(line string, p PostgreSQL) error {
	if msg := hbaProblem(line, p); msg != "" {
		return errors.New(msg)
	}
	return nil
}

func hbaProblem(line string, p PostgreSQL) string {
	if hasControl(strings.ReplaceAll(line, "\t", " ")) {
		return "has a line break or a control character; write one entry per line"
	}
	if strings.HasSuffix(strings.TrimRight(line, " \t"), `\`) {
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
	for _, list := range fields[1:3] {
		if slices.ContainsFunc(strings.Split(list, ","), func(e string) bool { return strings.HasPrefix(strings.TrimSpace(e), "@") }) {
			return fmt.Sprintf("%s reads a file on each host; list the names here", list)
		}
	}
	if msg := hbaMethodProblem(fields[0], rest[0], p.Version); msg != "" {
		return msg
	}
	return hbaOptionsProblem(fields[0], rest[0], rest[1:], p)
}

func hbaMethodProblem(kind, method string, version int) string {
	switch {
	case method == "trust":
		return "the method trust lets anybody in without a password; use scram-sha-256"
	case !slices.Contains(hbaMethods, method):
		return fmt.Sprintf("%q is not an authentication method; use scram-sha-256", method)
	case method == "oauth" && version > 0 && version < 18:
		return fmt.Sprintf("the method oauth needs PostgreSQL 18, not %d; use scram-sha-256", version)
	case method == "password" && kind != "hostssl":
		return "the method password sends passwords in plain text; use scram-sha-256"
	case method == "peer" && kind != "local":
		return "the method peer works for local lines only"
	case method == "cert" && kind != "hostssl":
		return "the method cert works for hostssl lines only"
	case method == "gss" && kind == "local":
		return "the method gss does not work for local lines"
	}
	return ""
}

func hbaOptionsProblem(kind, method string, options []string, p PostgreSQL) string {
	given := map[string]string{}
	for _, o := range options {
		name, value, ok := strings.Cut(o, "=")
		methods, known := hbaOptions[name]
		switch {
		case !ok || name == "":
			return fmt.Sprintf("the option %q is not of the form NAME=VALUE", o)
		case !known:
			return fmt.Sprintf("%q is not an option", name)
		case methods != nil && !slices.Contains(methods, method):
			return fmt.Sprintf("the option %s is for the method %s only", name, strings.Join(methods, ", "))
		case methods == nil && kind != "hostssl":
			return fmt.Sprintf("the option %s works for hostssl lines only", name)
		}
		given[name] = value
	}
	lacks := func(names ...string) bool {
		return !slices.ContainsFunc(names, func(n string) bool { return given[n] != "" })
	}
	switch cc, ok := given["clientcert"]; {
	case ok && cc != "verify-full" && (cc != "verify-ca" || method == "cert"):
		return fmt.Sprintf("clientcert=%s is not possible; use clientcert=verify-full", cc)
	case method == "ldap" && lacks("ldapurl", "ldapbasedn", "ldapprefix", "ldapsuffix"):
		return "the method ldap needs one of the options ldapurl, ldapbasedn, ldapprefix and ldapsuffix"
	case method == "radius" && (lacks("radiusservers") || lacks("radiussecrets")):
		return "the method radius needs the options radiusservers and radiussecrets"
	case method == "oauth":
		return hbaOAuthProblem(given, p)
	}
	return ""
}

// hbaOAuthProblem follows the end of parse_hba_line, and check_oauth_validator (src/backend/libpq/auth-oauth.c).
func hbaOAuthProblem(given map[string]string, p PostgreSQL) string {
	const parameter = "oauth_validator_libraries"
	var libraries []string
	for name, value := range p.Parameters {
		if strings.EqualFold(name, parameter) {
			libraries = strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' || r == '"' })
		}
	}
	validator, named := given["validator"]
	switch {
	case given["issuer"] == "" || given["scope"] == "":
		return "the method oauth needs the options issuer and scope"
	case len(libraries) == 0:
		return fmt.Sprintf("the method oauth needs the parameter %s", parameter)
	case !named && len(libraries) > 1:
		return fmt.Sprintf("the method oauth needs the option validator, since %s has more than one", parameter)
	case named && !slices.Contains(libraries, validator):
		return fmt.Sprintf("validator=%s is not one of %s", validator, parameter)
	case given["map"] != "" && given["delegate_ident_mapping"] == "1":
		return "the options map and delegate_ident_mapping exclude each other"
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
		bits := netip.MustParseAddr(a).BitLen()
		if len(fields) < 2 || !isIP(fields[1]) {
			return 0, fmt.Sprintf("the address %s has no mask; write %s/%d for this address alone", a, a, bits)
		}
		if netip.MustParseAddr(fields[1]).BitLen() != bits {
			return 0, fmt.Sprintf("the mask %s does not fit the address %s", fields[1], a)
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
