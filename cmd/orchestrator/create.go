package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/secret"
	"github.com/multicoord/multicoord/orchestrator/state"
	"github.com/multicoord/multicoord/orchestrator/store"
)

// createCluster stores the spec of a new cluster, with an ID of its own, and its generated passwords, sealed with the
// key in keyPath, which is made if it does not exist. The spec must be complete. errClusterExists if there is a cluster
// already.
func createCluster(ctx context.Context, st store.Store, spec cluster.Spec, keyPath string) error {
	key, err := secret.LoadOrCreateKey(keyPath)
	if err != nil {
		return err
	}
	if spec.ID == "" {
		spec.ID = uuid.NewString()
	}
	sealed, err := secret.Seal(key, spec.ID, secret.Generate())
	if err != nil {
		return err
	}
	put, err := state.PutSpec(spec)
	if err != nil {
		return err
	}
	_, err = st.Commit(ctx, store.Tx{
		If:  []store.Compare{state.SpecUnchanged(0), {Key: state.Secrets, Kind: store.Created}},
		Put: []store.Put{put, state.PutSecrets(sealed)},
	})
	if errors.Is(err, store.ErrConflict) {
		return errClusterExists
	}
	if err != nil {
		return fmt.Errorf("store the spec: %w", err)
	}
	return nil
}
