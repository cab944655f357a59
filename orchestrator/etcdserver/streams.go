package etcdserver

import (
	"context"
	"sync"

	"google.golang.org/grpc"
)

// streams ends all streaming calls at once when the server stops.
type streams struct {
	once sync.Once
	over chan struct{}
}

func newStreams() *streams { return &streams{over: make(chan struct{})} }

func (s *streams) end() { s.once.Do(func() { close(s.over) }) }

func (s *streams) intercept(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(ss.Context())
	defer cancel()
	done := make(chan struct{})
	defer func() { <-done }()
	go func() {
		defer close(done)
		select {
		case <-s.over:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer cancel()
	return handle(srv, stream{ServerStream: ss, ctx: ctx})
}

type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s stream) Context() context.Context { return s.ctx }
