package console

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSplit(t *testing.T) {
	w := func(s string) token { return token{text: s} }
	q := func(s string) token { return token{text: s, quoted: true} }
	for sql, want := range map[string][][]token{
		"":                             nil,
		" ; ;; -- only a comment":      nil,
		"/* a /* nested */ one */":     nil,
		"SHOW Nodes":                   {{w("show"), w("nodes")}},
		"show\n\tnodes;":               {{w("show"), w("nodes")}},
		"show nodes;reload ; show lag": {{w("show"), w("nodes")}, {w("reload")}, {w("show"), w("lag")}},
		"show/**/nodes--x\n;":          {{w("show"), w("nodes")}},
		"show route 'a; ''b'' -- c'":   {{w("show"), w("route"), q("a; 'b' -- c")}},
		`show route E'a\'b\n\\'`:       {{w("show"), w("route"), q("a'b\n\\")}},
		"show route $$a;'b'$$":         {{w("show"), w("route"), q("a;'b'")}},
		"show route $x$a $$ b$x$;":     {{w("show"), w("route"), q("a $$ b")}},
		"show route $1":                {{w("show"), w("route"), w("$1")}},
		`set "TimeZone" = 'UTC'`:       {{w("set"), q("TimeZone"), w("="), q("UTC")}},
		"set a.b=3":                    {{w("set"), w("a.b"), w("="), w("3")}},
		"größe":                        {{w("größe")}},
		"$":                            {{w("$")}},
	} {
		got, err := split(sql)
		require.Nil(t, err, sql)
		require.Equal(t, want, got, sql)
	}
	for _, sql := range []string{"show 'x", `show "x`, "/* x", "/* /* */", "show route $$x", "show route $a$x$$", `E'\'`} {
		_, err := split(sql)
		require.NotNil(t, err, sql)
		require.Equal(t, "42601", err.Code)
		require.Contains(t, err.Message, "unterminated")
	}
}

func TestWhatIsUnderstood(t *testing.T) {
	g := newGrammar()
	for sql, want := range map[string]verb{
		"show NODES": verbShow, "Help": verbShow, "show route 'x'": verbRoute, "show route $1": verbRoute, "RELOAD": verbReload,
		"show application_name": verbValue, "SHOW TimeZone": verbValue, "show transaction isolation level": verbValue, "show transaction_read_only": verbValue,
		"SET extra_float_digits = 3": verbSet, "SET application_name TO 'PostgreSQL JDBC Driver'": verbSet, "set session statement_timeout to 0": verbSet,
		"SET client_encoding TO 'UTF8'": verbSet, "set names 'utf8'": verbSet, "SET datestyle = 'ISO, MDY'": verbSet, "SET DateStyle=ISO": verbSet,
		"SET TIME ZONE 'Europe/Berlin'": verbSet, "set timezone to 'UTC'": verbSet, "set client_encoding to default": verbSet,
		"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY": verbSet, "set transaction isolation level serializable": verbSet,
		"set local search_path = a, b": verbSet, "reset all": verbNothing, "begin": verbBegin, "BEGIN ISOLATION LEVEL READ COMMITTED": verbBegin,
		"start transaction read only": verbBegin, "commit": verbEnd, "end": verbEnd, "rollback": verbAbort, "abort": verbAbort,
		"rollback to savepoint x": verbNothing, "rollback work to x": verbNothing, "savepoint x": verbNothing, "release savepoint x": verbNothing,
		"discard all": verbForget, "discard plans": verbNothing, "deallocate all": verbForget, "deallocate prepare all": verbForget, "deallocate x": verbForget,
		"close all": verbNothing, "unlisten *": verbNothing,
	} {
		statements, e := split(sql)
		require.Nil(t, e, sql)
		c, e := g.understand(statements[0])
		require.Nil(t, e, sql)
		require.Equal(t, want, c.verb, sql)
		require.NotEmpty(t, c.tag, sql)
	}
}

func TestWhatIsNotUnderstoodSaysWhatIs(t *testing.T) {
	g := newGrammar()
	for sql, code := range map[string]string{
		"show": "42601", "show foo": "42601", "show nodes please": "42601", "show 'nodes'": "42601x", "select 1": "42601", "reload now": "42601", "help me": "42601",
		"start": "42601", "set": "42601", "set x": "42601", "deallocate": "42601", "; x": "42601", "'show' nodes": "42601", "(": "42601",
		"show route": "42601", "show route select": "42601", "show route 'a' 'b'": "42601", "show route $2": "42601",
		"set pool_size = 3": "42704", "set client_encoding = 'LATIN1'": "0A000", "set datestyle = 'German'": "0A000", "set standard_conforming_strings = off": "0A000",
		strings.Repeat("ä", 100): "42601",
	} {
		statements, e := split(sql)
		require.Nil(t, e, sql)
		_, e = g.understand(statements[0])
		if code == "42601x" { // a quoted name is as good as a bare one
			require.Nil(t, e, sql)
			continue
		}
		require.NotNil(t, e, sql)
		require.Equal(t, code, e.Code, sql)
		require.NotEmpty(t, e.Hint, sql)
		require.LessOrEqual(t, len(e.Message), 150)
	}
	e := g.unknown("x")
	for _, name := range []string{
		"clients", "config", "groups", "help", "lag", "nodes", "pools", "routers", "servers", "stats", "version", "route",
	} {
		require.Contains(t, e.Hint, "SHOW "+name)
	}
	require.Contains(t, e.Hint, "RELOAD")
}

func FuzzUnderstand(f *testing.F) {
	for _, s := range []string{"show nodes; reload", "set a to 'b'", "show route $x$a$x$", "/*/**/*/ e'\\", "\"", "$1"} {
		f.Add(s)
	}
	g := newGrammar()
	f.Fuzz(func(t *testing.T, sql string) {
		statements, e := split(sql)
		if e != nil {
			return
		}
		for _, ts := range statements {
			if len(ts) == 0 {
				t.Fatal("an empty statement")
			}
			if c, e := g.understand(ts); e == nil {
				c.columns()
			}
		}
	})
}
