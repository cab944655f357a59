package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/specfile"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store"
	"github.com/multicoord/multicoord/orchestrator/store/etcdstore"
)

// errClusterExists: the etcd already has a cluster of this name.
var errClusterExists = errors.New("the cluster exists already")

// initialized is what `init` prints.
type initialized struct {
	Cluster  string `json:"cluster"`
	ID       string `json:"id"`
	Revision int64  `json:"revision"`
	KeyFile  string `json:"key_file"`
}

const initLong = `Stores the spec of a new cluster in etcd, for a cluster on several hosts. (A cluster on this
machine alone is made by "orchestrator up", which needs no init.)

The spec is checked and completed: nodes get names, hosts and ports, and the cluster an id. Passwords
of the cluster's own roles are made and stored sealed; the key that opens them is put into a file
(--key-file), which every host needs. An existing cluster is never overwritten.`

func newInitCommand(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "init -f FILE",
		Short: "Store the spec of a new cluster on several hosts",
		Long:  initLong,
		Example: `  orchestrator config generate --hosts host1=10.0.0.1,host2=10.0.0.2 > cluster.yaml
  orchestrator init -f cluster.yaml --etcd http://etcd1:2379,http://etcd2:2379,http://etcd3:2379`,
		Args: noArgs,
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "spec of the cluster (YAML or JSON; - is standard input)")
	_ = cmd.MarkFlagRequired("file")
	_ = cmd.MarkFlagFilename("file", "yaml", "yml", "json")
	o := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if len(a.global.Etcd) == 0 {
			return usagef("init needs --etcd: it makes a cluster on several hosts, which have an etcd in common; for one on this machine run `orchestrator up -f %s`", file)
		}
		spec, err := a.readSpec(file)
		if err != nil {
			return err
		}
		if err := a.agreeOnName(cmd, &spec); err != nil {
			return err
		}
		done, err := a.initCluster(cmd.Context(), spec)
		if err != nil {
			return err
		}
		if o.value != outTable {
			return a.emit(o, done, nil)
		}
		_, err = io.WriteString(a.stdout, initText(done))
		return err
	}
	return cmd
}

func initText(i initialized) string {
	flag := ""
	if i.Cluster != defaultCluster {
		flag = " --cluster " + i.Cluster
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Cluster %s is stored (id %s).\n", i.Cluster, i.ID)
	fmt.Fprintf(&b, "Its key is in %s: copy it to every host (mode 0600) and keep a backup; without it the\npasswords of the cluster's roles cannot be opened.\n\nNext:\n", i.KeyFile)
	fmt.Fprintf(&b, "  orchestrator serve%s                 # on any number of hosts: one leads\n", flag)
	fmt.Fprintf(&b, "  orchestrator agent%s --name HOST     # on each host of the spec\n", flag)
	fmt.Fprintf(&b, "  orchestrator router%s                # on any number of hosts\n", flag)
	fmt.Fprintf(&b, "  orchestrator status%s\n", flag)
	return b.String()
}

// readSpec reads a spec as it was written; - is standard input.
func (a *app) readSpec(file string) (cluster.Spec, error) {
	if file == "-" {
		return specfile.Decode(a.stdin, "standard input")
	}
	f, err := os.Open(file)
	if err != nil {
		return cluster.Spec{}, fmt.Errorf("read the spec: %w", err)
	}
	defer f.Close()
	return specfile.Decode(f, file)
}

// agreeOnName makes the spec's name and --cluster the same: what is not given follows the other; two different
// ones are an error.
func (a *app) agreeOnName(cmd *cobra.Command, spec *cluster.Spec) error {
	switch given := cmd.Flags().Changed("cluster"); {
	case spec.Name == "":
		spec.Name = a.global.Cluster
	case given && spec.Name != a.global.Cluster:
		return usagef("--cluster is %s, but the spec is that of cluster %s: leave one of them out", a.global.Cluster, spec.Name)
	default:
		a.global.Cluster = spec.Name
	}
	return nil
}

// initCluster stores a new cluster in the etcd that the flags name.
func (a *app) initCluster(ctx context.Context, spec cluster.Spec) (initialized, error) {
	cfg, err := a.etcdConfig()
	if err != nil {
		return initialized{}, err
	}
	st, err := etcdstore.Open(ctx, cfg)
	if err != nil {
		return initialized{}, err
	}
	defer st.Close()
	keyPath, err := a.keyFile()
	if err != nil {
		return initialized{}, err
	}
	if spec, err = spec.Complete(); err != nil {
		return initialized{}, err
	}
	if a.global.KeyFile == "" {
		// The data folder must let the servers' account pass, so it is not left to the key to make it.
		if err := os.MkdirAll(filepath.Dir(keyPath), 0o711); err != nil {
			return initialized{}, fmt.Errorf("make the data folder: %w; choose another one with --data-dir", err)
		}
	}
	if err = checkVacant(ctx, st); err == nil {
		err = createCluster(ctx, st, spec, keyPath)
		if errors.Is(err, store.ErrUnavailable) {
			return initialized{}, fmt.Errorf("%w; whether the cluster was stored is not known: look with `orchestrator config show`", err)
		}
	}
	if errors.Is(err, errClusterExists) {
		return initialized{}, fmt.Errorf("%w: %s at %s; look at it with `orchestrator config show`, change it with `orchestrator config set`, or choose another name", err, spec.Name, strings.Join(cfg.Endpoints, ", "))
	}
	if err != nil {
		return initialized{}, err
	}
	v, err := state.Load(ctx, st)
	if err != nil {
		return initialized{}, err
	}
	return initialized{v.Spec.Name, v.Spec.ID, v.SpecRevision, keyPath}, nil
}

// checkVacant refuses a place in the store that has a cluster, or what is left of one: a new spec would take over
// its groups.
func checkVacant(ctx context.Context, st store.Store) error {
	s, err := st.Load(ctx)
	if err != nil {
		return err
	}
	if _, ok := s.Items[state.Spec]; ok {
		return errClusterExists
	}
	for key := range s.Items {
		if key == state.Secrets || strings.HasPrefix(key, "groups/") {
			return fmt.Errorf("the store has no spec of this cluster, but holds %q of it: restore its etcd from a backup, or, if its data are not needed, delete what is left with etcdctl, or choose another name", key)
		}
	}
	return nil
}
