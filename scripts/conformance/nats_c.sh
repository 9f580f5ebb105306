#!/usr/bin/env bash
# Runs nats.c's own tests that need no JetStream (250 of 328) against a server and prints those that failed and a total.
#
#   nats_c.sh SERVER CHECKOUT BUILD [TEST...]
#
# SERVER answers to nats-server's flags: a real nats-server, or nats_server_shim.py with MSGBENCH set. CHECKOUT is a clone of
# nats-io/nats.c; BUILD is where cmake builds it, once. The tests take fixed ports: where it can be done they run in a network of their
# own. What the failed ones printed is in BUILD/failed.log. Exit 1: fewer than MIN (240) pass.
set -euo pipefail
server=$(realpath "${1:?usage: nats_c.sh SERVER CHECKOUT BUILD}")
checkout=$(realpath "${2:?usage: nats_c.sh SERVER CHECKOUT BUILD}")
mkdir -p "${3:?usage: nats_c.sh SERVER CHECKOUT BUILD}"
build=$(realpath "$3")
shift 3
if [ ! -x "$build/bin/testsuite" ]; then
    cmake -S "$checkout" -B "$build" -DNATS_BUILD_STREAMING=OFF -DNATS_BUILD_EXAMPLES=OFF -DNATS_BUILD_LIB_SHARED=OFF
    cmake --build "$build" --parallel
fi
if [ -z "${NATS_C_ALONE:-}" ] && unshare -n true 2>/dev/null; then
    NATS_C_ALONE=1 exec unshare -n "$0" "$server" "$checkout" "$build" "$@"
fi
ip link set lo up 2>/dev/null || true
export NATS_TEST_SERVER_EXE=$server NATS_TEST_SERVER_VERSION='nats-server: v2.10.27'
if [ $# -eq 0 ]; then
    # shellcheck disable=SC2046
    set -- $(sed -n 's/_test(\(.*\))/\1/p' "$checkout/test/list_test.txt" | grep -vE '^(JetStream|KeyValue|Object)')
fi
cd "$checkout/test"
log=$build/failed.log
: >"$log"
passed=0
run() {
    timeout "${LIMIT:-60}" "$build/bin/testsuite" "$1" >"$build/one.log" 2>&1
}
for test in "$@"; do
    # Some of the suite's own checks depend on the moment: each has a second go, and it is said.
    if run "$test" || { echo "again  $test"; run "$test"; }; then
        passed=$((passed + 1))
    else
        echo "FAILED $test"
        { echo "=== $test"; cat "$build/one.log"; } >>"$log"
    fi
done
echo "passed $passed of $#"
[ "$passed" -ge "${MIN:-240}" ] || [ $# -lt 250 ]
