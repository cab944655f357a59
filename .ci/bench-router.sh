#!/usr/bin/env bash
# Measures the router against a direct connection and pgbouncer and writes docs/benchmarks.md (or $OUT). Nothing
# else should run on the machine meanwhile.
#
# usage: [OUT=docs/benchmarks.md] .ci/bench-router.sh [rounds] [seconds of a run]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

.ci/packages.sh test
go test -tags bench -count=1 -timeout 2h -v -run '^TestRouterAgainstPgbouncer$' ./testenv/bench \
    -bench.rounds="${1:-5}" -bench.duration="${2:-5}s" -bench.out="${OUT-docs/benchmarks.md}"
