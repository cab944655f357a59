package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/multicoord/multicoord/orchestrator/store"
)

// wrap maps an error of the client to the sentinels of package store. Whatever is neither a clear refusal nor a
// lost lease is ErrUnavailable: for a commit that means that the outcome is not known.
func (s *Store) wrap(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return fmt.Errorf("%s: %w", op, store.ErrLeaseLost)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%s: %w: etcd at %s is out of space; compact and defragment it, then run `etcdctl alarm disarm`, or raise --quota-backend-bytes: %w",
			op, store.ErrUnavailable, s.where, err)
	case errors.Is(err, rpctypes.ErrRequestTooLarge), errors.Is(err, rpctypes.ErrTooManyOps):
		return fmt.Errorf("%s: %w", op, err)
	}
	if hint := s.denial(err); hint != "" {
		return fmt.Errorf("%s: %w: %s: %w", op, store.ErrDenied, hint, err)
	}
	p := s.cause.Load()
	if p == nil || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w: etcd at %s: %w", op, store.ErrUnavailable, s.where, err)
	}
	cause := plain(*p)
	if hint := s.tlsHint(cause); hint != "" {
		return fmt.Errorf("%s: %w: %s (%w: %s)", op, store.ErrDenied, hint, err, cause)
	}
	if plain(err) == cause {
		return fmt.Errorf("%s: %w: etcd at %s: %w%s", op, store.ErrUnavailable, s.where, err, s.schemeHint(cause))
	}
	return fmt.Errorf("%s: %w: etcd at %s: %w (%s)%s", op, store.ErrUnavailable, s.where, err, cause, s.schemeHint(cause))
}

// denial explains a refusal that etcd itself or its TLS listener has expressed; "" if err is none.
func (s *Store) denial(err error) string {
	switch {
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		return fmt.Sprintf("the etcd user %q may not read and write the keys under %s; grant its role readwrite on that prefix (`etcdctl role grant-permission ROLE --prefix=true readwrite %s`)",
			s.user(), s.prefix, s.prefix)
	case errors.Is(err, rpctypes.ErrAuthFailed):
		return fmt.Sprintf("etcd does not accept the password of user %q; check the user name and the password", s.user())
	case errors.Is(err, rpctypes.ErrUserEmpty), errors.Is(err, rpctypes.ErrUserNotFound):
		if s.cfg.Username == "" {
			return "etcd has authentication switched on and no user was given; set the etcd user and password"
		}
		return fmt.Sprintf("etcd does not know the user %q; check the user name and the password", s.cfg.Username)
	case errors.Is(err, rpctypes.ErrInvalidAuthToken), errors.Is(err, rpctypes.ErrAuthOldRevision):
		return fmt.Sprintf("etcd does not accept the login of user %q any more; check that the user still exists", s.user())
	}
	return s.tlsHint(err.Error())
}

func (s *Store) user() string { return s.cfg.Username }

// tlsHint explains failures of the TLS handshake, which the gRPC library reports as text only.
func (s *Store) tlsHint(msg string) string {
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(msg, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("certificate signed by unknown authority", "x509: certificate is not trusted"):
		return fmt.Sprintf("the certificate of etcd at %s is not signed by %s; check the CA file", s.where, s.caName())
	case has("x509: certificate has expired", "expired certificate", "certificate has expired or is not yet valid"):
		return fmt.Sprintf("a certificate has expired or is not yet valid (etcd at %s, or our own %s); renew it, or check the clocks", s.where, orNone(s.cfg.CertFile))
	case has("x509: certificate is valid for", "doesn't contain any IP SANs", "x509: certificate is not valid for any names"):
		return fmt.Sprintf("the certificate of etcd is not made for the address in %s; use a name or address that it lists", s.where)
	case has("tls: certificate required", "tls: bad certificate", "tls: unknown certificate authority", "tls: unknown certificate"):
		return fmt.Sprintf("etcd at %s does not accept our client certificate (%s); check the certificate and key files, and that etcd trusts their CA", s.where, orNone(s.cfg.CertFile))
	case has("first record does not look like a TLS handshake"):
		return fmt.Sprintf("etcd at %s does not speak TLS; use http:// in the endpoints", s.where)
	}
	return ""
}

// schemeHint says what a connection that was cut off at its beginning can mean.
func (s *Store) schemeHint(msg string) string {
	switch {
	case strings.Contains(msg, "handshake failed: EOF"), strings.Contains(msg, "handshake failed: read"):
		return "; if etcd does not speak TLS there, use http:// in the endpoints"
	case strings.HasPrefix(s.where, "https://") && (strings.Contains(msg, "broken pipe") || strings.Contains(msg, "connection reset")):
		return "; if etcd asks for client certificates, check that ours (" + orNone(s.cfg.CertFile) + ") is one that it trusts"
	case strings.Contains(msg, "error reading server preface"):
		return "; if etcd speaks TLS there, use https:// in the endpoints"
	}
	return ""
}

func (s *Store) caName() string {
	if s.cfg.CAFile == "" {
		return "any CA that this host trusts"
	}
	return s.cfg.CAFile
}

func orNone(file string) string {
	if file == "" {
		return "none given"
	}
	return file
}

// plain is the message of a gRPC status without its code.
func plain(err error) string {
	if st, ok := status.FromError(err); ok && st.Code() != codes.OK {
		return st.Message()
	}
	return err.Error()
}
