package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store"
)

// change is one value of the spec that differs.
type change struct {
	Key string `json:"key"`
	// From and To are empty where the key is not there.
	From string `json:"from"`
	To   string `json:"to"`
}

// edited is what an edit has done, or would do.
type edited struct {
	Cluster  string   `json:"cluster"`
	Revision int64    `json:"revision"`
	Stored   bool     `json:"stored"`
	Changes  []change `json:"changes"`

	before, after cluster.Spec
}

// maxEdits bounds how often an edit is tried again after somebody else's.
const maxEdits = 10

// edit changes the agreed spec: next gets what is agreed and gives the completed spec that shall be. When
// somebody else changes the spec meanwhile, next is asked again with theirs. Nothing is written with dryRun, nor
// when nothing changes.
func (h *handle) edit(ctx context.Context, dryRun bool, next func(cluster.Snapshot, cluster.Spec) (cluster.Spec, error)) (edited, error) {
	for range maxEdits {
		e, err := h.tryEdit(ctx, dryRun, next)
		if !errors.Is(err, store.ErrConflict) {
			return e, err
		}
		if err := h.reload(ctx); err != nil {
			return edited{}, err
		}
	}
	return edited{}, fmt.Errorf("the spec was changed by others %d times while this was tried: try again", maxEdits)
}

func (h *handle) tryEdit(ctx context.Context, dryRun bool, next func(cluster.Snapshot, cluster.Spec) (cluster.Spec, error)) (edited, error) {
	before, err := h.Spec()
	if err != nil {
		return edited{}, err
	}
	after, err := next(h.Snapshot, before)
	if err != nil {
		return edited{}, err
	}
	if err := before.CheckChange(after); err != nil {
		return edited{}, err
	}
	changes, err := diff(before, after)
	if err != nil {
		return edited{}, err
	}
	e := edited{Cluster: h.name, Revision: h.Snapshot.SpecRevision, Changes: changes, before: before, after: after}
	if dryRun || len(changes) == 0 {
		return e, nil
	}
	put, err := state.PutSpec(after)
	if err != nil {
		return edited{}, err
	}
	tx := store.Tx{If: []store.Compare{state.SpecUnchanged(h.Snapshot.SpecRevision)}, Put: []store.Put{put}}
	for _, id := range shrunk(before, after) { // the leader may be choosing the primary just now
		tx.If = append(tx.If, state.GroupUnchanged(id, h.Snapshot.GroupRevision[id]))
	}
	e.Revision, err = h.Store.Commit(ctx, tx)
	if errors.Is(err, store.ErrUnavailable) {
		return edited{}, fmt.Errorf("store the spec: %w; whether it was stored is not known: look with `orchestrator config show`", err)
	}
	if err != nil {
		return edited{}, fmt.Errorf("store the spec: %w", err)
	}
	e.Stored = true
	return e, nil
}

// shrunk lists the groups that lose a node.
func shrunk(before, after cluster.Spec) []int {
	var ids []int
	for _, g := range before.Groups {
		for _, n := range g.Nodes {
			if _, in, ok := after.NodeOf(n.Name); !ok || in.ID != g.ID {
				ids = append(ids, g.ID)
				break
			}
		}
	}
	return ids
}

// diff lists the values that differ, by key. List elements that have a name or id are told by it, so that one
// that comes or goes does not shift the others.
func diff(before, after cluster.Spec) ([]change, error) {
	was, err := flatten(before)
	if err != nil {
		return nil, err
	}
	is, err := flatten(after)
	if err != nil {
		return nil, err
	}
	keys := map[string]bool{}
	for k := range was {
		keys[k] = true
	}
	for k := range is {
		keys[k] = true
	}
	changes := []change{}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if was[k] != is[k] {
			changes = append(changes, change{k, was[k], is[k]})
		}
	}
	return changes, nil
}

// flatten gives the single values of a spec by key.
func flatten(s cluster.Spec) (map[string]string, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	out := map[string]string{}
	flattenInto(out, "", v)
	return out, nil
}

func flattenInto(out map[string]string, path string, v any) {
	switch t := v.(type) {
	case map[string]any:
		for k, e := range t {
			at := k
			if path != "" {
				at = path + "." + k
			}
			flattenInto(out, at, e)
		}
	case []any:
		for i, e := range t {
			flattenInto(out, path+"["+elementName(i, e)+"]", e)
		}
	case nil:
	default:
		out[path] = fmt.Sprint(t)
	}
}

// elementName tells a list element by its name or id, or by its place.
func elementName(i int, e any) string {
	if m, ok := e.(map[string]any); ok {
		for _, k := range []string{"name", "id"} {
			if v, ok := m[k]; ok {
				return fmt.Sprint(v)
			}
		}
	}
	return strconv.Itoa(i)
}
