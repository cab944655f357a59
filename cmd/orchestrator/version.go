package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// versionInfo is what `version` prints.
type versionInfo struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersionCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this binary",
		Long:    "Print the version of this binary, the Go release that built it and its platform.",
		Example: "  orchestrator version\n  orchestrator version -o json",
		Args:    noArgs,
	}
	o := outputFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		v := versionInfo{a.version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
		if o.value == outTable {
			_, err := fmt.Fprintf(a.stdout, "orchestrator %s (%s, %s)\n", v.Version, v.Go, v.Platform)
			return err
		}
		return a.emit(o, v, nil)
	}
	return cmd
}
