#!/usr/bin/env bash
# Prints where the classes of Kafka are kept as Java reads them fastest (an archive for class data
# sharing, JEP 350), and makes that first where there is none of this Kafka and this Java. A Java
# virtual machine that is given it starts in about two thirds of the time; one whose classes are
# others passes it over.
set -euo pipefail
cd "$(dirname "$0")/.."
home=${MSGBENCH_KAFKA_HOME:-$PWD/.cache/kafka}
java=java
if [ -n "${JAVA_HOME:-}" ] && [ -x "$JAVA_HOME/bin/java" ]; then java=$JAVA_HOME/bin/java; fi
key=$( ("$java" -XX:TieredStopAtLevel=1 -version 2>&1; echo "$home"; ls -l --time-style=full-iso "$home/libs") | sha256sum)
archive=$PWD/.cache/kafka-classes-${key:0:16}.jsa
if [ ! -s "$archive" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # Ports that nobody listens on: between tests that take what the kernel gives, below its range.
    port=$((20000 + RANDOM % 5000))
    cat >"$work/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
listeners=CLIENT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:$((port + 1))
log.dirs=$work/data
offsets.topic.replication.factor=1
PROPERTIES
    start=("$java" "-Dlog4j2.configurationFile=$PWD/scripts/kafka/log4j2.properties" -cp "$home/libs/*" -Xmx512m -XX:-UsePerfData)
    "${start[@]}" -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format -t MkU3OEVBNTcwNTJENDM2Qg \
        -c "$work/server.properties" >"$work/format.log" 2>&1 || { cat "$work/format.log" >&2; exit 1; }
    "${start[@]}" "-XX:ArchiveClassesAtExit=$work/classes.jsa" kafka.Kafka "$work/server.properties" >"$work/log" 2>&1 &
    for _ in {1..600}; do
        if grep -q 'Kafka Server started' "$work/log" || ! kill -0 $! 2>/dev/null; then break; fi
        sleep 0.2
    done
    # The archive is written when it ends in order.
    kill $! 2>/dev/null || true
    wait $! || true
    [ -s "$work/classes.jsa" ] || { tail "$work/log" >&2; exit 1; }
    mkdir -p .cache
    mv "$work/classes.jsa" "$archive"
fi
echo "$archive"
