package etcdstore_test

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/multicoord/multicoord/orchestrator/store"
	"github.com/multicoord/multicoord/orchestrator/store/etcdstore"
	"github.com/multicoord/multicoord/orchestrator/store/memstore"
	"github.com/multicoord/multicoord/orchestrator/store/storetest"
)

func opener(cfg etcdstore.Config) func(*testing.T) store.Store {
	return func(t *testing.T) store.Store {
		t.Helper()
		return open(t, cfg)
	}
}

func TestConformanceEmbedded(t *testing.T) {
	t.Parallel()
	where := embedded(t)
	storetest.Run(t, opener(etcdstore.Config{Endpoints: where}), storetest.Parallel)
}

func TestConformanceThreeMembersOfTheDistribution(t *testing.T) {
	t.Parallel()
	cfg := etcdstore.Config{Endpoints: endpoints(external(t, 3, "http"))}
	ready(t, cfg)
	storetest.Run(t, opener(cfg), storetest.Parallel)
}

// Both stores give the same outcome and, up to the numbers of revisions, the same state for any sequence of commits.
func TestMemoryAndEtcdAgree(t *testing.T) {
	t.Parallel()
	where := embedded(t)
	rapid.Check(t, func(rt *rapid.T) {
		ctx := t.Context()
		mem := memstore.New()
		etcd, err := etcdstore.Open(ctx, etcdstore.Config{Endpoints: where, Prefix: freshPrefix()})
		if err != nil {
			rt.Fatal(err)
		}
		defer etcd.Close()
		stores := []store.Store{mem, etcd}
		var leases [2][]store.Lease
		for range 2 {
			for i, s := range stores {
				l, err := s.Lease(ctx, time.Hour)
				if err != nil {
					rt.Fatal(err)
				}
				leases[i] = append(leases[i], l)
			}
		}
		keys := rapid.SampledFrom([]string{"a", "b", "c"})
		rt.Repeat(map[string]func(*rapid.T){
			"commit": func(rt *rapid.T) {
				// A comparison is with the present revision of its key, with that of another key, or with none.
				type compare struct {
					Key, With string
					Kind      store.CompareKind
					Zero      bool
				}
				ifs := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) compare {
					c := compare{Key: keys.Draw(rt, "if"), Kind: store.CompareKind(rapid.IntRange(0, 1).Draw(rt, "kind")), Zero: rapid.Bool().Draw(rt, "zero")}
					c.With = c.Key
					if rapid.IntRange(0, 4).Draw(rt, "stray") == 0 {
						c.With = keys.Draw(rt, "with")
					}
					return c
				}), 1, 2).Draw(rt, "ifs")
				writes := rapid.SliceOfNDistinct(keys, 1, 3, rapid.ID).Draw(rt, "writes")
				deletes := rapid.IntRange(0, len(writes)).Draw(rt, "deletes")
				value, on := rapid.StringN(0, 3, 8).Draw(rt, "value"), rapid.IntRange(-1, 1).Draw(rt, "lease")
				var outcomes [2]string
				for i, s := range stores {
					st, err := s.Load(ctx)
					if err != nil {
						rt.Fatal(err)
					}
					var tx store.Tx
					for _, c := range ifs {
						rev := st.Items[c.With].Modified
						if c.Kind == store.Created {
							rev = st.Items[c.With].Created
						}
						if c.Zero {
							rev = 0
						}
						tx.If = append(tx.If, store.Compare{Key: c.Key, Kind: c.Kind, Revision: rev})
					}
					for n, key := range writes {
						if n < deletes {
							tx.Delete = append(tx.Delete, key)
							continue
						}
						p := store.Put{Key: key, Value: []byte(value)}
						if on >= 0 {
							p.Lease = leases[i][on].ID()
						}
						tx.Put = append(tx.Put, p)
					}
					_, err = s.Commit(ctx, tx)
					outcomes[i] = outcome(err)
				}
				if outcomes[0] != outcomes[1] {
					rt.Fatalf("memory: %s, etcd: %s", outcomes[0], outcomes[1])
				}
			},
			"revoke": func(rt *rapid.T) {
				n := rapid.IntRange(0, 1).Draw(rt, "lease")
				for i := range stores {
					if err := leases[i][n].Revoke(ctx); err != nil {
						rt.Fatal(err)
					}
				}
			},
			"": func(rt *rapid.T) {
				var shapes [2]map[string]shape
				for i, s := range stores {
					st, err := s.Load(ctx)
					if err != nil {
						rt.Fatal(err)
					}
					shapes[i] = shapeOf(st, leases[i])
				}
				if d := cmp.Diff(shapes[0], shapes[1]); d != "" {
					rt.Fatalf("memory - etcd +:\n%s", d)
				}
			},
		})
	})
}

func outcome(err error) string {
	for _, sentinel := range []error{nil, store.ErrConflict, store.ErrLeaseLost} {
		if err == nil && sentinel == nil {
			return "done"
		}
		if sentinel != nil && assertIs(err, sentinel) {
			return sentinel.Error()
		}
	}
	return err.Error()
}

func assertIs(err, target error) bool { return assert.ErrorIs(quiet{}, err, target) }

type quiet struct{}

func (quiet) Errorf(string, ...any) {}

// shape is an item with revisions by rank instead of number.
type shape struct {
	Value             string
	Created, Modified int
	Lease             int
}

func shapeOf(st store.State, leases []store.Lease) map[string]shape {
	revs := map[int64]bool{}
	for _, it := range st.Items {
		revs[it.Created], revs[it.Modified] = true, true
	}
	rank := slices.Sorted(maps.Keys(revs))
	shapes := map[string]shape{}
	for key, it := range st.Items {
		created, _ := slices.BinarySearch(rank, it.Created)
		modified, _ := slices.BinarySearch(rank, it.Modified)
		shapes[key] = shape{
			Value: string(it.Value), Created: created, Modified: modified,
			Lease: slices.IndexFunc(leases, func(l store.Lease) bool { return l.ID() == it.Lease }),
		}
	}
	return shapes
}

func create(t *testing.T, s store.Store, key, value string) {
	t.Helper()
	_, err := s.Commit(t.Context(), store.Tx{If: []store.Compare{{Key: key}}, Put: []store.Put{{Key: key, Value: []byte(value)}}})
	require.NoError(t, err)
}

func TestClustersUnderOtherPrefixesAreNotSeen(t *testing.T) {
	t.Parallel()
	where := embedded(t)
	one := open(t, etcdstore.Config{Endpoints: where, Prefix: "/multicoord/a"})
	two := open(t, etcdstore.Config{Endpoints: where, Prefix: "/multicoord/ab/"})
	create(t, one, "spec", "one")
	create(t, two, "spec", "two")
	for s, want := range map[store.Store]string{one: "one", two: "two"} {
		st, err := s.Load(t.Context())
		require.NoError(t, err)
		require.Len(t, st.Items, 1)
		assert.Equal(t, want, string(st.Items["spec"].Value))
	}
}

func TestWatchGoesOnAfterEtcdWasKilledAndCompacted(t *testing.T) {
	t.Parallel()
	p := external(t, 1, "http")[0]
	cfg := etcdstore.Config{Endpoints: []string{p.Endpoint}, Prefix: freshPrefix()}
	ready(t, cfg)
	log := &buffer{}
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	s := open(t, cfg)
	create(t, s, "before", "1")
	states := s.Watch(t.Context())
	storetest.Next(t, states, func(st store.State) bool { return len(st.Items) == 1 })

	p.kill()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := s.Load(ctx)
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorContains(t, err, p.Endpoint)
	p.start()
	ready(t, cfg)

	// Another client changes and compacts before the watch can have followed.
	other := open(t, cfg)
	create(t, other, "after", "1")
	_, err = admin(t, p.Endpoint).Compact(t.Context(), 3)
	require.NoError(t, err)
	st := storetest.Next(t, states, func(st store.State) bool { return len(st.Items) == 2 })
	assert.Equal(t, "1", string(st.Items["after"].Value))
	create(t, other, "later", "1")
	storetest.Next(t, states, func(st store.State) bool { return len(st.Items) == 3 })
}

func TestWatchLeavesAHungMember(t *testing.T) {
	t.Parallel()
	ps := external(t, 3, "http")
	cfg := etcdstore.Config{Endpoints: endpoints(ps), Prefix: freshPrefix()}
	ready(t, cfg)
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	// Watches are spread over the members: with six, each member has some.
	s := open(t, cfg)
	var watches []<-chan store.State
	for range 6 {
		states := s.Watch(t.Context())
		storetest.Next(t, states, func(store.State) bool { return true })
		watches = append(watches, states)
	}
	ps[0].signal(syscall.SIGSTOP)
	defer ps[0].signal(syscall.SIGCONT)
	others := etcdstore.Config{Endpoints: endpoints(ps[1:]), Prefix: cfg.Prefix}
	ready(t, others) // they may have to elect a leader
	writer := open(t, others)
	await(t, func(ctx context.Context) error {
		_, err := writer.Commit(ctx, store.Tx{If: []store.Compare{{Key: "k"}}, Put: []store.Put{{Key: "k", Value: []byte("1")}}})
		if assertIs(err, store.ErrConflict) {
			return nil // an attempt without an answer had been carried out
		}
		return err
	})
	began := time.Now()
	for _, states := range watches {
		storetest.Next(t, states, func(st store.State) bool { return len(st.Items) == 1 })
	}
	assert.Less(t, time.Since(began), 10*time.Second)
	t.Log("all watches saw the change after", time.Since(began))
}

func TestLeaseIsRenewedWhileOneOfThreeMembersHangs(t *testing.T) {
	t.Parallel()
	ps := external(t, 3, "http")
	cfg := etcdstore.Config{Endpoints: endpoints(ps), Prefix: freshPrefix()}
	ready(t, cfg)
	s := open(t, cfg)
	l, err := s.Lease(t.Context(), 5*time.Second)
	require.NoError(t, err)
	ps[2].signal(syscall.SIGSTOP)
	defer ps[2].signal(syscall.SIGCONT)
	last, end := time.Now(), time.Now().Add(12*time.Second)
	tick := time.NewTicker(l.TTL() / 10)
	defer tick.Stop()
	for time.Now().Before(end) {
		<-tick.C
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), l.TTL()/3)
		err := l.Renew(ctx)
		cancel()
		require.NotErrorIs(t, err, store.ErrLeaseLost)
		if err == nil {
			last = began
		}
		require.Less(t, time.Since(last), l.TTL(), "not renewed for the whole TTL: %v", err)
	}
}

func TestMembers(t *testing.T) {
	t.Parallel()
	t.Run("the embedded one", func(t *testing.T) {
		members, err := open(t, etcdstore.Config{Endpoints: embedded(t)}).Members(t.Context())
		require.NoError(t, err)
		require.Len(t, members, 1)
		m := members[0]
		assert.True(t, m.Healthy, m.Err)
		assert.True(t, m.Leader)
		assert.NotEmpty(t, m.Version)
		assert.Positive(t, m.DBSize)
	})
	t.Run("three, one of them dead", func(t *testing.T) {
		ps := external(t, 3, "http")
		cfg := etcdstore.Config{Endpoints: endpoints(ps)}
		ready(t, cfg)
		s := open(t, cfg)
		ps[1].kill()
		var members []etcdstore.Member
		await(t, func(ctx context.Context) (err error) {
			members, err = s.Members(ctx)
			return err
		})
		require.Len(t, members, 3)
		healthy := 0
		for _, m := range members {
			if m.Healthy {
				healthy++
				assert.Equal(t, "3.4", m.Version[:3])
			} else {
				assert.Equal(t, "m1", m.Name)
				assert.NotEmpty(t, m.Err)
			}
		}
		assert.Equal(t, 2, healthy)
	})
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	port := freePorts(t, 1)[0]
	where := "http://127.0.0.1:" + itoa(port)
	began := time.Now()
	_, err := etcdstore.Open(t.Context(), etcdstore.Config{Endpoints: []string{where}, Prefix: "/x"})
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorContains(t, err, where)
	require.ErrorContains(t, err, "connection refused")
	assert.Less(t, time.Since(began), 3*time.Second, "a refused connection is not waited for")
	_, err = etcdstore.Open(t.Context(), etcdstore.Config{Endpoints: []string{"unix:///nowhere/etcd.sock"}, Prefix: "/x"})
	require.ErrorIs(t, err, store.ErrUnavailable)
	assert.ErrorContains(t, err, "/nowhere/etcd.sock")
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ps := external(t, 1, "http")
	cfg := etcdstore.Config{Endpoints: endpoints(ps), Prefix: "/x", Username: "u", Password: "p"}
	ready(t, etcdstore.Config{Endpoints: endpoints(ps)})
	ps[0].signal(syscall.SIGSTOP)
	defer ps[0].signal(syscall.SIGCONT)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := etcdstore.Open(ctx, cfg)
	require.ErrorIs(t, err, store.ErrUnavailable)
	assert.Less(t, time.Since(began), 2*time.Second)
}

func TestWrongConfigIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  etcdstore.Config
		want string
	}{
		"no endpoint":         {etcdstore.Config{}, "no etcd endpoint"},
		"no scheme":           {etcdstore.Config{Endpoints: []string{"127.0.0.1:2379"}}, "URL such as"},
		"other scheme":        {etcdstore.Config{Endpoints: []string{"ftp://h:1"}}, "must begin with"},
		"path":                {etcdstore.Config{Endpoints: []string{"http://h:1/x"}}, "scheme, host and port"},
		"user in the URL":     {etcdstore.Config{Endpoints: []string{"http://u:secret@h:1"}}, "separately"},
		"relative socket":     {etcdstore.Config{Endpoints: []string{"unix://etcd.sock"}}, "absolute path"},
		"mixed schemes":       {etcdstore.Config{Endpoints: []string{"http://h:1", "https://h:2"}}, "mix"},
		"certificate, no TLS": {etcdstore.Config{Endpoints: []string{"http://h:1"}, CAFile: "ca"}, "use https://"},
		"certificate, no key": {etcdstore.Config{Endpoints: []string{"https://h:1"}, CertFile: "c"}, "together"},
		"user, no password":   {etcdstore.Config{Endpoints: []string{"http://h:1"}, Username: "u"}, "together"},
		"missing CA file":     {etcdstore.Config{Endpoints: []string{"https://h:1"}, CAFile: "/nowhere/ca.pem"}, "/nowhere/ca.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := etcdstore.Open(t.Context(), c.cfg)
			require.ErrorContains(t, err, c.want)
			require.NotErrorIs(t, err, store.ErrUnavailable)
			assert.NotContains(t, err.Error(), "secret")
		})
	}
}
