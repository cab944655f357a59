package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// The exit codes of all commands.
const (
	exitOK     = 0 // done
	exitFailed = 1 // tried and failed, or the cluster is in an error state
	exitUsage  = 2 // wrong usage: nothing was tried
)

// usageError marks an error in how the command was called.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// usagef makes an error of wrong usage: exit code 2 and a pointer to the help.
func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// silentError carries an exit code whose reason has been printed already.
type silentError struct{ code int }

func (e silentError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// failQuietly ends a command with exit code 1 without another word.
func failQuietly() error { return silentError{exitFailed} }

// exitCode reports err to w and tells the exit code. cmd is the command that was found for the arguments;
// ran says whether its body was reached, since an error before that is one of usage.
func exitCode(w io.Writer, cmd *cobra.Command, err error, ran bool) int {
	if err == nil {
		return exitOK
	}
	if s, ok := errors.AsType[silentError](err); ok {
		return s.code
	}
	fmt.Fprintf(w, "orchestrator: %v\n", err)
	if _, ok := errors.AsType[usageError](err); !ok && ran {
		return exitFailed
	}
	if cmd != nil {
		fmt.Fprintf(w, "Run '%s --help' for usage.\n", cmd.CommandPath())
	}
	return exitUsage
}

// args wraps a check of positional arguments so that its error is one of usage, and names what is expected.
func args(check cobra.PositionalArgs, expects string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return usagef("%s takes %s: %w", cmd.CommandPath(), expects, err)
		}
		return nil
	}
}

// noArgs is for commands without positional arguments.
func noArgs(cmd *cobra.Command, a []string) error {
	if len(a) > 0 {
		return usagef("%s takes no arguments, got %q", cmd.CommandPath(), a[0])
	}
	return nil
}

// parentRun is the body of a command that only holds others: help without arguments, an error for an unknown
// subcommand.
func parentRun(cmd *cobra.Command, a []string) error {
	if len(a) == 0 {
		return cmd.Help()
	}
	msg := fmt.Sprintf("unknown command %q for %q", a[0], cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2
	for _, s := range cmd.SuggestionsFor(a[0]) {
		msg += fmt.Sprintf("; did you mean %q?", s)
	}
	return usageError{errors.New(msg)}
}

func joinArgs(a []string) string { return strings.Join(a, " ") }
