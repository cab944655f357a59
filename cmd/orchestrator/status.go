package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/reconcile"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store"
)

// report is what `status` prints.
type report struct {
	Cluster  string              `json:"cluster"`
	ID       string              `json:"id,omitempty"`
	Revision int64               `json:"revision,omitempty"`
	Level    reconcile.Level     `json:"level"`
	Findings []reconcile.Finding `json:"findings"`
}

const statusLong = `Shows what is well and what is not: the store, the topology, the metadata, the agents, the groups,
their primaries and the routers, each OK, Warning or Error, with the reason and what can be done.

Exit code 1 if anything is in error.`

func newStatusCommand(a *app) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what is well in a cluster and what is not",
		Long:  statusLong,
		Example: `  orchestrator status
  orchestrator status --watch
  orchestrator status -o json | jq '.findings[] | select(.level == "Error")'`,
		Args: noArgs,
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again after every change, until interrupted")
	o := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		h, err := a.openCluster(ctx)
		if err != nil {
			return a.storeAway(o, err)
		}
		defer h.Close()
		if watch {
			return a.watch(ctx, h, o, func(snap cluster.Snapshot) error { return a.emitReport(o, h.report(ctx, snap, time.Now())) })
		}
		r := h.report(ctx, h.Snapshot, time.Now())
		if err := a.emitReport(o, r); err != nil {
			return err
		}
		if r.Level == reconcile.Error {
			return failQuietly()
		}
		return nil
	}
	return cmd
}

// storeAway reports a store on other hosts that does not answer as a finding. Other errors stay what they are.
func (a *app) storeAway(o *output, err error) error {
	if len(a.global.Etcd) == 0 || !errors.Is(err, store.ErrUnavailable) {
		return err
	}
	findings := reconcile.StoreHealth(nil, err)
	if e := a.emitReport(o, report{Cluster: a.global.Cluster, Level: reconcile.Worst(findings), Findings: findings}); e != nil {
		return e
	}
	return failQuietly()
}

// report asks the store for its members and judges the snapshot.
func (h *handle) report(ctx context.Context, snap cluster.Snapshot, now time.Time) report {
	members, err := h.Members(ctx)
	seen := make([]reconcile.StoreMember, 0, len(members))
	for _, m := range members {
		name := m.Name
		if name == "" {
			name = m.Endpoint
		}
		seen = append(seen, reconcile.StoreMember{Name: name, Err: m.Err})
	}
	r := report{Cluster: h.name, Revision: snap.Revision}
	if snap.Spec != nil {
		r.ID = snap.Spec.ID
	}
	r.Findings = append(reconcile.StoreHealth(seen, err), reconcile.Check(snap, now)...)
	r.Level = reconcile.Worst(r.Findings)
	return r
}

func (a *app) emitReport(o *output, r report) error {
	return a.emit(o, r, func() []sheet { return reportSheets(r) })
}

// reportSheets makes a table for each kind that has findings.
func reportSheets(r report) []sheet {
	var sheets []sheet
	for _, kind := range reconcile.Kinds() {
		s := sheet{Title: string(kind) + " status", Columns: []column{
			{Name: "status", Align: center, Paint: paintLevel},
			{Name: "message", Wrap: true},
			{Name: "group", Align: center},
			{Name: "node", Align: center},
			{Name: "remedy", Wrap: true},
		}}
		for _, f := range r.Findings {
			if f.Kind != kind {
				continue
			}
			group, node := "", f.Node
			if f.Group != nil {
				group = strconv.Itoa(*f.Group)
			}
			if node == "" {
				node = f.Host
			}
			s.Rows = append(s.Rows, []string{f.Level.String(), f.Message, group, node, f.Remedy})
		}
		if len(s.Rows) > 0 {
			sheets = append(sheets, s)
		}
	}
	return sheets
}

func paintLevel(cell string) color {
	switch cell {
	case reconcile.OK.String():
		return green
	case reconcile.Warning.String():
		return yellow
	case reconcile.Error.String():
		return red
	default:
		return ""
	}
}

// watchEvery is the least time between two prints of --watch.
const watchEvery = time.Second

// watch prints the state at once and after every change, until ctx ends, which is no error.
func (a *app) watch(ctx context.Context, h *handle, o *output, show func(cluster.Snapshot) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pause := time.NewTimer(0)
	defer pause.Stop()
	snaps := state.Watch(ctx, h.Store, a.log)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case snap, ok := <-snaps:
			if !ok {
				return nil
			}
			if err := a.beginFrame(o); err != nil {
				return err
			}
			if err := show(snap); err != nil {
				return err
			}
		}
		pause.Reset(watchEvery)
	}
}

// beginFrame clears a terminal; elsewhere a line tells the frames apart, where the form of the output allows one.
func (a *app) beginFrame(o *output) error {
	var err error
	switch {
	case o.value == outJSON:
	case o.value == outYAML:
		_, err = io.WriteString(a.stdout, "---\n")
	case isTerminal(a.stdout):
		_, err = io.WriteString(a.stdout, "\x1b[H\x1b[2J")
	default:
		_, err = fmt.Fprintf(a.stdout, "--- %s\n", time.Now().UTC().Format(time.RFC3339))
	}
	return err
}
