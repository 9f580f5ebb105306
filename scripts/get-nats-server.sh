#!/usr/bin/env bash
# Gets a nats-server to measure and says what it did. Running it again does nothing more.
#
#   scripts/get-nats-server.sh [go|debian]
#
# go      the pinned version below by the Go module proxy, checked by Go against its checksum database, into .cache/nats
# debian  the distribution's package, by apt-get; needs root. Its version is the distribution's, often an older one
# Without an argument: what is here already, else go where Go is installed, else debian.
# NATS_VERSION=v2.10.27 asks for another version, by Go; then what is here counts only if it is that version.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${NATS_VERSION:-v2.15.2}
folder=.cache/nats
say() { echo "get-nats-server: $*"; }

found() {
    local program
    for program in "${MSGBENCH_NATS_SERVER:-}" "$folder/nats-server" "$(command -v nats-server || true)" /usr/sbin/nats-server; do
        if [ -n "$program" ] && [ -x "$program" ]; then
            echo "$program"
            return
        fi
    done
    return 1
}

by_go() {
    if [ -x "$folder/nats-server" ] && [ "$("$folder/nats-server" --version)" = "nats-server: $version" ]; then
        say "$folder/nats-server is $version already"
        return
    fi
    command -v go >/dev/null || { say "Go is not installed; see https://go.dev/doc/install" >&2; return 1; }
    say "building nats-server $version by go install into $folder"
    mkdir -p "$folder"
    GOBIN="$PWD/$folder" GOFLAGS=-mod=mod go install "github.com/nats-io/nats-server/v2@$version"
    say "$folder/nats-server: $("$folder/nats-server" --version)"
}

by_debian() {
    if [ -x /usr/sbin/nats-server ]; then
        say "the package is installed already: $(/usr/sbin/nats-server --version)"
        return
    fi
    command -v apt-get >/dev/null || { say "there is no apt-get here" >&2; return 1; }
    [ "$(id -u)" = 0 ] || { say "installing a package needs root: sudo $0 debian" >&2; return 1; }
    say "installing the package nats-server by apt-get"
    apt-get update -qq
    apt-get install -y -qq nats-server >/dev/null
    say "/usr/sbin/nats-server: $(/usr/sbin/nats-server --version)"
}

case "${1:-}" in
    go) by_go ;;
    debian) by_debian ;;
    "")
        if [ -n "${NATS_VERSION:-}" ]; then
            by_go
        elif [ -x "$folder/nats-server" ] && command -v go >/dev/null; then
            # Another version may have been asked for before.
            by_go
        elif program=$(found); then
            say "$program is here: $("$program" --version); nothing to do"
        elif command -v go >/dev/null; then
            by_go || by_debian
        else
            by_debian
        fi
        ;;
    *)
        sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
