#!/usr/bin/env bash
# Runs a test binary; scripts/test.sh has cargo start each one so. Tests against servers mostly
# wait: for a load that takes its time, an election, a session that ends. Two processors have time
# for four of them, or for three where Kafka is among the servers. Tests that compute, or measure
# how much a processor can do, run as many at a time as there are processors, as without this.
case ${1##*/} in
action-* | agents-* | nats-* | redis-* | secrets-*) threads=$((2 * $(nproc))) ;;
failover-* | kafka-* | power-* | workloads-*) threads=$((3 * $(nproc) / 2)) ;;
*) threads= ;;
esac
[ -z "$threads" ] || export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$threads}
exec "$@"
