// Package roles makes the cluster's own roles, and its default database, on a group's primary.
//
// Level: adapter; it runs the statements of package sql over a superuser's connection.
//
// Duties: each role exists, has its attributes, and accepts its password. A role whose stored verifier already fits
// the password keeps it, for a new salt would break the pass-through of sessions that are logged in.
//
// It never sends a password to the server: verifiers are computed here (RFC 5803), so that no log can hold one.
package roles

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/xdg-go/scram"

	"github.com/multicoord/multicoord/sql"
)

// iterations is PostgreSQL's own count (src/include/common/scram-common.h, SCRAM_SHA_256_DEFAULT_ITERATIONS).
const iterations = 4096

// Ensure makes or mends the given roles (name → password). It can be repeated, and changes nothing where all is
// right.
func Ensure(ctx context.Context, conn *pgx.Conn, passwords map[string]string) error {
	names := slices.Sorted(maps.Keys(passwords))
	stored := make(map[string]string)
	rows, err := conn.Query(ctx, sql.ClusterVerifiers, names)
	if err != nil {
		return fmt.Errorf("read the stored verifiers: %w", err)
	}
	var name, verifier string
	if _, err := pgx.ForEachRow(rows, []any{&name, &verifier}, func() error {
		stored[name] = verifier
		return nil
	}); err != nil {
		return fmt.Errorf("read the stored verifiers: %w", err)
	}
	for _, n := range names {
		if v, ok := stored[n]; ok && fits(v, passwords[n]) {
			continue
		}
		v, err := newVerifier(passwords[n])
		if err != nil {
			return fmt.Errorf("make a verifier for role %q: %w", n, err)
		}
		if err := ensure(ctx, conn, n, v); err != nil {
			return fmt.Errorf("make role %q: %w", n, err)
		}
	}
	return nil
}

// EnsureDatabase makes the database if it does not exist.
func EnsureDatabase(ctx context.Context, conn *pgx.Conn, name string) error {
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)", name).Scan(&there); err != nil {
		return fmt.Errorf("look for database %q: %w", name, err)
	}
	if there {
		return nil
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return fmt.Errorf("make database %q: %w", name, err)
	}
	return nil
}

func ensure(ctx context.Context, conn *pgx.Conn, name, verifier string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		const settings = "SELECT set_config('multicoord.role_name', $1, true), set_config('multicoord.role_verifier', $2, true)"
		if _, err := tx.Exec(ctx, settings, name, verifier); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, sql.ClusterRole)
		return err
	})
}

func newVerifier(password string) (string, error) {
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	return verifierOf(password, salt, iterations)
}

// verifierOf gives PostgreSQL's text form SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>.
func verifierOf(password string, salt []byte, iters int) (string, error) {
	c, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		return "", err
	}
	k, err := c.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: iters})
	if err != nil {
		return "", err
	}
	enc := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iters, enc(salt), enc(k.StoredKey), enc(k.ServerKey)), nil
}

// fits tells whether a stored verifier is that of the password.
func fits(stored, password string) bool {
	parts := strings.Split(stored, "$")
	if len(parts) != 3 || parts[0] != "SCRAM-SHA-256" {
		return false
	}
	count, salt64, ok := strings.Cut(parts[1], ":")
	if !ok {
		return false
	}
	iters, err := strconv.Atoi(count)
	if err != nil || iters < 1 || iters > 1_000_000 {
		return false
	}
	salt, err := base64.StdEncoding.DecodeString(salt64)
	if err != nil {
		return false
	}
	want, err := verifierOf(password, salt, iters)
	return err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(stored)) == 1
}
