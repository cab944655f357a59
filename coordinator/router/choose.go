package router

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/multicoord/multicoord/coordinator/pool"
	"github.com/multicoord/multicoord/coordinator/route"
	"github.com/multicoord/multicoord/coordinator/statement"
	"github.com/multicoord/multicoord/coordinator/wire"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// plan is where the statements of one batch may go.
type plan struct {
	// read: they may go to a standby. wrote: they may have written once they are done.
	read, wrote bool
	// hinted: that it only reads was said by the client, not found out.
	hinted bool
	// murky: see transaction.murky.
	murky       bool
	reason      string
	consistency cluster.Consistency
	exclude     []string // nodes that have failed the batch already
	// refuse is set for what must not be run on any server connection that comes along.
	refuse *wire.Error
}

// add takes one more text of the batch into account.
func (s *session) add(p *plan, info *statement.Info, hot bool) {
	if info == nil {
		p.read, p.wrote, p.reason = false, true, "unknown portal or statement"
		return
	}
	read, reason := info.Read(s.catalog.volatility())
	p.murky = p.murky || hot && s.murk(info)
	if !read && info.Route == "standby" && onlySelects(info) {
		read, p.hinted = true, true // the user knows better; a standby refuses to write anyway
	}
	if !read {
		if p.read {
			p.read, p.reason = false, reason
		}
		p.wrote = p.wrote || hot && !onlyControl(info)
	}
	switch info.Route {
	case "primary", "strong":
		p.consistency = cluster.Strong
	case "standby", "eventual":
		p.consistency = cluster.Eventual
	case "session":
		p.consistency = cluster.Session
	}
	if hot && s.status == 'I' && s.pinned == "" {
		for i := range info.Statements {
			if what := info.Statements[i].SessionState; what != "" && len(info.Statements) == 1 {
				e := wire.Errorf("55000", "%s has no meaning here: outside a transaction each statement may run on another server connection", what)
				e.Hint = "Use INSERT ... RETURNING, or run both statements in one transaction."
				p.refuse = e
			}
		}
	}
}

// onlySelects tells whether a text holds nothing but queries that change nothing by their form, and leave nothing behind in
// the session.
func onlySelects(info *statement.Info) bool {
	for i := range info.Statements {
		if info.Statements[i].Kind != statement.Read || len(info.Statements[i].Settings) > 0 {
			return false
		}
	}
	return info.Err == nil && info.Pin() == ""
}

// onlyControl tells whether a text only begins or ends transactions or changes the session.
func onlyControl(info *statement.Info) bool {
	for i := range info.Statements {
		switch info.Statements[i].Kind {
		case statement.Begin, statement.Commit, statement.Rollback, statement.Savepoint, statement.RollbackTo,
			statement.Release, statement.Set, statement.Reset, statement.Show:
		default:
			return false
		}
	}
	return info.Err == nil
}

// needsPrimary tells that a setting of the session, or a default of its role or database, can only be honoured by the
// primary.
func (s *session) needsPrimary() bool {
	if s.tx.want.PrimaryOnly() {
		return true
	}
	for _, name := range s.primaryOnly {
		if _, overridden := s.tx.want.Lookup(name); !overridden {
			return true
		}
	}
	return false
}

func (s *session) newPlan() plan {
	return plan{read: true, consistency: s.consistency()}
}

// acquire makes sure that the session holds a server connection that may run the batch. It waits, up to
// query_wait_timeout, for a primary and for a free connection. Errors are the client's to see.
func (s *session) acquire(p *plan) error {
	if s.srv != nil {
		if s.pinned != "" && s.status == 'I' {
			s.last = lastRoute{s.srv.Node(), "pinned: " + s.pinned}
		}
		return nil
	}
	if p.refuse != nil {
		return p.refuse
	}
	if p.consistency == cluster.Strong && p.read {
		p.read, p.reason = false, "consistency is strong"
	}
	if p.read && s.needsPrimary() {
		p.read, p.reason = false, "the session's settings need the primary"
	}
	var w *patience
	gone := false
	for {
		view := s.r.view.Load()
		choice := s.choose(view, p)
		if err := w.spent(choice); err != nil {
			w.end()
			return err
		}
		if choice.Diverted {
			s.divert(view, &choice)
		}
		if choice.Server != nil {
			err := s.connect(view, choice, p, &w)
			if err == nil {
				w.end()
				return nil
			}
			s.undivert()
			excluded := len(p.exclude)
			if e := s.failedToConnect(view, choice, p, w, err); e != nil {
				w.end()
				return e
			}
			if len(p.exclude) > excluded || errors.Is(err, pool.ErrGone) && !gone {
				gone = errors.Is(err, pool.ErrGone)
				continue // another server, or another pool, at once
			}
		}
		if w == nil {
			w = s.patience(view.settings.WaitTimeout.D())
		}
		if err := w.wait(view.changed, choice); err != nil {
			w.end()
			return err
		}
	}
}

func (s *session) choose(v *view, p *plan) route.Choice {
	if !p.read {
		return v.table.Write()
	}
	s.token.Resolve(v.table)
	c := v.table.Read(route.Request{
		Consistency: p.consistency, Token: &s.token, Exclude: p.exclude, InFlight: s.r.inFlight, Rand: rand.IntN,
	}, v.settings.Reads.Fallback)
	if c.Server != nil && c.Server.Role == cluster.Primary {
		s.r.sampler.hasten() // reads can go back to the standbys as soon as their position is known
	}
	return c
}

// connect gets a connection to the chosen server.
func (s *session) connect(v *view, choice route.Choice, p *plan, w **patience) error {
	pl := s.poolFor(choice.Server.Name)
	if pl == nil {
		return pool.ErrGone
	}
	c := pl.Take()
	if c == nil {
		if *w == nil {
			*w = s.patience(v.settings.WaitTimeout.D())
		}
		var err error
		if c, err = pl.Get((*w).ctx, max(time.Until((*w).deadline), time.Millisecond)); err != nil {
			return err
		}
	}
	primary := choice.Server.Role == cluster.Primary
	s.attach(c, primary)
	reason := choice.Reason
	if !p.read {
		reason = p.reason
	}
	s.last = lastRoute{choice.Server.Name, reason}
	s.server = choice.Server
	p.wrote = p.wrote || primary && p.hinted // a standby would have refused
	switch {
	case s.greeting:
	case primary:
		s.counters.primary.Add(1)
		if p.read {
			s.counters.readsPrimary.Add(1)
		}
	default:
		s.counters.standby.Add(1)
	}
	return nil
}

// divert counts a read that goes to the primary for want of a standby. No more than primary_fallback_limit of them may
// be under way, so that standbys that lag do not take the primary down with them; the others wait.
func (s *session) divert(v *view, choice *route.Choice) {
	if s.r.diverted.Add(1) > int64(v.settings.Reads.PrimaryShare) {
		s.r.diverted.Add(-1)
		*choice = route.Choice{
			Err: route.ErrNoStandby, Wait: true,
			Reason: "no standby is eligible, and primary_fallback_limit reads are on the primary already",
		}
		return
	}
	s.diverted = true
}

// undivert is the end of it.
func (s *session) undivert() {
	if s.diverted {
		s.diverted = false
		s.r.diverted.Add(-1)
	}
}

// failedToConnect decides whether another attempt is worth while: nil, or the error for the client.
func (s *session) failedToConnect(v *view, choice route.Choice, p *plan, w *patience, err error) error {
	if w != nil && w.ctx.Err() != nil {
		return asError(context.Cause(w.ctx))
	}
	if errors.Is(err, pool.ErrGone) {
		s.forgetPool(choice.Server.Name)
		return nil
	}
	var dial *pool.DialError
	if !errors.As(err, &dial) {
		if errors.Is(err, pool.ErrTimeout) {
			e := wire.Errorf("53300", "no server connection became free within query_wait_timeout (%s)", v.settings.WaitTimeout)
			e.Hint = "Raise default_pool_size, or keep transactions shorter."
			return e
		}
		return asError(err)
	}
	if choice.Server.Role != cluster.Primary {
		p.exclude = append(p.exclude, choice.Server.Name)
		s.r.sampler.hasten()
		return nil
	}
	var refused *wire.Error
	if errors.Is(err, wire.ErrStaleKeys) {
		return wire.Fatal("28P01", "the password of role %q has changed since this client logged in; connect again", s.user)
	}
	if errors.As(err, &refused) && refused.Code != "57P01" && refused.Code != "57P03" && refused.Code != "57P02" {
		return asError(refused)
	}
	return nil // the primary is away: wait for it
}

func (s *session) poolFor(node string) *pool.Pool {
	for i := range s.pools {
		if s.pools[i].node == node {
			return s.pools[i].pool
		}
	}
	p := s.r.pools.Pool(node, s.user, s.database)
	if p != nil {
		s.pools = append(s.pools, poolOf{node, p})
	}
	return p
}

func (s *session) forgetPool(node string) {
	for i := range s.pools {
		if s.pools[i].node == node {
			s.pools = append(s.pools[:i], s.pools[i+1:]...)
			return
		}
	}
}

// patience is how long a statement still waits for a server. It exists only once something had to be waited for.
type patience struct {
	s        *session
	ctx      context.Context
	deadline time.Time
	cancel   context.CancelCauseFunc
	again    time.Duration
}

func (s *session) patience(limit time.Duration) *patience {
	ctx, cancel := context.WithCancelCause(s.r.ctx)
	w := &patience{s: s, ctx: ctx, cancel: cancel, deadline: time.Now().Add(limit), again: 20 * time.Millisecond}
	s.cancelMu.Lock()
	s.waiting = cancel
	if s.abandon {
		cancel(errClientLost)
	}
	s.cancelMu.Unlock()
	s.r.metrics.waiting.Add(1)
	return w
}

func (w *patience) end() {
	if w == nil {
		return
	}
	w.s.cancelMu.Lock()
	w.s.waiting = nil
	w.s.cancelMu.Unlock()
	w.cancel(nil)
	w.s.r.metrics.waiting.Add(-1)
}

// spent is the error with which waiting ends, nil while there is patience left.
func (w *patience) spent(choice route.Choice) error {
	switch {
	case w == nil:
		return nil
	case w.ctx.Err() != nil:
		return asError(context.Cause(w.ctx))
	case time.Until(w.deadline) <= 0:
		return w.exhausted(choice)
	}
	return nil
}

// wait returns when the table has changed or a little time has passed; an error when patience is at its end.
func (w *patience) wait(changed <-chan struct{}, choice route.Choice) error {
	left := time.Until(w.deadline)
	if left <= 0 {
		return w.exhausted(choice)
	}
	if choice.Server == nil && choice.Err != nil && errors.Is(choice.Err, route.ErrNoStandby) && !choice.Wait {
		return asError(choice.Err)
	}
	t := time.NewTimer(min(left, w.again))
	defer t.Stop()
	w.again = min(2*w.again, 500*time.Millisecond)
	select {
	case <-changed:
		return nil
	case <-t.C:
		return nil
	case <-w.ctx.Done():
		return asError(context.Cause(w.ctx))
	}
}

func (w *patience) exhausted(choice route.Choice) error {
	reason := "no server could be reached"
	if choice.Err != nil {
		reason = choice.Err.Error() + ": " + choice.Reason
	}
	if r := w.s.r.view.Load().table.PrimaryReason; r != "" {
		reason += " (" + r + ")"
	}
	e := wire.Errorf("08006", "no server for the statement within query_wait_timeout: %s", reason)
	e.Hint = "The statement was not run. SHOW servers on the admin console tells what each coordinator lacks."
	return e
}
