package router

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/multicoord/multicoord/coordinator/route"
	"github.com/multicoord/multicoord/coordinator/wire"
	"github.com/multicoord/multicoord/sql"
)

// role is what a login needs to know.
type role struct {
	found    bool
	scram    bool // it has a SCRAM verifier
	verifier wire.Verifier
	canLogin bool
	expired  bool
	// allowed: the database takes connections, mayConnect: the role has the privilege. Both are true for a database that
	// does not exist, of which the server tells.
	allowed, mayConnect bool
	superuser           bool
	limit               int      // CONNECTION LIMIT; -1 for none
	settings            []string // name=value; the last of a name counts
	at                  time.Time
}

func (e *role) sameVerifier(o *role) bool {
	return e.scram == o.scram && bytes.Equal(e.verifier.StoredKey, o.verifier.StoredKey) &&
		bytes.Equal(e.verifier.Salt, o.verifier.Salt)
}

// roles looks roles up on the coordinators, and remembers them for a moment.
type roles struct {
	r    *Router
	mu   sync.Mutex
	m    map[[2]string]*role
	look sync.Mutex // one look-up at a time; guards conn and node
	conn *pgx.Conn
	node string // what conn is connected to
}

const (
	// roleTime is how long a role is taken to be as it was read.
	roleTime = 5 * time.Second
	// roleDoubt is the least age at which a failed login has the role read again.
	roleDoubt = 500 * time.Millisecond
	maxRoles  = 10_000
	lookTime  = 3 * time.Second
)

func newRoles(r *Router) *roles { return &roles{r: r, m: make(map[[2]string]*role)} }

func (l *roles) cached(k [2]string) *role {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.m[k]
}

// find gives a role; one that does not exist is not an error. While no coordinator can be asked, what was known before
// counts.
func (l *roles) find(ctx context.Context, user, database string) (*role, error) {
	k := [2]string{user, database}
	if e := l.cached(k); e != nil && time.Since(e.at) < roleTime {
		return e, nil
	}
	l.look.Lock()
	defer l.look.Unlock()
	old := l.cached(k)
	if old != nil && time.Since(old.at) < roleTime { // somebody else has just read it
		return old, nil
	}
	e, err := l.read(ctx, user, database)
	if err != nil {
		if old != nil && old.found {
			return old, nil
		}
		return nil, err
	}
	if old != nil && !slices.Equal(old.settings, e.settings) {
		// The servers give a role's settings to new connections only.
		l.r.pools.Retire(user, database)
		l.r.welcomes.forget(user)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.m) >= maxRoles {
		clear(l.m)
	}
	for other, o := range l.m { // what is known of the same role for other databases
		if other[0] == user && !o.sameVerifier(e) {
			delete(l.m, other)
		}
	}
	l.m[k] = e
	return e, nil
}

// doubt has a role read again at the next login, because this one has failed.
func (l *roles) doubt(user, database string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := [2]string{user, database}
	if e := l.m[k]; e != nil && time.Since(e.at) > roleDoubt {
		old := *e
		old.at = time.Time{}
		l.m[k] = &old
	}
}

// stale has all that is known of a user read again: a server has another password than the one that was logged in with.
func (r *Router) stale(user string) {
	l := r.roles
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, e := range l.m {
		if k[0] == user && time.Since(e.at) > roleDoubt {
			old := *e
			old.at = time.Time{}
			l.m[k] = &old
		}
	}
}

// read asks the primary. Only while it cannot be asked does the word of a standby count, and only of one that serves
// reads: how far another is behind is not known, and it may still have a password that was changed long ago.
func (l *roles) read(ctx context.Context, user, database string) (*role, error) {
	table := l.r.view.Load().table
	var errs []error
	for _, s := range trusted(table) {
		e, err := l.readFrom(ctx, s, user, database)
		if err == nil {
			return e, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", s.Name, err))
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("neither a primary nor a standby that serves reads: %s", table.PrimaryReason)
	}
	return nil, errors.Join(errs...)
}

// trusted gives the servers that may be asked about roles, the primary first, then the standbys by how far they are behind.
func trusted(t *route.Table) []*route.Server {
	var list []*route.Server
	for i := range t.Standbys {
		if t.Standbys[i].Eligible {
			list = append(list, &t.Standbys[i])
		}
	}
	slices.SortStableFunc(list, func(a, b *route.Server) int { return cmp.Compare(a.LagBytes, b.LagBytes) })
	if t.Primary != nil {
		list = append([]*route.Server{t.Primary}, list...)
	}
	return list
}

func (l *roles) readFrom(ctx context.Context, s *route.Server, user, database string) (*role, error) {
	at := s.Name + " " + s.Address
	if l.conn != nil && l.node == at {
		if e, err := l.ask(ctx, user, database); err == nil {
			return e, nil
		} // the connection may have been lost long ago
	}
	l.hangUp(ctx)
	c, err := l.r.ownConnection(ctx, s.Address, l.r.ownDatabase(), lookTime)
	if err != nil {
		return nil, err
	}
	l.conn, l.node = c, at
	return l.ask(ctx, user, database)
}

// hangUp gives the connection up; look is held.
func (l *roles) hangUp(ctx context.Context) {
	if l.conn == nil {
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer stop()
	_ = l.conn.Close(ctx)
	l.conn = nil
}

func (l *roles) ask(ctx context.Context, user, database string) (*role, error) {
	ctx, stop := context.WithTimeout(ctx, lookTime)
	defer stop()
	e := &role{at: time.Now()}
	var password string
	err := l.conn.QueryRow(ctx, sql.RouterVerifier, user, database).
		Scan(&password, &e.canLogin, &e.expired, &e.limit, &e.settings, &e.superuser, &e.allowed, &e.mayConnect)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return e, nil
	case err != nil:
		l.hangUp(ctx)
		return nil, fmt.Errorf("read the verifier of role %q: %w", user, err)
	}
	e.found = true
	if v, err := wire.ParseVerifier(password); err == nil {
		e.scram, e.verifier = true, v
	}
	return e, nil
}

func (l *roles) close() {
	l.look.Lock()
	defer l.look.Unlock()
	l.hangUp(l.r.ctx)
}

// ownConnection connects with the router's own role.
func (r *Router) ownConnection(ctx context.Context, address, database string, timeout time.Duration) (*pgx.Conn, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	cfg, err := pgx.ParseConfig("sslmode=disable")
	if err != nil {
		return nil, err
	}
	cfg.Host, cfg.Port, cfg.Fallbacks = host, uint16(port), nil
	cfg.User, cfg.Password, cfg.Database = r.cfg.User, r.cfg.Password, database
	cfg.TLSConfig = r.cfg.ServerTLS
	cfg.RuntimeParams = map[string]string{"application_name": "multicoord router"}
	cfg.ConnectTimeout = timeout
	ctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect as %s: %w", r.cfg.User, err)
	}
	return c, nil
}
