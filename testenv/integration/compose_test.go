package integration

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/multicoord/multicoord/testenv"
)

// compose is what these tests read of docker-compose.yml; keys that are not here are unknown to them and fail.
type compose struct {
	Name     string                    `yaml:"name"`
	Services map[string]composeService `yaml:"services"`
	Configs  map[string]struct {
		File string `yaml:"file"`
	} `yaml:"configs"`
	Volumes  map[string]struct{} `yaml:"volumes"`
	Networks map[string]struct {
		IPAM struct {
			Config []struct {
				Subnet string `yaml:"subnet"`
			} `yaml:"config"`
		} `yaml:"ipam"`
	} `yaml:"networks"`
	// The fragments that services are made of.
	Image        yaml.Node `yaml:"x-image"`
	Etcd         yaml.Node `yaml:"x-etcd"`
	Orchestrator yaml.Node `yaml:"x-orchestrator"`
}

type composeService struct {
	Image string `yaml:"image"`
	Build struct {
		Context    string `yaml:"context"`
		Dockerfile string `yaml:"dockerfile"`
	} `yaml:"build"`
	Init            bool              `yaml:"init"`
	Restart         string            `yaml:"restart"`
	StopGracePeriod string            `yaml:"stop_grace_period"`
	Command         []string          `yaml:"command"`
	Environment     map[string]string `yaml:"environment"`
	DependsOn       map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
	Healthcheck struct {
		Test     []string `yaml:"test"`
		Interval string   `yaml:"interval"`
		Timeout  string   `yaml:"timeout"`
		Retries  int      `yaml:"retries"`
		Disable  bool     `yaml:"disable"`
	} `yaml:"healthcheck"`
	Configs []struct {
		Source string `yaml:"source"`
		Target string `yaml:"target"`
	} `yaml:"configs"`
	Ports    []string `yaml:"ports"`
	Volumes  []string `yaml:"volumes"`
	Networks map[string]struct {
		IPv4 string `yaml:"ipv4_address"`
	} `yaml:"networks"`
}

func (s composeService) address() string {
	for _, n := range s.Networks {
		return n.IPv4
	}
	return ""
}

func readCompose(t *testing.T) (compose, string) {
	t.Helper()
	root, err := testenv.ModuleRoot()
	require.NoError(t, err)
	f, err := os.Open(filepath.Join(root, "docker-compose.yml"))
	require.NoError(t, err)
	defer f.Close()
	dec := yaml.NewDecoder(f)
	dec.KnownFields(true)
	var c compose
	require.NoError(t, dec.Decode(&c))
	return c, root
}

func TestComposeFileHoldsTogether(t *testing.T) {
	c, root := readCompose(t)
	addresses := map[string]string{}
	for name, s := range c.Services {
		require.NotEmpty(t, s.Command, name)
		require.FileExists(t, filepath.Join(root, s.Build.Context, s.Build.Dockerfile), name)
		for on, d := range s.DependsOn {
			require.Contains(t, c.Services, on, name)
			if d.Condition == "service_healthy" {
				require.Equal(t, []string{"CMD", "curl"}, c.Services[on].Healthcheck.Test[:2], "%s waits for the health of %s", name, on)
			} else {
				require.Equal(t, "service_completed_successfully", d.Condition, name)
			}
		}
		for _, v := range s.Volumes {
			volume, _, _ := strings.Cut(v, ":")
			require.Contains(t, c.Volumes, volume, name)
		}
		for _, cfg := range s.Configs {
			require.FileExists(t, filepath.Join(root, c.Configs[cfg.Source].File), name)
		}
		require.Empty(t, addresses[s.address()], "%s has the address of another service", name)
		addresses[s.address()] = name
		require.True(t, strings.HasPrefix(s.address(), "10.231.0."), name)
	}
	require.Equal(t, "10.231.0.0/24", c.Networks["cluster"].IPAM.Config[0].Subnet)
	// What the issue asks for, by what the services run.
	roles := map[string]int{}
	for _, s := range c.Services {
		roles[strings.Join(s.Command[:min(2, len(s.Command))], " ")]++
	}
	require.Equal(t, 5, roles["orchestrator agent"], "three coordinators and two workers")
	require.Equal(t, 1, roles["orchestrator serve"])
	require.Equal(t, 1, roles["orchestrator router"])
	etcd := 0
	for _, s := range c.Services {
		if s.Command[0] == "etcd" {
			etcd++
		}
	}
	require.Equal(t, 3, etcd)
}

// container runs the services of the compose file as plain processes: addresses of its network become loopback
// addresses, its volumes folders of the test.
type container struct {
	env  *testenv.Env
	file compose
	root string
	// prefix is the loopback network that stands for the compose file's, such as "127.83.5.".
	prefix string
}

// rewrite turns what the compose file says for a service into what holds here.
func (c container) rewrite(service, text string) string {
	own := strings.Replace(c.file.Services[service].address(), "10.231.0.", c.prefix, 1)
	pairs := []string{"10.231.0.", c.prefix, "127.0.0.1:", own + ":", "0.0.0.0:", own + ":"}
	s := c.file.Services[service]
	for _, v := range s.Volumes {
		parts := strings.Split(v, ":")
		pairs = append(pairs, parts[1], c.env.Path("volumes", parts[0]))
	}
	for _, cfg := range s.Configs {
		pairs = append(pairs, cfg.Target, c.env.Path(filepath.Base(cfg.Target)))
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// command is a service's command, or another one that is run inside it.
func (c container) command(service string, argv []string) testenv.Command {
	s := c.file.Services[service]
	cmd := testenv.Command{Name: service}
	for _, word := range argv {
		cmd.Argv = append(cmd.Argv, c.rewrite(service, word))
	}
	// In the image both stand in PATH.
	switch cmd.Argv[0] {
	case "orchestrator":
		cmd.Argv[0] = c.env.Binary()
	case "etcd":
		cmd.Argv[0] = c.env.Program("etcd")
	}
	cmd.Env = []string{
		"PATH=" + c.env.Path("bin") + ":" + os.Getenv("PATH"),
		// Each container has a file system of its own.
		"ORCHESTRATOR_DATA_DIR=" + c.env.Path("containers", service),
	}
	for _, v := range s.Volumes {
		if parts := strings.Split(v, ":"); parts[1] == "/var/lib/multicoord" {
			cmd.Env = append(cmd.Env, "ORCHESTRATOR_DATA_DIR="+c.env.Path("volumes", parts[0], "main"))
		}
	}
	for name, value := range s.Environment {
		cmd.Env = append(cmd.Env, name+"="+c.rewrite(service, value))
	}
	return cmd
}

// up starts the services in the order of depends_on, as `docker compose up` does.
func (c container) up(t *testing.T) map[string]*testenv.Process {
	t.Helper()
	running := map[string]*testenv.Process{}
	done := map[string]bool{}
	var start func(name string)
	start = func(name string) {
		if done[name] {
			return
		}
		done[name] = true
		s := c.file.Services[name]
		for on := range s.DependsOn {
			start(on)
		}
		for on, d := range s.DependsOn {
			if d.Condition == "service_healthy" {
				c.waitHealthy(on)
			}
		}
		p := c.env.Start(c.command(name, s.Command))
		if s.Restart == "on-failure" {
			require.Zero(t, p.Wait(time.Minute), "%s: %s", name, p.Tail(20))
			return
		}
		running[name] = p
	}
	for _, name := range slices.Sorted(maps.Keys(c.file.Services)) {
		start(name)
	}
	return running
}

// waitHealthy asks what the service's health check asks, without curl, which this machine may not have.
func (c container) waitHealthy(service string) {
	c.env.TB.Helper()
	test := c.file.Services[service].Healthcheck.Test
	url := c.rewrite(service, test[len(test)-1])
	client := http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	c.env.Until(time.Minute, service+" is healthy", func() error {
		resp, err := client.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode >= 400 {
			return fmt.Errorf("%s: %s", url, resp.Status)
		}
		return nil
	})
}

func TestComposeServicesMakeAClusterThatAnswersPsql(t *testing.T) {
	env := testenv.New(t)
	file, root := readCompose(t)
	c := container{env: env, file: file, root: root, prefix: fmt.Sprintf("127.%d.%d.", 1+rand.IntN(254), rand.IntN(256))}
	env.Mkdir("bin", 0o755, nil)
	require.NoError(t, os.Symlink(env.Binary(), env.Path("bin", "orchestrator")))
	env.Mkdir("containers", 0o755, nil)
	for volume := range file.Volumes {
		env.Mkdir(filepath.Join("volumes", volume), 0o755, nil)
	}
	for service, s := range file.Services {
		for _, cfg := range s.Configs {
			spec, err := os.ReadFile(filepath.Join(root, file.Configs[cfg.Source].File))
			require.NoError(t, err)
			// The router's own address in place of all of its container's.
			text := strings.ReplaceAll(string(spec), "0.0.0.0", strings.Replace(file.Services["router"].address(), "10.231.0.", c.prefix, 1))
			env.WriteFile(filepath.Base(cfg.Target), c.rewrite(service, text), 0o644)
		}
	}
	exec := func(argv ...string) testenv.Result { return env.Run(time.Minute, c.command("router", argv), "") }

	for round := range 2 { // `docker compose up` again is harmless, and finds the data
		running := c.up(t)
		for name, s := range file.Services {
			if !s.Healthcheck.Disable {
				c.waitHealthy(name)
			}
		}
		env.Until(time.Minute, "psql works in the router's container", func() error {
			r := exec("orchestrator", "psql", "-X", "-A", "-t", "-c",
				"CREATE TABLE IF NOT EXISTS rounds (n int); INSERT INTO rounds VALUES (1)", "-c", "SELECT count(*) FROM rounds")
			if r.Code != 0 {
				return fmt.Errorf("%s", r)
			}
			if !strings.HasSuffix(strings.TrimSpace(r.Stdout), fmt.Sprint(round+1)) {
				t.Fatalf("round %d: %s", round, r)
			}
			return nil
		})
		env.Until(time.Minute, "nothing is in error", func() error {
			if r := exec("orchestrator", "status"); r.Code != 0 {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
		connstr := exec("orchestrator", "connstr", "--show-password")
		require.Zero(t, connstr.Code, connstr)
		require.Equal(t, "1", env.Psql(strings.TrimSpace(connstr.Stdout), "-c", "SELECT 1"))
		for _, name := range []string{"router", "coord1", "coord2", "coord3", "worker1", "worker2", "serve", "etcd1", "etcd2", "etcd3"} {
			running[name].Stop(30 * time.Second)
		}
		require.Empty(t, env.Processes())
	}
}
