package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/specfile"
)

// logFileName is the log of a detached cluster, in its data folder.
const logFileName = "orchestrator.log"

// upDetached starts this program again in the background, with its log in the data folder, and waits until the cluster
// is ready, showing the steps. An interrupt stops what was begun.
func (a *app) upDetached(ctx context.Context, o upOptions, dir string, wanted cluster.Spec, to steps) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program's path: %w", err)
	}
	logFile, err := os.OpenFile(filepath.Join(dir, logFileName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer logFile.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer r.Close()
	defer w.Close()
	child := exec.Command(self, a.detachedArgs(o, dir)...) // without ctx: it outlives us, and is told to end by SIGTERM
	child.Stdout, child.Stderr = logFile, logFile
	child.ExtraFiles = []*os.File{w} // becomes descriptor 3
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	child.Env = a.environ()
	if o.file == "-" { // it was read here
		var spec bytes.Buffer
		if err := specfile.Encode(&spec, wanted); err != nil {
			return fmt.Errorf("hand the spec on: %w", err)
		}
		child.Stdin = &spec
	}
	if err := child.Start(); err != nil {
		return fmt.Errorf("start the cluster in the background: %w", err)
	}
	_ = w.Close() // the child has it now
	stopped := context.AfterFunc(ctx, func() { _ = child.Process.Signal(syscall.SIGTERM) })
	err = showPiped(r, to)
	if !stopped() {
		_ = child.Wait()
		return interrupted(ctx, false)
	}
	if errors.Is(err, errStartEnded) {
		_ = child.Wait()
		return fmt.Errorf("%w; its log is %s", err, logFile.Name())
	}
	return err
}

// detachedArgs is the command line of the process in the background. What came from the environment comes from there
// again.
func (a *app) detachedArgs(o upOptions, dir string) []string {
	args := []string{
		"up", "--progress-fd", "3", "--cluster", a.global.Cluster, "--data-dir", dir,
		"--timeout", o.timeout.String(), "--metrics", o.metrics, "--log-level", a.global.LogLevel.value,
	}
	if a.global.LogFormat.value != "auto" {
		args = append(args, "--log-format", a.global.LogFormat.value)
	}
	if o.file != "" && o.file != "-" {
		abs, err := filepath.Abs(o.file)
		if err == nil {
			o.file = abs
		}
	}
	for _, f := range []struct{ name, value string }{
		{"--file", o.file}, {"--os-user", o.servers.osUser}, {"--pg-bin", o.servers.pgBin}, {"--key-file", a.global.KeyFile},
	} {
		if f.value != "" {
			args = append(args, f.name, f.value)
		}
	}
	return args
}
