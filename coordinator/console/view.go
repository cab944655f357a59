package console

import (
	"context"
	"encoding/json"
	"sort"
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// Source gives what is shown. Both methods are called by many goroutines, and answer at once from memory.
type Source interface {
	Snapshot() cluster.Snapshot
	Router() View
}

// View is a router at one moment, as plain values. Zero times are shown as NULL.
type View struct {
	// ID is the router's name among all routers.
	ID string
	// Servers are the coordinators as the routing table has them.
	Servers []Server
	Pools   []Pool
	// Connections are the connections to servers.
	Connections []Connection
	Clients     []Client
	Stats       []Stat
	Settings    []Setting
	// Route tells where the statements of a string would go for a session with the default settings, without
	// sending them; nil if the router cannot tell.
	Route func(ctx context.Context, sql string) ([]Routed, error)
}

// Server is a coordinator in the routing table.
type Server struct {
	Name, Address string // address: host:port
	// Role is the agreed one; Says is the server's own word, RoleUnknown while it cannot be asked.
	Role, Says cluster.Role
	// Eligible: it serves reads (a standby), or writes (the primary). Reason says why not.
	Eligible bool
	Reason   string
	// LagKnown tells that the lag holds; otherwise LagBytes and LagTime are what was last known, or zero.
	LagKnown  bool
	LagBytes  uint64
	LagTime   time.Duration
	Stalled   time.Duration
	SystemID  string
	Timeline  uint32
	LSN       cluster.LSN
	Receiving bool
	Weight    int
	// InFlight is the number of the router's statements under way there.
	InFlight int
	// SampledAt is when its position was last seen.
	SampledAt time.Time
}

// Pool is the pool of connections to one node for one user and database.
type Pool struct {
	Node, Database, User string
	// ClientsActive are served now; ClientsWaiting wait for a connection.
	ClientsActive, ClientsWaiting int
	// ServersActive, ServersIdle and ServersLogin are the connections in use, not in use, and being made.
	ServersActive, ServersIdle, ServersLogin int
	// Size is the most connections that the pool makes.
	Size int
	// MaxWait is how long the first of the waiting clients has waited.
	MaxWait time.Duration
	// Mode is "transaction".
	Mode string
}

// Connection is a connection to a server.
type Connection struct {
	Node, Address, User, Database string
	// State is "active", "idle" or "login".
	State       string
	ConnectedAt time.Time
	// RequestedAt is when it was last used.
	RequestedAt time.Time
	PID         uint32
	Statements  int
	// Client is the ID of the client that it serves; 0 for none.
	Client uint64
	TLS    string
}

// Client is a client connection.
type Client struct {
	ID             uint64
	User, Database string
	// State is "active", "waiting" or "idle".
	State       string
	Address     string // host:port
	ConnectedAt time.Time
	// RequestedAt is when its last statement came; Wait is how long that has been waiting for a server.
	RequestedAt time.Time
	Wait        time.Duration
	// Transaction is the status byte that it was last told: 'I', 'T' or 'E'.
	Transaction byte
	// Node and ServerPID are where its statements run now; empty between transactions.
	Node      string
	ServerPID uint32
	// Pinned says why the client keeps its server connection; empty when it does not.
	Pinned string
	// LastRoute says where the last statement went, and why.
	LastRoute   string
	Statements  int // prepared
	TLS         string
	Application string
}

// Stat counts since the router's start. Database is the one that is counted, "*" for all together.
type Stat struct {
	Database                           string
	Transactions, Queries              uint64
	ReadsStandby, ReadsPrimary, Writes uint64
	Received, Sent                     uint64 // bytes, from and to clients
}

// Setting is one line of SHOW config.
type Setting struct {
	Key, Value, Default string
	// Changeable: a change is taken up without a restart.
	Changeable bool
}

// Routed is where one statement would go.
type Routed struct {
	Statement string
	// Class is what the statement is taken for ("read", "write", …).
	Class string
	// Node and Address are where it would go; empty when there is no server for it.
	Node, Address string
	Reason        string
}

// Settings gives the lines of SHOW config for a router's part of the spec, with the spec's own keys
// ("router.reads.max_lag"), by which they are changed, in their order.
func Settings(r cluster.Router) []Setting {
	values, defaults := map[string]string{}, map[string]string{}
	flatten("router", tree(r), values)
	flatten("router", tree(cluster.Spec{}.WithDefaults().Router), defaults)
	fixed := map[string]bool{
		"router.listen": true, "router.admin": true, "router.monitor": true, "router.tls_cert": true, "router.tls_key": true,
	}
	settings := make([]Setting, 0, len(values))
	for k, v := range values {
		settings = append(settings, Setting{Key: k, Value: v, Default: defaults[k], Changeable: !fixed[k]})
	}
	sort.Slice(settings, func(i, j int) bool { return settings[i].Key < settings[j].Key })
	return settings
}

// tree is a value as JSON has it.
func tree(r cluster.Router) any {
	b, err := json.Marshal(r)
	if err != nil {
		return nil // cannot be: the spec is stored as JSON
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return nil
	}
	return v
}

func flatten(key string, v any, into map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			flatten(key+"."+k, inner, into)
		}
	case string:
		into[key] = v
	case nil:
	default:
		b, err := json.Marshal(v)
		if err == nil {
			into[key] = string(b)
		}
	}
}
