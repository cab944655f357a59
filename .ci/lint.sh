#!/usr/bin/env bash
# Everything that is checked without running the program: formatting (gofumpt, through golangci-lint), vet and
# the other linters, the shell scripts, and the direction of imports. Reports all that is wrong, not the first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

status=0
lint=$(.ci/tools.sh golangci-lint)

# Only two cores are counted on, and a test run may go on beside it.
"$lint" run --config .ci/golangci.yml "${@:-./...}" || status=1

if command -v shellcheck >/dev/null; then
    shellcheck .ci/run .ci/*.sh || status=1
else
    echo "shellcheck is not installed: the shell scripts were not checked" >&2
fi

go test -count=1 ./testenv/importtest || status=1
exit "$status"
