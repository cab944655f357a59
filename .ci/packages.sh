#!/usr/bin/env bash
# Installs the system packages that are missing, and nothing that is there already. The one place that knows
# them: `make up`, `make test` and .ci/run all come here.
#
#   .ci/packages.sh run     what building and running a cluster takes: a C compiler and PostgreSQL's server
#   .ci/packages.sh test    that, and what the tests use beside it: etcd-server, pgbouncer
#
# On Debian and its kin the packages are installed with apt-get, as root or through sudo. No service is started
# or enabled and no database cluster is created by that: the machine runs afterwards what it ran before, and
# Debian's own settings are put back as they were. Elsewhere the command to run is printed, with exit code 1.
set -euo pipefail

usage() {
    echo "usage: $0 run|test" >&2
    exit 2
}

# has_postgres looks in the places in which the orchestrator looks, more or less: it is the judge, we only
# want to know whether an installation is needed.
has_postgres() {
    local dir
    for dir in "${ORCHESTRATOR_PG_BIN:-}" \
        "$("${PG_CONFIG:-pg_config}" --bindir 2>/dev/null || true)" \
        "$(dirname "$(command -v postgres || echo /)")" \
        /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin /usr/libexec/postgresql*; do
        if [[ -n "$dir" && -x "$dir/postgres" && -x "$dir/initdb" && -x "$dir/pg_basebackup" ]]; then
            return 0
        fi
    done
    return 1
}

has_compiler() {
    echo '#include <stdlib.h>' | "${CC:-gcc}" -E - >/dev/null 2>&1
}

has_program() {
    PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null
}

# missing prints what is not there, in words of our own, one a line.
missing() {
    has_compiler || echo compiler
    has_postgres || echo postgresql
    if [[ "$1" == test ]]; then
        has_program etcd || echo etcd
        has_program pgbouncer || echo pgbouncer
    fi
}

# package_names translates our words into the packages of one package manager.
package_names() {
    local manager=$1 word
    shift
    for word in "$@"; do
        case "$manager/$word" in
        apt-get/compiler) echo gcc libc6-dev ;;
        apt-get/etcd) echo etcd-server ;;
        dnf/compiler | zypper/compiler) echo gcc glibc-devel ;;
        dnf/postgresql | zypper/postgresql) echo postgresql-server postgresql-contrib ;;
        apk/compiler) echo gcc musl-dev ;;
        apk/postgresql) echo postgresql postgresql-contrib ;;
        pacman/compiler) echo gcc ;;
        *) echo "$word" ;;
        esac
    done | tr '\n' ' ' | sed 's/ $//'
}

# install_command prints what a person would type here.
install_command() {
    local manager=$1 sudo=''
    shift
    ((EUID == 0)) || sudo='sudo '
    case "$manager" in
    apt-get | dnf | zypper) echo "$sudo$manager install -y $(package_names "$manager" "$@")" ;;
    apk) echo "$sudo$manager add $(package_names apk "$@")" ;;
    pacman) echo "$sudo$manager -S --needed $(package_names pacman "$@")" ;;
    brew) echo "brew install postgresql@17 etcd pgbouncer" ;;
    esac
}

# give_up says what is missing and what to type, and ends.
give_up() {
    local why=$1 manager
    shift
    echo "missing: $*. They were not installed: $why." >&2
    for manager in apt-get dnf zypper apk pacman brew; do
        if command -v "$manager" >/dev/null; then
            echo "Run:  $(install_command "$manager" "$@")" >&2
            exit 1
        fi
    done
    echo "Install a C compiler and the PostgreSQL server (15 to 18) with your system's package manager;" >&2
    echo "set PG_CONFIG or ORCHESTRATOR_PG_BIN if its programs are in an unusual place." >&2
    exit 1
}

# The functions from here to install_quietly run as root, in a shell of their own (see main).

# hold_services lets invoke-rc.d start nothing while packages are installed (policy-rc.d(8)), unless the
# machine says so by itself already.
hold_services() {
    policy=/usr/sbin/policy-rc.d
    if [[ -e "$policy" ]]; then
        policy=''
        return
    fi
    printf '#!/bin/sh\n# written by %s, which removes it again\nexit 101\n' "$0" >"$policy"
    chmod 0755 "$policy"
}

# hold_cluster keeps postgresql's installation from creating the cluster "main" on port 5432. Its setting
# belongs to postgresql-common, which has to be there first.
hold_cluster() {
    install_packages postgresql-common
    createcluster=/etc/postgresql-common/createcluster.conf
    cp -p "$createcluster" "$createcluster.multicoord"
    printf '\ncreate_main_cluster = false\n' >>"$createcluster"
}

# release undoes both.
release() {
    if [[ -n "${policy:-}" ]]; then
        rm -f "$policy"
    fi
    if [[ -n "${createcluster:-}" && -e "$createcluster.multicoord" ]]; then
        mv -f "$createcluster.multicoord" "$createcluster"
    fi
}

# install_packages installs, and looks for newer package lists when that fails: those of a fresh machine are
# missing, those of an old image name files that are gone.
install_packages() {
    local options=(-y -q -o Dpkg::Use-Pty=0 --no-install-recommends -o DPkg::Lock::Timeout=120)
    apt-get install "${options[@]}" "$@" </dev/null && return
    apt-get update -o DPkg::Lock::Timeout=120 </dev/null
    apt-get install "${options[@]}" "$@" </dev/null
}

# install_quietly is what root does; the arguments are our words.
install_quietly() {
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l
    local word packages
    read -ra packages <<<"$(package_names apt-get "$@")"
    trap release EXIT
    hold_services
    if [[ " $* " == *" postgresql "* ]]; then
        hold_cluster
    fi
    install_packages "${packages[@]}"
    # Nor shall they start with the machine: nobody asked for a service.
    for word in "$@"; do
        case "$word" in
        etcd | pgbouncer) update-rc.d "$word" disable >/dev/null 2>&1 || true ;;
        esac
    done
}

main() {
    local words=() sudo=()
    mapfile -t words < <(missing "$1")
    if ((${#words[@]} == 0)); then
        return 0
    fi
    command -v apt-get >/dev/null || give_up "apt-get is not here" "${words[@]}"
    if ((EUID != 0)); then
        command -v sudo >/dev/null || give_up "you are not root and there is no sudo" "${words[@]}"
        sudo=(sudo)
        # Without a terminal nobody can type a password.
        [[ -t 0 ]] || sudo=(sudo -n)
    fi
    echo "Installing what is missing (${words[*]}): $(package_names apt-get "${words[@]}")" >&2
    "${sudo[@]}" bash "${BASH_SOURCE[0]}" as-root "${words[@]}" >&2 ||
        give_up "apt-get ended with an error, see above" "${words[@]}"
    mapfile -t words < <(missing "$1")
    ((${#words[@]} == 0)) || give_up "apt-get installed its packages, but they are still not found" "${words[@]}"
}

case "${1:-}" in
run | test)
    (($# == 1)) || usage
    main "$1"
    ;;
as-root)
    shift
    install_quietly "$@"
    ;;
*) usage ;;
esac
