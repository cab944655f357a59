package wire

import (
	"strings"
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
)

// prepare normalizes a password by SASLprep (RFC 4013) in just the way of PostgreSQL, so that both hash the same
// bytes (pg_saslprep in src/common/saslprep.c, and its callers): ASCII passwords, those that are no UTF-8, and those that the
// profile forbids are taken as they are; and what is forbidden is looked for before the normalization, where the RFC
// looks behind it.
func prepare(password string) string {
	if isASCII(password) || !utf8.ValidString(password) {
		return password
	}
	mapped := strings.Map(saslMap, password)
	allowed := stringprep.Profile{
		Prohibits: []stringprep.Set{
			stringprep.TableA1, stringprep.TableC1_2, stringprep.TableC2_1, stringprep.TableC2_2, stringprep.TableC3,
			stringprep.TableC4, stringprep.TableC5, stringprep.TableC6, stringprep.TableC7, stringprep.TableC8, stringprep.TableC9,
		},
		CheckBiDi: true,
	}
	if _, err := allowed.Prepare(mapped); err != nil || mapped == "" {
		return password
	}
	p, err := stringprep.Profile{Normalize: true}.Prepare(mapped)
	if err != nil {
		return password
	}
	return p
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// saslMap is RFC 4013's mapping: spaces other than ASCII's become a space, and what is "commonly mapped to nothing"
// goes. U+200B is in both tables; PostgreSQL takes it for a space.
func saslMap(r rune) rune {
	switch {
	case r == 0x00a0, r == 0x1680, r >= 0x2000 && r <= 0x200b, r == 0x202f, r == 0x205f, r == 0x3000:
		return ' '
	case r == 0x00ad, r == 0x034f, r == 0x1806, r >= 0x180b && r <= 0x180d, r == 0x200c, r == 0x200d, r == 0x2060,
		r >= 0xfe00 && r <= 0xfe0f, r == 0xfeff:
		return -1
	}
	return r
}
