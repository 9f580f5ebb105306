#!/bin/sh
# Sends the wire probe to a fresh `msgbench broker` and compares the answers with a transcript of a real nats-server.
#
#   probe.sh MATERIAL-DIR [MSGBENCH]
#
# MATERIAL-DIR (or the variable PROBE_DIR) holds probe.py and golden-*.txt; MSGBENCH is the binary (default: target/release/msgbench, then
# target/debug/msgbench). GOLDEN picks the transcript (golden-2.10.27.txt). Every case that differs is printed; those that must differ
# are listed below with the reason, and counted. Exit 0: nothing else differs. Exit 1: something does. Exit 2: it could not be run.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
material=${1:-${PROBE_DIR:-}}
if [ -z "$material" ] || [ ! -f "$material/probe.py" ]; then
    echo "probe.sh: give the folder with probe.py and the transcripts, as argument or in PROBE_DIR" >&2
    exit 2
fi
golden=$material/${GOLDEN:-golden-2.10.27.txt}
binary=${2:-${MSGBENCH:-}}
for candidate in "$here/../../target/release/msgbench" "$here/../../target/debug/msgbench"; do
    [ -n "$binary" ] || [ ! -x "$candidate" ] || binary=$candidate
done
[ -n "$binary" ] && [ -f "$golden" ] || { echo "probe.sh: no msgbench binary or no $golden" >&2; exit 2; }
work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
"$binary" broker --listen 127.0.0.1:0 --port-file "$work/port" >"$work/broker.log" 2>&1 &
pid=$!
tries=0
while [ ! -f "$work/port" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "probe.sh: the broker does not start:" >&2; cat "$work/broker.log" >&2; exit 2; }
    sleep 0.1
done
timeout 120 python3 "$material/probe.py" "$(cat "$work/port")" >"$work/answers"
python3 - "$golden" "$work/answers" <<'PY'
import re, sys

def cases(path):
    found = {}
    for line in open(path, errors='replace'):
        if line.startswith('INFO INFO '):
            found['INFO'] = line
        elif ' -> ' in line:
            name, answer = line.rstrip('\n').split(' -> ', 1)
            found[name.strip()] = answer
    return found

golden, ours = (cases(path) for path in sys.argv[1:3])
# What must differ, and why.
def excused(name):
    if name.startswith('JS '):
        return 'JetStream is not served: requests on $JS.API get no responders, as from a nats-server without JetStream'
    if name == 'INFO':
        return 'ids, version and features are the server\'s own; its fields are checked below'
    if name == 'queue group one delivery':
        one = re.sub(r'MSG a [12] 2', 'MSG a GROUP-q 2', ours[name])
        other = re.sub(r'MSG a [12] 2', 'MSG a GROUP-q 2', golden[name])
        parts = lambda answer: sorted(re.findall(r'MSG a \S+ 2', answer))
        if parts(one) == parts(other):
            return 'which member of a group is chosen, and in which order subscriptions are served, is random'
    if name == 'two sids overlap':
        parts = lambda answer: sorted(re.findall(r'MSG \S+ \S+ \d+', answer))
        if parts(ours[name]) == parts(golden[name]):
            return 'the order in which overlapping subscriptions are served is random'
    return None

same = bad = 0
reasons = {}
for name in golden:
    if name not in ours:
        bad += 1
        print(f'MISSING  {name}')
    elif ours[name] == golden[name]:
        same += 1
    elif (reason := excused(name)) is not None:
        reasons.setdefault(reason, []).append(name)
    else:
        bad += 1
        print(f'DIFFERS  {name}\n    real: {golden[name]}\n    ours: {ours[name]}')
for name in ours.keys() - golden.keys():
    bad += 1
    print(f'EXTRA    {name}')
for field in ('server_id', 'server_name', 'version', 'proto', 'go', 'host', 'port', 'headers', 'max_payload', 'client_id', 'client_ip'):
    if f'"{field}":' not in ours['INFO']:
        bad += 1
        print(f'DIFFERS  INFO has no {field}')
for reason, names in reasons.items():
    print(f'excused  {", ".join(names)}: {reason}')
excusable = sum(map(len, reasons.values()))
print(f'{len(golden)} cases: {same} the same, {excusable} excused, {bad} different')
sys.exit(1 if bad else 0)
PY
