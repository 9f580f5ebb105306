# What Kafka's own producer-perf-test writes: a million messages of 128 B, acks=all.
. "$(dirname "$0")/server.sh"
kafka_broker
kafka org.apache.kafka.tools.ProducerPerformance --topic second --num-records 1000000 --record-size 128 \
    --throughput -1 --producer-props "bootstrap.servers=127.0.0.1:$at" acks=all >"$dir/out" 2>&1 ||
    { tail -1 "$dir/out"; exit 1; }
sed -n 's/.*1000000 records sent, \([0-9.]*\) records\/sec.*/\1\/s/p' "$dir/out" | tail -1
