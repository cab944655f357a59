package state

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/store"
)

// KeepEvents is how many events the leader keeps.
const KeepEvents = 200

// Append adds events to tx, oldest first, and deletes the oldest of those in st so that at most keep remain. An
// event that would push out another of the same tx is still written; the next Append deletes it.
func Append(tx *store.Tx, st store.State, keep int, events ...cluster.Event) error {
	taken := map[string]bool{}
	for _, p := range tx.Put {
		taken[p.Key] = true
	}
	for _, e := range events {
		n := 0
		key := History(e.At, n)
		for taken[key] || st.Items[key].Modified != 0 {
			n++
			key = History(e.At, n)
		}
		taken[key] = true
		p, err := put(key, e, 0)
		if err != nil {
			return fmt.Errorf("append to history: %w", err)
		}
		tx.Put = append(tx.Put, p)
	}
	old := historyKeys(st)
	surplus := len(old) + len(events) - keep
	room := store.MaxOps - len(tx.Put) - len(tx.Delete)
	tx.Delete = append(tx.Delete, old[:max(min(surplus, len(old), room), 0)]...)
	return nil
}

// Events lists the history, newest last. Events that do not parse come with their raw text as message, so that
// nothing in a history is hidden.
func Events(st store.State) []cluster.Event {
	keys := historyKeys(st)
	events := make([]cluster.Event, len(keys))
	for i, key := range keys {
		if err := json.Unmarshal(st.Items[key].Value, &events[i]); err != nil {
			events[i] = cluster.Event{Kind: "unreadable", Message: fmt.Sprintf("%s: %s", key, st.Items[key].Value)}
		}
	}
	return events
}

func historyKeys(st store.State) []string {
	keys := slices.Collect(maps.Keys(st.Items))
	keys = slices.DeleteFunc(keys, func(k string) bool { return !strings.HasPrefix(k, history) })
	slices.Sort(keys)
	return keys
}
