package etcdstore

import (
	"context"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// keepalive renews leases over one stream that all leases of a Store share. etcd's client would open a stream for each
// renewal, and log in for each stream: a raft proposal and a bcrypt hash on etcd's side, several times a second for
// each process.
//
// A stream answers in the order of the requests, so answers are matched by order. A request whose caller has given up
// ends the stream: a late answer must never be taken for that to a later request, whose right it would date too late. It
// also leads to another member if this one hangs.
type keepalive struct {
	client pb.LeaseClient
	// turn is held while a stream is opened or a request is sent: requests are queued in the order of sending.
	turn chan struct{}

	mu     sync.Mutex
	stream *kaStream
	closed bool
	done   sync.WaitGroup
}

// kaStream is one stream with the requests that wait for their answers.
type kaStream struct {
	stream pb.Lease_LeaseKeepAliveClient
	cancel context.CancelFunc
	// queue and err are guarded by the keepalive's lock; err is set when the stream has ended.
	queue []chan answer
	err   error
}

type answer struct {
	ttl int64
	err error
}

func newKeepalive(c *clientv3.Client) *keepalive {
	return &keepalive{client: clientv3.RetryLeaseClient(c), turn: make(chan struct{}, 1)}
}

const (
	renewTries = 3
	renewPause = 50 * time.Millisecond
)

// renew renews once; ttl is 0 or less when the lease is gone. A stream that had ended unnoticed (etcd was restarted, the
// login has run out) is replaced by another while ctx lasts.
func (k *keepalive) renew(ctx context.Context, id clientv3.LeaseID) (ttl int64, err error) {
	for try := 1; ; try++ {
		ttl, err = k.once(ctx, id)
		if err == nil || try == renewTries || ctx.Err() != nil {
			return ttl, clientv3.ContextError(ctx, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(renewPause):
		}
	}
}

func (k *keepalive) once(ctx context.Context, id clientv3.LeaseID) (ttl int64, err error) {
	s, answered, err := k.ask(ctx, id)
	if err != nil {
		return 0, err
	}
	select {
	case a := <-answered:
		return a.ttl, a.err
	case <-ctx.Done():
		s.cancel()
		return 0, ctx.Err()
	}
}

// ask sends a request on the present stream, or on a new one.
func (k *keepalive) ask(ctx context.Context, id clientv3.LeaseID) (*kaStream, <-chan answer, error) {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	answered := make(chan answer, 1)
	s := k.queue(answered)
	if s == nil {
		var err error
		if s, err = k.open(ctx, answered); err != nil {
			return nil, nil, err
		}
	}
	// It puts a few bytes into the transport's buffer; should even that block, ctx ends the stream. An error comes with
	// its reason from the receiver.
	stop := context.AfterFunc(ctx, s.cancel)
	defer stop()
	_ = s.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)})
	return s, answered, nil
}

// queue puts a request into the present stream's queue; nil if there is no stream that lives.
func (k *keepalive) queue(answered chan answer) *kaStream {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stream == nil || k.stream.err != nil {
		return nil
	}
	k.stream.queue = append(k.stream.queue, answered)
	return k.stream
}

// open makes a stream with one request in its queue. Its life does not depend on ctx once it is open.
func (k *keepalive) open(ctx context.Context, answered chan answer) (*kaStream, error) {
	life, cancel := context.WithCancel(clientv3.WithRequireLeader(context.WithoutCancel(ctx)))
	stop := context.AfterFunc(ctx, cancel)
	stream, err := k.client.LeaseKeepAlive(life, grpc.WaitForReady(true))
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	s := &kaStream{stream: stream, cancel: cancel, queue: []chan answer{answered}}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		cancel()
		return nil, context.Canceled
	}
	k.stream = s
	k.done.Go(func() { k.receive(s) })
	return s, nil
}

// receive passes the answers on until the stream ends, and then tells all who wait.
func (k *keepalive) receive(s *kaStream) {
	defer s.cancel()
	for {
		resp, err := s.stream.Recv()
		k.mu.Lock()
		if err != nil {
			s.err = err
			for _, waiting := range s.queue {
				waiting <- answer{err: err}
			}
			s.queue = nil
			k.mu.Unlock()
			return
		}
		if len(s.queue) > 0 {
			s.queue[0] <- answer{ttl: resp.GetTTL()}
			s.queue = s.queue[1:]
		}
		k.mu.Unlock()
	}
}

// close ends the stream and waits for its receiver.
func (k *keepalive) close() {
	k.mu.Lock()
	k.closed = true
	if k.stream != nil {
		k.stream.cancel()
	}
	k.mu.Unlock()
	k.done.Wait()
}
