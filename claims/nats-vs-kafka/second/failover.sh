# How long JetStream takes no messages after the leader of three copies is killed, as a share of how
# long Kafka takes none: medians of three kills each. By nats-py, and by Kafka's own
# VerifiableProducer, of which only the instants of its acknowledgements are read.
. "$(dirname "$0")/server.sh"
nats_python
program=${MSGBENCH_NATS_SERVER:-$(command -v nats-server || true)}
[ -x "$program" ] || missing "nats-server is not here: set MSGBENCH_NATS_SERVER"
kafka_here
KAFKA_HEAP_OPTS=$SHORT_LIVED
stream=$("$python" "$(dirname "$0")/jetstream_failover.py" "$program" "$dir" 2>"$dir/err" | tail -1)
[ -n "$stream" ] || { tail -1 "$dir/err"; exit 1; }

voters=
clients=
for node in 1 2 3; do
    eval "at_$node=$(port) other_$node=$(port)"
    eval "voters=\$voters,$node@127.0.0.1:\$other_$node clients=\$clients,127.0.0.1:\$at_$node"
done
node() {
    eval "at=\$at_$1 other=\$other_$1"
    # Itself, so that it can be killed.
    java -Xmx512m "-Dlog4j2.configurationFile=$dir/log.properties" -cp "$home/libs/*" kafka.Kafka \
        "$dir/server-$1.properties" >>"$dir/kafka-$1.log" 2>&1 &
    eval "node_$1=$!"
    server="$server $!"
}
for node in 1 2 3; do
    eval "at=\$at_$node other=\$other_$node"
    kafka_settings "$node" "${voters#,}" "$dir/data-$node" 3 >"$dir/server-$node.properties"
    echo "min.insync.replicas=2" >>"$dir/server-$node.properties"
    kafka_format "$dir/server-$node.properties"
done
for node in 1 2 3; do node "$node"; done
for node in 1 2 3; do eval "reached \$at_$node"; done
topic() {
    kafka org.apache.kafka.tools.TopicCommand --bootstrap-server "${clients#,}" "$@" 2>"$dir/err"
}
topic --create --topic second --partitions 1 --replication-factor 3 >"$dir/out" || { tail -1 "$dir/err"; exit 1; }
# Waits until all three have the partition and are up to date; says who leads it.
leader() {
    for _ in $(seq 30); do
        found=$(topic --describe --topic second | sed -n 's/.*Leader: \([0-9]*\).*Isr: [0-9]*,[0-9]*,[0-9]*.*/\1/p')
        if [ -n "$found" ]; then
            echo "$found"
            return
        fi
        sleep 0.5
    done
    echo "three brokers are not up to date"
    exit 1
}
java $SHORT_LIVED "-Dlog4j2.configurationFile=$dir/log.properties" -cp "$home/libs/*" \
    org.apache.kafka.tools.VerifiableProducer --bootstrap-server "${clients#,}" --topic second \
    --throughput 100 --acks -1 >"$dir/sent" 2>&1 &
beside=$!
for _ in $(seq 100); do
    if [ "$(grep -c producer_send_success "$dir/sent")" -gt 500 ]; then break; fi
    sleep 0.2
done
: >"$dir/killed"
for _ in 1 2 3; do
    first=$(leader) || { echo "$first"; exit 1; }
    eval "process=\$node_$first"
    sleep 1
    date +%s%3N >>"$dir/killed"
    kill -9 "$process"
    wait "$process" 2>/dev/null || true
    sleep 18
    node "$first"
done
python3 - "$dir/sent" "$dir/killed" "$stream" <<'EOF'
import json, statistics, sys

taken = []
for line in open(sys.argv[1], errors="replace"):
    try:
        it = json.loads(line)
    except ValueError:
        continue
    if it.get("name") == "producer_send_success":
        taken.append(int(it["timestamp"]))
gaps = []
for killed in map(int, open(sys.argv[2])):
    times = [t for t in taken if killed - 500 < t < killed + 18_000]
    if not times or times[-1] < killed + 16_000:
        sys.exit("nothing is taken 18 s after the leader was killed")
    gaps.append(max(b - a for a, b in zip(times, times[1:])))
kafka = statistics.median(gaps)
print(f"JetStream {sys.argv[3]} ms, Kafka {kafka:.0f} ms", file=sys.stderr)
print(f"{float(sys.argv[3]) / kafka:.2f}")
EOF
