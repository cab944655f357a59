package router

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/multicoord/multicoord/coordinator/statement"
	"github.com/multicoord/multicoord/sql"
)

// catalogs knows, per database, which functions do more than compute a value. What is not known yet is taken for
// volatile, except PostgreSQL's own functions.
type catalogs struct {
	r    *Router
	mu   sync.Mutex
	m    map[string]*database
	wake chan struct{}
}

type database struct {
	name    string
	catalog atomic.Pointer[statement.Catalog]
	stale   atomic.Bool
	// generation counts the changes of definitions that went through this router.
	generation atomic.Uint64
	used       atomic.Int64 // sessions
	read       time.Time    // the loader's
	failed     bool
}

const (
	// catalogTime is how often a catalog is read again although nothing has told that it changed.
	catalogTime = time.Minute
	// catalogRest collects changes that come together.
	catalogRest = 200 * time.Millisecond
	catalogRead = 20 * time.Second
)

func newCatalogs(r *Router) *catalogs {
	return &catalogs{r: r, m: make(map[string]*database), wake: make(chan struct{}, 1)}
}

// open finds or makes the entry of a database. close it when the session ends.
func (c *catalogs) open(name string) *database {
	c.mu.Lock()
	d := c.m[name]
	if d == nil {
		d = &database{name: name}
		d.stale.Store(true)
		c.m[name] = d
	}
	d.used.Add(1)
	c.mu.Unlock()
	if d.stale.Load() {
		c.hurry()
	}
	return d
}

func (c *catalogs) close(d *database) {
	if d != nil {
		d.used.Add(-1)
	}
}

// changed notes that a statement through this router may have changed functions.
func (c *catalogs) changed(d *database) {
	d.stale.Store(true)
	c.hurry()
}

func (c *catalogs) hurry() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// volatility is what statement.Info.Read wants to know; nil while nothing is known.
func (d *database) volatility() statement.Volatility {
	if v := d.catalog.Load(); v != nil {
		return v
	}
	return nil
}

func (c *catalogs) run(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-c.wake:
			t := time.NewTimer(catalogRest)
			select {
			case <-ctx.Done():
				t.Stop()
				return nil
			case <-t.C:
			}
		}
		for _, d := range c.due(time.Now()) {
			c.load(ctx, d)
		}
	}
}

// due lists the databases whose catalog has to be read, and drops those that nobody uses.
func (c *catalogs) due(now time.Time) []*database {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*database
	for name, d := range c.m {
		switch {
		case d.used.Load() <= 0 && now.Sub(d.read) > catalogTime:
			delete(c.m, name)
		case d.used.Load() > 0 && (d.stale.Load() || now.Sub(d.read) > catalogTime):
			list = append(list, d)
		}
	}
	return list
}

// load reads one database's catalog from the primary, or from a standby if there is none.
func (c *catalogs) load(ctx context.Context, d *database) {
	t := c.r.view.Load().table
	var address string
	switch {
	case t.Primary != nil:
		address = t.Primary.Address
	default:
		for i := range t.Standbys {
			if t.Standbys[i].Eligible {
				address = t.Standbys[i].Address
			}
		}
	}
	if address == "" {
		return
	}
	d.stale.Store(false)
	d.read = time.Now()
	catalog, err := c.rows(ctx, address, d.name)
	if err != nil {
		if refused := new(pgconn.PgError); !d.failed && errors.As(err, &refused) {
			c.r.log.Warn("the functions of a database cannot be read; statements that call its own functions go to the primary",
				"database", d.name, "err", err, "remedy", "GRANT CONNECT ON DATABASE ... TO "+c.r.cfg.User)
		}
		d.failed = true
		d.stale.Store(true) // again at the next tick
		return
	}
	d.failed = false
	d.catalog.Store(catalog)
}

func (c *catalogs) rows(ctx context.Context, address, name string) (*statement.Catalog, error) {
	conn, err := c.r.ownConnection(ctx, address, name, catalogRead)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(ctx, catalogRead)
	defer stop()
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, sql.StatementFunctions)
	if err != nil {
		return nil, fmt.Errorf("read the functions of database %q: %w", name, err)
	}
	defer rows.Close()
	var list []statement.Row
	for rows.Next() {
		var r statement.Row
		if err := rows.Scan(&r.Schema, &r.Name, &r.Extension, &r.Operator, &r.Volatile); err != nil {
			return nil, fmt.Errorf("read the functions of database %q: %w", name, err)
		}
		list = append(list, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the functions of database %q: %w", name, err)
	}
	return statement.NewCatalog(list), nil
}
