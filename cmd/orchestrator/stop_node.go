package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/multicoord/multicoord/failover/guard"
	"github.com/multicoord/multicoord/replication/physical"
)

// stopNode stops the server of a node's folder if it runs; begin is called when there is something to stop.
func stopNode(ctx context.Context, dir, node string, begin func() *progressStep) (bool, error) {
	folder := filepath.Join(nodesDir(dir), node)
	p, err := physical.PlaceOf(folder)
	if err != nil {
		return false, nil //nolint:nilerr // not a node's folder: nothing of ours runs there
	}
	s := physical.New(physical.Config{Dir: folder, ClusterID: p.ClusterID, ClusterName: p.Cluster, Node: p.Node, Group: p.Group})
	if _, err := s.Guard(ctx); err != nil {
		return false, nil //nolint:nilerr // no guard answers: nothing runs
	}
	step := begin()
	err = s.Stop(ctx, guard.Fast, time.Minute)
	if err != nil && !errors.Is(err, physical.ErrNotRunning) {
		step.Fail(err)
		return false, err
	}
	step.Done()
	return true, nil
}
