package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHBALines(t *testing.T) {
	for line, want := range map[string]string{
		"host all all 10.0.0.0/8 scram-sha-256":                                 "",
		"local all all peer map=ops":                                            "",
		`hostssl "my db", "other" all .example.com cert clientcert=verify-full`: "",
		"host all all samenet md5":                                              "",
		"host all all 10.0.0.1 255.255.255.255 scram-sha-256 # the app":         "",
		"host replication all ::1/128 reject":                                   "",
		"":                                                                      "is empty; remove it",
		"# host all all all trust":                                              "is empty; remove it",
		"hosts all all all md5":                                                 `begins with "hosts"; use one of local, host, hostssl, hostnossl, hostgssenc, hostnogssenc`,
		"include other.conf":                                                    `begins with "include"; use one of local, host, hostssl, hostnossl, hostgssenc, hostnogssenc`,
		"host all all 10.0.0.0/33 md5":                                          `the address "10.0.0.0/33" is not of the form ADDRESS/BITS`,
		"host all all 10.0.0.1 md5":                                             "the address 10.0.0.1 has no mask; write 10.0.0.1/32 for this address alone",
		"host all all a_b! md5":                                                 `"a_b!" is not an address`,
		"host all all all scram":                                                `"scram" is not an authentication method; use scram-sha-256`,
		"local all all trust":                                                   "the method trust lets anybody in without a password; use scram-sha-256",
		"local all all":                                                         "is incomplete; write TYPE DATABASE USER ADDRESS METHOD (no ADDRESS for local)",
		"host all":                                                              "is incomplete; write TYPE DATABASE USER ADDRESS METHOD (no ADDRESS for local)",
		"host all all":                                                          "is incomplete; write TYPE DATABASE USER ADDRESS METHOD (no ADDRESS for local)",
		"host all all all password":                                             "the method password sends passwords in plain text; use scram-sha-256",
		"host all all all peer":                                                 "the method peer works for local lines only",
		"host all all all cert":                                                 "the method cert works for hostssl lines only",
		"host all all all ldap ldapserver=x ldapbasedn=y":                       "",
		"host all all all radius radiusservers=x radiussecrets=y":               "",
		"hostssl all all all md5 clientcert=verify-ca":                          "",
		"host all all ::1 255.0.0.0 md5":                                        "the mask 255.0.0.0 does not fit the address ::1",
		"host all a,@names all md5":                                             "a,@names reads a file on each host; list the names here",
		"host all all all bsd":                                                  `"bsd" is not an authentication method; use scram-sha-256`,
		"local all all gss":                                                     "the method gss does not work for local lines",
		"host all all all md5 foo=bar":                                          `"foo" is not an option`,
		"host all all all md5 map=x":                                            "the option map is for the method ident, peer, gss, cert, oauth only",
		"host all all all md5 clientcert=verify-ca":                             "the option clientcert works for hostssl lines only",
		"hostssl all all all cert clientcert=verify-ca":                         "clientcert=verify-ca is not possible; use clientcert=verify-full",
		"hostssl all all all md5 clientcert=1":                                  "clientcert=1 is not possible; use clientcert=verify-full",
		"host all all all ldap ldapserver=x":                                    "the method ldap needs one of the options ldapurl, ldapbasedn, ldapprefix and ldapsuffix",
		"host all all all radius radiusservers=x":                               "the method radius needs the options radiusservers and radiussecrets",
		"host all all all ldap ldapserver":                                      `the option "ldapserver" is not of the form NAME=VALUE`,
		"host all \"all all md5":                                                "has a quote that is not closed",
		"host all all all md5\nhost all all all trust":                          "has a line break or a control character; write one entry per line",
		"local all trust peer":                                                  "",
		`host "trust" "my user" all reject # no, trust`:                         "",
		"host all all 10.0.0.0/8 TRUST":                                         `"TRUST" is not an authentication method; use scram-sha-256`,
		`host all all 10.0.0.0/8 "trust"`:                                       "the method trust lets anybody in without a password; use scram-sha-256",
		`host all all 10.0.0.0/8 tr""ust`:                                       "the method trust lets anybody in without a password; use scram-sha-256",
		"host all all 10.0.0.0 255.0.0.0 trust":                                 "the method trust lets anybody in without a password; use scram-sha-256",
		"host all all ::1 ffff:: trust":                                         "the method trust lets anybody in without a password; use scram-sha-256",
		"local all , all trust":                                                 "the method trust lets anybody in without a password; use scram-sha-256",
		"host a, b all ::1/128 trust":                                           "the method trust lets anybody in without a password; use scram-sha-256",
		"host all all all trust # scram-sha-256":                                "the method trust lets anybody in without a password; use scram-sha-256",
		"host all all all trust#scram-sha-256":                                  "the method trust lets anybody in without a password; use scram-sha-256",
		"@other.conf":                                                           `begins with "@other.conf"; use one of local, host, hostssl, hostnossl, hostgssenc, hostnogssenc`,
		"host @names all all md5":                                               "@names reads a file on each host; list the names here",
		"host all all 10.0.0.0/8 md5 trust=1":                                   `"trust" is not an option`,
		"host all all fe80::1/64 reject fe80::":                                 `the option "fe80::" is not of the form NAME=VALUE`,
		"host all all all md5 \\":                                               "ends with a backslash, which would join it with the line after it",
		"host all all all md5 \\ \t":                                            "ends with a backslash, which would join it with the line after it",
		"host all all 10.0.0.0/8 \\\nmd5":                                       "has a line break or a control character; write one entry per line",
		"hostssl all all all password":                                          "",
		"host all all all sspi":                                                 `"sspi" is not an authentication method; use scram-sha-256`,
		"host all all all oauth issuer=x scope=y":                               "the method oauth needs PostgreSQL 18, not 15; use scram-sha-256",
	} {
		err := CheckHBALine(line, PostgreSQL{Version: 15})
		if want == "" {
			require.NoError(t, err, "%q", line)
		} else {
			require.EqualError(t, err, want, "%q", line)
		}
	}
}

func TestOAuthNeedsALibraryThatPostgreSQLWillFind(t *testing.T) {
	with := func(version int, libraries string) PostgreSQL {
		return PostgreSQL{Version: version, Parameters: map[string]string{"OAuth_Validator_Libraries": libraries}}
	}
	const line = `host all all all oauth issuer="https://id.example.com" scope="openid"`
	for _, c := range []struct {
		line string
		p    PostgreSQL
		want string
	}{
		{line, with(18, "check"), ""},
		{line, with(0, "check"), ""},
		{line + " map=ops", with(18, "check"), ""},
		{line + " validator=b", with(18, "a, b"), ""},
		{line, with(17, "check"), "the method oauth needs PostgreSQL 18, not 17; use scram-sha-256"},
		{line, PostgreSQL{Version: 18}, "the method oauth needs the parameter oauth_validator_libraries"},
		{line, with(18, "a, b"), "the method oauth needs the option validator, since oauth_validator_libraries has more than one"},
		{line + " validator=c", with(18, "a, b"), "validator=c is not one of oauth_validator_libraries"},
		{line + " map=ops delegate_ident_mapping=1", with(18, "check"), "the options map and delegate_ident_mapping exclude each other"},
		{"host all all all oauth issuer=x", with(18, "check"), "the method oauth needs the options issuer and scope"},
		{"host all all all md5 issuer=x", with(18, "check"), "the option issuer is for the method oauth only"},
	} {
		err := CheckHBALine(c.line, c.p)
		if c.want == "" {
			require.NoError(t, err, c.line)
		} else {
			require.EqualError(t, err, c.want, c.line)
		}
	}
}
