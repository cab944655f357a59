#!/usr/bin/env bash
# Runs every fuzz target of the module for FUZZTIME (default 30s each), one after the other.
#
# usage: [FUZZTIME=30s] .ci/fuzz.sh [package pattern…]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fuzztime=${FUZZTIME:-30s}
status=0
found=0
while IFS=: read -r file line; do
    target=$(sed -E 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/' <<<"$line")
    package=./$(dirname "$file")
    if (($# > 0)) && [[ " $* " != *" $package "* ]]; then
        continue
    fi
    found=1
    echo "== $package $target for $fuzztime"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" "$package" || status=1
done < <(grep -rE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*\(' . | sed 's|^\./||' | sort)

if ((!found)); then
    echo "no fuzz target found${*:+ in $*}" >&2
    exit 1
fi
exit "$status"
