# What `nats bench sub` receives from `nats bench pub`: two million messages of 128 B, one to one.
. "$(dirname "$0")/server.sh"
nats_cli
nats_server
"$cli" bench sub second --server "nats://127.0.0.1:$at" --msgs 2000000 --size 128 --no-progress >"$dir/sub" 2>&1 &
beside=$!
sleep 1
"$cli" bench pub second --server "nats://127.0.0.1:$at" --msgs 2000000 --size 128 --no-progress >"$dir/pub" 2>&1 ||
    { tail -1 "$dir/pub"; exit 1; }
wait "$beside" || { tail -1 "$dir/sub"; exit 1; }
beside=
sed -n 's/.*[^0-9,]\([0-9][0-9,]*\) msgs\/sec.*/\1/p' "$dir/sub" | tail -1 | tr -d , | sed 's|$|/s|'
