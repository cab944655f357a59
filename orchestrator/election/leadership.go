package election

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store"
)

// Leadership is the right to write as leader. It may be copied, and outlives lead's ctx: its commits are refused
// then.
type Leadership struct {
	s        store.Store
	id       string
	revision int64
	ctx      context.Context // ends with the leadership; kept to refuse early, the fence does not depend on it
	end      context.CancelCauseFunc
}

// ID is the leader's.
func (l Leadership) ID() string { return l.id }

// Revision is that of the creation of the key "leader": it grows from leader to leader, and is never used twice.
func (l Leadership) Revision() int64 { return l.revision }

// Fence is the comparison that holds while this leadership lasts.
func (l Leadership) Fence() store.Compare {
	return store.Compare{Key: state.Leader, Kind: store.Created, Revision: l.revision}
}

// Commit applies tx if its comparisons hold and the leadership lasts, in one step; errors as store.Store.Commit.
// ErrConflict can mean either; when it is the leadership that is gone, the error wraps ErrLost too and lead's ctx
// has ended.
func (l Leadership) Commit(ctx context.Context, tx store.Tx) (int64, error) {
	if l.ctx.Err() != nil {
		return 0, fmt.Errorf("commit as leader %q: %w: %w: %w", l.id, store.ErrConflict, ErrLost, context.Cause(l.ctx))
	}
	tx.If = append(slices.Clip(tx.If), l.Fence())
	rev, err := l.s.Commit(ctx, tx)
	if errors.Is(err, store.ErrConflict) && l.gone(ctx) {
		l.end(fmt.Errorf("%w: the key %q is not ours any more", ErrLost, state.Leader))
		return 0, fmt.Errorf("commit as leader %q: %w: %w", l.id, ErrLost, err)
	}
	if err != nil {
		return 0, fmt.Errorf("commit as leader %q: %w", l.id, err)
	}
	return rev, nil
}

// gone asks the store whose the key is; when there is no answer the leadership is not known to be gone.
func (l Leadership) gone(ctx context.Context) bool {
	st, err := l.s.Load(ctx)
	return err == nil && st.Items[state.Leader].Created != l.revision
}
