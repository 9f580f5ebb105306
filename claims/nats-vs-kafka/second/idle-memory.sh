# How many times the memory of an idle Kafka broker an idle nats-server with JetStream needs, three
# seconds after its start, as the kernel says (VmRSS).
. "$(dirname "$0")/server.sh"
resident() {
    sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB$/\1/p' "/proc/$1/status"
}
nats_server --jetstream --store_dir "$dir/jetstream"
sleep 3
nats=$(resident "$server")
beside=$server
kafka_broker
sleep 3
kafka=$(resident "$server")
python3 -c "print(round($nats / $kafka, 3))"
