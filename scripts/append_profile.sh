#!/usr/bin/env bash
# What the log half does for a record on its way from the socket to the file: system calls and bytes by strace, CPU by perf.
#
#     scripts/append_profile.sh [path to msgbench] [path to log_compare]
#
# Both are built with `cargo build --release --bin msgbench --example log_compare`. Needs strace; without perf that part is left out, and said. Each part starts
# a broker of its own on a free port of 127.0.0.1 and sends it MIB (64) MiB of values of SIZE (128) bytes in batches of 16 KiB.
set -euo pipefail
cd "$(dirname "$0")/.."
msgbench=$(realpath "${1:-target/release/msgbench}")
load=$(realpath "${2:-target/release/examples/log_compare}")
size=${SIZE:-128} mib=${MIB:-64}
for program in "$msgbench" "$load"; do
    [ -x "$program" ] || { echo "no $program: cargo build --release --bin msgbench --example log_compare" >&2; exit 2; }
done
work=$(mktemp -d)
broker=
stop() {
    [ -z "$broker" ] || { kill "$broker" 2>/dev/null && wait "$broker" || true; }
    broker=
}
trap 'stop; rm -rf "$work"' EXIT

# Starts a broker in a directory of its own, behind the command given, and waits for its port.
start() {
    rm -f "$work/port"
    "$@" "$msgbench" broker --kafka 127.0.0.1:0 --data "$work/$RANDOM" --sync "${SYNC:-never}" --port-file "$work/port" >"$work/broker.log" 2>&1 &
    broker=$!
    for _ in $(seq 200); do [ -s "$work/port" ] && return; sleep 0.05; done
    cat "$work/broker.log" >&2
    exit 1
}

produce() {
    MSGBENCH_LOAD="127.0.0.1:$(cat "$work/port")" MSGBENCH_LOAD_SIZE=$size MSGBENCH_LOAD_MIB=$mib timeout 120 "$load" load
}

start strace -f -qq -e trace=read,readv,recvfrom,recvmsg,write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,splice,sendfile,copy_file_range -o "$work/trace"
said=$(produce)
echo "$said"
# strace ends with the broker.
kill "$(pgrep -P "$broker")"
wait "$broker" || true
broker=
records=${said%% *}
python3 - "$work/trace" "$records" <<'PYTHON'
import re, sys
calls, records = {}, int(sys.argv[2])
unfinished = {}
for line in open(sys.argv[1], errors='replace'):
    line = line.rstrip()
    pid, _, rest = line.partition(' ')
    rest = rest.strip()
    if rest.endswith('<unfinished ...>'):
        unfinished[pid] = rest.split('(')[0]
        continue
    resumed = re.match(r'<\.\.\. (\w+) resumed>', rest)
    name = resumed[1] if resumed else rest.split('(')[0]
    result = re.search(r'= (-?\d+)', rest[rest.rfind(')'):])
    if result and int(result[1]) > 0:
        count, size = calls.get(name, (0, 0))
        calls[name] = (count + 1, size + int(result[1]))
print('| system call | calls | bytes | calls a 1000 records | bytes a record |\n|---|---:|---:|---:|---:|')
for name, (count, size) in sorted(calls.items(), key=lambda call: -call[1][1]):
    print(f'| {name} | {count} | {size} | {1000 * count / records:.2f} | {size / records:.1f} |')
PYTHON

command -v perf >/dev/null || { echo "no perf: the CPU profile is left out" >&2; exit 0; }
start
perf record -q -F 4000 -p "$broker" -o "$work/perf" >/dev/null 2>&1 &
recorder=$!
sleep 1
mib=$((mib * 16))
produce
kill -INT "$recorder"
wait "$recorder" || true
stop
perf report -i "$work/perf" --stdio --sort dso,symbol 2>/dev/null >"$work/report"
python3 - "$work/report" <<'PYTHON'
import re, sys
kinds = [
    ('copy by the kernel, socket to buffer', r'copy_to_iter|copy_to_user|rep_movs'),
    ('copy by the kernel, buffer to page cache', r'copy_folio_from_iter|copy_page_from_iter|copy_from_user'),
    ('copy in the process (memmove, memcpy)', r'^(?!\[k\]).*(memmove|memcpy)'),
    ('checksum', r'crc32c|crc_u64'),
    ('allocator', r'malloc|_int_free|calloc|realloc|cfree|^\[\.\] free|unlink_chunk'),
    ('the rest of the kernel: socket, file system, scheduling', r'\[k\]'),
    ('the rest of the process', r'\[\.\]'),
]
shares = dict.fromkeys([name for name, _ in kinds], 0.0)
for line in open(sys.argv[1]):
    found = re.match(r'\s*([0-9.]+)%\s+(\S+)\s+(\[.\] .*)', line)
    if found:
        name = next((name for name, words in kinds if re.search(words, found[3])), None)
        if name:
            shares[name] += float(found[1])
print('| CPU of the broker | share |\n|---|---:|')
for name, share in shares.items():
    print(f'| {name} | {share:.1f} % |')
PYTHON
