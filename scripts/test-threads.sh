#!/usr/bin/env bash
# Runs a test binary; scripts/test.sh has cargo start each one so. Most tests against servers wait:
# for a load that takes its time, an election, a session that ends. Two processors have time for
# four of them. Tests that compute, or measure how much a processor can do, run as many at a time as
# there are processors, as without this.
case ${1##*/} in
action-* | agents-* | failover-* | kafka-* | nats-* | power-* | redis-* | secrets-* | workloads-*)
    : "${RUST_TEST_THREADS:=$((2 * $(nproc)))}"
    export RUST_TEST_THREADS
    ;;
esac
exec "$@"
