package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/specfile"
)

func newConfigCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Write, check, show and change the spec of a cluster",
		Long: `The spec is the one document that says what a cluster shall be. "generate" writes one to begin with,
"validate" checks a file, "show" and "get" print what is agreed, "set" changes it.`,
		Example: "  orchestrator config generate > cluster.yaml\n  orchestrator config set postgresql.parameters.work_mem=32MB",
		RunE:    parentRun,
	}
	cmd.AddCommand(newConfigGenerateCommand(a), newConfigValidateCommand(a), newConfigShowCommand(a),
		newConfigGetCommand(a), newConfigSetCommand(a), newConfigKeysCommand(a))
	return cmd
}

// documentFlag is -o for commands that print a whole document: YAML unless asked otherwise.
func documentFlag(cmd *cobra.Command) *output {
	o := outputFlag(cmd)
	o.value = outYAML
	cmd.Flags().Lookup("output").DefValue = outYAML
	return o
}

func newConfigGenerateCommand(a *app) *cobra.Command {
	var hosts []string
	var repfactor, workers, standbys int
	policy := &choice{string(cluster.Manual), []string{string(cluster.Manual), string(cluster.Cross)}}
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Print a spec to begin with, every key explained",
		Long: `Prints a spec with every key explained. Without --hosts it is the cluster that "orchestrator up" makes on
this machine. With --hosts the nodes are placed on those hosts: by policy cross each host runs the primary of
one worker group and standbys of its neighbours' groups; by policy manual the groups are dealt to the hosts
in turn.`,
		Example: `  orchestrator config generate > cluster.yaml
  orchestrator config generate --hosts host1=10.0.0.1,host2=10.0.0.2 --policy cross --repfactor 1`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.StringSliceVar(&hosts, "hosts", nil, "hosts of the cluster, each NAME or NAME=ADDRESS")
	choiceVar(cmd, f, policy, "policy", "", "how nodes are placed on the hosts")
	f.IntVar(&repfactor, "repfactor", 1, "standbys of each worker group under policy cross")
	f.IntVar(&workers, "workers", 2, "worker groups under policy manual")
	f.IntVar(&standbys, "standbys", 2, "standbys of the coordinator under policy manual")
	o := documentFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		spec := cluster.DefaultSpec()
		spec.Name = a.global.Cluster
		for _, name := range []string{"policy", "repfactor", "workers", "standbys"} {
			if cmd.Flags().Changed(name) && len(hosts) == 0 {
				return usagef("--%s goes with --hosts", name)
			}
		}
		if len(hosts) > 0 {
			var err error
			if spec, err = specOn(spec, hosts, cluster.Policy(policy.value), repfactor, workers, standbys); err != nil {
				return usageError{err}
			}
		}
		if err := spec.Validate(); err != nil {
			return usageError{err}
		}
		return a.emitSpec(o, spec, true)
	}
	return cmd
}

// specOn is the spec of a cluster on the given hosts.
func specOn(spec cluster.Spec, hosts []string, policy cluster.Policy, repfactor, workers, standbys int) (cluster.Spec, error) {
	spec.Hosts, spec.Groups = nil, nil
	for _, text := range hosts {
		h, err := cluster.ParseHost(text)
		if err != nil {
			return spec, err
		}
		spec.Hosts = append(spec.Hosts, h)
	}
	spec.Placement = cluster.Placement{Policy: policy}
	if policy == cluster.Cross {
		spec.Placement.Repfactor = &repfactor
		return spec, nil
	}
	none := 0
	spec.Groups = []cluster.Group{{ID: cluster.CoordinatorGroup, Standbys: &standbys}}
	for id := range workers {
		spec.Groups = append(spec.Groups, cluster.Group{ID: id + 1, Standbys: &none})
	}
	return spec, nil
}

// emitSpec prints a spec; explained YAML has a comment for every key.
func (a *app) emitSpec(o *output, spec cluster.Spec, explain bool) error {
	if o.value == outYAML && explain {
		return specfile.Encode(a.stdout, spec)
	}
	return a.emit(o, spec, func() []sheet { return specSheets(spec) })
}

// specSheets shows the single values of a spec.
func specSheets(spec cluster.Spec) []sheet {
	s := sheet{Title: "spec of cluster " + spec.Name, Columns: []column{{Name: "key", Wrap: true}, {Name: "value", Wrap: true}}}
	changes, err := diff(cluster.Spec{}, spec)
	if err != nil {
		return nil // a spec is always expressed in JSON
	}
	for _, c := range changes {
		s.Rows = append(s.Rows, []string{c.Key, c.To})
	}
	return []sheet{s}
}

// validated is what `config validate` prints.
type validated struct {
	File     string    `json:"file"`
	Valid    bool      `json:"valid"`
	Problems []problem `json:"problems"`
}

type problem struct {
	Line    int    `json:"line,omitempty"`
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
}

func newConfigValidateCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate FILE",
		Short: "Check a spec without storing it",
		Long:  `Checks a spec as "init" and "up" would, and prints all that is wrong with it, each with its line. Exit code 1 if anything is.`,
		Example: `  orchestrator config validate cluster.yaml
  orchestrator config generate | orchestrator config validate -`,
		Args: args(cobra.ExactArgs(1), "one file (- is standard input)"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"yaml", "yml", "json"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
	o := outputFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, files []string) error {
		spec, err := a.readSpec(files[0])
		v := validated{File: files[0], Valid: err == nil, Problems: problemsOf(err)}
		if err != nil && len(v.Problems) == 0 {
			return err // the file could not be read at all
		}
		if o.value != outTable {
			if e := a.emit(o, v, nil); e != nil || v.Valid {
				return e
			}
			return failQuietly()
		}
		if err != nil {
			return err
		}
		full, err := spec.Complete()
		if err != nil {
			return err
		}
		nodes := 0
		for _, g := range full.Groups {
			nodes += len(g.Nodes)
		}
		_, err = fmt.Fprintf(a.stdout, "%s is valid: %s, %s, %s\n", files[0],
			count(len(full.Hosts), "host"), count(len(full.Groups), "group"), count(nodes, "node"))
		return err
	}
	return cmd
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// problemsOf takes the error of specfile.Decode apart.
func problemsOf(err error) []problem {
	out := []problem{}
	var many interface{ Unwrap() []error }
	var one *specfile.Error
	switch {
	case err == nil:
	case errors.As(err, &many):
		for _, e := range many.Unwrap() {
			out = append(out, problemsOf(e)...)
		}
	case errors.As(err, &one):
		out = append(out, problem{one.Line, one.Path, one.Message})
	}
	return out
}

func newConfigShowCommand(a *app) *cobra.Command {
	var explain bool
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Print the spec that is agreed",
		Long:    "Prints the spec that is agreed, completed: every node with its name, host and port.",
		Example: "  orchestrator config show\n  orchestrator config show -o table",
		Args:    noArgs,
	}
	cmd.Flags().BoolVar(&explain, "explain", false, "explain every key in comments (YAML)")
	o := documentFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		h, err := a.openCluster(cmd.Context())
		if err != nil {
			return err
		}
		defer h.Close()
		spec, err := h.Spec()
		if err != nil {
			return err
		}
		return a.emitSpec(o, spec, explain)
	}
	return cmd
}

func newConfigGetCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "get KEY",
		Short:             "Print one value of the spec",
		Long:              "Prints one value of the spec that is agreed, by its dotted key: single values as they are, everything else as YAML.",
		Example:           "  orchestrator config get router.reads.max_lag",
		Args:              args(cobra.ExactArgs(1), "one key"),
		ValidArgsFunction: a.completeKeys(false),
	}
	o := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, keys []string) error {
		h, err := a.openCluster(cmd.Context())
		if err != nil {
			return err
		}
		defer h.Close()
		spec, err := h.Spec()
		if err != nil {
			return err
		}
		v, err := specfile.Get(spec, keys[0])
		if err != nil {
			return keyError(err)
		}
		if o.value != outTable {
			return a.emit(o, struct {
				Key   string `json:"key"`
				Value string `json:"value"`
			}{keys[0], v}, nil)
		}
		_, err = io.WriteString(a.stdout, strings.TrimSuffix(v, "\n")+"\n")
		return err
	}
	return cmd
}

// keyError makes a key that no spec has an error of usage.
func keyError(err error) error {
	if errors.Is(err, specfile.ErrUnknownKey) {
		return usageError{err}
	}
	return err
}

func newConfigKeysCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "keys",
		Short:   "List every key of a spec with its range and default",
		Long:    "Lists every key that a spec may have, with what it is for, its range and its default.",
		Example: "  orchestrator config keys",
		Args:    noArgs,
	}
	o := outputFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		type key struct {
			Key     string `json:"key"`
			Doc     string `json:"doc"`
			Range   string `json:"range,omitempty"`
			Default string `json:"default,omitempty"`
		}
		var keys []key
		for _, k := range specfile.Keys() {
			keys = append(keys, key{k.Path, k.Doc, k.Range, k.Default})
		}
		return a.emit(o, keys, func() []sheet {
			s := sheet{Title: "keys of a spec", Columns: []column{{Name: "key"}, {Name: "what for", Wrap: true}, {Name: "range", Wrap: true}, {Name: "default"}}}
			for _, k := range keys {
				s.Rows = append(s.Rows, []string{k.Key, k.Doc, k.Range, k.Default})
			}
			return []sheet{s}
		})
	}
	return cmd
}
