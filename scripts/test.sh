#!/usr/bin/env bash
# Runs all tests. Installs what they need where it can be had; says what is skipped where it cannot.
# MSGBENCH_NO_SKIP=1 forbids skipping: what cannot be had is then an error.
set -euo pipefail
cd "$(dirname "$0")/.."
# Not being able to get it is said below, or an error where skipping is forbidden.
scripts/get-nats-server.sh || true
if [ -z "${MSGBENCH_NATS_SERVER:-}" ] && [ -x .cache/nats/nats-server ]; then
    export MSGBENCH_NATS_SERVER="$PWD/.cache/nats/nats-server"
fi
for package in kcat chromium redis-server; do
    if ! command -v "$package" >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -qq && apt-get install -y -qq "$package" >/dev/null || true
    fi
done
if [ -z "${MSGBENCH_PYTHON:-}" ] && command -v python3 >/dev/null; then
    [ -x .cache/python/bin/python ] || python3 -m venv .cache/python || true
    if .cache/python/bin/python -m pip install --quiet nats-py nkeys kubernetes-validate==1.37.0 \
        confluent-kafka==2.16.1 kafka-python==3.0.12 aiokafka==0.14.0; then
        export MSGBENCH_PYTHON="$PWD/.cache/python/bin/python"
    fi
fi
if ! command -v nats-server >/dev/null && [ ! -x /usr/sbin/nats-server ] && [ -z "${MSGBENCH_NATS_SERVER:-}" ]; then
    echo "scripts/test.sh: no nats-server: tests against it are skipped (scripts/get-nats-server.sh)" >&2
fi
if ! command -v kcat >/dev/null; then
    echo "scripts/test.sh: no kcat: tests with it are skipped (apt-get install kcat)" >&2
fi
if ! command -v chromium >/dev/null && [ -z "${MSGBENCH_CHROMIUM:-}" ]; then
    echo "scripts/test.sh: no chromium: tests of the pages in a browser are skipped (apt-get install chromium)" >&2
fi
if ! command -v javac >/dev/null || ! command -v mvn >/dev/null; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -qq && apt-get install -y -qq maven openjdk-17-jdk-headless >/dev/null || true
    fi
fi
# Kafka comes from Maven Central; where it cannot be had, its tests say that they are skipped.
scripts/get-kafka.sh || echo "scripts/test.sh: no Kafka: tests against it are skipped" >&2
# Most of what Kafka costs the tests is its start, and most of that is Java that compiles well what
# runs for seconds, and reads classes: 5 s of a processor, and 1.6 s so. Java says on standard error
# that it was told; an archive that is not of its classes is passed over.
JAVA_TOOL_OPTIONS="${JAVA_TOOL_OPTIONS:-} -XX:TieredStopAtLevel=1"
if classes=$(scripts/kafka-classes.sh); then
    JAVA_TOOL_OPTIONS+=" -XX:SharedArchiveFile=$classes -Xlog:cds=off -Xlog:cds+dynamic=off"
fi
export JAVA_TOOL_OPTIONS
# Tests do not depend on what was calibrated here.
export MSGBENCH_CERTIFICATE=
# Every test that skips notes it here (tests/common/needs.rs).
MSGBENCH_SKIPPED=$(mktemp)
export MSGBENCH_SKIPPED
trap 'rm -f "$MSGBENCH_SKIPPED"' EXIT
status=0
cargo test --locked --no-fail-fast --config "target.'cfg(unix)'.runner = '$PWD/scripts/test-threads.sh'" "$@" || status=$?
skipped=$(cut -f1 "$MSGBENCH_SKIPPED" | sort -u | wc -l)
if [ "$skipped" = 0 ]; then
    echo "scripts/test.sh: no test skipped"
else
    echo "scripts/test.sh: $skipped tests skipped, wholly or in part:"
    sort -u "$MSGBENCH_SKIPPED" | sed 's/\t/: /; s/^/  /'
fi
exit "$status"
