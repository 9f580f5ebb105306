# The median of Kafka's own EndToEndLatency over 2,000 messages of 128 B, one after the other,
# acks=1. The tool says whole milliseconds, rounded down: 0 is below one.
. "$(dirname "$0")/server.sh"
kafka_broker
tool=org.apache.kafka.tools.EndToEndLatency
kafka $tool "127.0.0.1:$at" second 2000 1 128 >"$dir/out" 2>&1 || { tail -1 "$dir/out"; exit 1; }
sed -n "s/.*Percentiles: 50th = \([0-9]*\),.*/\1ms/p" "$dir/out" | tail -1
