package router

import (
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/multicoord/multicoord/coordinator/pool"
	"github.com/multicoord/multicoord/coordinator/statement"
	"github.com/multicoord/multicoord/coordinator/wire"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// loginTime bounds the start-up and the authentication of a client. PostgreSQL's authentication_timeout is 60 s, for people
// who type passwords at the prompt of the server; here they have been typed before the client connects again, and whoever
// keeps sockets open without logging in takes places from those who do.
const loginTime = 15 * time.Second

// maxMessage bounds a client's message, in bytes: PostgreSQL takes no more (MaxAllocSize).
const maxMessage = 1<<30 - 1

// crowd is how many connections besides max_client_conn may not have logged in yet. They do not count as clients.
const crowd = 100

// client serves one connection from its first byte to its last.
func (r *Router) client(accepted net.Conn) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("a login has failed", "err", p)
		}
		_ = accepted.Close()
	}()
	conn := accepted
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetNoDelay(true)
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4})
	}
	limit := r.view.Load().settings.MaxClients
	if !r.sessions.enter(accepted, limit+crowd) {
		return
	}
	defer r.sessions.entered(accepted)
	start, conn, err := wire.ReadStartup(conn, wire.StartupConfig{TLS: r.cfg.TLS, Timeout: loginTime})
	if err != nil {
		var e *wire.Error
		if conn != nil && errors.As(err, &e) {
			reject(conn, e)
		}
		return
	}
	if start.Cancel != nil {
		r.cancelRequest(*start.Cancel)
		return
	}
	if r.sessions.count.Load() >= int64(limit) { // an early word; admit has the last
		r.tooMany(conn)
		return
	}
	s := &session{
		r: r, log: r.log, conn: conn, status: 'I', since: time.Now(), named: make(map[string]*prepared),
		user: start.Params["user"], database: start.Params["database"], encrypted: start.TLS,
	}
	if s.database == "" {
		s.database = s.user
	}
	r.sessions.add(s, start.Protocol)
	defer r.sessions.remove(s)
	defer s.close()
	defer func() {
		if s.admitted {
			r.sessions.leave(s.user)
		}
	}()
	if err := s.login(start); err != nil {
		var e *wire.Error
		if errors.As(err, &e) {
			reject(conn, asFatal(e))
			r.log.Debug("a client was refused", "client", conn.RemoteAddr().String(), "user", s.user, "err", e)
		}
		return
	}
	r.sessions.entered(accepted)
	s.in = wire.NewReader(conn, maxMessage)
	if r.draining.Load() {
		_ = s.farewell(shuttingDown())
		return
	}
	if err := s.serve(); err != nil {
		r.log.Debug("a session has ended", "client", conn.RemoteAddr().String(), "user", s.user, "err", err)
	}
}

// tooManyClients is PostgreSQL's message, with what to do about it here.
func tooManyClients() *wire.Error {
	e := wire.Fatal("53300", "sorry, too many clients already")
	e.Hint = "The router accepts max_client_conn clients; raise it with `orchestrator config set router.max_client_conn=N`."
	return e
}

func (r *Router) tooMany(conn net.Conn) {
	reject(conn, tooManyClients())
	r.metrics.refused.Add(1)
}

// reject tells a client why it is not let in.
func reject(conn net.Conn, e *wire.Error) {
	_ = conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_, _ = conn.Write(e.Append(nil))
}

// login authenticates the client, makes its settings, and greets it.
func (s *session) login(start wire.Startup) error {
	if v, ok := start.Params["replication"]; ok {
		if on, known := parseBool(strings.ToLower(v)); !known || on {
			return wire.Fatal("0A000", "replication connections go to a coordinator directly, not through the router")
		}
	}
	role, err := s.authenticate()
	if err != nil {
		return err
	}
	s.catalog = s.r.catalogs.open(s.database)
	if err := s.startSettings(start.Params, role.settings); err != nil {
		return err
	}
	params, err := s.welcome()
	if err != nil {
		return err
	}
	s.told = params
	s.application = params.Get("application_name")
	out := wire.AppendAuthenticationOK(nil)
	params.Each(nil, func(name, value string) { out = wire.AppendParameterStatus(out, name, value) })
	out = wire.AppendBackendKeyData(out, s.key.PID, s.key.Secret)
	return s.send(wire.AppendReady(out, 'I'))
}

// authenticate checks the client's proof against the verifier that the coordinators have. With the keys that come out
// of it, the pools log in to the servers as the same role.
func (s *session) authenticate() (*role, error) {
	role, err := s.r.roles.find(s.r.ctx, s.user, s.database)
	if err != nil {
		e := wire.Fatal("57P03", "the router cannot look up roles at the moment")
		e.Detail = err.Error()
		return nil, e
	}
	mock := !role.scram
	verifier := role.verifier
	if mock {
		verifier = wire.MockVerifier(s.user, s.r.mock[:])
	}
	_ = s.conn.SetDeadline(time.Now().Add(loginTime))
	keys, err := wire.AuthenticateClient(s.conn, s.user, verifier, mock)
	if err != nil {
		s.r.roles.doubt(s.user, s.database)
		if role.found && !role.scram {
			s.log.Warn("a role cannot log in because it has no SCRAM password", "user", s.user,
				"remedy", "ALTER ROLE ... PASSWORD with password_encryption = 'scram-sha-256'")
		}
		return nil, err
	}
	_ = s.conn.SetDeadline(time.Time{})
	switch {
	case !role.canLogin:
		return nil, wire.Fatal("28000", "role %q is not permitted to log in", s.user)
	case role.expired:
		return nil, wire.Fatal("28P01", "password authentication failed for user %q", s.user)
	case !role.allowed:
		return nil, wire.Fatal("55000", "database %q is not currently accepting connections", s.database)
	case !role.mayConnect:
		e := wire.Fatal("42501", "permission denied for database %q", s.database)
		e.Detail = "User does not have CONNECT privilege."
		return nil, e
	}
	if err := s.admit(role); err != nil {
		return nil, err
	}
	s.r.pools.SetCredentials(wire.Credentials{User: s.user, Keys: &keys, Verifier: &verifier}, role.at)
	return role, nil
}

// admit makes an authenticated client one that counts.
func (s *session) admit(role *role) error {
	clients, own := s.r.sessions.admit(s.user)
	s.admitted = true
	if clients > int64(s.r.view.Load().settings.MaxClients) {
		s.r.metrics.refused.Add(1)
		return tooManyClients()
	}
	if !role.superuser && role.limit >= 0 && own > role.limit {
		return wire.Fatal("53300", "too many connections for role %q", s.user)
	}
	return nil
}

// startSettings takes the parameters of the start-up packet as the session's first settings, and the defaults of role
// and database that concern the router.
func (s *session) startSettings(params map[string]string, defaults []string) error {
	start := &s.tx.started
	for _, d := range defaults {
		name, value, _ := strings.Cut(d, "=")
		name = strings.ToLower(name)
		if strings.HasPrefix(name, own) {
			if err := start.options.set(name, value, false, options{}); err != nil {
				s.log.Warn("a role's or a database's setting for the router is not valid", "user", s.user,
					"database", s.database, "setting", d)
			}
			continue
		}
		if s.makesTemporary(name, value) || (statement.Setting{Name: name, Value: value}).PrimaryOnly() {
			s.primaryOnly = append(s.primaryOnly, name)
		}
	}
	given, err := parseOptions(params["options"])
	if err != nil {
		return err
	}
	for name, value := range params {
		switch name {
		case "user", "database", "options", "replication":
		default:
			given = append(given, [2]string{name, value})
		}
	}
	for _, g := range given {
		name := strings.ToLower(g[0])
		if strings.HasPrefix(name, own) {
			if err := start.options.set(name, g[1], false, start.options); err != nil {
				return err
			}
			continue
		}
		setting := statement.Setting{Name: name, Value: g[1]}
		start.want = start.want.With(pool.Setting{
			Name: name, SQL: "SELECT pg_catalog.set_config(" + quote(name) + "," + quote(g[1]) + ",false)",
			Primary: s.makesTemporary(name, g[1]) || setting.PrimaryOnly(),
		})
	}
	s.tx.want, s.tx.options = start.want, start.options
	return nil
}

// makesTemporary tells that a setting which the session begins with lets it make temporary objects under plain names, as
// SET search_path = pg_temp does; such a session keeps its connection, to the primary, for good.
func (s *session) makesTemporary(name, value string) bool {
	if name != "search_path" || !strings.Contains(strings.ToLower(value), "pg_temp") {
		return false
	}
	s.always = "pg_temp in search_path"
	return true
}

// quote makes a string literal that means the same whatever standard_conforming_strings is.
func quote(v string) string {
	v = strings.ReplaceAll(v, "'", "''")
	if strings.Contains(v, `\`) {
		return "E'" + strings.ReplaceAll(v, `\`, `\\`) + "'"
	}
	return "'" + v + "'"
}

// parseOptions reads the start-up parameter "options": a command line of the server, of which -c name=value and
// --name=value mean something to a session (process_postgres_switches in postgres.c; the splitting is pg_split_opts).
func parseOptions(options string) ([][2]string, error) {
	var args []string
	var arg strings.Builder
	inArg := false
	for i := 0; i < len(options); i++ {
		switch c := options[i]; {
		case c == '\\' && i+1 < len(options):
			i++
			arg.WriteByte(options[i])
			inArg = true
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f':
			if inArg {
				args = append(args, arg.String())
				arg.Reset()
				inArg = false
			}
		default:
			arg.WriteByte(c)
			inArg = true
		}
	}
	if inArg {
		args = append(args, arg.String())
	}
	var out [][2]string
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "-c" && i+1 < len(args):
			i++
			a = args[i]
		case strings.HasPrefix(a, "-c"):
			a = a[2:]
		case strings.HasPrefix(a, "--"):
			a = a[2:]
		default:
			return nil, wire.Fatal("42601", "invalid command-line argument for server process: %s", a)
		}
		name, value, ok := strings.Cut(a, "=")
		if !ok || name == "" {
			return nil, wire.Fatal("42601", "-c %s requires a value", a)
		}
		out = append(out, [2]string{strings.ReplaceAll(name, "-", "_"), value})
	}
	return out, nil
}

// welcomes remembers the parameters that servers report to a user of a database with certain settings, so that most
// logins need no server connection.
type welcomes struct {
	mu sync.Mutex
	m  map[welcomeKey]welcome
}

type welcomeKey struct{ user, database, settings string }

type welcome struct {
	params *pool.Params
	until  time.Time
}

// welcomeTime is how long a database that could be reached is taken to be reachable by the same user, maxWelcomes how
// many are remembered.
const (
	welcomeTime = 30 * time.Second
	maxWelcomes = 10_000
)

func newWelcomes() *welcomes { return &welcomes{m: make(map[welcomeKey]welcome)} }

func (w *welcomes) get(k welcomeKey) *pool.Params {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e, ok := w.m[k]; ok && time.Now().Before(e.until) {
		return e.params
	}
	return nil
}

func (w *welcomes) put(k welcomeKey, p *pool.Params) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.m) >= maxWelcomes {
		clear(w.m)
	}
	w.m[k] = welcome{p, time.Now().Add(welcomeTime)}
}

// forget has the servers asked again what they report to a user.
func (w *welcomes) forget(user string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.m {
		if k.user == user {
			delete(w.m, k)
		}
	}
}

// welcome finds out what the server reports to this session. A server that refuses the user, the database or a setting
// has the last word: its error goes to the client.
func (s *session) welcome() (*pool.Params, error) {
	k := welcomeKey{s.user, s.database, s.tx.want.Key()}
	if p := s.r.welcomes.get(k); p != nil {
		return p, nil
	}
	p := plan{read: true, consistency: cluster.Eventual}
	s.greeting = true
	defer func() { s.greeting = false }()
	s.lend()
	defer s.giveBack()
	if err := s.acquire(&p); err != nil {
		return nil, err
	}
	p.read = false // wait for the settings
	s.reply.begin()
	if _, err := s.equip(nil, &p); err != nil {
		if errors.Is(err, errServerLost) {
			s.drop()
			return nil, wire.Fatal("57P03", "the connection to the server was lost during the login; try again")
		}
		s.drop()
		return nil, err
	}
	s.reply.busy = false
	params := s.srv.Params
	s.release()
	s.r.welcomes.put(k, params)
	return params, nil
}
