#!/usr/bin/env bash
# Fetches Apache Kafka (broker, tools, Kafka Streams) from Maven Central with Maven into .cache/kafka, which git ignores.
# Maven pins every version (scripts/kafka/pom.xml) and verifies every checksum; where it fetches from is a matter of its
# own settings. KAFKA_VERSION=4.1.1 asks for another version. An unpacked tarball of Apache Kafka does as well: set
# MSGBENCH_KAFKA_HOME to its folder, and nothing is fetched. May be run again: what is already there is kept.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { echo "get-kafka: $*"; }
fail() { say "$*" >&2; exit 1; }

# msgbench starts Kafka with it, wherever Kafka comes from. It compiles its application of Kafka Streams itself, with javac.
command -v java >/dev/null || fail "no java; Kafka needs Java 17 or newer: apt-get install openjdk-17-jre-headless"
major=$(java -version 2>&1 | sed -n '1s/.*version "\([0-9]*\).*/\1/p')
[ "${major:-0}" -ge 17 ] || fail "java is version ${major:-unknown}; Kafka 4 needs 17 or newer"

if [ -n "${MSGBENCH_KAFKA_HOME:-}" ]; then
    ls "$MSGBENCH_KAFKA_HOME"/libs/kafka_*.jar >/dev/null 2>&1 ||
        fail "MSGBENCH_KAFKA_HOME=$MSGBENCH_KAFKA_HOME has no libs/kafka_*.jar; unset it or name an unpacked Kafka"
    say "MSGBENCH_KAFKA_HOME is set; msgbench uses $MSGBENCH_KAFKA_HOME, nothing is fetched"
    exit 0
fi

home=.cache/kafka
version=${KAFKA_VERSION:+-Dkafka.version=$KAFKA_VERSION}
wanted=$( (cat scripts/kafka/pom.xml scripts/kafka/log4j2.properties; echo "$version") | sha256sum | cut -d' ' -f1)
if [ "$(cat $home/fetched 2>/dev/null)" = "$wanted" ]; then
    say "$(basename "$(ls $home/libs/kafka_*.jar)" .jar) is already in $home"
    exit 0
fi
command -v mvn >/dev/null || fail "no mvn; install it (apt-get install maven), or set MSGBENCH_KAFKA_HOME to an unpacked Kafka"
fresh=$home.new
rm -rf "$fresh"
mkdir -p "$fresh/config" "$fresh/bin"
say "fetching with Maven into $home"
mvn -q -B -Dstyle.color=never --strict-checksums -f scripts/kafka/pom.xml ${version:+"$version"} dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$PWD/$fresh/libs"
cp scripts/kafka/log4j2.properties "$fresh/config/"
# Same name and place as in Apache's own distribution, so that a command for one works with the other.
cat >"$fresh/bin/kafka-run-class.sh" <<'RUN'
#!/bin/sh
home=$(cd "$(dirname "$0")/.." && pwd)
exec java ${KAFKA_HEAP_OPTS:--Xmx512m} -XX:-UsePerfData "-Dlog4j2.configurationFile=$home/config/log4j2.properties" \
    -cp "$home/libs/*" "$@"
RUN
chmod +x "$fresh/bin/kafka-run-class.sh"
echo "$wanted" >"$fresh/fetched"
rm -rf "$home"
mv "$fresh" "$home"
say "fetched $(find $home/libs -name '*.jar' | wc -l) jars, $(du -sh $home | cut -f1): $(basename "$(ls $home/libs/kafka_*.jar)" .jar)"
