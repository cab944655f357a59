package storetest

import (
	"context"
	"time"

	"github.com/multicoord/multicoord/orchestrator/store"
)

// Op names a call of a store or a lease.
type Op string

// The calls that a Proxy passes on.
const (
	Load   Op = "load"
	Commit Op = "commit"
	Lease  Op = "lease"
	Attach Op = "attach"
	Renew  Op = "renew"
	Revoke Op = "revoke"
)

// Proxy is a Store before another. Before runs before each call is passed on: it may wait (a slow network), and an error
// that it returns is the outcome of the call, which is not passed on then (a lost request). After runs after each call
// was carried out: an error that it returns replaces the outcome (a lost answer). Either may be nil; both must
// be safe for concurrent use.
type Proxy struct {
	store.Store
	Before, After func(ctx context.Context, op Op) error
}

var _ store.Store = (*Proxy)(nil)

func pass[T any](ctx context.Context, p *Proxy, op Op, call func() (T, error)) (T, error) {
	var none T
	if p.Before != nil {
		if err := p.Before(ctx, op); err != nil {
			return none, err
		}
	}
	v, err := call()
	if p.After != nil {
		if err := p.After(ctx, op); err != nil {
			return none, err
		}
	}
	return v, err
}

// Load implements store.Store.
func (p *Proxy) Load(ctx context.Context) (store.State, error) {
	return pass(ctx, p, Load, func() (store.State, error) { return p.Store.Load(ctx) })
}

// Commit implements store.Store.
func (p *Proxy) Commit(ctx context.Context, tx store.Tx) (int64, error) {
	return pass(ctx, p, Commit, func() (int64, error) { return p.Store.Commit(ctx, tx) })
}

// Lease implements store.Store.
func (p *Proxy) Lease(ctx context.Context, ttl time.Duration) (store.Lease, error) {
	return pass(ctx, p, Lease, func() (store.Lease, error) { return p.wrap(p.Store.Lease(ctx, ttl)) })
}

// Attach implements store.Store.
func (p *Proxy) Attach(ctx context.Context, id int64) (store.Lease, error) {
	return pass(ctx, p, Attach, func() (store.Lease, error) { return p.wrap(p.Store.Attach(ctx, id)) })
}

func (p *Proxy) wrap(l store.Lease, err error) (store.Lease, error) {
	if err != nil {
		return nil, err
	}
	return proxyLease{Lease: l, p: p}, nil
}

type proxyLease struct {
	store.Lease
	p *Proxy
}

func (l proxyLease) Renew(ctx context.Context) error {
	_, err := pass(ctx, l.p, Renew, func() (struct{}, error) { return struct{}{}, l.Lease.Renew(ctx) })
	return err
}

func (l proxyLease) Revoke(ctx context.Context) error {
	_, err := pass(ctx, l.p, Revoke, func() (struct{}, error) { return struct{}{}, l.Lease.Revoke(ctx) })
	return err
}
