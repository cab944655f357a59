package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/replication/physical"
)

// ownLog stands for the log of the process that `up --detach` has left in the background.
const ownLog = "orchestrator"

const logsLong = `Prints the log of a PostgreSQL server together with that of its guard, in order of time, whether the
server is running or not. It works on the host where the server is; elsewhere it says which host that is.

"orchestrator logs orchestrator" prints the log of the process that "up --detach" has left in the background.`

func newLogsCommand(a *app) *cobra.Command {
	var lines int
	var follow bool
	cmd := &cobra.Command{
		Use:               "logs NODE",
		Short:             "Print the log of a server",
		Long:              logsLong,
		Example:           "  orchestrator logs coordinator-1\n  orchestrator logs worker-1-1 -n 20 -f\n  orchestrator logs orchestrator -f",
		Args:              args(cobra.ExactArgs(1), "the name of one node (`orchestrator topology` lists them), or "+ownLog),
		ValidArgsFunction: a.completeLogs,
	}
	cmd.Flags().IntVarP(&lines, "lines", "n", 100, "number of lines to begin with")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new lines until interrupted")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if lines < 0 {
			return usagef("--lines %d: it cannot be negative", lines)
		}
		o := physical.LogOptions{Lines: lines, Follow: follow}
		if names[0] == ownLog {
			return a.ownLogs(cmd.Context(), o)
		}
		dir, err := a.nodeDir(cmd.Context(), names[0])
		if err != nil {
			return err
		}
		return physical.Logs(cmd.Context(), dir, o, a.stdout)
	}
	return cmd
}

// nodeDir finds the folder of a node on this host, or says on which host it is.
func (a *app) nodeDir(ctx context.Context, node string) (string, error) {
	dir, err := a.dataDir()
	if err != nil {
		return "", err
	}
	if node != filepath.Base(node) || node == "." || node == ".." {
		return "", usagef("%q is no name of a node", node)
	}
	here := filepath.Join(dir, "nodes", node)
	if isDir(here) {
		return here, nil
	}
	h, err := a.openCluster(ctx)
	if err != nil {
		return "", fmt.Errorf("there is no node %s in %s (and the cluster cannot be asked where it is: %w)", node, dir, err)
	}
	defer h.Close()
	spec, err := h.Spec()
	if err != nil {
		return "", err
	}
	n, _, ok := spec.NodeOf(node)
	if !ok {
		return "", fmt.Errorf("there is no node %s; the nodes are %s", node, strings.Join(plainNames(spec), ", "))
	}
	agent := h.Snapshot.Agents[n.Host]
	if there := filepath.Join(agent.DataDir, "nodes", node); agent.DataDir != "" && agent.Machine != "" && agent.Machine == machine() && isDir(there) {
		return there, nil
	}
	return "", fmt.Errorf("node %s is on host %s: run `orchestrator logs %s` there", node, hostText(spec, n.Host), node)
}

func hostText(spec cluster.Spec, name string) string {
	h, ok := spec.HostOf(name)
	if !ok || h.Address == name {
		return name
	}
	return name + " (" + h.Address + ")"
}

func plainNames(spec cluster.Spec) []string {
	var names []string
	for _, g := range spec.Groups {
		for _, n := range g.Nodes {
			names = append(names, n.Name)
		}
	}
	return names
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// ownLogs prints the end of the detached process's log.
func (a *app) ownLogs(ctx context.Context, o physical.LogOptions) error {
	dir, err := a.dataDir()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, logFileName)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no %s: only `orchestrator up --detach` writes it", path)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := seekLines(f, o.Lines); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return copyAndFollow(ctx, f, a.stdout, o.Follow)
}

// copyAndFollow copies the rest of f, and then what is added to it until ctx ends, if asked to.
func copyAndFollow(ctx context.Context, f io.Reader, w io.Writer, follow bool) error {
	t := time.NewTicker(followEvery)
	defer t.Stop()
	for {
		if _, err := io.Copy(w, f); err != nil {
			return err
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

const (
	followEvery = 200 * time.Millisecond
	seekBlock   = 32 << 10
)

// seekLines places f so that n whole lines follow, or all if there are fewer.
func seekLines(f io.ReadSeeker, n int) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n == 0 {
		return err
	}
	// The newline at the very end closes the last line; n more of them are before the place that is sought.
	need := n + 1
	buf := make([]byte, seekBlock)
	for at := end; at > 0; {
		size := min(at, seekBlock)
		at -= size
		if _, err := f.Seek(at, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.ReadFull(f, buf[:size]); err != nil {
			return err
		}
		for i, c := range slices.Backward(buf[:size]) {
			if at+int64(i) == end-1 && c != '\n' {
				need-- // the last line is not closed yet
			}
			if c != '\n' {
				continue
			}
			if need--; need == 0 {
				_, err := f.Seek(at+int64(i)+1, io.SeekStart)
				return err
			}
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}
