package main

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/state"
)

func newHistoryCommand(a *app) *cobra.Command {
	var lines int
	cmd := &cobra.Command{
		Use:     "history",
		Short:   "List what has happened to the cluster",
		Long:    "Lists what the control plane has done and seen, oldest first: when, what, why and how long it took.",
		Example: "  orchestrator history -n 20",
		Args:    noArgs,
	}
	cmd.Flags().IntVarP(&lines, "lines", "n", 50, "number of the newest events to list")
	o := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if lines < 0 {
			return usagef("--lines %d: it cannot be negative", lines)
		}
		h, err := a.openCluster(cmd.Context())
		if err != nil {
			return err
		}
		defer h.Close()
		events := append([]cluster.Event{}, state.Events(h.State)...)
		events = events[max(0, len(events)-lines):]
		return a.emit(o, events, func() []sheet { return eventSheets(events) })
	}
	return cmd
}

func eventSheets(events []cluster.Event) []sheet {
	s := sheet{Title: "history", Columns: []column{
		{Name: "time", Align: center},
		{Name: "kind", Align: center},
		{Name: "group", Align: center},
		{Name: "node", Align: center},
		{Name: "message", Wrap: true},
		{Name: "took", Align: right},
	}}
	for _, e := range events {
		group, took := "", ""
		if e.Group != nil {
			group = strconv.Itoa(*e.Group)
		}
		if e.Duration != 0 {
			took = e.Duration.D().Round(time.Millisecond).String()
		}
		s.Rows = append(s.Rows, []string{e.At.UTC().Format("2006-01-02 15:04:05Z"), e.Kind, group, e.Node, e.Message, took})
	}
	return []sheet{s}
}
