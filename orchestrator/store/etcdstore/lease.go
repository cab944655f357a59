package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/multicoord/multicoord/orchestrator/store"
)

// lease implements store.Lease.
type lease struct {
	s   *Store
	id  clientv3.LeaseID
	ttl time.Duration
}

// Lease implements store.Store.
func (s *Store) Lease(ctx context.Context, ttl time.Duration) (store.Lease, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	resp, err := s.client.Grant(ctx, int64(store.WholeSeconds(ttl)/time.Second))
	if err != nil {
		return nil, s.wrap("make lease", err)
	}
	return &lease{s: s, id: resp.ID, ttl: time.Duration(resp.TTL) * time.Second}, nil
}

// Attach implements store.Store.
func (s *Store) Attach(ctx context.Context, id int64) (store.Lease, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	resp, err := s.client.TimeToLive(ctx, clientv3.LeaseID(id))
	if err != nil {
		return nil, s.wrap("attach to lease", err)
	}
	if resp.TTL <= 0 || resp.GrantedTTL <= 0 {
		return nil, fmt.Errorf("attach to lease %x: %w", id, store.ErrLeaseLost)
	}
	return &lease{s: s, id: resp.ID, ttl: time.Duration(resp.GrantedTTL) * time.Second}, nil
}

func (l *lease) ID() int64          { return int64(l.id) }
func (l *lease) TTL() time.Duration { return l.ttl }

// Renew implements store.Lease. It is one keepalive; ctx bounds it.
func (l *lease) Renew(ctx context.Context) error {
	ctx, cancel := l.s.bounded(ctx)
	defer cancel()
	ttl, err := l.s.keepalive.renew(ctx, l.id)
	if err != nil {
		return l.s.wrap("renew lease", err)
	}
	if ttl <= 0 {
		return fmt.Errorf("renew lease %x: %w", int64(l.id), store.ErrLeaseLost)
	}
	return nil
}

// Revoke implements store.Lease.
func (l *lease) Revoke(ctx context.Context) error {
	ctx, cancel := l.s.bounded(ctx)
	defer cancel()
	_, err := l.s.client.Revoke(ctx, l.id)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return l.s.wrap("revoke lease", err)
}
