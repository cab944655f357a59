package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func pendingCommand(use string) *cobra.Command {
	return &cobra.Command{Use: use, Hidden: true, RunE: func(*cobra.Command, []string) error {
		return errors.New("this command is not part of this build")
	}}
}

func newRouterCommand(*app) *cobra.Command { return pendingCommand("router") }
