package statement

import "strings"

// The marks that stand for constants in a key. They are control characters, which are in no text that is normalized.
const (
	markInteger = 0x01
	markNumber  = 0x02
	markString  = 0x03
	markEString = 0x04
	markBits    = 0x05
)

// normalize appends to dst the text with its constants replaced by marks and its comments by blanks; a leading
// comment that may be a hint stays. Texts with the same key have the same parse tree but for the constants' values, or do not
// parse. constants tells that there was at least one constant or comment, so that the key differs from the text.
//
// ok is false for what had better be parsed: several statements, strings with backslashes, U&'…', numbers that are
// not plain, control characters, anything unterminated.
func normalize(dst []byte, s string) (key []byte, constants, ok bool) {
	leading, done := true, false
	for i := 0; ; {
		kind, end := next(s, i)
		if done && kind != tokEnd && kind != tokSpace && kind != tokComment {
			return dst, false, false
		}
		switch kind {
		case tokEnd:
			return dst, constants, true
		case tokComment:
			if leading && hasRoute(s[i:end]) {
				dst = append(dst, s[i:end]...)
			} else {
				dst = append(dst, ' ')
				constants = true
			}
			i = end
			continue
		case tokSpace:
			dst = append(dst, s[i:end]...)
			i = end
			continue
		case tokInteger:
			dst, constants = append(dst, markInteger), true
		case tokNumber:
			dst, constants = append(dst, markNumber), true
		case tokString, tokDollar:
			dst, constants = append(dst, markString), true
		case tokEString:
			dst, constants = append(dst, markEString), true
		case tokBits:
			dst, constants = append(dst, markBits), true
		case tokSymbol:
			done = s[i] == ';'
			dst = append(dst, s[i:end]...)
		case tokWord, tokQuoted, tokParam:
			dst = append(dst, s[i:end]...)
		default:
			return dst, false, false
		}
		leading = false
		i = end
	}
}

// hasRoute is a cheap first look for "route" in a comment.
func hasRoute(comment string) bool {
	for i := 0; i+5 <= len(comment); i++ {
		if comment[i]|0x20 == 'r' && strings.EqualFold(comment[i:i+5], "route") {
			return true
		}
	}
	return false
}
