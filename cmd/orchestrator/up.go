package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// upOptions are the flags of `up`.
type upOptions struct {
	file    string
	detach  bool
	timeout time.Duration
	metrics string
	servers serverOptions
	// progressFD is the pipe to the process that waits for a detached start.
	progressFD int
}

const upLong = `Brings a whole cluster up on this machine: an embedded etcd, the control plane, an agent for
each host of the spec, and a router. Without a file that is one primary coordinator with two
standby coordinators, two worker groups, and a router on 127.0.0.1:6432.

Running it again is harmless at any time: it reports a cluster that is running, goes on with one
that is half made, starts one that was stopped, and takes over servers that are still running.
The spec of an existing cluster is changed with ` + "`orchestrator config set`" + `, not with -f.

In the foreground Ctrl-C stops everything in order; with --detach ` + "`orchestrator down`" + ` does.`

func newUpCommand(a *app) *cobra.Command {
	var o upOptions
	c := &cobra.Command{
		Use:   "up [-f FILE] [--detach]",
		Short: "Bring a cluster up on this machine",
		Long:  upLong,
		Example: `  orchestrator up --detach
  orchestrator up -f cluster.yaml`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.up(cmd, o) },
	}
	f := c.Flags()
	f.StringVarP(&o.file, "file", "f", "", "spec of a new cluster (YAML; - is standard input); see `orchestrator config generate`")
	f.BoolVar(&o.detach, "detach", false, "leave the cluster running in the background once it is ready")
	f.DurationVar(&o.timeout, "timeout", 2*time.Minute, "how long to wait until the cluster is ready")
	addMetricsFlag(f, &o.metrics, "127.0.0.1:9630")
	addServerFlags(f, &o.servers)
	f.IntVar(&o.progressFD, "progress-fd", 0, "")
	_ = f.MarkHidden("progress-fd")
	f.Lookup("progress-fd").Annotations = map[string][]string{noEnv: {"internal"}}
	return c
}

// up decides between the three cases: the cluster is running, it is to be started here, or in the background.
func (a *app) up(cmd *cobra.Command, o upOptions) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	to, piped := a.stepsFor(o)
	err := a.upWith(ctx, stop, cmd, o, to)
	if err != nil && piped != nil {
		piped.fail(err)
	}
	if s, ok := to.(*shownSteps); ok {
		s.close()
	}
	return err
}

func (a *app) upWith(ctx context.Context, stop func(), cmd *cobra.Command, o upOptions, to steps) error {
	wanted, dir, err := a.wantedSpec(cmd, o.file)
	if err != nil {
		return err
	}
	if err := a.makeDataDir(dir); err != nil {
		return err
	}
	lock, err := lockDir(dir)
	if held := (*lockedError)(nil); errors.As(err, &held) {
		lock, err = a.reportRunning(ctx, o, dir, wanted, to)
	}
	if lock == nil {
		return err
	}
	if o.detach {
		lock.release() // the child takes it
		return a.upDetached(ctx, o, dir, wanted, to)
	}
	defer lock.release()
	return a.runLocal(ctx, stop, o, dir, wanted, to)
}

// wantedSpec reads the file, or gives the default spec, completed in either case, and the data folder. The cluster is the
// one that the folder holds; a different name, given by --cluster or in the file, is an error.
func (a *app) wantedSpec(cmd *cobra.Command, file string) (cluster.Spec, string, error) {
	s := cluster.DefaultSpec()
	s.Name = ""
	if file != "" {
		var err error
		if s, err = a.readSpec(file); err != nil {
			return cluster.Spec{}, "", err
		}
	}
	named := s.Name != "" || cmd.Flags().Changed("cluster")
	if err := a.agreeOnName(cmd, &s); err != nil {
		return cluster.Spec{}, "", err
	}
	dir, err := a.dataDir()
	if err != nil {
		return cluster.Spec{}, "", err
	}
	if err := a.agreeWithFolder(dir, named); err != nil {
		return cluster.Spec{}, "", err
	}
	s.Name = a.global.Cluster
	s, err = s.Complete()
	return s, dir, err
}

// agreeWithFolder makes the cluster that dir holds, if any, the one that is meant. If another one was named, that is an
// error, for a folder holds one cluster.
func (a *app) agreeWithFolder(dir string, named bool) error {
	local, err := readLocal(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the data folder %s belongs to another user: %w; run this as that user", dir, err)
	case err != nil:
		return err
	case local.Cluster == a.global.Cluster:
		return nil
	case named:
		return fmt.Errorf("%s holds the cluster %q, not %q: check --cluster and --data-dir", dir, local.Cluster, a.global.Cluster)
	}
	a.global.Cluster, a.global.DataDir = local.Cluster, dir
	return nil
}

// stepsFor shows the steps on this process's terminal, or sends them to the process that waits.
func (a *app) stepsFor(o upOptions) (steps, *pipedSteps) {
	if o.progressFD > 0 {
		p := newPipedSteps(os.NewFile(uintptr(o.progressFD), "progress"))
		return p, p
	}
	return &shownSteps{a: a}, nil
}

// makeDataDir makes the data folder, or refuses one that holds something else.
func (a *app) makeDataDir(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		mode := os.FileMode(0o700)
		if a.euid == 0 {
			mode = 0o711 // the servers' account passes through
		}
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("make the data folder: %w; choose another one with --data-dir", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("read the data folder: %w", err)
	case len(entries) == 0:
		return nil
	}
	for _, known := range []string{localFileName, lockFileName, keyFileName, passfileName} {
		if _, err := os.Lstat(filepath.Join(dir, known)); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the folder %s holds something that is no cluster of ours (%s): empty it, or choose another one with --data-dir", dir, entries[0].Name())
}
