package main

import (
	"context"
	"errors"

	"github.com/multicoord/multicoord/failover/guard"
	"github.com/multicoord/multicoord/replication/physical"
)

// client gives the guard of the running server; nil when there is none. The one that was found last is asked no more
// than needed: a guard knows its own run, and refuses what was meant for another.
func (n *nodeServer) client(ctx context.Context) (*guard.Client, error) {
	n.guardMu.Lock()
	c := n.guarded
	n.guardMu.Unlock()
	if c != nil {
		return c, nil
	}
	c, err := n.s.Guard(ctx)
	if errors.Is(err, physical.ErrNotRunning) || errors.Is(err, guard.ErrNotRunning) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n.remember(c)
	return c, nil
}

func (n *nodeServer) remember(c *guard.Client) {
	n.guardMu.Lock()
	defer n.guardMu.Unlock()
	n.guarded = c
}

func (n *nodeServer) forget(c *guard.Client) {
	n.guardMu.Lock()
	defer n.guardMu.Unlock()
	if n.guarded == c {
		n.guarded = nil
	}
}

// watchedServer is a server whose end is waited for.
type watchedServer struct {
	client *guard.Client
	ended  chan struct{} // closed when the server has ended, or can no longer be watched
	cancel context.CancelFunc
}

func (w *watchedServer) stop() {
	w.cancel()
	<-w.ended
}

// ended gives a channel that is closed when the guard's server has ended.
func (n *nodeServer) ended(c *guard.Client) <-chan struct{} {
	n.guardMu.Lock()
	defer n.guardMu.Unlock()
	if w := n.watching; w != nil {
		if w.client == c {
			return w.ended
		}
		w.cancel() // it ends by itself; its server has ended before
	}
	ctx, cancel := context.WithCancel(n.life)
	w := &watchedServer{client: c, ended: make(chan struct{}), cancel: cancel}
	n.watching = w
	go func() {
		defer close(w.ended)
		_, _ = c.Wait(ctx) // whatever it says, the keeper looks for itself
		n.forget(c)
	}()
	return w.ended
}
