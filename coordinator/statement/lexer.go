package statement

import "strings"

// tokenKind sorts tokens as far as constants, comments and nesting need it.
type tokenKind uint8

const (
	tokEnd     tokenKind = iota
	tokSpace             // blanks and line ends
	tokComment           // -- to the line's end (which is not part of it), or /* */, nested
	tokWord              // identifier or keyword
	tokQuoted            // "identifier"
	tokString            // 'text' in which every byte stands for itself
	tokEscaped           // 'text' that holds a backslash: standard_conforming_strings decides what it means
	tokEString           // E'text'
	tokBits              // B'01' or X'1F'
	tokDollar            // $tag$text$tag$
	tokInteger           // up to 9 digits
	tokNumber            // any other number
	tokParam             // $1
	tokSymbol            // one character of an operator or punctuation
	tokUnusual           // U&'…', U&"…", numbers run together with letters, control characters, unterminated: not looked into
)

// next finds the token of s that begins at i, and where it ends. It follows the rules of PostgreSQL's scan.l
// (src/backend/parser/scan.l) with standard_conforming_strings on. An operator comes as single characters; a comment
// that begins inside it ends it, as in scan.l. An unusual token reaches as far as it is certain; after an
// unterminated one that is the end of s.
func next(s string, i int) (tokenKind, int) {
	if i >= len(s) {
		return tokEnd, i
	}
	c := s[i]
	switch class[c] {
	case classSpace:
		i++
		for i < len(s) && class[s[i]] == classSpace {
			i++
		}
		return tokSpace, i
	case classLetter:
		return wordOrPrefixed(s, i)
	case classDigit:
		return number(s, i)
	}
	switch c {
	case '\'':
		return plainString(s, i)
	case '"':
		if end := doubled(s, i+1, '"'); end >= 0 {
			return tokQuoted, end
		}
		return tokUnusual, len(s)
	case '$':
		return dollar(s, i)
	case '-':
		if i+1 < len(s) && s[i+1] == '-' {
			for i += 2; i < len(s) && s[i] != '\n' && s[i] != '\r'; i++ {
			}
			return tokComment, i
		}
	case '/':
		if i+1 < len(s) && s[i+1] == '*' {
			if end := commentEnd(s, i); end >= 0 {
				return tokComment, end
			}
			return tokUnusual, len(s)
		}
	case '.':
		if i+1 < len(s) && s[i+1] == '.' {
			return tokSymbol, i + 2
		}
		if i+1 < len(s) && class[s[i+1]] == classDigit {
			return number(s, i)
		}
	}
	if c < ' ' || c == 0x7f {
		return tokUnusual, i + 1
	}
	return tokSymbol, i + 1
}

// The classes of bytes. Bytes from 0x80 are letters (ident_start in scan.l).
const (
	classSymbol = iota
	classSpace
	classLetter
	classDigit
	classInside // '$': only inside an identifier
)

var class = func() (t [256]uint8) {
	for _, c := range " \t\n\r\f\v" {
		t[c] = classSpace
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = classLetter, classLetter
	}
	for c := 0x80; c < 0x100; c++ {
		t[c] = classLetter
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = classDigit
	}
	t['_'], t['$'] = classLetter, classInside
	return t
}()

func wordOrPrefixed(s string, i int) (tokenKind, int) {
	if i+1 < len(s) {
		switch n := s[i+1]; {
		case n == '\'':
			switch s[i] | 0x20 {
			case 'e':
				return escapeString(s, i+2)
			case 'b', 'x':
				if end := doubled(s, i+2, '\''); end >= 0 {
					return tokBits, end
				}
				return tokUnusual, len(s)
			}
		case n == '&' && s[i]|0x20 == 'u' && i+2 < len(s) && (s[i+2] == '\'' || s[i+2] == '"'):
			if end := doubled(s, i+3, s[i+2]); end >= 0 {
				return tokUnusual, end
			}
			return tokUnusual, len(s)
		}
	}
	for i++; i < len(s) && class[s[i]] >= classLetter; i++ {
	}
	return tokWord, i
}

// plainString begins at the opening quote.
func plainString(s string, i int) (tokenKind, int) {
	kind := tokString
	for i++; i < len(s); i++ {
		switch s[i] {
		case '\\':
			kind = tokEscaped
		case '\'':
			if i+1 >= len(s) || s[i+1] != '\'' {
				return kind, i + 1
			}
			i++
		}
	}
	return tokUnusual, len(s)
}

// escapeString begins after the opening quote.
func escapeString(s string, i int) (tokenKind, int) {
	for ; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\'':
			if i+1 >= len(s) || s[i+1] != '\'' {
				return tokEString, i + 1
			}
			i++
		}
	}
	return tokUnusual, len(s)
}

// doubled finds the end of what is closed by quote, a doubled quote standing for itself; -1 if it is not closed.
func doubled(s string, i int, quote byte) int {
	for i < len(s) {
		n := strings.IndexByte(s[i:], quote)
		if n < 0 {
			return -1
		}
		i += n + 1
		if i >= len(s) || s[i] != quote {
			return i
		}
		i++
	}
	return -1
}

// commentEnd finds the end of the nested comment that begins at i, -1 if it is not closed.
func commentEnd(s string, i int) int {
	depth := 1
	for i += 2; i+1 < len(s); i++ {
		switch {
		case s[i] == '*' && s[i+1] == '/':
			i++
			if depth--; depth == 0 {
				return i + 1
			}
		case s[i] == '/' && s[i+1] == '*':
			i++
			depth++
		}
	}
	return -1
}

// number begins at a digit, or at a point that a digit follows. Two points after a number are a range of PL/pgSQL and
// not part of it. Letters that follow at once (0x1F, 1_000, 1e5x) are left to the real scanner.
func number(s string, i int) (tokenKind, int) {
	begin := i
	kind := tokInteger
	for i < len(s) && class[s[i]] == classDigit {
		i++
	}
	if i-begin > 9 {
		kind = tokNumber
	}
	if i < len(s) && s[i] == '.' && (i+1 >= len(s) || s[i+1] != '.') {
		kind = tokNumber
		for i++; i < len(s) && class[s[i]] == classDigit; i++ {
		}
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		j := i + 1
		if j < len(s) && (s[j] == '+' || s[j] == '-') {
			j++
		}
		if j < len(s) && class[s[j]] == classDigit {
			kind = tokNumber
			for i = j; i < len(s) && class[s[i]] == classDigit; i++ {
			}
		}
	}
	if i < len(s) && class[s[i]] >= classLetter {
		return tokUnusual, i
	}
	return kind, i
}

// dollar begins at a '$': a parameter, a dollar-quoted string, or a lone sign.
func dollar(s string, i int) (tokenKind, int) {
	j := i + 1
	if j < len(s) && class[s[j]] == classDigit {
		for j < len(s) && class[s[j]] == classDigit {
			j++
		}
		if j < len(s) && class[s[j]] >= classLetter {
			return tokUnusual, j
		}
		return tokParam, j
	}
	if j < len(s) && class[s[j]] == classLetter {
		for j < len(s) && (class[s[j]] == classLetter || class[s[j]] == classDigit) {
			j++
		}
	}
	if j >= len(s) || s[j] != '$' {
		return tokUnusual, i + 1
	}
	tag := s[i : j+1]
	n := strings.Index(s[j+1:], tag)
	if n < 0 {
		return tokUnusual, len(s)
	}
	return tokDollar, j + 1 + n + len(tag)
}
