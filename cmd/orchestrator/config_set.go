package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/specfile"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/replication/physical"
)

const setLong = `Changes values of the agreed spec, all or none of them, and prints what changes. An empty value
takes a key away, so that its default holds again. "orchestrator config keys" lists the keys.

Servers load what they can at once; what needs a restart is reported as pending by "orchestrator
status". Changes made by others at the same moment are not lost: the change is made on top of theirs.`

func newConfigSetCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set KEY=VALUE…",
		Short: "Change values of the agreed spec",
		Long:  setLong,
		Example: `  orchestrator config set postgresql.parameters.work_mem=32MB router.reads.max_lag=2s
  orchestrator config set postgresql.parameters.work_mem=     # the default again
  orchestrator config set --dry-run router.max_client_conn=5000`,
		Args:              args(cobra.MinimumNArgs(1), "KEY=VALUE, once or more"),
		ValidArgsFunction: a.completeKeys(true),
	}
	e := editFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, pairs []string) error {
		for _, p := range pairs {
			if key, _, ok := strings.Cut(p, "="); !ok || key == "" {
				return usagef("%q is not of the form KEY=VALUE", p)
			}
		}
		return a.editSpec(cmd.Context(), e, func(_ cluster.Snapshot, spec cluster.Spec) (cluster.Spec, error) {
			for _, p := range pairs {
				key, value, _ := strings.Cut(p, "=")
				next, err := specfile.Set(spec, key, value)
				if err != nil {
					return spec, keyError(err)
				}
				spec = next
			}
			return spec, a.checkParameters(cmd.Context(), spec)
		})
	}
	return cmd
}

// checkParameters asks this machine's PostgreSQL whether it would take the parameters. Without one, the agents find out:
// they refuse a configuration that their PostgreSQL would not take, and say so in the status.
func (a *app) checkParameters(ctx context.Context, spec cluster.Spec) error {
	account, err := physical.LookupAccount("", a.euid)
	if err != nil {
		return nil //nolint:nilerr // no PostgreSQL can be asked here
	}
	bin, err := physical.FindBinaries(ctx, physical.FindOptions{Major: spec.PostgreSQL.Version, Getenv: a.getenv})
	if err != nil {
		return nil //nolint:nilerr // no PostgreSQL can be asked here
	}
	return physical.CheckParameters(ctx, bin, account, spec.PostgreSQL.Parameters)
}

// editOptions are the flags of commands that change the spec.
type editOptions struct {
	dryRun bool
	wait   time.Duration
	out    *output
}

func editFlags(cmd *cobra.Command) *editOptions {
	e := &editOptions{}
	cmd.Flags().BoolVar(&e.dryRun, "dry-run", false, "print what would change, and change nothing")
	cmd.Flags().DurationVar(&e.wait, "wait", 0, "wait at most so long until every host has applied the change (0 does not wait)")
	e.out = outputFlag(cmd)
	return e
}

// editSpec changes the agreed spec, prints what changes and waits for it if asked to.
func (a *app) editSpec(ctx context.Context, o *editOptions, next func(cluster.Snapshot, cluster.Spec) (cluster.Spec, error)) error {
	if o.wait < 0 {
		return usagef("--wait %s: it cannot be negative", o.wait)
	}
	h, err := a.openCluster(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	e, err := h.edit(ctx, o.dryRun, next)
	if err != nil {
		return err
	}
	if err := a.printEdited(o, e); err != nil {
		return err
	}
	if o.wait == 0 || !e.Stored {
		return nil
	}
	return a.waitApplied(ctx, h, e.Revision, o.wait)
}

func (a *app) printEdited(o *editOptions, e edited) error {
	if o.out.value != outTable {
		return a.emit(o.out, e, nil)
	}
	var b strings.Builder
	for _, c := range e.Changes {
		fmt.Fprintf(&b, "%s: %s -> %s\n", c.Key, orUnset(c.From), orUnset(c.To))
	}
	switch {
	case len(e.Changes) == 0:
		b.WriteString("nothing changes\n")
	case o.dryRun:
		b.WriteString("dry run: nothing was stored\n")
	default:
		fmt.Fprintf(&b, "stored as revision %d; see `orchestrator status`\n", e.Revision)
	}
	_, err := fmt.Fprint(a.stdout, b.String())
	return err
}

func orUnset(v string) string {
	if v == "" {
		return "(not set)"
	}
	return v
}

// waitApplied shows the nodes of the spec until each is as decided, with the configuration of the given revision.
func (a *app) waitApplied(ctx context.Context, h *handle, revision int64, within time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("not everything was applied within %s; it goes on: look with `orchestrator status`", within))
	defer cancel()
	p := a.startProgress()
	defer a.stopProgress(p)
	open := map[string]*progressStep{}
	for snap := range state.Watch(ctx, h.Store, a.log) {
		if snap.Spec == nil || snap.SpecRevision < revision {
			continue
		}
		left := 0
		for _, g := range goalsOf(*snap.Spec) {
			if open[g.node] == nil {
				open[g.node] = p.Start(g.name)
			}
			ok, reason := reached(snap, g.node)
			if ok && snap.Nodes[g.node].SpecRevision < revision {
				ok, reason = false, "waiting for the new configuration"
			}
			if !ok {
				left++
				open[g.node].Note(reason)
				continue
			}
			open[g.node].Note("")
			open[g.node].Done()
		}
		if left == 0 {
			return nil
		}
	}
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return errors.New("interrupted while waiting; the change is stored and goes on being applied")
	}
	return context.Cause(ctx)
}
