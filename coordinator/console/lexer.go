package console

import (
	"strings"

	"github.com/multicoord/multicoord/coordinator/wire"
)

// token is a word (in lower case), a quoted string or identifier (without its quotes), or a single character.
type token struct {
	text   string
	quoted bool
}

// split cuts a string into statements, and these into tokens, by PostgreSQL's lexical rules as far as a console
// needs them: comments (nested), '…', E'…', "…", $tag$…$tag$ and $1.
func split(sql string) ([][]token, *wire.Error) {
	var statements [][]token
	var current []token
	l := lexer{rest: sql}
	for {
		t, ok, err := l.next()
		if err != nil {
			return nil, err
		}
		if ok && (t.quoted || t.text != ";") {
			current = append(current, t)
			continue
		}
		if len(current) > 0 {
			statements = append(statements, current)
			current = nil
		}
		if !ok {
			return statements, nil
		}
	}
}

type lexer struct{ rest string }

// next gives the next token; ok is false at the end.
func (l *lexer) next() (t token, ok bool, err *wire.Error) {
	for {
		l.rest = strings.TrimLeft(l.rest, " \t\r\n\f\v")
		switch {
		case strings.HasPrefix(l.rest, "--"):
			_, l.rest, _ = strings.Cut(l.rest, "\n")
		case strings.HasPrefix(l.rest, "/*"):
			if err := l.comment(); err != nil {
				return token{}, false, err
			}
		case l.rest == "":
			return token{}, false, nil
		default:
			t, err = l.token()
			return t, err == nil, err
		}
	}
}

// comment skips a comment, and those within it.
func (l *lexer) comment() *wire.Error {
	depth, i := 0, 0
	for i < len(l.rest) {
		switch {
		case strings.HasPrefix(l.rest[i:], "/*"):
			depth++
			i += 2
		case strings.HasPrefix(l.rest[i:], "*/"):
			depth--
			i += 2
			if depth == 0 {
				l.rest = l.rest[i:]
				return nil
			}
		default:
			i++
		}
	}
	return wire.Errorf("42601", "unterminated /* comment")
}

func (l *lexer) token() (token, *wire.Error) {
	c := l.rest[0]
	switch {
	case c == '\'':
		return l.quoted(1, '\'', false)
	case (c == 'e' || c == 'E') && len(l.rest) > 1 && l.rest[1] == '\'':
		return l.quoted(2, '\'', true)
	case c == '"':
		return l.quoted(1, '"', false)
	case c == '$':
		return l.dollar()
	case isWord(c):
		n := 1
		for n < len(l.rest) && (isWord(l.rest[n]) || l.rest[n] == '$' || l.rest[n] == '.') {
			n++
		}
		return token{text: strings.ToLower(l.take(n))}, nil
	default:
		return token{text: l.take(1)}, nil
	}
}

// isWord: letters, digits, underscore, and whatever is not ASCII. A leading digit makes a number, which is a word here.
func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80
}

func (l *lexer) take(n int) string {
	s := l.rest[:n]
	l.rest = l.rest[n:]
	return s
}

// quoted reads up to the closing quote; a doubled quote stands for one, and with escapes a backslash takes the next
// character as it is (of the named escapes \n and \t are known).
func (l *lexer) quoted(open int, quote byte, escapes bool) (token, *wire.Error) {
	var b strings.Builder
	for i := open; i < len(l.rest); i++ {
		c := l.rest[i]
		switch {
		case c == quote && i+1 < len(l.rest) && l.rest[i+1] == quote:
			b.WriteByte(quote)
			i++
		case c == quote:
			l.rest = l.rest[i+1:]
			return token{text: b.String(), quoted: true}, nil
		case escapes && c == '\\' && i+1 < len(l.rest):
			i++
			switch l.rest[i] {
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			default:
				b.WriteByte(l.rest[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	if quote == '"' {
		return token{}, wire.Errorf("42601", "unterminated quoted identifier")
	}
	return token{}, wire.Errorf("42601", "unterminated quoted string")
}

// dollar reads a parameter ($1) or a dollar-quoted string.
func (l *lexer) dollar() (token, *wire.Error) {
	n := 1
	for n < len(l.rest) && isWord(l.rest[n]) {
		n++
	}
	if n == len(l.rest) || l.rest[n] != '$' || n > 1 && l.rest[1] <= '9' {
		return token{text: l.take(n)}, nil
	}
	tag := l.rest[:n+1]
	body, rest, ok := strings.Cut(l.rest[n+1:], tag)
	if !ok {
		return token{}, wire.Errorf("42601", "unterminated dollar-quoted string")
	}
	l.rest = rest
	return token{text: body, quoted: true}, nil
}
