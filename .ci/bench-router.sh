#!/usr/bin/env bash
# Measures the router against a direct connection and pgbouncer and writes the result as Markdown to
# bin/bench-router.md (or $OUT), to be taken over into docs/benchmarks.md. Nothing else should run on the machine
# meanwhile.
#
# usage: [OUT=bin/bench-router.md] .ci/bench-router.sh [rounds] [seconds of a run]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

.ci/packages.sh test
go test -tags bench -count=1 -timeout 2h -v -run '^TestRouterAgainstPgbouncer$' ./testenv/bench \
    -bench.rounds="${1:-5}" -bench.duration="${2:-5}s" -bench.out="${OUT-bin/bench-router.md}"
