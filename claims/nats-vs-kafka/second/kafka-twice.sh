# How many of 2,000 messages of an idempotent producer come twice when a consumer of a group dies:
# Kafka's own VerifiableProducer and console consumers, all clients of Java. The first consumer is
# killed when it has printed a message, and another one takes its place.
. "$(dirname "$0")/server.sh"
KAFKA_HEAP_OPTS=$SHORT_LIVED
kafka_broker
kafka org.apache.kafka.tools.VerifiableProducer --bootstrap-server "127.0.0.1:$at" --topic second \
    --max-messages 2000 --acks -1 >"$dir/sent" 2>&1 || { tail -1 "$dir/sent"; exit 1; }
consumer() {
    # Itself, so that it can be killed.
    java $SHORT_LIVED "-Dlog4j2.configurationFile=$dir/log.properties" -cp "$home/libs/*" \
        org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "127.0.0.1:$at" --topic second \
        --group second --command-property auto.offset.reset=earliest \
        --command-property session.timeout.ms=6000 >"$1" 2>"$1.err" &
    beside=$!
}
# Waits until a consumer has printed a line that fits.
printed() {
    for _ in $(seq 400); do
        if grep -qx "$2" "$1"; then return; fi
        kill -0 "$beside" 2>/dev/null || { tail -1 "$1.err"; exit 1; }
        sleep 0.1
    done
    echo "a consumer printed $(wc -l <"$1") messages, and none is $2"
    exit 1
}
consumer "$dir/first"
printed "$dir/first" 0
kill -9 "$beside"
wait "$beside" 2>/dev/null || true
consumer "$dir/other"
# Of one partition, in order: behind the last one nothing comes.
printed "$dir/other" 1999
cat "$dir/first" "$dir/other" | grep -c . >"$dir/all"
cat "$dir/first" "$dir/other" | sort -u | grep -c . >"$dir/different"
echo $(($(cat "$dir/all") - $(cat "$dir/different")))
