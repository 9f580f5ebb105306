# Started by the others: a server in a folder of its own, which goes away with the script.
# Exit code 77: what the check needs is not here, as the last line says.
set -eu
dir=$(mktemp -d)
server=
beside=
mounted=
# A Java virtual machine whose speed does not count.
SHORT_LIVED="-Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
end() {
    # Their data are thrown away, and the last of several brokers would wait for the others.
    for one in $beside $server; do kill -9 "$one" 2>/dev/null || true; done
    for one in $beside $server; do wait "$one" 2>/dev/null || true; done
    [ -z "$mounted" ] || umount "$mounted" || true
    rm -rf "$dir"
}
trap end EXIT
trap 'exit 143' INT TERM

missing() {
    echo "$1"
    exit 77
}

command -v python3 >"$dir/python" || missing "python3 is not here"

port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Waits until somebody listens at a port.
reached() {
    for _ in $(seq 300); do
        if python3 -c "import socket; socket.create_connection(('127.0.0.1', $1), 1)" 2>/dev/null; then return; fi
        sleep 0.1
    done
    echo "no server at port $1"
    exit 1
}

# A nats-server with default settings, and these options.
nats_server() {
    program=${MSGBENCH_NATS_SERVER:-$(command -v nats-server || true)}
    [ -x "$program" ] || missing "nats-server is not here: set MSGBENCH_NATS_SERVER"
    at=$(port)
    "$program" -a 127.0.0.1 -p "$at" "$@" >"$dir/nats.log" 2>&1 &
    server=$!
    reached "$at"
}

nats_cli() {
    cli=${MSGBENCH_NATSCLI:-$(command -v nats || true)}
    [ -x "$cli" ] || missing "the command nats is not here: set MSGBENCH_NATSCLI"
}

nats_python() {
    python=${MSGBENCH_PYTHON:-python3}
    "$python" -c "import nats" 2>"$dir/python.log" || missing "nats-py is not here: set MSGBENCH_PYTHON"
}

kafka() {
    java ${KAFKA_HEAP_OPTS:--Xmx512m} "-Dlog4j2.configurationFile=$dir/log.properties" -cp "$home/libs/*" "$@"
}

kafka_here() {
    home=${MSGBENCH_KAFKA_HOME:-}
    [ -d "$home/libs" ] || missing "Kafka is not here: set MSGBENCH_KAFKA_HOME"
    command -v java >"$dir/java" || missing "java is not here"
    printf 'rootLogger.level = error\n' >"$dir/log.properties"
}

# Default settings of a node at the ports `at` and `other`: its number, all voters, the folder of its
# data, copies of what the cluster keeps for itself.
kafka_settings() {
    cat <<EOF
process.roles=broker,controller
node.id=$1
listeners=PLAINTEXT://127.0.0.1:$at,CONTROLLER://127.0.0.1:$other
advertised.listeners=PLAINTEXT://127.0.0.1:$at
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters=$2
log.dirs=$3
offsets.topic.replication.factor=$4
EOF
}

kafka_format() {
    java $SHORT_LIVED "-Dlog4j2.configurationFile=$dir/log.properties" -cp "$home/libs/*" \
        kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAA -c "$1" >"$dir/format.log" 2>&1 ||
        { tail -1 "$dir/format.log"; exit 1; }
}

# A broker with default settings; its data are in the folder that is named, else in one of its own.
kafka_broker() {
    kafka_here
    at=$(port)
    other=$(port)
    kafka_settings 1 "1@127.0.0.1:$other" "${1:-$dir/data}" 1 >"$dir/server.properties"
    kafka_format "$dir/server.properties"
    kafka_start
}

# Starts the broker whose data are there.
kafka_start() {
    java -Xmx1g "-Dlog4j2.configurationFile=$dir/log.properties" -cp "$home/libs/*" kafka.Kafka \
        "$dir/server.properties" >"$dir/kafka.log" 2>&1 &
    server=$!
    reached "$at"
}
