package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/multicoord/multicoord/failover/guard"
	"github.com/multicoord/multicoord/orchestrator/agent"
	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/etcdserver"
	"github.com/multicoord/multicoord/orchestrator/secret"
	"github.com/multicoord/multicoord/orchestrator/specfile"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store/etcdstore"
	"github.com/multicoord/multicoord/replication/physical"
)

// localRun is a cluster that one process runs: etcd, and the same roles that run as processes of their own elsewhere.
type localRun struct {
	a       *app
	o       upOptions
	dir     string
	servers serverWiring
	metrics net.Listener
	router  routerListeners

	etcd    *etcdserver.Server
	store   *etcdstore.Store
	spec    cluster.Spec
	secrets secret.Secrets
}

// interrupted is the end of a start that a signal has cut short.
func interrupted(ctx context.Context, detached bool) error {
	text := "interrupted before the cluster was ready; what was started has been stopped"
	if detached { // nobody sits at its terminal
		text += fmt.Sprintf(" (%v; `orchestrator down` ends it that way)", context.Cause(ctx))
	}
	return errors.New(text)
}

// runLocal brings the cluster up and runs it until ctx ends; stop makes a second interrupt end the process at once. That ctx
// ends is an error before the cluster is ready, and none afterwards.
func (a *app) runLocal(ctx context.Context, stop func(), o upOptions, dir string, wanted cluster.Spec, to steps) error {
	r := &localRun{a: a, o: o, dir: dir}
	ready, err := r.run(ctx, stop, wanted, to)
	err = errors.Join(err, r.close())
	switch {
	case ready || ctx.Err() == nil:
		return err
	case err == nil || errors.Is(err, context.Canceled):
		return interrupted(ctx, o.progressFD > 0)
	}
	return fmt.Errorf("%w; and then: %w", interrupted(ctx, o.progressFD > 0), err)
}

// run tells whether the cluster has become ready, and why it has ended.
func (r *localRun) run(ctx context.Context, stop func(), wanted cluster.Spec, to steps) (up bool, err error) {
	if err := r.begin(ctx, wanted, to); err != nil {
		return false, err
	}
	runCtx, end := context.WithCancel(ctx)
	defer end()
	stages, ready, err := r.stages()
	if err != nil {
		return false, err
	}
	began := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- runStages(runCtx, r.a.log, stages) }()

	starting, cancel := context.WithCancelCause(runCtx)
	defer cancel(nil)
	followed := make(chan error, 1)
	go func() {
		followed <- followStart(starting, state.Watch(starting, r.store, r.a.log), to, began, r.o.timeout, ready)
	}()
	select {
	case roleErr := <-ended:
		cancel(roleErr)
		r.a.log.Debug("start", "err", <-followed) // it ends with the roles, and they say why
		return false, roleErr
	case err := <-followed:
		if err == nil {
			up = true
			to.Ready(r.a.readyText(r.spec, r.dir))
		} else if runCtx.Err() == nil {
			r.a.log.Error("start", "err", err)
			if p, ok := to.(*pipedSteps); ok {
				p.fail(err)
			}
		}
	}
	select {
	case err = <-ended:
	case <-ctx.Done():
		r.a.log.Info("stopping; interrupt again to leave the servers running and end at once", "cause", context.Cause(ctx))
		stop() // the default action of the signals is back
		err = <-ended
	}
	return up, err
}

// stages are the parts of the cluster, in the order in which each depends on those before.
func (r *localRun) stages() (stages [][]role, ready func() error, err error) {
	m := newProcessMetrics()
	router, ready, err := r.a.routerRole(r.store, r.secrets, r.router, m.registry)
	if err != nil {
		return nil, nil, err
	}
	var agents []role // a primary must not outlast its standbys on other hosts for long: they end side by side
	for _, h := range r.spec.Hosts {
		agents = append(agents, r.a.agentRole(r.store, h.Name, r.servers, false, m))
	}
	stages = [][]role{{{"etcd", r.watchEtcd}}, {r.a.controlRole(r.store, m)}, agents, {router}}
	if r.metrics != nil {
		stages = append(stages, []role{r.a.metricsRole(r.metrics, m.registry, func() error { return errors.Join(m.ready(), ready()) })})
	}
	return stages, ready, nil
}

// begin does what must be done before the roles run: look whether all that is needed is there, before anything is
// touched; start etcd; store or read the spec.
func (r *localRun) begin(ctx context.Context, wanted cluster.Spec, to steps) error {
	step := to.Begin("check this machine")
	err := r.check(ctx, wanted)
	step.End(err)
	if err != nil {
		return err
	}
	step = to.Begin("etcd")
	err = r.startEtcd(ctx)
	step.End(err)
	if err != nil {
		return err
	}
	step = to.Begin("spec")
	err = r.agree(ctx, wanted)
	step.End(err)
	return err
}

// fresh tells that the folder holds no cluster yet.
func (r *localRun) fresh() bool {
	_, err := os.Lstat(r.etcdDir())
	return errors.Is(err, os.ErrNotExist)
}

// etcdFolder is the folder of the embedded etcd in the data folder.
const etcdFolder = "etcd"

func (r *localRun) etcdDir() string { return filepath.Join(r.dir, etcdFolder) }

// check looks at the machine. What depends on the spec is looked at now if the cluster is new, and once the stored
// spec is known otherwise.
func (r *localRun) check(ctx context.Context, wanted cluster.Spec) error {
	var err error
	if r.servers, err = r.a.serversHere(ctx, r.o.servers, wanted.PostgreSQL.Version); err != nil {
		return err
	}
	if r.metrics, err = listenMetrics(ctx, r.o.metrics); err != nil {
		return err
	}
	if !r.fresh() {
		return nil
	}
	return r.checkSpec(ctx, wanted)
}

// checkSpec looks whether the spec's servers and router can run here. It takes the router's addresses.
func (r *localRun) checkSpec(ctx context.Context, spec cluster.Spec) error {
	var errs []error
	for _, g := range spec.Groups {
		for _, n := range g.Nodes {
			host, _ := spec.HostOf(n.Host)
			errs = append(errs, r.checkNode(ctx, spec, g.ID, n, host))
		}
	}
	if err := physical.CheckParameters(ctx, r.servers.bin, r.servers.account, spec.PostgreSQL.Parameters); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var err error
	r.router, err = listenRouter(ctx, spec.Router)
	return err
}

// checkNode refuses a foreign folder and a used port. A server of ours that is running has its port for a good reason.
func (r *localRun) checkNode(ctx context.Context, spec cluster.Spec, group int, n cluster.Node, host cluster.Host) error {
	w := r.servers.of(spec, secret.Secrets{})
	s := w.physical(agent.Place{Node: n, Group: group, Address: host.Address})
	d, err := s.Inspect(ctx)
	if err != nil {
		return err
	}
	if d.State == physical.Foreign {
		return fmt.Errorf("node %s: %s; move it away, or choose another folder with --data-dir", n.Name, d.Reason)
	}
	if _, err := s.Guard(ctx); err == nil {
		return nil
	}
	// Its guard may hang, or have been killed: the agent deals with that.
	if pids, err := guard.Processes(s.DataDir()); err != nil || len(pids) > 0 {
		return err
	}
	if err := physical.Preflight(ctx, n.Name, host.Address, n.Port); err != nil {
		return fmt.Errorf("%w; stop it, or change the spec (postgresql ports begin at base_port of host %s)", err, host.Name)
	}
	return nil
}

func (r *localRun) startEtcd(ctx context.Context) error {
	var err error
	if r.etcd, err = etcdserver.Start(ctx, etcdserver.Config{Dir: r.etcdDir(), Log: r.a.log}); err != nil {
		return err
	}
	r.store, err = etcdstore.Open(ctx, etcdstore.Config{
		Endpoints: r.etcd.Endpoints(), Prefix: keyPrefix + r.a.global.Cluster, Log: r.a.log,
	})
	return err
}

// agree stores the spec of a new cluster, or reads that of an existing one.
func (r *localRun) agree(ctx context.Context, wanted cluster.Spec) error {
	key, err := r.a.keyFile()
	if err != nil {
		return err
	}
	created := false
	v, err := state.Load(ctx, r.store)
	if err != nil {
		return err
	}
	if v.Spec == nil {
		if r.router.clients == nil {
			if err := r.checkSpec(ctx, wanted); err != nil {
				return err
			}
		}
		// First of all the folder tells whose it is, so that the next `up` goes on with this cluster wherever this one ends.
		if err := writeLocal(r.dir, localCluster{Cluster: wanted.Name, Etcd: r.etcd.Endpoints()}); err != nil {
			return err
		}
		if err := createCluster(ctx, r.store, wanted, key); err != nil {
			return err
		}
		created = true
		if v, err = state.Load(ctx, r.store); err != nil {
			return err
		}
	}
	r.spec = *v.Spec
	if r.secrets, err = openSecrets(v, key); err != nil {
		return err
	}
	r.servers = r.servers.of(r.spec, r.secrets)
	if r.router.clients == nil {
		if err := r.checkSpec(ctx, r.spec); err != nil {
			return err
		}
	}
	if !created && r.o.file != "" && differ(wanted, r.spec) {
		r.a.log.Warn("the cluster exists, and its spec is not that of the file; change it with `orchestrator config set`", "file", r.o.file)
	}
	if err := writePassfile(r.dir, r.secrets); err != nil {
		return err
	}
	return writeLocal(r.dir, localCluster{Cluster: r.spec.Name, ID: r.spec.ID, Etcd: r.etcd.Endpoints()})
}

// differ tells whether the operator's file asks for something else than what is stored.
func differ(file, stored cluster.Spec) bool {
	file.ID = stored.ID
	text := func(s cluster.Spec) string {
		var b strings.Builder
		if specfile.Encode(&b, s) != nil {
			return ""
		}
		return b.String()
	}
	return text(file) != text(stored)
}

// watchEtcd is the role of the embedded etcd: it ends only if the server does.
func (r *localRun) watchEtcd(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-r.etcd.Err():
		if err == nil {
			err = errors.New("it stopped")
		}
		return err
	}
}

// close gives back what begin has taken.
func (r *localRun) close() error {
	var errs []error
	r.router.close()
	if r.metrics != nil {
		_ = r.metrics.Close()
	}
	if r.store != nil {
		errs = append(errs, r.store.Close())
	}
	if r.etcd != nil {
		errs = append(errs, r.etcd.Close())
	}
	return errors.Join(errs...)
}

// readyText is what a user reads when the cluster is up.
func (a *app) readyText(spec cluster.Spec, dir string) string {
	coordinators, workers := 0, 0
	for _, g := range spec.Groups {
		if g.ID == cluster.CoordinatorGroup {
			coordinators = len(g.Nodes)
		} else {
			workers++
		}
	}
	flag := a.flagsFor(dir)
	return fmt.Sprintf(`
The cluster %q is up: %s, %s.

  psql               orchestrator psql%s
  any other client   %s
  look at it         orchestrator status%s, orchestrator topology%s
  stop it            orchestrator down%s
`, spec.Name, counted(coordinators, "coordinator"), counted(workers, "worker group"), flag, routerConnstr(spec, dir), flag, flag, flag)
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// flagsFor are the flags, with a space before them, by which a command finds the cluster of a data folder.
func (a *app) flagsFor(dir string) string {
	plain := *a
	plain.global.DataDir = ""
	if def, err := plain.dataDir(); err != nil || def != dir {
		return " --data-dir " + shellQuote(dir)
	}
	if a.global.Cluster != defaultCluster {
		return " --cluster " + a.global.Cluster
	}
	return ""
}

// shellQuote writes a word so that a shell reads it as it is.
func shellQuote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@%=", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
