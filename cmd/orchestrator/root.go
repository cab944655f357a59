package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// app is what every command has: the world around the process, the options that all commands share, and the
// logger made from them.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	lookupEnv      func(string) (string, bool)
	environ        func() []string
	// exec replaces the process.
	exec    func(path string, argv, env []string) error
	euid    int
	version string

	global globalOptions
	// log is usable from the moment when a command's body begins.
	log *slog.Logger
	// logOut is where log writes; progress lines borrow it.
	logOut *switchWriter
	// ran is set when the body of a command begins: errors before that are errors of usage.
	ran bool
}

// globalOptions are the flags that all commands share.
type globalOptions struct {
	Cluster   string
	DataDir   string
	KeyFile   string
	Etcd      []string
	EtcdUser  string
	EtcdPass  string // file with the password
	EtcdCA    string
	EtcdCert  string
	EtcdKey   string
	LogLevel  choice
	LogFormat choice
}

func newApp(stdin io.Reader, stdout, stderr io.Writer, lookupEnv func(string) (string, bool)) *app {
	a := &app{
		stdin: stdin, stdout: stdout, stderr: stderr, lookupEnv: lookupEnv,
		environ: os.Environ, exec: syscall.Exec, euid: os.Geteuid(), version: buildVersion(),
		logOut: &switchWriter{w: stderr},
		global: globalOptions{
			LogLevel:  choice{"info", []string{"debug", "info", "warn", "error"}},
			LogFormat: choice{"auto", []string{"auto", "text", "json"}},
		},
	}
	a.log = slog.New(slog.DiscardHandler)
	return a
}

// buildVersion is what the Go toolchain has stamped into the binary.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}

// run executes the arguments (without the program's name) and gives the exit code.
func (a *app) run(ctx context.Context, argv []string) int {
	root := newRoot(a)
	cmd, rest, err := root.Find(argv)
	if err == nil && cmd.Annotations[passThrough] != "" {
		cmd.InheritedFlags() // merges the flags of the parents into cmd.Flags
		own, theirs := splitPassThrough(cmd.Flags(), rest)
		argv = append(append([]string{cmd.Name()}, own...), append([]string{"--"}, theirs...)...)
	}
	root.SetArgs(argv)
	cmd, err = root.ExecuteContextC(ctx)
	return exitCode(a.stderr, cmd, err, a.ran)
}

const rootLong = `orchestrator runs PostgreSQL as a sharded cluster with several coordinators: a primary
coordinator with streaming standbys, worker groups, and a router that sends writes to the
primary and reads to the standbys that are fresh enough.

Every flag can also be given as an environment variable: --data-dir is ORCHESTRATOR_DATA_DIR.
A flag wins over its variable, a variable over the default; an empty variable counts as unset.

Exit codes: 0 done, 1 failed (or the cluster is in error), 2 wrong usage.`

const rootExample = `  # A cluster on this machine: start it, use it, look at it, stop it
  orchestrator up --detach
  orchestrator psql
  orchestrator status
  orchestrator down

  # A cluster on many hosts, with an etcd of its own
  orchestrator config generate > cluster.yaml
  export ORCHESTRATOR_ETCD=http://etcd1:2379,http://etcd2:2379,http://etcd3:2379
  orchestrator init -f cluster.yaml
  orchestrator serve                  # on any number of hosts: one leads
  orchestrator agent --name host1     # on each host
  orchestrator router                 # on any number of hosts`

// The sections of the help.
const (
	sectionRun     = "run"
	sectionLook    = "look"
	sectionChange  = "change"
	sectionProcess = "process"
)

// newRoot builds the whole command tree.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "orchestrator",
		Short:         "Run PostgreSQL as a sharded cluster with several coordinators",
		Long:          rootLong,
		Example:       rootExample,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          parentRun,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.prepare(cmd)
		},
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddGroup(
		&cobra.Group{ID: sectionRun, Title: "Run and use a cluster:"},
		&cobra.Group{ID: sectionLook, Title: "Look at a cluster:"},
		&cobra.Group{ID: sectionChange, Title: "Change a cluster:"},
		&cobra.Group{ID: sectionProcess, Title: "Processes of a cluster on many hosts:"},
	)
	a.addGlobalFlags(root)
	add := func(section string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = section
			root.AddCommand(c)
		}
	}
	add(sectionRun, newUpCommand(a), newDownCommand(a), newPsqlCommand(a), newConnstrCommand(a))
	add(sectionLook, newStatusCommand(a), newTopologyCommand(a), newLogsCommand(a), newHistoryCommand(a))
	add(sectionChange, newConfigCommand(a), newNodesCommand(a), newGroupCommand(a), newShardCommand(a), newClusterCommand(a))
	add(sectionProcess, newInitCommand(a), newServeCommand(a), newAgentCommand(a), newRouterCommand(a), newGuardCommand(a))
	root.AddCommand(newVersionCommand(a))
	root.SetHelpCommand(newHelpCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	documentEnv(root)
	a.markBodies(root)
	return root
}

// addGlobalFlags defines the flags that all commands share.
func (a *app) addGlobalFlags(root *cobra.Command) {
	g, f := &a.global, root.PersistentFlags()
	f.StringVar(&g.Cluster, "cluster", defaultCluster, "name of the cluster")
	f.StringVar(&g.DataDir, "data-dir", "", "folder of this host's data (default /var/lib/multicoord/CLUSTER as root, ~/.local/share/multicoord/CLUSTER otherwise)")
	f.StringVar(&g.KeyFile, "key-file", "", "file with the key that opens the cluster's passwords (default DATA-DIR/cluster.key)")
	f.StringSliceVar(&g.Etcd, "etcd", nil, "addresses of the etcd that holds the cluster's state, such as http://etcd1:2379,http://etcd2:2379 (default: the cluster of this host's data folder)")
	f.StringVar(&g.EtcdUser, "etcd-user", "", "user at etcd")
	f.StringVar(&g.EtcdPass, "etcd-password-file", "", "file with the user's password at etcd")
	f.StringVar(&g.EtcdCA, "etcd-ca", "", "PEM file with the authority of etcd's certificate")
	f.StringVar(&g.EtcdCert, "etcd-cert", "", "PEM file with our certificate for etcd")
	f.StringVar(&g.EtcdKey, "etcd-key", "", "PEM file with the key of our certificate for etcd")
	choiceVar(root, f, &g.LogLevel, "log-level", "", "least severe messages to log")
	choiceVar(root, f, &g.LogFormat, "log-format", "", "form of the log: auto is text on a terminal and JSON elsewhere")
	complete(root, "cluster", cobra.NoFileCompletions)
	complete(root, "etcd", cobra.NoFileCompletions)
	complete(root, "etcd-user", cobra.NoFileCompletions)
}

// prepare reads the environment and makes the logger; it runs before the body of every command.
func (a *app) prepare(cmd *cobra.Command) error {
	if err := applyEnv(cmd, a.lookupEnv); err != nil {
		return err
	}
	if err := a.global.validate(); err != nil {
		return err
	}
	a.log = newLogger(a.logOut, isTerminal(a.stderr) && !a.noColor(), a.logsAsText(), a.global.LogLevel.value)
	return nil
}

// validate checks what can be known from the flags alone.
func (g *globalOptions) validate() error {
	if !clusterName.MatchString(g.Cluster) {
		return usagef("--cluster %q: a name is 1 to 40 of a-z, 0-9 and '-', beginning with a letter", g.Cluster)
	}
	if (g.EtcdCert == "") != (g.EtcdKey == "") {
		return usagef("--etcd-cert and --etcd-key go together: give both or neither")
	}
	if len(g.Etcd) == 0 {
		return nil
	}
	var errs []error
	for _, e := range g.Etcd {
		if err := checkEndpoint(e); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return usageError{err}
	}
	return nil
}

// markBodies notes for every command when its body begins.
func (a *app) markBodies(c *cobra.Command) {
	if body := c.RunE; body != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			a.ran = true
			return body(cmd, args)
		}
	}
	for _, sub := range c.Commands() {
		a.markBodies(sub)
	}
}

// noColor follows https://no-color.org and terminals without capabilities.
func (a *app) noColor() bool {
	if v, ok := a.lookupEnv("NO_COLOR"); ok && v != "" {
		return true
	}
	v, _ := a.lookupEnv("TERM")
	return v == "dumb"
}

// isTerminal tells whether w is a terminal.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// terminalWidth gives the columns of the terminal w, or 0 when w is none.
func terminalWidth(w any) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}
