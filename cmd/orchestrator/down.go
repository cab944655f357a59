package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
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
		RunE: func(cmd *cobra.Command, _ []string) error { return a.down(cmd, o) },
	}
	f := c.Flags()
	f.BoolVar(&o.destroy, "destroy", false, "delete the cluster's data as well")
	f.BoolVar(&o.yes, "yes", false, "do not ask before deleting")
	f.DurationVar(&o.timeout, "timeout", 2*time.Minute, "how long the stop may take")
	return c
}

func (a *app) down(cmd *cobra.Command, o downOptions) error {
	if len(a.global.Etcd) > 0 {
		return usagef("down stops a cluster that `up` runs on this machine; with --etcd, stop the processes (agent, router, serve) on each host")
	}
	if o.yes && !o.destroy {
		return usagef("--yes goes with --destroy")
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := a.dataDir()
	if err != nil {
		return err
	}
	switch _, err := os.Lstat(filepath.Join(dir, lockFileName)); {
	case errors.Is(err, fs.ErrNotExist) && o.destroy:
		return fmt.Errorf("there is no cluster in %s", dir)
	case errors.Is(err, fs.ErrNotExist):
		_, err := fmt.Fprintf(a.stdout, "there is no cluster in %s: nothing to stop\n", dir)
		return err
	case err != nil:
		return fmt.Errorf("look into the data folder: %w", err)
	}
	if err := checkOwner(dir, a.euid); err != nil {
		return err
	}
	if err := a.agreeWithFolder(dir, cmd.Flags().Changed("cluster")); err != nil {
		return fmt.Errorf("%w; nothing was stopped", err)
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
	return a.downNow(ctx, dir, o.destroy, p)
}

func (a *app) downNow(ctx context.Context, dir string, destroyToo bool, p *progress) error {
	lock, err := stopHolder(ctx, dir, p)
	if err != nil {
		return err
	}
	defer lock.release()
	left, err := a.leftNodes(dir)
	if err != nil {
		return err
	}
	if err := a.stopLeft(ctx, left, p); err != nil {
		return err
	}
	if !destroyToo {
		return nil
	}
	return destroy(ctx, dir, left, p)
}

// checkOwner refuses another user's cluster: where its servers' sockets are depends on the user, so we would take running
// servers for stopped ones.
func checkOwner(dir string, euid int) error {
	for _, name := range []string{lockFileName, localFileName, filepath.Base(nodesDir(dir)), etcdFolder} {
		st, err := os.Lstat(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look into the data folder: %w", err)
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		if !ok || int(sys.Uid) == euid {
			continue
		}
		who := fmt.Sprintf("the user with id %d", sys.Uid)
		if u, err := user.LookupId(strconv.FormatUint(uint64(sys.Uid), 10)); err == nil {
			who = "user " + u.Username
		}
		return fmt.Errorf("the cluster in %s belongs to %s: run this as that user", dir, who)
	}
	return nil
}

// downPurpose is what a `down` says in the lock of the data folder.
const downPurpose = "down"

// unknownHolder is how long a process that holds the data folder may take to say which one it is.
const unknownHolder = 2 * time.Second

// stopHolder asks the process that runs the cluster to end, and waits until it has.
func stopHolder(ctx context.Context, dir string, p *progress) (*dirLock, error) {
	lock, err := lockDirFor(dir, downPurpose)
	held := (*lockedError)(nil)
	if !errors.As(err, &held) {
		return lock, err
	}
	if held.pid == 0 { // it may be about to say, or to give the folder up
		short, cancel := context.WithTimeout(ctx, unknownHolder)
		lock, err = waitKnown(short, dir)
		cancel()
		if !errors.As(err, &held) {
			return lock, err
		}
		if held.pid == 0 {
			return nil, fmt.Errorf("%w, which cannot be found from here (in another container?): end it there", err)
		}
	}
	what := "stop the cluster"
	if held.purpose == downPurpose {
		what = "wait for another `orchestrator down`"
	}
	step := p.Start(fmt.Sprintf("%s (process %d)", what, held.pid))
	if held.purpose != downPurpose {
		if err := held.endHolder(); err != nil {
			step.Fail(err)
			return nil, fmt.Errorf("stop process %d: %w", held.pid, err)
		}
	}
	lock, err = waitLock(ctx, dir, downPurpose)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("another process has deleted the cluster meanwhile")
	}
	if err != nil {
		step.Fail(err)
		return nil, err
	}
	step.Done()
	return lock, nil
}

// waitKnown tries to take the folder until it succeeds, or until it is known who holds it, or until ctx ends.
func waitKnown(ctx context.Context, dir string) (*dirLock, error) {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		lock, err := lockDirFor(dir, downPurpose)
		if held := (*lockedError)(nil); !errors.As(err, &held) || held.pid > 0 {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-t.C:
		}
	}
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
