package statement

// Row is one line of what sql.StatementFunctions reads from a database: the functions (or operators) of one name in
// one schema that belong to the same extension.
type Row struct {
	Schema, Name string
	// Extension is the extension that owns them, "" if none.
	Extension string
	Operator  bool
	// Volatile: at least one of them is volatile, or is an aggregate built of volatile functions.
	Volatile bool
}

// Catalog knows the volatility of a database's functions and operators by name. It is immutable.
//
// A call is resolved by name only, over all schemas: search_path and the arguments' types decide on the server which
// function is meant, so one volatile function of a name makes all calls of that name volatile. Calls qualified with
// pg_catalog are the exception: they mean what is there. An operator's volatility is its function's.
type Catalog struct {
	functions map[string]known
	operators map[string]known
}

// known holds, for one name, whether it is in pg_catalog and whether there or anywhere it does more than compute.
type known struct{ inCatalog, catalogVolatile, anyVolatile bool }

var _ Volatility = (*Catalog)(nil)

// NewCatalog makes a Catalog from all rows of a database. Volatile functions that are known to be harmless
// (random(), uuid_generate_v4() of uuid-ossp, …) do not count as volatile; a function of the same name that somebody
// else defined does.
func NewCatalog(rows []Row) *Catalog {
	c := &Catalog{functions: make(map[string]known, len(rows)), operators: make(map[string]known)}
	for _, r := range rows {
		m := c.functions
		if r.Operator {
			m = c.operators
		}
		k := m[r.Name]
		volatile := r.Volatile
		switch {
		case r.Schema == "pg_catalog" && r.Extension == "":
			k.inCatalog = true
			volatile = volatile && (r.Operator || !harmless[r.Name])
			k.catalogVolatile = k.catalogVolatile || volatile
		case r.Extension != "" && !r.Operator:
			volatile = volatile && !harmlessExtensions[r.Extension][r.Name]
		}
		if r.Schema == "pg_catalog" && r.Extension != "" { // plpgsql's and others that install there
			k.inCatalog = true
			k.catalogVolatile = k.catalogVolatile || volatile
		}
		k.anyVolatile = k.anyVolatile || volatile
		m[r.Name] = k
	}
	return c
}

// Volatile implements Volatility.
func (c *Catalog) Volatile(f Function) (volatile, ok bool) {
	m := c.functions
	if f.Operator {
		m = c.operators
	}
	k, ok := m[f.Name]
	if f.Schema == "pg_catalog" {
		return k.catalogVolatile, k.inCatalog
	}
	return k.anyVolatile, ok
}
