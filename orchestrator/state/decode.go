package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/store"
)

// BrokenError is a value that cannot be understood.
type BrokenError struct {
	Key string
	// Decided: the value is part of what was decided (spec, leader, groups, grants); nothing may be decided or
	// done by a snapshot that lacks it. Otherwise it is a report, and its subject counts as silent.
	Decided bool
	Err     error
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("key %q of the agreed state: %v; look at it with etcdctl, and correct or delete it", e.Key, e.Err)
}

func (e *BrokenError) Unwrap() error { return e.Err }

// Usable tells whether a snapshot that Decode returned together with err may be worked with: nothing that was
// decided is broken.
func Usable(err error) bool {
	if err == nil {
		return true
	}
	errs := []error{err}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		errs = j.Unwrap()
	}
	for _, e := range errs {
		var b *BrokenError
		if !errors.As(e, &b) || b.Decided {
			return false
		}
	}
	return true
}

// Decode turns the store's items into a snapshot. Values that do not parse, or that belong to another key than
// theirs, are left out and reported in the error (a join of *BrokenError); see Usable.
func Decode(st store.State) (cluster.Snapshot, error) {
	s := cluster.Snapshot{
		Revision:      st.Revision,
		Groups:        map[int]cluster.GroupState{},
		GroupRevision: map[int]int64{},
		Grants:        map[int]cluster.Grant{},
		Nodes:         map[string]cluster.NodeStatus{},
		Agents:        map[string]cluster.AgentStatus{},
		Routers:       map[string]cluster.RouterStatus{},
	}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(st.Items)) {
		if decided, err := decodeItem(&s, st.Items[key]); err != nil {
			errs = append(errs, &BrokenError{Key: key, Decided: decided, Err: err})
		}
	}
	return s, errors.Join(errs...)
}

func decodeItem(s *cluster.Snapshot, it store.Item) (decided bool, err error) {
	switch it.Key {
	case Spec:
		spec, err := value[cluster.Spec](it)
		if err == nil {
			s.Spec, s.SpecRevision = &spec, it.Modified
		}
		return true, err
	case Leader:
		l, err := value[cluster.LeaderStatus](it)
		if err == nil {
			s.Leader = &l
		}
		return true, err
	}
	if id, isGrant, ok := groupID(it.Key); ok {
		return true, decodeGroup(s, it, id, isGrant)
	}
	if name, ok := strings.CutPrefix(it.Key, nodes); ok {
		return false, report(it, s.Nodes, name, func(n cluster.NodeStatus) string { return n.Name })
	}
	if host, ok := strings.CutPrefix(it.Key, agents); ok {
		return false, report(it, s.Agents, host, func(a cluster.AgentStatus) string { return a.Host })
	}
	if id, ok := strings.CutPrefix(it.Key, routers); ok {
		return false, report(it, s.Routers, id, func(r cluster.RouterStatus) string { return r.ID })
	}
	return false, nil
}

func decodeGroup(s *cluster.Snapshot, it store.Item, id int, isGrant bool) error {
	if isGrant {
		g, err := value[cluster.Grant](it)
		if err != nil {
			return err
		}
		if g.Group != id {
			return fmt.Errorf("it holds the grant of group %d", g.Group)
		}
		s.Grants[id] = g
		return nil
	}
	g, err := value[cluster.GroupState](it)
	if err != nil {
		return err
	}
	if g.ID != id {
		return fmt.Errorf("it holds the state of group %d", g.ID)
	}
	s.Groups[id], s.GroupRevision[id] = g, it.Modified
	return nil
}

func report[T any](it store.Item, into map[string]T, name string, nameOf func(T) string) error {
	v, err := value[T](it)
	if err != nil {
		return err
	}
	if got := nameOf(v); got != name {
		return fmt.Errorf("it holds the report of %q", got)
	}
	into[name] = v
	return nil
}

func value[T any](it store.Item) (T, error) {
	var v T
	if err := json.Unmarshal(it.Value, &v); err != nil {
		return v, fmt.Errorf("value does not parse: %w", err)
	}
	return v, nil
}

// SealedSecrets gives the sealed passwords and the revision of their last change; nil and 0 before init.
func SealedSecrets(st store.State) (sealed []byte, revision int64) {
	it := st.Items[Secrets]
	return it.Value, it.Modified
}

// LeaseOf is the lease on which a key hangs, 0 if there is none.
func LeaseOf(st store.State, key string) int64 { return st.Items[key].Lease }
