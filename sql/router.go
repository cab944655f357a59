package sql

import _ "embed"

// RouterBootstrap makes what the routers need in the database postgres of the coordinator group: the schema
// multicoord and the function multicoord.role_verifier. It runs as a superuser on the primary and may be repeated.
//
//go:embed router/bootstrap.sql
var RouterBootstrap string

// RouterVerifier reads what a login needs about the role $1 (text) in the database $2 (text): one row, or none.
//
//go:embed router/verifier.sql
var RouterVerifier string

// RouterSample reads a coordinator's role and position in the write-ahead log: one row.
//
//go:embed router/sample.sql
var RouterSample string
