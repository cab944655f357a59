package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// envPrefix begins the name of every environment variable that doubles a flag.
const envPrefix = "ORCHESTRATOR_"

// noEnv is the annotation of a flag that deliberately has no variable (only cobra's own help has none).
const noEnv = "orchestrator_no_env"

// envName gives the variable that doubles a flag: --data-dir is ORCHESTRATOR_DATA_DIR.
func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// hasEnv tells whether the flag is doubled by a variable.
func hasEnv(f *pflag.Flag) bool { return f.Name != "help" && f.Annotations[noEnv] == nil }

// documentEnv adds the variable's name to the help of every flag of every command.
func documentEnv(root *cobra.Command) {
	seen := map[*pflag.Flag]bool{}
	visit := func(f *pflag.Flag) {
		if hasEnv(f) && !seen[f] {
			seen[f] = true
			f.Usage += " [$" + envName(f.Name) + "]"
		}
	}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		c.PersistentFlags().VisitAll(visit)
		c.LocalNonPersistentFlags().VisitAll(visit)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// applyEnv gives every flag that was not set on the command line the value of its variable. An empty variable
// counts as unset, so that compose files may pass variables through.
func applyEnv(cmd *cobra.Command, lookup func(string) (string, bool)) error {
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if err != nil || f.Changed || !hasEnv(f) {
			return
		}
		name := envName(f.Name)
		v, ok := lookup(name)
		if !ok || v == "" {
			return
		}
		if e := cmd.Flags().Set(f.Name, v); e != nil {
			err = usagef("environment variable %s: %w", name, e)
		}
	})
	return err
}

// passThrough is the annotation of a command that hands unknown arguments on to another program.
const passThrough = "orchestrator_pass_through"

// splitPassThrough sorts the arguments of a pass-through command: our own long flags, wherever they stand
// before "--", and everything else in its order. --help is ours.
func splitPassThrough(flags *pflag.FlagSet, in []string) (own, theirs []string) {
	for i := 0; i < len(in); i++ {
		a := in[i]
		if a == "--" {
			return own, append(theirs, in[i+1:]...)
		}
		name, found := strings.CutPrefix(a, "--")
		name, _, hasValue := strings.Cut(name, "=")
		if !found || (flags.Lookup(name) == nil && name != "help") {
			theirs = append(theirs, a)
			continue
		}
		own = append(own, a)
		f := flags.Lookup(name)
		if f == nil || hasValue || f.NoOptDefVal != "" {
			continue
		}
		if i+1 < len(in) {
			i++
			own = append(own, in[i])
		}
	}
	return own, theirs
}

// choice is a flag with a fixed set of values.
type choice struct {
	value  string
	values []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return strings.Join(c.values, "|") }

func (c *choice) Set(s string) error {
	for _, v := range c.values {
		if strings.EqualFold(s, v) {
			c.value = v
			return nil
		}
	}
	return fmt.Errorf("%q is none of %s", s, strings.Join(c.values, ", "))
}

// choiceVar defines a choice flag with its completion.
func choiceVar(cmd *cobra.Command, fs *pflag.FlagSet, c *choice, name, short, usage string) {
	fs.VarP(c, name, short, usage)
	complete(cmd, name, cobra.FixedCompletions(c.values, cobra.ShellCompDirectiveNoFileComp))
}

// complete registers the completion of a flag. The only error is a flag that does not exist, which is a
// mistake in this program.
func complete(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err)
	}
}
