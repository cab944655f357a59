package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/state"
)

// errHolderEnded: the process that held the data folder has ended.
var errHolderEnded = errors.New("the process that ran the cluster has ended")

// reportRunning waits until a cluster that another process runs is ready, and says how to use it. If that process ends
// before, the data folder is ours: then the lock is returned.
func (a *app) reportRunning(ctx context.Context, o upOptions, dir string, wanted cluster.Spec, to steps) (*dirLock, error) {
	following, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type taken struct {
		lock *dirLock
		err  error
	}
	holder := make(chan taken, 1)
	go func() {
		lock, err := waitLock(following, dir, "")
		if following.Err() == nil {
			cancel(cmp.Or(err, errHolderEnded))
		}
		holder <- taken{lock, err}
	}()
	err := a.followRunning(following, o, dir, wanted, to)
	cause := context.Cause(following)
	cancel(nil)
	t := <-holder
	switch {
	case t.lock != nil && err != nil && ctx.Err() == nil:
		to.Say("The process that ran the cluster has ended: it is started again.")
		return t.lock, nil
	case t.lock != nil:
		t.lock.release()
	case cause != nil && ctx.Err() == nil:
		err = cause // the folder could not be looked at
	}
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted; the cluster that another process starts goes on starting")
	}
	return nil, err
}

func (a *app) followRunning(ctx context.Context, o upOptions, dir string, wanted cluster.Spec, to steps) error {
	h, err := a.awaitLocal(ctx, o.timeout)
	if err != nil {
		return err
	}
	defer h.Close()
	spec, err := h.Spec()
	if err != nil {
		return err
	}
	if o.file != "" && differ(wanted, spec) {
		to.Say("The cluster is already running, and its spec is not that of " + o.file + ": change it with `orchestrator config set`.")
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	ready := func() error { return answering(ctx, spec.Router.Listen) }
	if err := followStart(watching, state.Watch(watching, h.Store, a.log), to, time.Time{}, o.timeout, ready); err != nil {
		return err
	}
	to.Ready(a.readyText(spec, dir))
	return nil
}

// awaitLocal opens the cluster of this machine as soon as the process that is starting it has stored its spec.
func (a *app) awaitLocal(ctx context.Context, within time.Duration) (*handle, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		h, err := a.openCluster(ctx)
		if err == nil && h.Snapshot.Spec != nil {
			return h, nil
		}
		if err == nil {
			h.Close()
			err = errors.New("the spec is not stored yet")
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another process holds the data folder, but no cluster can be reached there: %w", err)
		case <-t.C:
		}
	}
}

// answering tells whether somebody listens on the router's address.
func answering(ctx context.Context, addr string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}
