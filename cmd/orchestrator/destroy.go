package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// destroy deletes what the cluster has made, and the data folder if that leaves it empty. The caller holds the folder's
// lock and has stopped the servers. Nothing is deleted if a folder among the nodes' is not one of this cluster's nodes, or if
// a server runs. The lock goes last, so that what was interrupted can be repeated.
func destroy(ctx context.Context, dir string, nodes []leftNode, p *progress) error {
	local, err := readLocal(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, n := range nodes {
		errs = append(errs, n.checkDeletable(local.ID), n.checkIdle())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("nothing was deleted: %w", err)
	}
	step := p.Start("delete " + dir)
	if err := deleteAll(ctx, dir, local, nodes); err != nil {
		step.Fail(err)
		return fmt.Errorf("delete the data: %w", err)
	}
	step.Done()
	return nil
}

func deleteAll(ctx context.Context, dir string, local localCluster, nodes []leftNode) error {
	var errs []error
	for _, n := range nodes {
		errs = append(errs, n.server.Remove(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return err // what is left of the cluster stays whole: the servers' data are worth nothing without its key
	}
	errs = append(errs, removeSockets(local))
	for _, name := range []string{filepath.Base(nodesDir(dir)), etcdFolder, logFileName, passfileName, keyFileName, localFileName} {
		paths, _ := filepath.Glob(filepath.Join(quoteGlob(dir), "."+name+".*")) // what an interrupted write has left
		for _, path := range append(paths, filepath.Join(dir, name)) {
			// A node's folder that is a mount point stays; it is empty, and that is what matters.
			if err := os.RemoveAll(path); err != nil && !errors.Is(err, unix.EBUSY) {
				errs = append(errs, err)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, lockFileName)); err != nil {
		return err
	}
	if left, err := os.ReadDir(dir); err == nil && len(left) == 0 {
		_ = os.Remove(dir) // it may be a mount point
	}
	return nil
}

// quoteGlob writes a path so that it stands for itself in a pattern.
func quoteGlob(path string) string {
	var b []rune
	for _, r := range path {
		if r == '*' || r == '?' || r == '[' || r == '\\' {
			b = append(b, '\\')
		}
		b = append(b, r)
	}
	return string(b)
}

// checkDeletable refuses a folder that is not that of a node of the cluster (clusterID is empty if it is not known), unless
// it is empty.
func (n leftNode) checkDeletable(clusterID string) error {
	switch {
	case n.marker != nil && !errors.Is(n.marker, fs.ErrNotExist):
		return fmt.Errorf("%s: %w; move it away", n.dir, n.marker)
	case n.marker != nil:
		entries, err := os.ReadDir(n.dir)
		if err == nil && len(entries) > 0 {
			err = fmt.Errorf("%s is no node's folder, and not empty: move it away", n.dir)
		}
		return err
	case n.place.Node != n.name:
		return fmt.Errorf("%s is a copy of the folder of node %s: move it away", n.dir, n.place.Node)
	case clusterID != "" && n.place.ClusterID != clusterID:
		return fmt.Errorf("%s belongs to cluster %q (id %s), not to the one in this folder (id %s): move it away", n.dir, n.place.Cluster, n.place.ClusterID, clusterID)
	}
	return nil
}

// removeSockets removes the sockets that a killed process's etcd has left outside the data folder, and their folder if that
// leaves it empty. Those in the data folder go with it.
func removeSockets(local localCluster) error {
	var errs []error
	for _, e := range local.Etcd {
		path, ok := socketPath(e)
		if !ok {
			continue
		}
		run := filepath.Dir(path)
		entries, err := os.ReadDir(run)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		errs = append(errs, err)
		for _, entry := range entries {
			if entry.Type()&fs.ModeSocket != 0 {
				errs = append(errs, os.Remove(filepath.Join(run, entry.Name())))
			}
		}
		if err := os.Remove(run); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
