// Command orchestrator runs PostgreSQL as a sharded cluster with several coordinators.
//
// Level: top. It is the only place where the parts are wired together; every command has a file of its own.
// It holds no decision about the cluster: those are taken by the pure packages below orchestrator/.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), endSignals()...)
	// The first signal asks the command to end in order; the second one ends the process at once.
	context.AfterFunc(ctx, stop)
	a := newApp(os.Stdin, os.Stdout, os.Stderr, os.LookupEnv)
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// endSignals are the signals that end a command in order. A hang-up that is ignored (nohup) stays ignored.
func endSignals() []os.Signal {
	s := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		s = append(s, syscall.SIGHUP)
	}
	return s
}
