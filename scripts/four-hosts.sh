#!/usr/bin/env bash
# Four agents on four hosts at two sites against a cluster of three nats-servers, all on this
# machine: each host is a network namespace, and each agent has a clock of its own (a time
# namespace, thousands of seconds ahead). Links take 5 ms within a site and 20 ms between the two,
# each way. At the end what was found of the clocks is held against what the kernel was told.
#
#     scripts/four-hosts.sh [OUT] [SCENARIO]      # as root; OUT: four-hosts-results
#
# MSGBENCH and MSGBENCH_NATS_SERVER name the programs; nothing outside of the namespaces is touched.
set -euo pipefail
out=$(realpath -m "${1:-four-hosts-results}")
here=$(cd "$(dirname "$0")" && pwd)
program=$(realpath "${MSGBENCH:-$here/../target/release/msgbench}")
server=${MSGBENCH_NATS_SERVER:-nats-server}
[ "$(id -u)" = 0 ] || { echo "four-hosts: run it as root: it makes network namespaces" >&2; exit 2; }
mkdir -p "$out"
id=mb$$
declare -A ahead=([h1]=1000 [h2]=20000 [h3]=300000 [h4]=4000000)
hosts=(c=10.77.0.1@a h1=10.77.0.11@a h2=10.77.0.12@a h3=10.77.0.13@b h4=10.77.0.14@b
       n1=10.77.0.21@a n2=10.77.0.22@a n3=10.77.0.23@b)
pids=()
# Whatever is not gone 5 s after it was asked to end is killed: a namespace that is in use stays.
finish() {
    trap - EXIT
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for _ in $(seq 50); do
        [ -n "$(jobs -rp)" ] || break
        sleep 0.1
    done
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    for host in "${hosts[@]}"; do ip netns delete "$id-${host%%=*}" 2>/dev/null || true; done
}
trap finish EXIT
trap 'exit 130' INT TERM
# Waits 30 s until a command succeeds.
await() {
    local what=$1
    shift
    for _ in $(seq 300); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    echo "four-hosts: $what within 30 s; see the logs in $out" >&2
    exit 1
}
for host in "${hosts[@]}"; do ip netns add "$id-${host%%=*}"; done

rm -f "$out/links.in"
mkfifo "$out/links.in" && exec 9<>"$out/links.in"
python3 "$here/four_hosts_links.py" "${hosts[@]/#/$id-}" --within 5 --between 20 <&9 >"$out/links.log" &
pids+=($!)
rm "$out/links.in"
await "the links were not ready" grep -q ready "$out/links.log"

# The links end with their input, which nobody else keeps open.
on() { local host=$1; shift; exec 9>&-; exec ip netns exec "$id-$host" "$@"; }
routes=nats://10.77.0.21:6222,nats://10.77.0.22:6222,nats://10.77.0.23:6222
for n in 1 2 3; do
    (on "n$n" "$server" -a "10.77.0.2$n" -p 4222 -n "n$n" -cluster_name four \
        -cluster "nats://10.77.0.2$n:6222" -routes "$routes") >"$out/n$n.log" 2>&1 &
    pids+=($!)
done
(on c "$program" broker --listen 10.77.0.1:4222) >"$out/control.log" 2>&1 &
pids+=($!)
await "the control server did not listen" \
    ip netns exec "$id-c" bash -c 'exec 3<>/dev/tcp/10.77.0.1/4222'
for host in h1 h2 h3 h4; do
    (on "$host" unshare --time --monotonic "${ahead[$host]}" --fork --kill-child -- \
        "$program" agent --control nats://10.77.0.1:4222 --name "$host" --spool "$out") >"$out/$host.log" 2>&1 &
    pids+=($!)
done
for n in 1 2 3; do
    await "nats-server n$n was not ready" grep -q "Server is ready" "$out/n$n.log"
done

scenario=${2:-$out/four-hosts.toml}
[ -n "${2:-}" ] || cat >"$scenario" <<'TOML'
name = "four-hosts"
question = "How long does a message take across two sites, and how well is that known?"

[[system]]
driver = "nats"

[[workload]]
pattern = "m-to-n"
producers = 4
consumers = 4
payload.size = "256B"
load.rate = "200/s"

[run]
warmup = "2s"
duration = "20s"
trials = 3
TOML
code=0
# Three trials take two minutes; what takes ten hangs.
timeout --kill-after=30 600 ip netns exec "$id-c" "$program" run "$scenario" --agents 4 --control nats://10.77.0.1:4222 \
    --url nats://10.77.0.21:4222 --out "$out/results" || code=$?
record=$(find "$out/results" -name run.json 2>/dev/null | sort | tail -1) || true
[ -n "$record" ] || { echo "four-hosts: the run left no result (exit code $code)" >&2; exit 1; }
truth=()
for host in h1 h2 h3 h4; do truth+=("$host=${ahead[$host]}"); done
python3 - "$record" "${truth[@]}" <<'PY'
import json, sys
record = json.load(open(sys.argv[1]))
truth = {name: int(s) * 10**9 for name, s in (word.split("=") for word in sys.argv[2:])}
wrong = 0
for trial in record["trials"]:
    checks = {c["id"]: c for c in trial["validity"] if c["id"] in ("V18", "V19", "V20")}
    print(f"round {trial['round']}:", "; ".join(f"{i} {c['status']}: {c['observed']}" for i, c in checks.items()))
    for agent in trial["agents"]:
        clock = agent["clock"]
        error = clock["offset_ns"] - truth[agent["name"]]
        inside = clock["bound_ns"] is not None and abs(error) <= clock["bound_ns"]
        wrong += not inside
        pairs = ", ".join(f"{p['with']}: {(p['bound_ns'] or 0) / 1e6:.3f}" for p in agent["peers"])
        print(f"  {agent['name']}: ahead by {truth[agent['name']] // 10**9} s, wrong by {error / 1e6:+.3f} ms, "
              f"bound {(clock['bound_ns'] or 0) / 1e6:.3f} ms, {'inside' if inside else 'OUTSIDE'}; "
              f"with others, ms: {pairs}; sent {agent['sent']}, received {agent['received']}")
    for w in trial["workloads"]:
        kept = ("scheduled", "sent", "expected", "delivered", "lost", "duplicated", "reordered")
        print("  ledger:", ", ".join(f"{key} {w['ledger'][key]}" for key in kept))
        for kind, latency in w["latency"].items():
            p50 = next(p for p in latency["percentiles"] if p["quantile"] == 0.5)["value_ns"]
            doubt = latency.get("clocks")
            known = "" if doubt is None else f" +/- {(doubt['bound_ns'] or float('inf')) / 1e6:.3f}"
            print(f"  {kind}: p50 {(p50 or float('inf')) / 1e6:.3f}{known} ms")
print(f"page: {sys.argv[1].removesuffix('run.json')}report.html")
sys.exit(wrong > 0)
PY
exit "$code"
