package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/specfile"
)

// completionTime bounds how long the shell waits for names from the cluster.
const completionTime = time.Second

// completeFrom completes from the agreed spec. A cluster that does not answer in time completes nothing.
func (a *app) completeFrom(names func(cluster.Spec) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		spec, ok := a.specForCompletion(cmd)
		if !ok {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names(spec), cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) specForCompletion(cmd *cobra.Command) (cluster.Spec, bool) {
	if applyEnv(cmd, a.lookupEnv) != nil || a.global.validate() != nil {
		return cluster.Spec{}, false
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	h, err := a.openCluster(ctx)
	if err != nil {
		return cluster.Spec{}, false
	}
	defer h.Close()
	spec, err := h.Spec()
	return spec, err == nil
}

func nodeNames(s cluster.Spec) []string {
	var names []string
	for _, g := range s.Groups {
		for _, n := range g.Nodes {
			names = append(names, cobra.CompletionWithDesc(n.Name, "group "+strconv.Itoa(g.ID)+" on "+n.Host))
		}
	}
	return names
}

func hostNames(s cluster.Spec) []string {
	var names []string
	for _, h := range s.Hosts {
		names = append(names, cobra.CompletionWithDesc(h.Name, h.Address))
	}
	return names
}

func groupNames(s cluster.Spec) []string {
	var names []string
	for _, g := range s.Groups {
		names = append(names, cobra.CompletionWithDesc(strconv.Itoa(g.ID), groupTitle(g.ID)))
	}
	return names
}

// completeLogs completes the nodes whose folders are on this host, and the process's own log.
func (a *app) completeLogs(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || applyEnv(cmd, a.lookupEnv) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := []string{cobra.CompletionWithDesc(ownLog, "the orchestrator's own log")}
	dir, err := a.dataDir()
	if err != nil {
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	entries, err := os.ReadDir(filepath.Join(dir, "nodes"))
	if err != nil {
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeKeys completes the keys of a spec; those that can be set get a "=" if set is true.
func (a *app) completeKeys(set bool) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		directive := cobra.ShellCompDirectiveNoFileComp
		if !set && len(args) > 0 {
			return nil, directive
		}
		if set {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		var out []string
		for _, k := range specfile.Keys() {
			key, doc := k.Path, k.Doc
			if set && (isBranch(key) || !settable(key)) {
				continue
			}
			if at := strings.Index(key, ".*"); at >= 0 {
				key = key[:at+1]
			} else if strings.Contains(key, "[]") {
				continue
			} else if set {
				key += "="
			}
			if strings.HasPrefix(key, word) && (len(out) == 0 || !strings.HasPrefix(out[len(out)-1], key+"\t")) {
				out = append(out, cobra.CompletionWithDesc(key, doc))
			}
		}
		return out, directive
	}
}

// isBranch tells whether other keys are below key.
func isBranch(key string) bool {
	for _, k := range specfile.Keys() {
		if strings.HasPrefix(k.Path, key+".") && !strings.HasPrefix(k.Path, key+".*") {
			return true
		}
	}
	return false
}

func settable(key string) bool {
	top, _, _ := strings.Cut(strings.ReplaceAll(key, "[", "."), ".")
	return top != "hosts" && top != "groups" && key != "name" && key != "id"
}
