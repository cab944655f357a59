package store

import (
	"errors"
	"fmt"
	"time"
)

// MaxOps is the most comparisons, and the most puts and deletes together, that one Tx may hold (etcd's default
// for --max-txn-ops). Who has more to write splits it into commits that make sense each by itself.
const MaxOps = 128

// Check refuses a Tx that no store may apply: one without a comparison, one that is too large, one with an empty
// key, or one that names a key in more than one write. Implementations of Store call it first.
func (tx Tx) Check() error {
	if len(tx.If) == 0 {
		return errors.New("commit without a comparison: every write to the agreed state must be fenced")
	}
	if n := len(tx.If); n > MaxOps {
		return fmt.Errorf("commit with %d comparisons; at most %d are possible", n, MaxOps)
	}
	if n := len(tx.Put) + len(tx.Delete); n > MaxOps {
		return fmt.Errorf("commit with %d writes; at most %d are possible", n, MaxOps)
	}
	for _, c := range tx.If {
		if c.Key == "" {
			return errors.New("commit compares an empty key")
		}
		if c.Kind != Modified && c.Kind != Created {
			return fmt.Errorf("commit compares key %q by an unknown kind %d", c.Key, c.Kind)
		}
	}
	seen := make(map[string]bool, len(tx.Put)+len(tx.Delete))
	write := func(key string) error {
		if key == "" {
			return errors.New("commit writes an empty key")
		}
		if seen[key] {
			return fmt.Errorf("commit writes key %q twice", key)
		}
		seen[key] = true
		return nil
	}
	for _, p := range tx.Put {
		if err := write(p.Key); err != nil {
			return err
		}
	}
	for _, key := range tx.Delete {
		if err := write(key); err != nil {
			return err
		}
	}
	return nil
}

// Clone copies a state so that neither map nor values are shared.
func (s State) Clone() State {
	c := State{Revision: s.Revision, Items: make(map[string]Item, len(s.Items))}
	for k, it := range s.Items {
		it.Value = append([]byte(nil), it.Value...)
		c.Items[k] = it
	}
	return c
}

// WholeSeconds rounds a time to live up to whole seconds, at least one: leases know no finer.
func WholeSeconds(ttl time.Duration) time.Duration {
	return max((ttl+time.Second-1)/time.Second, 1) * time.Second
}
