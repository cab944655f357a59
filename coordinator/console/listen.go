package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"
)

// server accepts connections up to a limit and waits for all of them at the end.
type server struct {
	log *slog.Logger
	// limit is the most connections at a time; those beyond it are closed without a word.
	limit  int
	handle func(ctx context.Context, conn net.Conn)
}

// run accepts until ctx ends, then closes the listener and waits for the connections, whose ctx ends too. It gives nil
// when ctx has ended, else why the listener broke.
func (s server) run(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var connections sync.WaitGroup
	defer connections.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	free := make(chan struct{}, s.limit)
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		case err != nil: // too many open files, a connection gone before it was taken: it passes
			s.log.WarnContext(ctx, "connection not accepted", "listen", l.Addr().String(), "err", err)
			pause(ctx, 100*time.Millisecond)
			continue
		}
		select {
		case free <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		connections.Go(func() {
			defer func() { <-free }()
			defer conn.Close()
			defer s.recover(ctx)
			s.handle(ctx, conn)
		})
	}
}

// recover keeps a mistake that one connection has brought to light from the others.
func (s server) recover(ctx context.Context) {
	if p := recover(); p != nil {
		s.log.ErrorContext(ctx, "panic while serving a connection; it was closed", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// onlyLoopback tells whether an address ("127.0.0.1:9881", "localhost:9881", "[::1]:9881") is of this host alone. A
// name must be so with all its addresses.
func onlyLoopback(ctx context.Context, address string) (bool, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false, fmt.Errorf("listen address %q is not of the form host:port: %w", address, err)
	}
	if host == "" {
		return false, nil // all interfaces
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback(), nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return false, fmt.Errorf("listen address %q: %w", address, err)
	}
	for _, ip := range ips {
		if !ip.Unmap().IsLoopback() {
			return false, nil
		}
	}
	return len(ips) > 0, nil
}
