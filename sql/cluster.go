package sql

import _ "embed"

// ClusterRole makes or mends one role; it reads multicoord.role_name and multicoord.role_verifier from the settings of
// the transaction.
//
//go:embed cluster/role.sql
var ClusterRole string

// ClusterVerifiers reads the stored passwords of the roles in $1 (name[]).
//
//go:embed cluster/verifiers.sql
var ClusterVerifiers string

// ClusterWorker prepares a worker group's database for shards.
//
//go:embed cluster/worker.sql
var ClusterWorker string
