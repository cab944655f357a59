package state

import (
	"encoding/json"
	"fmt"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/store"
)

// Encode is the form in which a value of package cluster is stored. It errs only for values that JSON cannot
// express, such as a time after the year 9999.
func Encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return b, nil
}

func put(key string, v any, lease int64) (store.Put, error) {
	b, err := Encode(v)
	if err != nil {
		return store.Put{}, fmt.Errorf("key %q: %w", key, err)
	}
	return store.Put{Key: key, Value: b, Lease: lease}, nil
}

// PutSpec writes the spec.
func PutSpec(s cluster.Spec) (store.Put, error) { return put(Spec, s, 0) }

// PutSecrets writes the sealed passwords.
func PutSecrets(sealed []byte) store.Put { return store.Put{Key: Secrets, Value: sealed} }

// PutLeader writes the leader's name, on its lease.
func PutLeader(l cluster.LeaderStatus, lease int64) (store.Put, error) { return put(Leader, l, lease) }

// PutGroup writes a group's state.
func PutGroup(g cluster.GroupState) (store.Put, error) { return put(Group(g.ID), g, 0) }

// PutGrant writes the right to be primary, on its lease.
func PutGrant(g cluster.Grant, lease int64) (store.Put, error) { return put(Grant(g.Group), g, lease) }

// PutNode writes a node's report, on its agent's lease.
func PutNode(n cluster.NodeStatus, lease int64) (store.Put, error) {
	return put(Node(n.Name), n, lease)
}

// PutAgent writes an agent's report, on its lease.
func PutAgent(a cluster.AgentStatus, lease int64) (store.Put, error) {
	return put(Agent(a.Host), a, lease)
}

// PutRouter writes a router's report, on its lease.
func PutRouter(r cluster.RouterStatus, lease int64) (store.Put, error) {
	return put(Router(r.ID), r, lease)
}

// GroupUnchanged is the comparison that a group's state was last changed at the given revision
// (cluster.Snapshot.GroupRevision; 0: it does not exist yet).
func GroupUnchanged(id int, revision int64) store.Compare {
	return store.Compare{Key: Group(id), Kind: store.Modified, Revision: revision}
}

// SpecUnchanged is the comparison that the spec was last changed at the given revision (0: it does not exist yet).
func SpecUnchanged(revision int64) store.Compare {
	return store.Compare{Key: Spec, Kind: store.Modified, Revision: revision}
}
