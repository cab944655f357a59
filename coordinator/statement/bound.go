package statement

import "strings"

// The C parser and the decoding of its tree recurse once per level of nesting, without a limit: "1+1+1+…" of 400 kB
// overflows the C stack and ends the process. A text up to alwaysShallow bytes cannot nest deeply enough for that;
// a longer one is scanned first. 4,000 levels take less than 2 MB of C stack, the smallest that a thread gets.
const (
	alwaysShallow = 4000
	maxDepth      = 4000
	maxBrackets   = 1000
)

// shallow tells that the parse tree of s surely has no more than maxDepth levels.
//
// A tree grows one level deeper with an operator, a keyword or a bracket, never with an element of a list. So along any
// path the tokens since the last comma, summed over the open brackets, bound the depth; UNION, INTERSECT and EXCEPT
// nest across commas of select lists and count for themselves.
func shallow(s string) bool {
	if len(s) <= alwaysShallow {
		return true
	}
	type level struct{ tokens, setOperations int }
	var open []level
	var now level
	outside := 0 // tokens on the levels below the current one
	for i := 0; ; {
		kind, end := next(s, i)
		switch kind {
		case tokEnd:
			return true
		case tokSpace, tokComment:
			i = end
			continue
		case tokSymbol:
			switch s[i] {
			case '(', '[':
				now.tokens++
				outside += now.tokens + now.setOperations
				open = append(open, now)
				now = level{}
				if len(open) > maxBrackets {
					return false
				}
			case ')', ']':
				if len(open) > 0 {
					now = open[len(open)-1]
					open = open[:len(open)-1]
					outside -= now.tokens + now.setOperations
				}
			case ',':
				now.tokens = 0
			case ';':
				open, now, outside = open[:0], level{}, 0
			default:
				now.tokens++
			}
		case tokWord:
			if w := s[i:end]; len(w) >= 5 && (strings.EqualFold(w, "union") || strings.EqualFold(w, "except") ||
				strings.EqualFold(w, "intersect")) {
				now.setOperations++
			}
			now.tokens++
		default:
			now.tokens++
		}
		if outside+now.tokens+now.setOperations > maxDepth {
			return false
		}
		i = end
	}
}

// plainBackslash tells that a plain string of s holds a backslash, or may.
func plainBackslash(s string) bool {
	if strings.IndexByte(s, '\\') < 0 {
		return false
	}
	for i := 0; ; {
		kind, end := next(s, i)
		switch kind {
		case tokEnd:
			return false
		case tokEscaped:
			return true
		case tokUnusual:
			if strings.IndexByte(s[i:end], '\\') >= 0 {
				return true
			}
		}
		i = end
	}
}

// lexicalPin looks for words that leave something behind in the session, in a text that was not parsed. It is used
// only when the server understands the text, so it may be generous; a word inside a constant or a comment counts
// for nothing.
func lexicalPin(s string) string {
	first := true // at the beginning of a statement
	for i := 0; ; {
		kind, end := next(s, i)
		switch kind {
		case tokEnd:
			return ""
		case tokSpace, tokComment:
			i = end
			continue
		case tokSymbol:
			first = s[i] == ';'
		case tokWord, tokQuoted:
			w := lower(strings.Trim(s[i:end], `"`))
			if e, ok := effectOf(w); ok && e.pin != "" {
				return "not analysed, but calls " + w
			}
			switch w {
			case "set", "reset", "load", "prepare", "listen", "do", "discard":
				if first {
					return "not analysed, but holds " + strings.ToUpper(w)
				}
			case "temp", "temporary", "hold", "pg_temp":
				return "not analysed, but holds " + strings.ToUpper(w)
			}
			first = false
		case tokUnusual:
			if end == len(s) {
				return "not analysed"
			}
			first = false
		default:
			first = false
		}
		i = end
	}
}
