package physical

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/multicoord/multicoord/failover/guard"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

func TestWhatNeedsARestartIsReportedAndTheRestReloaded(t *testing.T) {
	l := newLab(t)
	ctx := l.ctx()
	p := l.primary("a-1")
	conn := l.connect(p)
	set := Settings{Role: cluster.Primary, Parameters: fast()}
	changed, err := p.Configure(ctx, set)
	require.NoError(t, err)
	require.False(t, changed, "the same again changes nothing")
	set.Parameters["max_connections"] = "150"
	set.Parameters["work_mem"] = "5MB"
	set.Parameters["search_path"] = `"it's", public`
	set.HBA = []string{"host all all 10.0.0.0/8 reject"}
	changed, err = p.Configure(ctx, set)
	require.NoError(t, err)
	require.True(t, changed)
	require.NoError(t, p.Reload(ctx))
	eventually(t, 10*time.Second, "it is reported", func() bool {
		o, err := p.Observe(ctx, conn)
		require.NoError(t, err)
		return len(o.PendingRestart) == 1 && o.PendingRestart[0] == "max_connections"
	})
	var workMem, path string
	require.NoError(t, l.connect(p).QueryRow(ctx, "SELECT current_setting('work_mem'), current_setting('search_path')").Scan(&workMem, &path))
	require.Equal(t, "5MB", workMem)
	require.Equal(t, `"it's", public`, path)
	var rule string
	require.NoError(t, l.connect(p).QueryRow(ctx, "SELECT auth_method FROM pg_hba_file_rules ORDER BY line_number LIMIT 1").Scan(&rule))
	require.Equal(t, "reject", rule, "the spec's lines come first")
	require.NoError(t, p.Stop(ctx, guard.Fast, 10*time.Second))
	require.NoError(t, p.Start(ctx, 1, hour()))
	o, err := p.Observe(ctx, l.connect(p))
	require.NoError(t, err)
	require.Empty(t, o.PendingRestart)
	t.Run("and so is a new port", func(t *testing.T) {
		cfg := p.cfg
		cfg.Port = freePort(t)
		o, err := New(cfg).Observe(ctx, l.connect(p))
		require.NoError(t, err)
		require.Equal(t, []string{"port"}, o.PendingRestart)
	})
}

func TestALTERSYSTEMCannotBreakTheNode(t *testing.T) {
	l := newLab(t)
	ctx := l.ctx()
	p := l.primary("a-1")
	conn := l.connect(p)
	for _, sql := range []string{
		"ALTER SYSTEM SET port = 1", "ALTER SYSTEM SET listen_addresses = '192.0.2.1'", "ALTER SYSTEM SET wal_level = minimal",
		"ALTER SYSTEM SET hot_standby = off", "ALTER SYSTEM SET unix_socket_directories = '/nonexistent'", "ALTER SYSTEM SET hba_file = '/nonexistent'",
		"ALTER SYSTEM SET logging_collector = off", "ALTER SYSTEM SET log_directory = '/nonexistent'", "ALTER SYSTEM SET primary_conninfo = 'host=nowhere'",
		"ALTER SYSTEM SET recovery_target_xid = '1'", "ALTER SYSTEM SET work_mem = '7MB'", "ALTER SYSTEM SET max_connections = 30",
	} {
		_, err := conn.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	require.NoError(t, p.Stop(ctx, guard.Fast, 10*time.Second))
	require.NoError(t, p.Start(ctx, 1, hour()))
	var workMem, level, conninfo string
	require.NoError(t, l.connect(p).QueryRow(ctx, "SELECT current_setting('work_mem'), current_setting('wal_level'), current_setting('primary_conninfo')").
		Scan(&workMem, &level, &conninfo))
	require.Equal(t, []string{"7MB", "logical", ""}, []string{workMem, level, conninfo}, "what is not managed stays")
}

func TestAStandbyStartsWithMoreThanItsSpecWhereItsPrimaryHasMore(t *testing.T) {
	l := newLab(t)
	ctx := l.ctx()
	p := l.primary("a-1")
	low := map[string]string{"max_connections": "20", "max_wal_senders": "10", "max_worker_processes": "8", "max_locks_per_transaction": "10", "max_prepared_transactions": "0"}
	s := l.standby("a-2", p, low)
	shown := func() string {
		var v string
		require.NoError(t, l.connect(s).QueryRow(ctx, "SELECT current_setting('max_connections')").Scan(&v))
		return v
	}
	require.Equal(t, "100", shown())
	t.Run("whatever ALTER SYSTEM says", func(t *testing.T) {
		_, err := l.connect(s).Exec(ctx, "ALTER SYSTEM SET max_connections = 20")
		require.NoError(t, err)
		require.NoError(t, s.Stop(ctx, guard.Fast, 10*time.Second))
		require.NoError(t, s.Start(ctx, 0, 0))
		require.Equal(t, "100", shown())
	})
	t.Run("and follows when the primary has been lowered", func(t *testing.T) {
		params := fast()
		params["max_connections"] = "50"
		_, err := p.Configure(ctx, Settings{Role: cluster.Primary, Parameters: params})
		require.NoError(t, err)
		require.NoError(t, p.Stop(ctx, guard.Fast, 10*time.Second))
		require.NoError(t, p.Start(ctx, 1, hour()))
		up := l.upstream(p, "a-2")
		eventually(t, 20*time.Second, "the change is replayed", func() bool {
			d, err := s.Inspect(ctx)
			require.NoError(t, err)
			return d.ControlMax["max_connections"] == 50
		})
		_, err = s.Configure(ctx, Settings{Role: cluster.Standby, Parameters: low, Upstream: &up})
		require.NoError(t, err)
		require.NoError(t, s.Stop(ctx, guard.Fast, 10*time.Second))
		require.NoError(t, s.Start(ctx, 0, 0))
		require.Equal(t, "50", shown())
	})
}

func TestBadParametersAreNamedBeforeAnythingIsTouched(t *testing.T) {
	l := newLab(t)
	ctx := l.ctx()
	scratch := filepath.Join(l.dir, "scratch")
	require.NoError(t, os.Mkdir(scratch, 0o755))
	check := func(p map[string]string) error { return checkParametersIn(ctx, scratch, l.bin, l.account, p) }
	require.NoError(t, check(nil), "the defaults")
	require.NoError(t, check(map[string]string{"work_mem": "64MB", "Max_Connections": "200", "my.setting": "it's \\ fine", "shared_preload_libraries": "", "statement_timeout": "30s"}))
	for name, c := range map[string]struct {
		params map[string]string
		want   []string
	}{
		"unknown":         {map[string]string{"max_conections": "1"}, []string{`parameter "max_conections": unrecognized configuration parameter`}},
		"not a number":    {map[string]string{"work_mem": "much"}, []string{`parameter "work_mem": invalid value for parameter "work_mem": "much"`}},
		"out of range":    {map[string]string{"max_connections": "1000000000"}, []string{`outside the valid range for parameter "max_connections" (1 .. 262143)`}},
		"not a choice":    {map[string]string{"synchronous_commit": "maybe"}, []string{`"synchronous_commit": "maybe" (Available values: local,`}},
		"not a time zone": {map[string]string{"TimeZone": "Nowhere"}, []string{`parameter "timezone": invalid value`}},
		"managed":         {map[string]string{"PORT": "1"}, []string{`parameter "PORT": is managed by the orchestrator`}},
		"twice":           {map[string]string{"work_mem": "1MB", "Work_Mem": "2MB"}, []string{"is given twice"}},
		"not a name":      {map[string]string{"a b": "1"}, []string{`parameter "a b": not the name of a setting`}},
		"read-only":       {map[string]string{"block_size": "8192"}, []string{`parameter "block_size"`, "cannot be changed"}},
		"no library":      {map[string]string{"shared_preload_libraries": "pg_stat_statements, nonexistent"}, []string{`there is no library "nonexistent"`}},
		"nobody may in":   {map[string]string{"max_connections": "3"}, []string{`parameter "max_connections": 3 connections, of which 3 are reserved`}},
		"all at once":     {map[string]string{"nonsense": "1", "work_mem": "x", "jit": "perhaps", "lc_messages": "nope"}, []string{`"nonsense"`, `"work_mem"`, `"jit"`, `"lc_messages"`}},
	} {
		t.Run(name, func(t *testing.T) {
			err := check(c.params)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
	left, err := os.ReadDir(scratch)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestHBALinesThatAreAcceptedLoad(t *testing.T) {
	l := newLab(t)
	ctx := l.ctx()
	p := l.primary("a-1")
	set := Settings{Role: cluster.Primary, Parameters: fast(), HBA: []string{
		"host all all 10.0.0.0/8 scram-sha-256",
		"host all all 10.0.0.0 255.0.0.0 md5 # the app",
		"hostssl all all samenet cert clientcert=verify-full",
		"hostssl all all all password clientcert=verify-ca",
		"local all trust peer map=ops",
		"local all , all reject",
		`host "trust" "my user" all reject # no, trust`,
		`hostssl "my ""db""", "other" all .example.com cert`,
		"host a, b all ::1/128 ldap ldapserver=x ldapbasedn=y",
		"host all all all radius radiusservers=x radiussecrets=y",
		"hostgssenc all all all gss include_realm=0 krb_realm=X",
		"host all all all pam pamservice=x pam_use_hostname=1",
	}}
	_, err := p.Configure(ctx, set)
	require.NoError(t, err)
	// That hostssl cannot match without SSL is only logged.
	rows, err := l.connect(p).Query(ctx, "SELECT line_number || ': ' || error FROM pg_hba_file_rules WHERE error NOT LIKE '%SSL is disabled'")
	require.NoError(t, err)
	refused, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Empty(t, refused)

	set.HBA = []string{"local all all peer", "host all all all trust"}
	_, err = p.Configure(ctx, set)
	require.ErrorContains(t, err, `hba[1] "host all all all trust": the method trust`)
	if p.cfg.Bin.Major < 18 {
		set.HBA = []string{"host all all all oauth issuer=x scope=y"}
		_, err = p.Configure(ctx, set)
		require.ErrorContains(t, err, "needs PostgreSQL 18")
	}
}

func TestPostgreSQLReadsWhatWeQuote(t *testing.T) {
	l := newLab(t)
	params := map[string]string{"my.a": "it's", "my.b": `back\slash \n`, "my.c": "two\nlines", "my.d": `"q"`, "my.e": "", "my.f": "# no comment", "my.g": "ünï"}
	dir := filepath.Join(l.dir, "conf")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, l.account.chown(dir))
	_, err := replaceFile(filepath.Join(dir, "postgresql.conf"), confFile("x", params), &l.account)
	require.NoError(t, err)
	for name, value := range params {
		out, err := command{account: l.account, argv: []string{l.bin.program("postgres"), "-D", dir, "-C", name}}.run(l.ctx())
		require.NoError(t, err)
		require.Equal(t, value+"\n", out)
	}
}

func TestALTERSYSTEMFilesAreFiltered(t *testing.T) {
	text := "# Do not edit this file manually!\nwork_mem = '4MB'\nport = '1'\nPrimary_Conninfo = 'host=x'\nmax_connections = '10'\nmy.port = '3'\n"
	kept, dropped := filterAuto(text, false)
	require.Equal(t, "# Do not edit this file manually!\nwork_mem = '4MB'\nmax_connections = '10'\nmy.port = '3'\n", kept)
	require.Equal(t, []string{"port", "primary_conninfo"}, dropped)
	_, dropped = filterAuto(text, true)
	require.Equal(t, []string{"max_connections", "port", "primary_conninfo"}, dropped)
}

func TestNoManagedSettingReachesTheFile(t *testing.T) {
	s := New(Config{Dir: "/x", Node: "a-1", Address: "127.0.0.1", Port: 5432})
	for _, c := range s.commandLine() {
		if c.name == "log_filename" {
			continue
		}
		require.True(t, cluster.ManagedParameter(c.name) || c.name == "unix_socket_group", c.name)
	}
	for name := range defaults(0) {
		if name == "hot_standby_feedback" {
			continue
		}
		require.False(t, cluster.ManagedParameter(name), name)
	}
}

func TestAPrimaryHasASlotAndASenderForEachStandby(t *testing.T) {
	s := New(Config{Dir: "/x", Node: "a-1", Address: "127.0.0.1", Port: 5432})
	for standbys, want := range map[int]string{0: "20", 10: "20", 11: "21", 31: "41"} {
		all, err := s.fileSettings(Settings{Role: cluster.Primary, Standbys: standbys}, nil)
		require.NoError(t, err)
		require.Equal(t, []string{want, want}, []string{all["max_wal_senders"], all["max_replication_slots"]}, standbys)
	}
	all, err := s.fileSettings(Settings{Role: cluster.Primary, Standbys: 31, Parameters: map[string]string{"Max_WAL_Senders": "33"}}, nil)
	require.NoError(t, err)
	require.Equal(t, "33", all["max_wal_senders"], "the spec's goes before")
}

func TestRunFoldersAreFoundByWhoeverLooksForThem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root looks after other users' nodes")
	}
	dir := filepath.Join(t.TempDir(), strings.Repeat("long-", 20), "a-1")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.Equal(t, "/run/multicoord", runDirOf(dir).base, "nobody's yet: ours")
	require.NoError(t, os.WriteFile(filepath.Join(dir, markerFile), []byte("{}"), 0o600))
	ours := runDirOf(dir)
	require.Equal(t, "/run/multicoord", ours.base)
	require.NoError(t, os.Chown(dir, 12345, 12345))
	require.Equal(t, ours, runDirOf(dir), "a folder that an administrator has made is no node's keeper")
	require.NoError(t, os.Chown(filepath.Join(dir, markerFile), 12345, 12345))
	theirs := runDirOf(dir)
	require.Equal(t, "/tmp/multicoord-12345", theirs.base)
	require.Equal(t, filepath.Base(ours.dir), filepath.Base(theirs.dir))
	theirs.base, theirs.dir = filepath.Join(t.TempDir(), "base"), filepath.Join(t.TempDir(), "dir")
	require.NoError(t, theirs.make(Account{}), "root makes folders for their keeper")
	for _, d := range []string{theirs.base, theirs.dir} {
		var st unix.Stat_t
		require.NoError(t, unix.Stat(d, &st))
		require.Equal(t, uint32(12345), st.Uid)
	}
}

func TestAMarkerTellsItsHostUnlessItIsOld(t *testing.T) {
	cfg := Config{Dir: filepath.Join(t.TempDir(), "a-1"), ClusterID: clusterID, ClusterName: "test", Node: "a-1", Group: 2, Host: "h1"}
	require.NoError(t, New(cfg).claim())
	p, err := PlaceOf(cfg.Dir)
	require.NoError(t, err)
	require.Equal(t, Place{ClusterID: clusterID, Cluster: "test", Node: "a-1", Group: 2, Host: "h1"}, p)
	old := `{"cluster_id": "` + clusterID + `", "cluster": "test", "node": "a-1", "group": 2}`
	require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, markerFile), []byte(old), 0o600))
	p, err = PlaceOf(cfg.Dir)
	require.NoError(t, err)
	require.Empty(t, p.Host)
	require.NoError(t, New(cfg).checkOurs(), "and is still ours")
}

func TestAStandbysSettingsAreNeverBelowItsFloor(t *testing.T) {
	s := New(Config{Dir: "/x", Node: "a-1", Address: "127.0.0.1", Port: 5432})
	rapid.Check(t, func(t *rapid.T) {
		floor := map[string]int{"max_connections": rapid.IntRange(1, 500).Draw(t, "floor")}
		params := map[string]string{"max_connections": strings.Repeat(" ", rapid.IntRange(0, 1).Draw(t, "blank")) + itoa(rapid.IntRange(1, 500).Draw(t, "value"))}
		all, err := s.fileSettings(Settings{Role: cluster.Standby, Parameters: params}, floor)
		if err != nil || atoi(all["max_connections"]) < floor["max_connections"] || atoi(all["max_connections"]) < atoi(params["max_connections"]) {
			t.Fatalf("%v %v", all["max_connections"], err)
		}
	})
}

func TestConnectionStringsHoldNoPassword(t *testing.T) {
	s := New(Config{Dir: `/x y'z\`, Node: "a-1"})
	got := s.conninfo(Upstream{Address: "::1", Port: 5433, Password: "secret"})
	require.True(t, strings.HasPrefix(got, `host='::1' port='5433' user='multicoord_replicator' passfile='/x y\'z\\/pgpass' application_name='a-1'`), got)
	require.NotContains(t, got, "secret")
}
