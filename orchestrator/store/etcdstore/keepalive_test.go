package etcdstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// leaseServer answers each request on a stream after its delay, in order; ttl is the number of the request.
type leaseServer struct {
	pb.LeaseClient
	opened atomic.Int32
	delay  func() time.Duration
	// broken says that the stream ends instead of answering.
	broken func() bool
	served atomic.Int64
}

type leaseStream struct {
	pb.Lease_LeaseKeepAliveClient
	ctx context.Context
	srv *leaseServer
	in  chan *pb.LeaseKeepAliveRequest
}

func (s *leaseServer) LeaseKeepAlive(ctx context.Context, _ ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	s.opened.Add(1)
	return &leaseStream{ctx: ctx, srv: s, in: make(chan *pb.LeaseKeepAliveRequest, 1000)}, nil
}

func (s *leaseStream) Send(r *pb.LeaseKeepAliveRequest) error {
	s.in <- r
	return s.ctx.Err()
}

func (s *leaseStream) Recv() (*pb.LeaseKeepAliveResponse, error) {
	select {
	case <-s.ctx.Done():
		return nil, status.FromContextError(s.ctx.Err()).Err()
	case r := <-s.in:
		select {
		case <-s.ctx.Done():
			return nil, status.FromContextError(s.ctx.Err()).Err()
		case <-time.After(s.srv.delay()):
		}
		if s.srv.broken != nil && s.srv.broken() {
			return nil, status.Error(codes.Unavailable, "transport is closing")
		}
		s.srv.served.Add(1)
		return &pb.LeaseKeepAliveResponse{ID: r.ID, TTL: r.ID}, nil
	}
}

func fakeKeepalive(s *leaseServer) *keepalive {
	return &keepalive{client: s, turn: make(chan struct{}, 1)}
}

func TestRenewalsShareAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &leaseServer{delay: func() time.Duration { return time.Millisecond }}
		k := fakeKeepalive(srv)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				ttl, err := k.renew(t.Context(), clientv3.LeaseID(i+1))
				if err != nil || ttl != int64(i+1) {
					t.Errorf("lease %d: %d, %v", i+1, ttl, err)
				}
			})
		}
		wg.Wait()
		assert.Equal(t, int32(1), srv.opened.Load())
		k.close()
		_, err := k.renew(t.Context(), 1)
		require.ErrorIs(t, err, context.Canceled)
	})
}

// A late answer to a renewal that was given up would date a right too late if a later renewal took it for its own.
func TestALateAnswerIsNeverTakenForThatToALaterRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := atomic.Bool{}
		slow.Store(true)
		srv := &leaseServer{delay: func() time.Duration {
			if slow.Swap(false) {
				return 10 * time.Second
			}
			return time.Millisecond
		}}
		k := fakeKeepalive(srv)
		defer k.close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := k.renew(ctx, 7)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Zero(t, srv.served.Load())
		ttl, err := k.renew(t.Context(), 7)
		require.NoError(t, err)
		assert.Equal(t, int64(7), ttl)
		assert.Equal(t, int64(1), srv.served.Load(), "it has an answer of its own")
		assert.Equal(t, int32(2), srv.opened.Load(), "on another stream")
	})
}

func TestAnswersBelongToTheirRequestsWhateverBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex
		draw := func(n int) int {
			mu.Lock()
			defer mu.Unlock()
			return rnd.IntN(n)
		}
		srv := &leaseServer{
			delay:  func() time.Duration { return time.Duration(draw(30)) * time.Millisecond },
			broken: func() bool { return draw(20) == 0 },
		}
		k := fakeKeepalive(srv)
		var wg sync.WaitGroup
		var done, failed atomic.Int64
		for worker := range 8 {
			wg.Go(func() {
				for i := range 300 {
					id := int64(worker*1000 + i + 1)
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(20+draw(400))*time.Millisecond)
					ttl, err := k.renew(ctx, clientv3.LeaseID(id))
					cancel()
					if err != nil {
						failed.Add(1)
						assert.True(t, errors.Is(err, context.DeadlineExceeded) || status.Code(err) != codes.OK, err)
						continue
					}
					done.Add(1)
					assert.Equal(t, id, ttl)
				}
			})
		}
		wg.Wait()
		k.close()
		t.Log(done.Load(), "answered,", failed.Load(), "failed,", srv.opened.Load(), "streams")
		assert.Positive(t, done.Load())
		assert.Positive(t, failed.Load())
	})
}

func TestARenewalThatWaitsForItsTurnEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := fakeKeepalive(&leaseServer{delay: func() time.Duration { return 0 }})
		k.turn <- struct{}{} // another opens a stream for long
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := k.renew(ctx, 1)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}
