package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/multicoord/multicoord/orchestrator/agent"
	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/control"
	"github.com/multicoord/multicoord/orchestrator/secret"
	"github.com/multicoord/multicoord/orchestrator/session"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store"
	"github.com/multicoord/multicoord/orchestrator/telemetry"
	"github.com/multicoord/multicoord/replication/physical"
)

// presenceTTL is the life of an agent's or a router's presence without renewal.
const presenceTTL = 5 * time.Second

// serverOptions are the flags of the commands that run PostgreSQL servers.
type serverOptions struct {
	osUser string
	pgBin  string
}

func addServerFlags(f *pflag.FlagSet, o *serverOptions) {
	f.StringVar(&o.osUser, "os-user", "", "account that the servers run as when this runs as root (default postgres)")
	f.StringVar(&o.pgBin, "pg-bin", "", "folder of PostgreSQL's programs (default: $PG_CONFIG, PATH, the usual folders)")
}

func addMetricsFlag(f *pflag.FlagSet, addr *string, def string) {
	f.StringVar(addr, "metrics", def, `address of /metrics, /healthz and /readyz; "off" serves none`)
}

// listenMetrics takes the address before anything else is begun; nil when there is to be none.
func listenMetrics(ctx context.Context, addr string) (net.Listener, error) {
	if addr == cluster.Off {
		return nil, nil
	}
	return listen(ctx, "metrics", addr, "choose another one with --metrics, or --metrics off")
}

// listen takes an address, or says who has it.
func listen(ctx context.Context, what, addr, remedy string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err == nil {
		return l, nil
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		if _, port, e := net.SplitHostPort(addr); e == nil {
			if n, e := strconv.Atoi(port); e == nil {
				if pid, command := physical.Listener(n); pid > 0 {
					return nil, fmt.Errorf("the address %s for %s is in use by %s (pid %d); %s", addr, what, command, pid, remedy)
				}
			}
		}
		return nil, fmt.Errorf("the address %s for %s is in use; %s", addr, what, remedy)
	}
	return nil, fmt.Errorf("listen on %s for %s: %w; %s", addr, what, err, remedy)
}

// metricsRole serves what every process shows of itself.
func (a *app) metricsRole(l net.Listener, reg *prometheus.Registry, ready func() error) role {
	return role{"metrics", func(ctx context.Context) error {
		return telemetry.ServeListener(ctx, l, telemetry.Config{Registry: reg, Ready: ready, Log: a.log})
	}}
}

// controlRole is a member of the control plane.
func (a *app) controlRole(st store.Store, m *processMetrics) role {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	p := control.New(a.log, st, fmt.Sprintf("%s-%d", host, os.Getpid()))
	m.setPlane(p)
	return role{"control plane", p.Run}
}

// serversHere finds what is needed to run servers on this host, or says what is missing.
func (a *app) serversHere(ctx context.Context, o serverOptions, major int) (serverWiring, error) {
	self, err := os.Executable()
	if err != nil {
		return serverWiring{}, fmt.Errorf("find this program's path: %w", err)
	}
	account, err := physical.LookupAccount(o.osUser, a.euid)
	if err != nil {
		return serverWiring{}, err
	}
	bin, err := physical.FindBinaries(ctx, physical.FindOptions{PGBin: o.pgBin, Major: major, Getenv: a.getenv})
	if err != nil {
		return serverWiring{}, err
	}
	dir, err := a.dataDir()
	if err != nil {
		return serverWiring{}, err
	}
	if err := account.CheckReach(ctx, nodesDir(dir)); err != nil {
		return serverWiring{}, err
	}
	return serverWiring{log: a.log, self: self, bin: bin, account: account, dir: dir}, nil
}

func (a *app) getenv(name string) string {
	v, _ := a.lookupEnv(name)
	return v
}

// of gives the wiring for one cluster.
func (w serverWiring) of(spec cluster.Spec, s secret.Secrets) serverWiring {
	w.id, w.name, w.secrets = spec.ID, spec.Name, s
	return w
}

// agentRole keeps a host's servers. It holds the host's presence while it runs.
func (a *app) agentRole(st store.Store, host string, w serverWiring, leave bool, m *processMetrics) role {
	return role{"agent of " + host, func(ctx context.Context) error {
		self := cluster.AgentStatus{
			Host: host, PID: os.Getpid(), Machine: machine(), Version: a.version, PostgreSQL: w.bin.Version, DataDir: w.dir, At: time.Now(),
		}
		value, err := state.Encode(self)
		if err != nil {
			return err
		}
		ss, err := a.openSession(ctx, st, state.Agent(host), value)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("be the agent of host %s: %w", host, err)
		}
		ag := agent.New(agent.Config{
			Log: a.log, Host: host, Snapshots: state.Watch(ctx, st, a.log), Presence: presence{ss, self},
			Grants: grants{session.Grants{Store: st, Session: ss}}, Servers: w.server, Left: w.left, Machine: machine(), DataDir: w.dir, Clock: session.Now, Leave: leave,
		})
		m.addAgent(ag)
		err = ag.Run(ctx)
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if e := ss.Close(closing); e != nil {
			a.log.Debug("presence not withdrawn; it runs out by itself", "err", e)
		}
		return err
	}}
}

// openSession makes a presence, and waits while the store is away.
func (a *app) openSession(ctx context.Context, st store.Store, key string, value []byte) (*session.Session, error) {
	for {
		ss, err := session.Open(ctx, st, session.Config{Key: key, Value: value, TTL: presenceTTL, Log: a.log, Dead: deadHere, Wait: true})
		if err == nil || !errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil {
			return ss, err
		}
		a.log.Warn("waiting", "err", err)
		t := time.NewTimer(retryEvery)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

// presence publishes an agent's reports on its session.
type presence struct {
	ss   *session.Session
	self cluster.AgentStatus
}

func (p presence) Agent(ctx context.Context, specRevision int64, problem string) error {
	p.self.SpecRevision, p.self.Reason, p.self.At = specRevision, problem, time.Now()
	b, err := state.Encode(p.self)
	if err != nil {
		return err
	}
	return p.ss.Update(ctx, b)
}

func (p presence) Node(ctx context.Context, st cluster.NodeStatus) error {
	b, err := state.Encode(st)
	if err != nil {
		return err
	}
	return p.ss.Put(ctx, state.Node(st.Name), b)
}

func (p presence) Forget(ctx context.Context, node string) error {
	return p.ss.Delete(ctx, state.Node(node))
}

// grants gives the session's grants to the agent.
type grants struct{ session.Grants }

func (g grants) Acquire(ctx context.Context, want cluster.Grant, revision int64, ttl time.Duration) (agent.Grant, error) {
	return g.Grants.Acquire(ctx, want, revision, ttl)
}

// machine names this boot of this machine and this namespace of processes.
func machine() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + "/" + ns
}

// deadHere tells from a presence whether its process ran on this machine and is gone.
func deadHere(value []byte) bool {
	var owner struct {
		PID     int    `json:"pid"`
		Machine string `json:"machine"`
	}
	if json.Unmarshal(value, &owner) != nil || owner.PID <= 0 || owner.Machine == "" || owner.Machine != machine() {
		return false
	}
	return owner.PID != os.Getpid() && !alive(owner.PID)
}

// alive tells whether a process of this namespace runs. One that has ended and was not yet collected does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	if err != nil {
		return true
	}
	// The state is the field behind the command, which stands in parentheses and may hold anything (man 5 proc).
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	return rest == "" || (rest[0] != 'Z' && rest[0] != 'X')
}

// writePassfile leaves the superuser's password where the printed connection strings point.
func writePassfile(dir string, s secret.Secrets) error {
	line, err := secret.PassfileEntry{User: secret.SuperuserRole, Password: s.Superuser}.Line()
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, passfileName), []byte(line), 0o600)
}

// openSecrets opens the cluster's passwords.
func openSecrets(v state.View, keyPath string) (secret.Secrets, error) {
	key, err := secret.LoadKey(keyPath)
	if err != nil {
		return secret.Secrets{}, err
	}
	sealed, _ := state.SealedSecrets(v.State)
	if sealed == nil {
		return secret.Secrets{}, errors.New("the agreed state holds a spec but no passwords: it was not made by `orchestrator init`")
	}
	return secret.Open(key, v.Spec.ID, sealed)
}
