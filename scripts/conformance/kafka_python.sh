#!/usr/bin/env bash
# Runs kafka-python's own integration tests, taken from its source package, against `msgbench broker --kafka`.
#
#     scripts/conformance/kafka_python.sh [path to msgbench] [options of pytest]
#
# Prints every test with its result and a summary; fails when fewer than MIN (51) pass. The package lacks two files of its test
# harness, which only start servers: stand-ins are written, since the broker is started here.
set -euo pipefail
cd "$(dirname "$0")/../.."
msgbench=${1:-target/release/msgbench}
shift || true
[ -x "$msgbench" ] || { echo "no msgbench at $msgbench: build it with cargo build --release" >&2; exit 2; }
msgbench=$(realpath "$msgbench")
version=3.0.12
work=$(mktemp -d)
broker=
finish() {
    [ -z "$broker" ] || { kill "$broker" 2>/dev/null && wait "$broker" || true; }
    rm -rf "$work"
}
trap finish EXIT
venv=.cache/kafka-python
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet pytest==9.2.0 pytest-timeout==2.4.0 crc32c lz4 python-snappy zstandard
venv=$(realpath "$venv")
"$venv/bin/python" -m pip download --quiet --no-deps --no-binary :all: --dest "$work" "kafka-python==$version"
tar -xzf "$work"/kafka*python-"$version".tar.gz -C "$work"
cd "$work"/kafka*python-"$version"
touch test/__init__.py
cat >test/service.py <<'PYTHON'
class ExternalService:
    def __init__(self, host, port):
        self.host, self.port = host, port

    def open(self):
        pass

    close = stop = open


class SpawnedService:
    def __init__(self, *_, **__):
        raise RuntimeError('the broker is started from outside')
PYTHON
# The tests expect broker 0, four partitions, and session timeouts from 1 s, as the project's own servers are set.
"$msgbench" broker --kafka 127.0.0.1:0 --node-id 0 --partitions 4 --session-timeout-min 1s --data "$work/log" --port-file "$work/port" \
    >"$work/broker.log" 2>&1 &
broker=$!
for _ in $(seq 100); do [ -s "$work/port" ] && break; sleep 0.1; done
[ -s "$work/port" ] || { cat "$work/broker.log" >&2; exit 1; }
# A failing test is a result, not an error of this script.
KAFKA_URI="kafka://127.0.0.1:$(cat "$work/port")" KAFKA_VERSION=4.0.0 KAFKA_ROOT="$work" PYTHONPATH="$PWD" \
    timeout "${LIMIT:-600}" "$venv/bin/python" -m pytest test/integration -p no:cacheprovider -p no:warnings -q -rA --no-header \
    --timeout 60 "$@" >"$work/results" 2>&1 || true
grep -E '^(PASSED|FAILED|ERROR|SKIPPED) ' "$work/results" | cut -c1-200 | sort
passed=$(grep -c '^PASSED ' "$work/results" || true)
echo "passed $passed, failed $(grep -c '^FAILED ' "$work/results" || true), of another kind of broker $(grep -c '^ERROR ' "$work/results" || true)"
grep -i panic "$work/broker.log" >&2 && exit 1
[ "$passed" -ge "${MIN:-51}" ]
