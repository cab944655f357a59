#!/usr/bin/env bash
# Runs the tests. unit: each package's own, under the race detector. integration: whole clusters of real
# processes, which are told apart from the others by their folder. Arguments beyond the first go to go test.
#
# usage: .ci/test.sh unit|integration [go test arguments…]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

kind=${1:-}
shift || true
.ci/packages.sh test
module=$(go list -m)

case "$kind" in
unit)
    mapfile -t packages < <(go list ./... | grep -v "^$module/testenv/integration")
    go test -race -timeout 10m "$@" "${packages[@]}"
    ;;
integration)
    # One package at a time: each test there starts several servers and measures how long things take. No cached
    # results: go test does not see that these tests depend on the program that they build.
    go test -p 1 -count=1 -timeout 20m "$@" ./testenv/integration/...
    ;;
*)
    echo "usage: $0 unit|integration [go test arguments]" >&2
    exit 2
    ;;
esac
