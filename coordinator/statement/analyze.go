package statement

import (
	"errors"
	"fmt"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// maxAnalyze is the length, in bytes, above which a text is not parsed: a parse tree takes up to 100 times the memory
// of its text. Bulk inserts may be that long; they go to the primary anyway.
const maxAnalyze = 256 << 10

var (
	errTooLong = errors.New("longer than 256 kB")
	errTooDeep = errors.New("nested too deeply")
	errNUL     = errors.New("holds a zero byte")
)

// Analyze tells what sql is. It never panics, does no I/O, and takes about 50 µs for a short text; see [Cache].
func Analyze(sql string) *Info {
	info, err := analyze(sql)
	if err != nil {
		info = &Info{Err: err, Route: hintOf(sql)}
		info.PinIfAccepted = lexicalPin(sql)
	}
	info.Backslash = plainBackslash(sql)
	return info
}

func analyze(sql string) (info *Info, err error) {
	switch {
	case strings.IndexByte(sql, 0) >= 0: // C would see the text end there
		return nil, errNUL
	case len(sql) > maxAnalyze:
		return nil, errTooLong
	case !shallow(sql):
		return nil, errTooDeep
	}
	defer func() {
		if p := recover(); p != nil {
			info, err = nil, fmt.Errorf("parser stopped: %v", p)
		}
	}()
	tree, err := pg.Parse(sql)
	if err != nil {
		return nil, err
	}
	info = &Info{}
	if n := len(tree.GetStmts()); n > 0 {
		info.Statements = make([]Statement, 0, n)
	}
	for _, raw := range tree.GetStmts() {
		start := min(max(int(raw.GetStmtLocation()), 0), len(sql))
		end := len(sql)
		if l := int(raw.GetStmtLen()); l > 0 {
			end = min(start+l, len(sql))
		}
		st := classify(raw.GetStmt(), sql[start:end])
		st.Route = hintOf(sql[start:end])
		if len(tree.GetStmts()) > 1 {
			st.Start, st.End = start, end
		}
		info.Statements = append(info.Statements, st)
	}
	if len(info.Statements) > 0 {
		info.Route = info.Statements[0].Route
	}
	return info, nil
}
