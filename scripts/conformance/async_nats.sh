#!/bin/sh
# Runs the published async-nats crate's own core tests against a server and prints one line per test and a total.
#
#   async_nats.sh SERVER-BINARY [WORK-DIR]
#
# SERVER-BINARY answers to nats-server's flags: a real nats-server, or nats_server_shim.py with MSGBENCH set.
# The crate's source comes from cargo's registry folder. HARNESS must name a stand-in for the unpublished `nats-server` test crate
# (it starts $NATS_BIN). The tests are built once in WORK-DIR and reused.
set -eu
server=${1:?"usage: async_nats.sh SERVER-BINARY [WORK-DIR]"}
work=${2:-${TMPDIR:-/tmp}/msgbench-async-nats}
version=${ASYNC_NATS_VERSION:-0.51.0}
tests="client_tests nkey_tests service_tests server_pool_tests server_pool_parity_tests subject_validation_test"
mkdir -p "$work"
if [ ! -d "$work/async-nats" ]; then
    : "${HARNESS:?"set HARNESS to the folder of the test harness crate named nats-server"}"
    source=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/async-nats-"$version" | head -n 1)
    cp -r "$source" "$work/async-nats"
    cp -r "$HARNESS" "$work/harness"
    # The benchmarks and what only they need are left out; the workspace of its own keeps cargo from looking upwards.
    python3 - "$work/async-nats/Cargo.toml" <<'PY'
import re, sys
path = sys.argv[1]
text = open(path).read()
text = re.sub(r'\[\[bench\]\].*?(?=\n\[)', '', text, flags=re.S)
for name in ('criterion', 'num'):
    text = re.sub(r'\[dev-dependencies\.%s\].*?(?=\n\[)' % name, '', text, flags=re.S)
text += '\n[dev-dependencies.nats-server]\npath = "../harness"\n\n[workspace]\n\n[profile.dev]\ndebug = 0\n'
open(path, 'w').write(text)
PY
    rm -f "$work/async-nats/Cargo.lock"
fi
cd "$work/async-nats"
arguments=$(for t in $tests; do printf -- '--test %s ' "$t"; done)
# shellcheck disable=SC2086
cargo test --quiet --no-run $arguments
export NATS_BIN="$server"
export PATH="$(dirname "$server"):$PATH"
results=$(mktemp)
trap 'rm -f "$results"' EXIT
for t in $tests; do
    binary=$(ls -t target/debug/deps/"$t"-* | grep -v '\.d$' | head -n 1)
    # A failing binary is a result, not an error of this script.
    timeout "${LIMIT:-300}" "$binary" --test-threads "${THREADS:-2}" 2>&1 | tee -a "$work/$t.log" \
        | sed -n "s/^test \(.*\) \.\.\. \(ok\|FAILED\|ignored\).*/\2 $t::\1/p" >>"$results" || true
done
sort "$results"
awk '{ n[$1]++ } END { printf "passed %d, failed %d, ignored %d\n", n["ok"], n["FAILED"], n["ignored"] }' "$results"
