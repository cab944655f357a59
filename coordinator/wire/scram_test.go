package wire

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/xdg-go/scram"
	"pgregory.net/rapid"
)

// The exchange of RFC 7677, section 3 (user "user", password "pencil"). Its client puts the user name into the message.
func TestExampleOfRFC7677(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	require.NoError(t, err)
	keys, err := DeriveKeys("pencil", salt, 4096)
	require.NoError(t, err)
	x := serverExchange{verifier: verifierOf(keys, salt, 4096)}
	first, err := x.first([]byte("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"), "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
	require.NoError(t, err)
	require.Equal(t, "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", first)
	final, got, err := x.final([]byte("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	require.NoError(t, err)
	require.Equal(t, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", final)
	require.Equal(t, keys, got)
}

func verifierOf(k Keys, salt []byte, iterations int) Verifier {
	stored := sha256.Sum256(k.ClientKey)
	return Verifier{Iterations: iterations, Salt: salt, StoredKey: stored[:], ServerKey: k.ServerKey}
}

func TestOurTwoSidesAgreeAndTheServerLearnsTheClientsKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		password := rapid.String().Draw(t, "password")
		v, err := NewVerifier(password, rapid.IntRange(1, 5).Draw(t, "iterations"))
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := ParseVerifier(v.String())
		if err != nil || parsed.String() != v.String() {
			t.Fatalf("%v does not survive its text form: %v", v, err)
		}
		got, err := exchange(parsed, Credentials{Password: password})
		if err != nil {
			t.Fatal(err)
		}
		if !v.Matches(got) {
			t.Fatal("the keys are not the verifier's")
		}
		// What was learned is enough for another login, with another nonce.
		again, err := exchange(v, Credentials{Keys: &got, Verifier: &v})
		if err != nil || !v.Matches(again) {
			t.Fatalf("the recovered keys do not log in: %v", err)
		}
		if _, err := exchange(v, Credentials{Password: password + "x"}); !errors.Is(err, errProof) {
			t.Fatalf("a wrong password: %v", err)
		}
	})
}

// exchange runs both sides against each other.
func exchange(v Verifier, c Credentials) (Keys, error) {
	client := clientExchange{nonce: nonce(), keys: c.keysFor}
	server := serverExchange{verifier: v}
	challenge, err := server.first([]byte(client.first()), nonce())
	if err != nil {
		return Keys{}, err
	}
	proof, err := client.final([]byte(challenge))
	if err != nil {
		return Keys{}, err
	}
	signature, keys, err := server.final([]byte(proof))
	if err != nil {
		return Keys{}, err
	}
	return keys, client.verify([]byte(signature))
}

func TestAnIndependentClientAgreesWithOurServer(t *testing.T) {
	v, err := NewVerifier("pass word", 4096)
	require.NoError(t, err)

	their, err := scram.SHA256.NewClient("", "pass word", "")
	require.NoError(t, err)
	conversation := their.NewConversation()
	first, err := conversation.Step("")
	require.NoError(t, err)
	ours := serverExchange{verifier: v}
	challenge, err := ours.first([]byte(first), nonce())
	require.NoError(t, err)
	proof, err := conversation.Step(challenge)
	require.NoError(t, err)
	final, keys, err := ours.final([]byte(proof))
	require.NoError(t, err)
	_, err = conversation.Step(final)
	require.NoError(t, err)
	require.True(t, conversation.Valid())
	require.True(t, v.Matches(keys))
}

func TestWhatTheServerRefusesInSCRAMMessages(t *testing.T) {
	v, err := NewVerifier("x", 1)
	require.NoError(t, err)
	firsts := map[string]string{
		"":                     "08P01",
		"n":                    "08P01",
		"n,":                   "08P01",
		"n,,":                  "08P01",
		"n,,n=":                "08P01",
		"n,,r=abc,n=":          "08P01",
		"n,,n=,r=":             "08P01",
		"n,,n=,r=a b":          "08P01",
		"n,,n=,r=a\x7f":        "08P01",
		"n,,n=,r=é":            "08P01",
		"n,,n=,r=abc,x":        "08P01",
		"n,,n=,r=abc,1=2":      "08P01",
		"n,,n=,r=abc,":         "08P01",
		"n,,n=,r=abc\x00":      "08P01",
		"n,,m=x,n=,r=abc":      "0A000",
		"n,a=other,n=,r=abc":   "0A000",
		"x,,n=,r=abc":          "08P01",
		"p,,n=,r=abc":          "08P01",
		"p=tls-unique,,n=,r=a": "08P01",
		"nn,,n=,r=abc":         "08P01",
		"n,,n=,r=" + strings.Repeat("a", 2*maxNonce+1): "08P01",
	}
	for msg, code := range firsts {
		x := serverExchange{verifier: v}
		_, err := x.first([]byte(msg), "server")
		require.Truef(t, isCode(code)(err), "%q: %v", msg, err)
	}
	proof := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for _, flag := range []string{"n,,", "y,,"} {
		for _, c := range []struct {
			msg   string
			proof bool // only the proof is wrong
		}{
			{"", false},
			{"c=biws,r=abcserver", false},
			{"c=biws,r=abcserver,p=", false},
			{"c=biws,r=abcserver,p=AAAA", false},
			{"c=biws,r=abcserver,p=" + proof + "x", false},
			{"c=biws,r=abcserver,p=" + proof + ",z=1", false},
			{"c=eSws,r=abc,p=" + proof, false},
			{"c=,r=abcserver,p=" + proof, false},
			{"c=cCws,r=abcserver,p=" + proof, false},
			{"r=abcserver,c=biws,p=" + proof, false},
			{"c=biws,r=abcserverx,p=" + proof, false},
			{"c=biws,r=abcserve,p=" + proof, false},
			{"c=biws,p=" + proof, false},
			{"p=" + proof, false},
			{"c=biws,r=abcserver,x,p=" + proof, false},
			{"c=biws,r=abcserver,p=" + proof, flag == "n,,"},
			{"c=eSws,r=abcserver,p=" + proof, flag == "y,,"},
			{"c=eSws,r=abcserver,x=ignored,p=" + proof, flag == "y,,"},
		} {
			x := serverExchange{verifier: v}
			_, err := x.first([]byte(flag+"n=,r=abc"), "server")
			require.NoError(t, err)
			_, _, err = x.final([]byte(c.msg))
			if c.proof {
				require.ErrorIs(t, err, errProof, c.msg)
			} else {
				require.Truef(t, isCode("08P01")(err), "%s%q: %v", flag, c.msg, err)
			}
		}
	}
}

func TestWhatTheClientRefusesFromAServer(t *testing.T) {
	v, err := NewVerifier("x", 1)
	require.NoError(t, err)
	salt := base64.StdEncoding.EncodeToString(v.Salt)
	for _, msg := range []string{
		"", "r=", "r=mine", "r=mine,s=" + salt + ",i=1", "r=mineX", "r=other,s=" + salt + ",i=1", "r=mineX,i=1,s=" + salt,
		"r=mineX,s=,i=1", "r=mineX,s=%%,i=1", "r=mineX,s=" + salt + ",i=0", "r=mineX,s=" + salt + ",i=-1",
		"r=mineX,s=" + salt + ",i=99999999999999999999", "r=mineX,s=" + salt + ",i=x", "r=mineX,s=" + salt + ",i=1000001",
		"r=mineX,s=" + salt + ",i=1,x", "m=ext,r=mineX,s=" + salt + ",i=1", "r=mine\x00,s=" + salt + ",i=1",
		"r=mineX,s=" + base64.StdEncoding.EncodeToString(make([]byte, maxSalt+1)) + ",i=1",
	} {
		x := clientExchange{nonce: "mine", keys: Credentials{Password: "x"}.keysFor}
		_, err := x.final([]byte(msg))
		require.Errorf(t, err, "%q", msg)
	}
	x := clientExchange{nonce: "mine", keys: Credentials{Password: "x"}.keysFor}
	_, err = x.final([]byte("r=mineX,s=" + salt + ",i=1"))
	require.NoError(t, err)
	for _, msg := range []string{
		"", "v=", "v=%%", "v=" + base64.StdEncoding.EncodeToString(make([]byte, 32)), "e=other-error", "x=1",
	} {
		require.Errorf(t, x.verify([]byte(msg)), "%q", msg)
	}
	require.Error(t, new(clientExchange).verify([]byte("v=")), "no signature may pass before there is one to compare with")
}

func TestKeysAreNotTriedAgainstAnotherSaltOrIterationCount(t *testing.T) {
	before, err := NewVerifier("x", 2)
	require.NoError(t, err)
	keys, err := exchange(before, Credentials{Password: "x"})
	require.NoError(t, err)
	after, err := NewVerifier("x", 2)
	require.NoError(t, err)
	_, err = exchange(after, Credentials{Keys: &keys, Verifier: &before})
	require.ErrorIs(t, err, ErrStaleKeys)
	after = before
	after.Iterations = 3
	_, err = exchange(after, Credentials{Keys: &keys, Verifier: &before})
	require.ErrorIs(t, err, ErrStaleKeys)
}

func TestParseVerifierRefuses(t *testing.T) {
	good, err := NewVerifier("x", 4096)
	require.NoError(t, err)
	s := good.String()
	for _, text := range []string{"", "md5c3b4cf8a6d4d8e0a1b2c3d4e5f607182", "plain"} {
		_, err := ParseVerifier(text)
		require.ErrorIs(t, err, ErrNotSCRAM, text)
	}
	for _, text := range []string{
		"SCRAM-SHA-256$", "SCRAM-SHA-256$4096", strings.Replace(s, "4096", "0", 1), strings.Replace(s, "4096", "-1", 1),
		strings.Replace(s, "4096", "4294967296", 1), strings.Replace(s, ":", "", 1), s + "AAAA", s[:len(s)-4], s + ":",
		strings.Replace(s, "$", "", 1), s[:len(s)-2] + "%%", "SCRAM-SHA-256$1:$" + strings.SplitN(s, "$", 3)[2],
	} {
		_, err := ParseVerifier(text)
		require.Errorf(t, err, "%q", text)
		if len(text) > 30 {
			require.NotContains(t, err.Error(), text[20:30], "no part of a secret stands in an error")
		}
	}
}

func TestAMockIsTheSameForAUserAndLikeARealOne(t *testing.T) {
	secret := []byte("0123456789abcdef0123456789abcdef")
	a, b := MockVerifier("a", secret), MockVerifier("a", secret)
	require.Equal(t, a, b)
	require.NotEqual(t, a.Salt, MockVerifier("b", secret).Salt)
	require.NotEqual(t, a.Salt, MockVerifier("a", []byte("another")).Salt)
	real, err := NewVerifier("x", 0)
	require.NoError(t, err)
	require.Len(t, a.Salt, len(real.Salt))
	require.Equal(t, real.Iterations, a.Iterations)
	_, err = ParseVerifier(a.String())
	require.NoError(t, err)
}

// PostgreSQL's own verifiers, for passwords whose preparation is not obvious.
func TestPasswordsArePreparedAsPostgreSQLDoes(t *testing.T) {
	conn := server(t).connect(t)
	ctx := t.Context()
	_, err := conn.Exec(ctx, "DROP ROLE IF EXISTS prepared; CREATE ROLE prepared")
	require.NoError(t, err)
	passwords := []string{
		"plain", "with 'quotes\"", "control\x07ascii", "I\u00adX", "\u2168", "\u00aa", "a\u00a0b", "a\u200bb", "\u3000x", "\u0627\u0031",
		"\u0627a", "\u0627\u0628", "\u0007é", "ue\u0308", "\u1d43", "\ufb01", "\u00ad", "日本語", "🙂", "\u0221", "\ue000é", "\u200b", "a\u200c\u200db",
		"\u1806x\u2060", "\u212b", "\u03d3",
	}
	// And a few that nobody thought of, from the blocks with the rarer rules.
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var b strings.Builder
		for range 1 + random.IntN(3) {
			blocks := [][2]rune{{0x20, 0x7e}, {0x80, 0x24f}, {0x300, 0x36f}, {0x590, 0x6ff}, {0x1d00, 0x1eff}, {0x2000, 0x20ff}, {0xf900, 0xffff}, {0x1d400, 0x1d7ff}}
			block := blocks[random.IntN(len(blocks))]
			b.WriteRune(block[0] + random.Int32N(block[1]-block[0]+1))
		}
		passwords = append(passwords, b.String())
	}
	for _, password := range passwords {
		_, err := conn.Exec(ctx, "ALTER ROLE prepared PASSWORD '"+strings.ReplaceAll(password, "'", "''")+"'")
		require.NoError(t, err)
		var text string
		require.NoError(t, conn.QueryRow(ctx, "SELECT rolpassword FROM pg_authid WHERE rolname = 'prepared'").Scan(&text))
		v, err := ParseVerifier(text)
		require.NoError(t, err)
		require.Equal(t, text, v.String())
		keys, err := DeriveKeys(password, v.Salt, v.Iterations)
		require.NoError(t, err)
		assert.Truef(t, v.Matches(keys), "%+q", password)
	}
}

func TestPasswordsThatAreNoUTF8AreTakenAsTheyAre(t *testing.T) {
	require.Equal(t, "\xff\xfeé", prepare("\xff\xfeé"))
}
