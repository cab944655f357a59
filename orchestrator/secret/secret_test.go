package secret

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgpassfile"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestWhatWasSealedIsOpened(t *testing.T) {
	key, s := NewKey(), Generate()
	sealed, err := Seal(key, "cluster-1", s)
	require.NoError(t, err)
	got, err := Open(key, "cluster-1", sealed)
	require.NoError(t, err)
	assert.Equal(t, s, got)
	for _, password := range []string{s.Superuser, s.Replication, s.Router, s.Owner} {
		assert.NotContains(t, string(sealed), password)
	}
	again, err := Seal(key, "cluster-1", s)
	require.NoError(t, err)
	assert.NotEqual(t, sealed, again, "a nonce is never used twice")
}

func TestAnythingElseThanTheSameKeyAndClusterIsRefusedPlainly(t *testing.T) {
	key := NewKey()
	sealed, err := Seal(key, "cluster-1", Generate())
	require.NoError(t, err)
	_, err = Open(NewKey(), "cluster-1", sealed)
	require.ErrorIs(t, err, ErrWrongKey)
	require.ErrorContains(t, err, "the key file is not the one")
	_, err = Open(key, "cluster-2", sealed)
	require.ErrorIs(t, err, ErrWrongKey)
	for i := range sealed {
		damaged := append([]byte(nil), sealed...)
		damaged[i] ^= 1
		_, err := Open(key, "cluster-1", damaged)
		require.Error(t, err, "byte %d", i)
	}
	for n := range sealed {
		_, err := Open(key, "cluster-1", sealed[:n])
		require.Error(t, err, "only %d bytes", n)
	}
	_, err = Open(Key{}, "cluster-1", sealed)
	require.ErrorContains(t, err, "no key")
	_, err = Seal(Key{}, "cluster-1", Secrets{})
	require.ErrorContains(t, err, "no key")
}

func TestPasswordsAreLongURLSafeAndDifferent(t *testing.T) {
	form := regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
	seen := map[string]bool{}
	for range 1000 {
		p := Password()
		require.Regexp(t, form, p)
		require.False(t, seen[p])
		seen[p] = true
	}
}

func TestSecretsAndKeysDoNotPrintThemselves(t *testing.T) {
	s := Secrets{Superuser: "hunter2", Replication: "hunter2", Router: "hunter2", Owner: "hunter2"}
	k := NewKey()
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s), fmt.Sprintf("%v", &s), s.String()} {
		assert.NotContains(t, text, "hunter2")
	}
	for _, text := range []string{fmt.Sprint(k), fmt.Sprintf("%+v", k), fmt.Sprintf("%#v", k), fmt.Sprintf("%x", k)} {
		assert.NotContains(t, text, fmt.Sprintf("%x", k.b[:4]))
	}
}

func TestTheKeyFileIsMadeOncePrivatelyAndReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "conf", "key")
	_, err := LoadKey(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, path)
	made, err := LoadOrCreateKey(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode())
	for _, load := range []func(string) (Key, error){LoadKey, LoadOrCreateKey} {
		k, err := load(path)
		require.NoError(t, err)
		assert.True(t, made.Equal(k))
	}
	assert.False(t, made.Equal(NewKey()))
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, entries, 1, "no temporary file is left")
}

func TestAllWhoMakeTheKeyFileAtOnceGetTheSameKey(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "key")
		keys := make([]Key, 8)
		var wg sync.WaitGroup
		for i := range keys {
			wg.Go(func() {
				var err error
				keys[i], err = LoadOrCreateKey(path)
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		for _, k := range keys {
			require.True(t, keys[0].Equal(k))
		}
	}
}

func TestAKeyFileThatOthersCanReadIsRefusedWithTheCommand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	_, err := LoadOrCreateKey(path)
	require.NoError(t, err)
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o660, 0o601, 0o777} {
		require.NoError(t, os.Chmod(path, mode))
		for _, load := range []func(string) (Key, error){LoadKey, LoadOrCreateKey} {
			_, err = load(path)
			require.ErrorContains(t, err, "chmod 600 '"+path+"'")
		}
	}
	require.NoError(t, os.Chmod(path, 0o400))
	_, err = LoadKey(path)
	require.NoError(t, err)
}

func TestAFileThatIsNoKeyIsRefusedAndLeftAlone(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "short": "c2hvcnQ=\n", "no base64": strings.Repeat("!", 44), "two keys": strings.Repeat("A", 43) + "=\n" + strings.Repeat("A", 43) + "=\n",
		"long": strings.Repeat("A", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			_, err := LoadOrCreateKey(path)
			require.ErrorContains(t, err, "is not a key")
			got, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, text, string(got))
		})
	}
	_, err := LoadKey(t.TempDir())
	require.ErrorContains(t, err, "is not a file")
}

func TestALineOfAPassfileIsReadBackAsItWas(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringOfN(rapid.SampledFrom([]rune(`ab:\*# é`)), 1, 12, -1)
		e := PassfileEntry{
			Host: text.Draw(rt, "host"), Port: rapid.IntRange(1, 65535).Draw(rt, "port"),
			Database: text.Draw(rt, "database"), User: text.Draw(rt, "user"), Password: text.Draw(rt, "password"),
		}
		file, err := Passfile(PassfileEntry{Host: "other", Password: "x"}, e)
		if err != nil {
			rt.Fatal(err)
		}
		if got := lookup(string(file), e.Host, strconv.Itoa(e.Port), e.Database, e.User); got != e.Password {
			rt.Fatalf("%q gives %q", file, got)
		}
		if got := lookup(string(file), e.Host+"x", strconv.Itoa(e.Port), e.Database, e.User); got != "" {
			rt.Fatalf("%q is taken for another host", file)
		}
	})
}

// lookup reads a password file as libpq does (src/interfaces/libpq/fe-connect.c, passwordFromFile and pwdfMatchesString).
func lookup(file string, want ...string) string {
lines:
	for _, line := range strings.Split(file, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		for _, w := range want {
			if strings.HasPrefix(line, "*:") {
				line = line[2:]
				continue
			}
			for {
				if line == "" {
					continue lines
				}
				if line[0] == ':' && w == "" {
					line = line[1:]
					break
				}
				if line[0] == '\\' {
					line = line[1:]
				}
				if line == "" || w == "" || line[0] != w[0] {
					continue lines
				}
				line, w = line[1:], w[1:]
			}
		}
		var b strings.Builder
		for i := 0; i < len(line); i++ {
			if line[i] == '\\' && i+1 < len(line) {
				i++
			}
			b.WriteByte(line[i])
		}
		return b.String()
	}
	return ""
}

func TestAnotherReaderUnderstandsThePassfileToo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pgpass")
	file, err := Passfile(
		PassfileEntry{Host: "fe80::1", Port: 5432, Database: "replication", User: "multicoord_replicator", Password: `p:w\d`},
		PassfileEntry{User: "postgres", Password: "any"},
	)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, file, 0o600))
	pf, err := pgpassfile.ReadPassfile(path)
	require.NoError(t, err)
	assert.Equal(t, `p:w\d`, pf.FindPassword("fe80::1", "5432", "replication", "multicoord_replicator"))
	assert.Equal(t, "any", pf.FindPassword("elsewhere", "1", "db", "postgres"))
	assert.Empty(t, pf.FindPassword("elsewhere", "1", "db", "mallory"))
}

func TestWhatAPassfileCannotHoldIsRefusedWithoutThePassword(t *testing.T) {
	for _, bad := range []string{"a\nb", "a\rb", "a\x00b"} {
		_, err := PassfileEntry{User: "u", Password: "hunter2" + bad}.Line()
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "hunter2")
		_, err = Passfile(PassfileEntry{Host: bad, User: "u", Password: "p"})
		require.Error(t, err)
	}
}
