package router_test

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	hold    = flag.Duration("router.hold", 0, "TestHold: keep a router with two servers running for so long")
	profile = flag.String("router.profile", "", "TestHold: write a CPU profile of the whole time to this file")
)

var theShared struct {
	once sync.Once
	p    *pair
	err  error
}

// shared is the pair that all tests use; TestMain ends it.
func shared(t *testing.T) *pair {
	t.Helper()
	theShared.once.Do(func() { theShared.p, theShared.err = newPair() })
	require.NoError(t, theShared.err)
	return theShared.p
}

func TestMain(m *testing.M) {
	code := m.Run()
	if theShared.p != nil {
		theShared.p.close()
	}
	os.Exit(code)
}

// TestHold keeps a router in front of a primary and a standby running, for benchmarks by hand:
//
//	go test ./coordinator/router -run TestHold -router.hold 10m -router.profile /tmp/cpu.out -v -timeout 0
func TestHold(t *testing.T) {
	if *hold == 0 {
		t.Skip("only with -router.hold")
	}
	f := serve(t)
	fmt.Printf("router %s primary %s standby %s user app password %q database app pid %d\n",
		f.addr, f.primary.address(), f.standby.address(), appPassword, os.Getpid())
	if *profile != "" {
		file, err := os.Create(*profile)
		require.NoError(t, err)
		defer file.Close()
		require.NoError(t, pprof.StartCPUProfile(file))
		defer pprof.StopCPUProfile()
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(end)
	select {
	case <-end:
	case <-time.After(*hold):
	}
}
