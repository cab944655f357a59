package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

type downOptions struct {
	destroy bool
	yes     bool
	timeout time.Duration
}

func newDownCommand(a *app) *cobra.Command {
	var o downOptions
	c := &cobra.Command{
		Use:   "down [--destroy [--yes]]",
		Short: "Stop the cluster that `up` runs on this machine",
		Long: `Stops the cluster of this machine's data folder in order: the router, the servers (primaries
first, so that their standbys receive everything), the control plane and etcd. The data stay,
and ` + "`orchestrator up`" + ` goes on with them.

With --destroy the data are deleted too, after a question on the terminal, or with --yes.`,
		Example: `  orchestrator down
  orchestrator down --destroy --yes`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.down(cmd.Context(), o) },
	}
	f := c.Flags()
	f.BoolVar(&o.destroy, "destroy", false, "delete the cluster's data as well")
	f.BoolVar(&o.yes, "yes", false, "do not ask before deleting")
	f.DurationVar(&o.timeout, "timeout", 2*time.Minute, "how long the stop may take")
	return c
}

func (a *app) down(ctx context.Context, o downOptions) error {
	if len(a.global.Etcd) > 0 {
		return usagef("down stops a cluster that `up` runs on this machine; with --etcd, stop the processes (agent, router, serve) on each host")
	}
	if o.yes && !o.destroy {
		return usagef("--yes goes with --destroy")
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := a.dataDir()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, "lock")); err != nil {
		if o.destroy {
			return fmt.Errorf("there is no cluster in %s", dir)
		}
		_, err := fmt.Fprintf(a.stdout, "there is no cluster in %s: nothing to stop\n", dir)
		return err
	}
	if o.destroy && !o.yes {
		if err := a.askDestroy(dir); err != nil {
			return err
		}
	}
	p := a.startProgress()
	defer a.stopProgress(p)
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	lock, err := stopHolder(ctx, dir, p)
	if err != nil {
		return err
	}
	defer lock.release()
	if err := a.stopLeft(ctx, dir, p); err != nil {
		return err
	}
	if !o.destroy {
		return nil
	}
	return destroy(dir, p)
}

// stopHolder asks the process that runs the cluster to end, and waits until it has.
func stopHolder(ctx context.Context, dir string, p *progress) (*dirLock, error) {
	lock, err := lockDir(dir)
	held := (*lockedError)(nil)
	if !errors.As(err, &held) {
		return lock, err
	}
	if held.pid <= 0 {
		return nil, fmt.Errorf("%w, which cannot be told to stop", err)
	}
	step := p.Start(fmt.Sprintf("stop the cluster (process %d)", held.pid))
	if err := syscall.Kill(held.pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		step.Fail(err)
		return nil, fmt.Errorf("stop process %d: %w", held.pid, err)
	}
	lock, err = waitLock(ctx, dir)
	if err != nil {
		step.Fail(err)
		return nil, err
	}
	step.Done()
	return lock, nil
}

// stopLeft stops servers that are still running under their guards, after the process that kept them was killed.
func (a *app) stopLeft(ctx context.Context, dir string, p *progress) error {
	nodes, err := nodesIn(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range nodes {
		stopped, err := stopNode(ctx, dir, n, func() *progressStep { return p.Start("stop " + n) })
		if err != nil {
			errs = append(errs, fmt.Errorf("node %s: %w", n, err))
		} else if stopped {
			a.log.Info("stopped", "node", n)
		}
	}
	return errors.Join(errs...)
}

// askDestroy asks for the cluster's name. Without a terminal there is nobody to ask.
func (a *app) askDestroy(dir string) error {
	if !isTerminal(a.stdin) {
		return usagef("--destroy deletes all data in %s; say --yes to confirm where there is no terminal", dir)
	}
	if _, err := fmt.Fprintf(a.stderr, "This deletes all data of cluster %s in %s.\nType the cluster's name to go on: ", a.global.Cluster, dir); err != nil {
		return err
	}
	line, _ := bufio.NewReader(a.stdin).ReadString('\n')
	if strings.TrimSpace(line) != a.global.Cluster {
		return errors.New("not confirmed: nothing was stopped or deleted")
	}
	return nil
}

// destroy deletes what the cluster has made in its data folder, and the folder if that leaves it empty.
func destroy(dir string, p *progress) error {
	step := p.Start("delete " + dir)
	var errs []error
	for _, name := range []string{"nodes", "etcd", logFileName, "client.pgpass", "cluster.key", localFileName, "lock"} {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	if err := errors.Join(errs...); err != nil {
		step.Fail(err)
		return fmt.Errorf("delete the data: %w", err)
	}
	if left, err := os.ReadDir(dir); err == nil && len(left) == 0 {
		if err := os.Remove(dir); err != nil {
			step.Fail(err)
			return err
		}
	}
	step.Done()
	return nil
}
