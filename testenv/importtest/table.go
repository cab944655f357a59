package importtest

// Table is the level of every package, with the imports that are allowed beyond the level's own. A new line
// under Also wants a reason that a reader accepts.
func Table() map[string]Rule {
	return map[string]Rule{
		"cmd":     {Level: Wiring},
		"testenv": {Level: Wiring},

		"orchestrator/cluster": {Level: Leaf},
		"sql":                  {Level: Leaf},

		"failover":               {Level: Core},
		"coordinator/route":      {Level: Core},
		"coordinator/statement":  {Level: Core},
		"orchestrator/reconcile": {Level: Core},
		"orchestrator/rebalance": {Level: Core},
		"orchestrator/store":     {Level: Core},
		// The agreed state is decoded from what the store's interface hands out.
		"orchestrator/state": {Level: Core, Also: []string{"orchestrator/store"}},

		"orchestrator/store/etcdstore": {Level: Adapter, Also: []string{"orchestrator/store/etcdlog"}},
		"orchestrator/store/etcdlog":   {Level: Adapter},
		"orchestrator/store/memstore":  {Level: Adapter},
		"orchestrator/store/storetest": {Level: Adapter},
		"orchestrator/etcdserver":      {Level: Adapter, Also: []string{"orchestrator/store/etcdlog"}},
		"orchestrator/specfile":        {Level: Adapter},
		"orchestrator/secret":          {Level: Adapter},
		"orchestrator/telemetry":       {Level: Adapter},
		"failover/guard":               {Level: Adapter},
		"coordinator/wire":             {Level: Adapter},
		"coordinator/catalog":          {Level: Adapter},
		"worker":                       {Level: Adapter},
		"replication/logical":          {Level: Adapter},
		"coordinator/roles":            {Level: Adapter},
		// A server connection is made and kept with the protocol's own words.
		"coordinator/pool": {Level: Adapter, Also: []string{"coordinator/wire"}},
		// A server is started through its guard and stopped by it.
		"replication/physical": {Level: Adapter, Also: []string{"failover/guard"}},

		"orchestrator":          {Level: Service},
		"orchestrator/agent":    {Level: Service},
		"orchestrator/election": {Level: Service},
		"orchestrator/session":  {Level: Service},
		// What the leader does lasts as long as its leadership, whose commit fences each write.
		"orchestrator/control": {Level: Service, Also: []string{"orchestrator/election"}},
		"replication/move":     {Level: Service},
		// The router's bytes are frames of wire on connections of pool; an interface between them would cost an
		// indirect call for each message.
		"coordinator/router": {Level: Service, Also: []string{"coordinator/wire", "coordinator/pool"}},
		// The console speaks the protocol.
		"coordinator/console": {Level: Service, Also: []string{"coordinator/wire"}},
	}
}

// Externals are the libraries that have one place.
func Externals() []External {
	return []External{
		{
			Path: "github.com/jackc/pgproto3/v2", By: []string{"coordinator/wire"},
			Why: "it panics on hostile input and stands behind wire's own checks",
		},
		{
			Path: "go.etcd.io/etcd", By: []string{"orchestrator/store/etcdstore", "orchestrator/etcdserver", "testenv"},
			Why: "the agreed state is reached through orchestrator/store",
		},
		{
			Path: "github.com/pganalyze/pg_query_go", By: []string{"coordinator/statement"},
			Why: "statements are understood in one place",
		},
		{
			Path: "go.yaml.in/yaml", By: []string{"orchestrator/specfile", "cmd", "testenv"},
			Why: "a spec is read in one place",
		},
		{Path: "github.com/spf13", By: []string{"cmd"}, Why: "commands are wiring"},
		{Path: "github.com/lmittmann/tint", By: []string{"cmd"}, Why: "the form of the log is main's business"},
		{Path: "go.uber.org/zap", By: []string{"orchestrator/store/etcdlog", "orchestrator/store/etcdstore", "orchestrator/etcdserver", "testenv"}, Why: "we log with slog; zap is etcd's"},
		{
			Path: "github.com/jackc/pglogrepl", By: []string{"replication/logical"},
			Why: "its parser panics on malformed input and stands behind a recover there",
		},
		{
			Path: "testing", By: []string{"testenv", "orchestrator/store/storetest"},
			Why: "shipped code does not know that it is tested",
		},
	}
}
