// Package store declares what the control plane needs from the agreed state, and no more: a snapshot, a
// watch, a fenced commit, and leases.
//
// Level: pure interfaces and sentinels. etcdstore implements them on etcd, memstore in memory for tests of
// the layers above; storetest is the suite that both must pass.
//
// Keys are relative to the cluster's prefix ("spec", "groups/0"). A store never interprets values.
package store

import (
	"context"
	"errors"
	"time"
)

// Sentinels on which callers branch; use errors.Is.
var (
	// ErrConflict: a compare of a commit did not hold. Nothing was written; read again and decide anew.
	ErrConflict = errors.New("the agreed state has changed meanwhile")
	// ErrLeaseLost: the lease has run out or was revoked; all keys on it are gone.
	ErrLeaseLost = errors.New("lease lost")
	// ErrUnavailable: the store could not be reached or had no quorum. A commit that returns it may or may not
	// have been carried out.
	ErrUnavailable = errors.New("agreed state unavailable")
	// ErrDenied: the store was reached and refuses us (user, password, rights, certificate). Nothing was written;
	// trying again does not help until somebody changes the configuration.
	ErrDenied = errors.New("agreed state denies access")
)

// Item is a key with its value.
type Item struct {
	Key   string
	Value []byte
	// Created and Modified are the revisions of the key's creation and last change.
	Created, Modified int64
	// Lease is the lease the key hangs on, 0 for none.
	Lease int64
}

// State is all items under the prefix at one revision, by key.
type State struct {
	Revision int64
	Items    map[string]Item
}

// Compare is a condition of a commit. Exactly one of the revisions is looked at, by Kind.
type Compare struct {
	Key  string
	Kind CompareKind
	// Revision to equal; 0 with either kind means "the key does not exist".
	Revision int64
}

// CompareKind selects the revision that is compared.
type CompareKind int

// The kinds of comparison.
const (
	Modified CompareKind = iota
	Created
)

// Put writes a key, on a lease if Lease is not 0.
type Put struct {
	Key   string
	Value []byte
	Lease int64
}

// Tx is applied whole or not at all. A commit without a comparison is refused: every write to the agreed
// state is fenced.
type Tx struct {
	If     []Compare
	Put    []Put
	Delete []string
}

// Store is the agreed state. All methods are safe for concurrent use.
type Store interface {
	// Load reads everything under the prefix at one revision (linearizable).
	Load(ctx context.Context) (State, error)
	// Watch sends the whole state at once and again after every change or burst of changes, newest only: a
	// slow reader misses intermediate states, never the last one. It survives lost connections and compaction
	// by loading again. The channel is closed when ctx ends.
	Watch(ctx context.Context) <-chan State
	// Commit applies tx if all its comparisons hold, and returns the new revision; ErrConflict, ErrLeaseLost
	// or ErrUnavailable otherwise.
	Commit(ctx context.Context, tx Tx) (int64, error)
	// Lease makes a lease of the given time to live (whole seconds, at least 1 s; rounded up).
	Lease(ctx context.Context, ttl time.Duration) (Lease, error)
	// Attach gives a handle on a lease that exists, made by this process or by one that died; ErrLeaseLost when
	// it is gone. Whoever attaches must be sure that it is the rightful heir: all holders of a lease share its end.
	Attach(ctx context.Context, id int64) (Lease, error)
}

// Lease keeps keys alive while it is renewed. It does not renew itself: who holds it decides when.
type Lease interface {
	ID() int64
	// TTL is the time to live that the store granted. It is never less than what was asked for, but can be more
	// (etcd's minimum is one and a half of its election time-outs).
	TTL() time.Duration
	// Renew extends the lease to its full time, counted from a moment after the call began. ErrLeaseLost when
	// it is gone; ErrUnavailable when that could not be found out (it may still live).
	Renew(ctx context.Context) error
	// Revoke ends the lease and deletes its keys. Revoking a lost lease is no error.
	Revoke(ctx context.Context) error
}
