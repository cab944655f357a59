#!/usr/bin/env bash
# Installs a tool at the version pinned here into bin/tools and prints its path. The tools stay out of
# go.mod: what checks the code must not decide which libraries the code is built with.
#
# usage: .ci/tools.sh golangci-lint
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
golangci-lint)
    version=v2.15.0
    package=github.com/golangci/golangci-lint/v2/cmd/golangci-lint
    ;;
*)
    echo "usage: $0 golangci-lint" >&2
    exit 2
    ;;
esac

dir="$PWD/bin/tools/$1-$version"
if [[ ! -x "$dir/$1" ]]; then
    echo "installing $1 $version" >&2
    # Outside the module, so that neither go.mod nor vendor settings have a say.
    (cd / && GOBIN="$dir" GOFLAGS='' GOWORK=off go install "$package@$version" >&2)
fi
echo "$dir/$1"
