package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/multicoord/multicoord/failover/guard"
)

// newGuardCommand is the small process between an agent and a server. The agent starts it.
func newGuardCommand(*app) *cobra.Command {
	return &cobra.Command{
		Use:    "guard",
		Short:  "Guard one PostgreSQL server (started by the agent)",
		Hidden: true,
		Args:   noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return guard.Main(cmd.Context(), os.Stdin, os.Stdout)
		},
	}
}
