package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/multicoord/multicoord/failover/guard"
	"github.com/multicoord/multicoord/replication/physical"
)

// leftNode is a node's folder that is there when the process that kept its server has ended, however that ended.
type leftNode struct {
	name   string // of the folder
	dir    string
	place  physical.Place
	marker error // why place is not known
	server *physical.Server
}

// leftNodes lists the nodes' folders, those behind symbolic links too.
func (a *app) leftNodes(dir string) ([]leftNode, error) {
	entries, err := os.ReadDir(nodesDir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the nodes of this host: %w", err)
	}
	var nodes []leftNode
	for _, e := range entries {
		n := leftNode{name: e.Name(), dir: filepath.Join(nodesDir(dir), e.Name())}
		if st, err := os.Stat(n.dir); err != nil || !st.IsDir() {
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("look at node %s: %w", n.name, err)
			}
			continue
		}
		n.place, n.marker = physical.PlaceOf(n.dir)
		if n.marker != nil {
			n.place = physical.Place{Node: n.name}
		}
		n.server = physical.New(physical.Config{
			Log: a.log, Dir: n.dir, ClusterID: n.place.ClusterID, ClusterName: n.place.Cluster, Node: n.place.Node, Group: n.place.Group,
		})
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// stopLeft stops servers that are still running under their guards, after the process that kept them was killed: first
// the primaries, so that their standbys receive everything. It fails unless nothing runs afterwards.
func (a *app) stopLeft(ctx context.Context, nodes []leftNode, p *progress) error {
	var primaries, others []leftNode
	for _, n := range nodes {
		if n.primary(ctx) {
			primaries = append(primaries, n)
		} else {
			others = append(others, n)
		}
	}
	return errors.Join(a.stopAll(ctx, primaries, p), a.stopAll(ctx, others, p))
}

func (a *app) stopAll(ctx context.Context, nodes []leftNode, p *progress) error {
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() {
			stopped, err := n.stop(ctx, func() *progressStep { return p.Start("stop " + n.name) })
			if err != nil {
				errs[i] = fmt.Errorf("node %s: %w", n.name, err)
			} else if stopped {
				a.log.Info("stopped", "node", n.name)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (n leftNode) primary(ctx context.Context) bool {
	client, err := n.server.Guard(ctx)
	if err != nil {
		return false
	}
	st, err := client.Status(ctx)
	return err == nil && st.Primary
}

// stop stops the server if it runs, whether or not its guard answers; begin is called when there is something to stop.
func (n leftNode) stop(ctx context.Context, begin func() *progressStep) (bool, error) {
	_, guardErr := n.server.Guard(ctx)
	pids, err := guard.Processes(n.server.DataDir())
	if err != nil {
		return false, err
	}
	if errors.Is(guardErr, physical.ErrNotRunning) && len(pids) == 0 {
		// A guard may be about to start a server, or to end.
		return false, n.stopAndVerify(ctx)
	}
	step := begin()
	if err := n.stopAndVerify(ctx); err != nil {
		step.Fail(err)
		return false, err
	}
	step.Done()
	return true, nil
}

func (n leftNode) stopAndVerify(ctx context.Context) error {
	err := n.server.Stop(ctx, guard.Fast, time.Minute)
	if errors.Is(err, physical.ErrNotRunning) {
		err = nil
	}
	return errors.Join(err, n.checkIdle())
}

// checkIdle refuses a data directory in which processes work.
func (n leftNode) checkIdle() error {
	pids, err := guard.Processes(n.server.DataDir())
	if err != nil {
		return err
	}
	if len(pids) > 0 {
		return fmt.Errorf("processes %v of PostgreSQL still work in %s: end them (kill -INT, of the one that is the parent of the others), then run this again", pids, n.server.DataDir())
	}
	return nil
}
