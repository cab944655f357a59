package etcdstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/multicoord/multicoord/orchestrator/store"
)

const diagnoseTimeout = time.Second

// diagnose looks once more at a connection with TLS that has failed, without gRPC. With TLS 1.3 a client has begun to
// send before the server refuses its certificate, and then often finds the connection closed before it has read the reason;
// here nothing is sent after the handshake, so the reason can be read. It returns err if it finds nothing better.
func (s *Store) diagnose(ctx context.Context, conf *tls.Config, err error) error {
	if conf == nil || !errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil {
		return err
	}
	for _, e := range s.cfg.Endpoints {
		u, perr := url.Parse(e)
		if perr != nil || u.Host == "" {
			continue
		}
		if reason := handshake(ctx, u.Host, conf); reason != nil {
			if hint := s.tlsHint(reason.Error()); hint != "" {
				return fmt.Errorf("connect: %w: %s: %w", store.ErrDenied, hint, reason)
			}
		}
	}
	return err
}

// handshake gives the server's reason to end a fresh connection, nil if it gives none for a while.
func handshake(ctx context.Context, host string, conf *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, diagnoseTimeout)
	defer cancel()
	conf = conf.Clone()
	conf.NextProtos = []string{"h2"}
	c, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: conf}).DialContext(ctx, "tcp", host)
	if err != nil {
		return err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetReadDeadline(deadline)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}
