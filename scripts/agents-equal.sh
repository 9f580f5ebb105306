#!/usr/bin/env bash
# Whether four agents on this host measure what one process does: the same scenario by both in turn,
# ROUNDS times, then `msgbench compare` over all runs. The broker holds each message for a time that
# is drawn by a seed, so that the figures are known beforehand and are not those of a few processors that
# four processes share; FAULTS="" leaves that out.
#
#     scripts/agents-equal.sh [OUT] [ROUNDS]     # OUT: agents-equal-results; 8 rounds
#
# MSGBENCH names the program.
set -euo pipefail
out=$(realpath -m "${1:-agents-equal-results}")
rounds=${2:-8}
program=$(realpath "${MSGBENCH:-$(dirname "$0")/../target/release/msgbench}")
mkdir -p "$out"
faults='[faults]
delay = { mixture = { short = "10ms", long = "30ms", share = 0.01 } }'
cat >"$out/equal.toml" <<TOML
name = "equal"
question = "Do four agents measure what one process does?"

[[system]]
driver = "reference"

[[workload]]
pattern = "m-to-n"
producers = 4
consumers = 4
load.rate = "1000/s"

[run]
warmup = "1s"
duration = "8s"
trials = 1

${FAULTS-$faults}
TOML
pids=()
# Whatever is not gone 30 s after it was asked to end is killed: an agent offers its result so long.
finish() {
    trap - EXIT
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for _ in $(seq 300); do
        [ -n "$(jobs -rp)" ] || break
        sleep 0.1
    done
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -f "$out/ready"
}
trap finish EXIT
trap 'exit 130' INT TERM
rm -f "$out/ready"
mkfifo "$out/ready"
"$program" broker --listen 127.0.0.1:0 --format json >"$out/ready" 2>"$out/control.log" &
pids+=($!)
exec 8<"$out/ready"
rm "$out/ready"
read -r -t 30 line <&8 || { echo "agents-equal: no control server; see $out/control.log" >&2; exit 1; }
control=$(sed 's/.*"url": *"\([^"]*\)".*/\1/' <<<"$line")
"$program" agents local 4 --control "$control" >"$out/agents.log" 2>&1 &
pids+=($!)
# Exit code 4 is a run that does not count: it is in the comparison as one that is left out. A run
# takes half a minute; what takes five hangs.
run() { timeout --kill-after=30 300 "$program" run "$out/equal.toml" --quiet "$@" || [ $? -eq 4 ]; }
for round in $(seq "$rounds"); do
    echo "round $round of $rounds"
    run --out "$out/alone"
    run --out "$out/together" --agents 4 --control "$control"
done
"$program" compare "$out/alone/equal" "$out/together/equal" || true
