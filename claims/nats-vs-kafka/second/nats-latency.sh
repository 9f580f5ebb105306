# A percentile of `nats latency`, the median where none is named: 5,000 messages of 128 B a second
# from one connection to another.
. "$(dirname "$0")/server.sh"
nats_cli
nats_server
"$cli" latency --server "nats://127.0.0.1:$at" --server-b "nats://127.0.0.1:$at" --size 128 --rate 5000 \
    --duration 4s >"$dir/out" 2>&1 || { tail -1 "$dir/out"; exit 1; }
sed -n "s/.* ${1:-50}: *//p" "$dir/out" | tail -1 | sed "s/µ/u/"
