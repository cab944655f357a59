package main

import "github.com/spf13/cobra"

// newHelpCommand is cobra's help command, except that an unknown topic is an error of usage.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Show the help of a command",
		Long:    "Show the help of a command; without one, what commands there are.",
		Example: "  orchestrator help\n  orchestrator help config set",
		ValidArgsFunction: func(cmd *cobra.Command, a []string, _ string) ([]string, cobra.ShellCompDirective) {
			c, rest, err := cmd.Root().Find(a)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, sub := range c.Commands() {
				if sub.IsAvailableCommand() {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, a []string) error {
			c, rest, err := cmd.Root().Find(a)
			if err != nil || c == nil || (len(rest) > 0 && c == cmd.Root()) {
				return usagef("there is no command %q to help with", joinArgs(a))
			}
			if len(rest) > 0 {
				return usagef("%q has no command %q", c.CommandPath(), rest[0])
			}
			c.InitDefaultHelpFlag()
			return c.Help()
		},
	}
}
