#!/bin/sh
# Calibrates this host N times in a row, keeps each certificate in DIR as NN.json, and prints a Markdown table.
#
#     scripts/calibrations.sh N DIR [--quick]
#
# MSGBENCH_BIN names the program (default: target/release/msgbench). Ends with 1 when an experiment FAILs or a calibration comes to no
# end, otherwise with 0; DISTURBED is in the table with the reason that the certificate names.
set -u

[ $# -ge 2 ] || { echo "usage: $0 N DIR [--quick]" >&2; exit 2; }
n=$1 dir=$2
shift 2
bin=${MSGBENCH_BIN:-target/release/msgbench}
[ -x "$bin" ] || { echo "$0: $bin cannot be run; build it with \`cargo build --release\`, or set MSGBENCH_BIN" >&2; exit 2; }
mkdir -p "$dir" || exit 2
scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

status=0
i=1
while [ "$i" -le "$n" ]; do
    number=$(printf %02d "$i")
    echo "calibration $i of $n" >&2
    rm -rf "$scratch/out"
    # Not kept for later runs of this host: its own certificate stays what it was.
    MSGBENCH_CERTIFICATE='' timeout 600 "$bin" calibrate "$@" --out "$scratch/out" >"$scratch/text" 2>"$scratch/err"
    code=$?
    case $code in
    0 | 4) cp "$scratch/out/certificate.json" "$dir/$number.json" || status=1 ;;
    *)
        echo "calibration $i ended with $code:" >&2
        tail -n 5 "$scratch/err" >&2
        status=1
        [ "$code" -eq 130 ] && break
        ;;
    esac
    i=$((i + 1))
done

python3 - "$dir" <<'EOF' || status=1
import json, pathlib, re, sys

RANK = ["PASS", "DISTURBED", "FAIL"]


def ms(ns):
    return f"{ns / 1e6:.2f} ms" if abs(ns) >= 1e6 else f"{ns / 1e3:.1f} us"


def row(path):
    c = json.loads(path.read_text())
    experiments = [(e, max((l["verdict"] for l in e["lines"]), key=RANK.index, default="FAIL")) for e in c["experiments"]]
    count = {v: sum(verdict == v for _, verdict in experiments) for v in RANK}
    worst = max((v for _, v in experiments), key=RANK.index)
    why = []
    for e, verdict in experiments:
        if verdict == "PASS":
            continue
        lines = [l for l in e["lines"] if l["verdict"] != "PASS"]
        steal = re.search(r"steal (\S+ %)", e["host"])
        hiccup = re.search(r"hiccup .*?max (\S+?);", e["host"])
        named = ", ".join(x for x in [steal and "steal " + steal[1], hiccup and "hiccup " + hiccup[1]] if x)
        why.append(f"{verdict} {e['number']} {e['name']}: {'; '.join(l['what'] for l in lines)} ({named or 'nothing named'})")

    def error(number, what):
        for e, _ in experiments:
            for l in e["lines"]:
                if e["number"] == number and l["what"] == what:
                    return None if l["measured"] is None else l["measured"] - l["expected"], l["expected"]
        return None, 1

    stall, exact = error(3, "p99.9 of response")
    delays = [error(6, f"{us}us: median response less control")[0] for us in (100, 1000, 10000)]
    figures = [("inf" if stall is None else f"{100 * stall / exact:+.2f} %")] + ["inf" if d is None else ms(d) for d in delays]
    cells = [path.stem, c["started_at"], f"{c['seconds']:.0f}", worst, *(str(count[v]) for v in RANK), *figures, "<br>".join(why)]
    return cells, worst, (stall, exact, delays)


rows = [row(path) for path in sorted(pathlib.Path(sys.argv[1]).glob("[0-9][0-9]*.json"))]
if not rows:
    sys.exit("no calibration came to an end")
print("| # | begun | s | verdict | PASS | DISTURBED | FAIL | stall p99.9 | 100 us | 1 ms | 10 ms | what, and what the certificate names |")
print("|---|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---|")
for cells, _, _ in rows:
    print("| " + " | ".join(cells) + " |")
stalls = [abs(s / x) for _, _, (s, x, _) in rows if s is not None]
delays = list(zip(*[d for _, _, (_, _, d) in rows]))
worst = [max((abs(d) for d in column if d is not None), default=None) for column in delays]
print(f"\nWorst error: stall p99.9 {100 * max(stalls, default=0):.2f} % (2 % allowed); constant delays "
      + ", ".join("-" if w is None else ms(w) for w in worst) + " (5 us + 1 % + half the interquartile range of the control allowed).")
verdicts = [worst for _, worst, _ in rows]
print(f"{len(rows)} calibrations: " + ", ".join(f"{verdicts.count(v)} {v}" for v in RANK) + ".")
sys.exit(1 if "FAIL" in verdicts else 0)
EOF
exit "$status"
