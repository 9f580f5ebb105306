# The median of the time from the publishing of a message of 128 B to a stream in a file until its
# consumer has it, by a bare client of Python (nats-py): 1,000 messages, one after the other.
. "$(dirname "$0")/server.sh"
nats_python
nats_server --jetstream --store_dir "$dir/jetstream"
"$python" "$(dirname "$0")/jetstream_latency.py" "nats://127.0.0.1:$at" >"$dir/out" 2>"$dir/err" ||
    { tail -1 "$dir/err"; exit 1; }
tail -1 "$dir/out"
