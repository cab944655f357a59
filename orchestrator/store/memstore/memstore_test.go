package memstore_test

import (
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/multicoord/multicoord/orchestrator/store"
	"github.com/multicoord/multicoord/orchestrator/store/memstore"
	"github.com/multicoord/multicoord/orchestrator/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return memstore.New() }, synctest.Test)
}

func TestConformanceInRealTime(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return memstore.New() }, storetest.Parallel)
}
