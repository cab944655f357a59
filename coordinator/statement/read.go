package statement

import "sync/atomic"

// Volatility answers which functions and operators of a database may do more than compute a value.
type Volatility interface {
	// Volatile reports whether any function (or operator) that f may mean is volatile and not known to be
	// harmless, and whether such a function is known at all.
	Volatile(f Function) (volatile, known bool)
}

// memo remembers the last verdict of Read for one Catalog: the same text comes with the same catalog, mostly.
type memo struct{ last atomic.Pointer[verdict] }

type verdict struct {
	catalog *Catalog
	ok      bool
	reason  string
}

// Read tells whether the whole text is surely a read, and if not, why. v is asked for the functions that the text
// calls; nil means that nothing but PostgreSQL's own functions is known, by name. A text that begins a transaction
// and leaves it open is a read only when the transaction is declared READ ONLY, because what follows is not known.
func (i *Info) Read(v Volatility) (ok bool, reason string) {
	c, isCatalog := v.(*Catalog)
	if isCatalog || v == nil {
		if last := i.memo.last.Load(); last != nil && last.catalog == c {
			return last.ok, last.reason
		}
	}
	ok, reason = i.read(v)
	if isCatalog || v == nil {
		i.memo.last.Store(&verdict{catalog: c, ok: ok, reason: reason})
	}
	return ok, reason
}

func (i *Info) read(v Volatility) (bool, string) {
	if i.Err != nil {
		return false, "not analysed: " + i.Err.Error()
	}
	open, readOnly := false, false
	for n := range i.Statements {
		st := &i.Statements[n]
		if !st.Read {
			return false, st.Reason
		}
		switch st.Kind {
		case Begin:
			open, readOnly = true, st.ReadOnly != nil && *st.ReadOnly
		case Commit, Rollback:
			open = open && st.Chain
		case Set:
			if st.ReadOnly != nil && st.Local {
				readOnly = *st.ReadOnly
			}
		}
		for _, f := range st.Functions {
			if reason := judge(f, v); reason != "" {
				return false, reason
			}
		}
	}
	if open && !readOnly {
		return false, "the transaction is not declared READ ONLY"
	}
	return true, ""
}

// judge gives the reason why a call of f is not surely harmless, "" if it is.
func judge(f Function, v Volatility) string {
	if !f.Operator {
		if e, ok := effectOf(f.Name); ok {
			return "function " + f.Name + "() " + e.does
		}
	}
	if v == nil {
		if f.Schema != "" && f.Schema != "pg_catalog" || !builtin(f) {
			return f.String() + " is not known"
		}
		return ""
	}
	switch volatile, known := v.Volatile(f); {
	case !known:
		return f.String() + " is not known"
	case volatile:
		return f.String() + " is volatile"
	}
	return ""
}
