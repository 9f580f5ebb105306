#!/usr/bin/env bash
# Is the candidate slower than the baseline? Builds both commits, runs both in turn on this machine, gates and reports.
#
#   scripts/ci/regression.sh --scenario FILE --baseline-ref origin/main --candidate-ref HEAD \
#       --build 'cargo build --release' --program target/release/msgbench --variable MSGBENCH_BIN
#   scripts/ci/regression.sh --scenario FILE --baseline PROGRAM --candidate PROGRAM --variable MSGBENCH_NATS_SERVER
#
#   scripts/ci/regression.sh --scenario FILE --baseline-ref origin/main --candidate-ref HEAD --serve 'python3 service.py'
#
# The two sides are the same scenario with another program behind --variable, the variable by which msgbench finds the
# system: MSGBENCH_BIN for its reference broker, MSGBENCH_NATS_SERVER for nats-server. The generator is the same for both.
# With --serve the sides are two builds of a service that the scenario drives (`target`), at a server that runs already:
# the command starts the service before each trial of its side, in the root of its commit, and it is ended afterwards.
# --build may then be left out. With two programs instead of commits, PROGRAM names the one of the side.
# A round is one trial of each side, in random order, so that a drift of the machine hits both.
#
#   --rounds N       rounds [10]                   --gate FILE     [gate] and [[expect]], instead of the scenario's
#   --out DIR        results and reports [msgbench-regression]   --msgbench PATH  the generator [msgbench]
#   --seed N         order of the sides [1]        --set K=V       passed on to `msgbench run`; may be repeated
#   --serve COMMAND  starts a service              --ready COMMAND succeeds once the service answers, tried for a minute
#                                                  [it is ready when it prints its first line]
#
# Leaves DIR/report.html, report.md, junit.xml, compare.json. In a GitHub job it also writes the step summary, annotations,
# and the outputs `verdict` and `report`. Exit code: that of `msgbench compare`.
set -euo pipefail

scenario= baseline= candidate= baseline_ref= candidate_ref=HEAD build= program= variable=MSGBENCH_BIN serve= ready=
rounds=10 out=msgbench-regression gate=() msgbench=msgbench seed=1 sets=()
fail() { echo "regression.sh: $*" >&2; exit 2; }
case "${1:-}" in
    -h | --help)
        # The head of this file.
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0"
        exit 0
        ;;
esac
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || fail "$1 needs a value"
    case "$1" in
        --scenario) scenario=$2 ;;
        --baseline) baseline=$2 ;;
        --candidate) candidate=$2 ;;
        --baseline-ref) baseline_ref=$2 ;;
        --candidate-ref) candidate_ref=$2 ;;
        --build) build=$2 ;;
        --program) program=$2 ;;
        --variable) variable=$2 ;;
        --serve) serve=$2 ;;
        --ready) ready=$2 ;;
        --rounds) rounds=$2 ;;
        --out) out=$2 ;;
        --gate) gate=(--gate "$2") ;;
        --msgbench) msgbench=$2 ;;
        --seed) seed=$2 ;;
        --set) sets+=(--set "$2") ;;
        *) fail "unknown option $1; see the head of $0" ;;
    esac
    shift 2
done
[ -f "$scenario" ] || fail "--scenario names no file: \`$scenario\`"
case "$rounds$seed" in *[!0-9]*) fail "--rounds and --seed are whole numbers" ;; esac
mkdir -p "$out"
out=$(cd "$out" && pwd)
# A folder gives a side its name in every report: that of its commit, where it is one.
side_folder() { # side, ref
    local commit=
    if [ -n "$2" ]; then commit=-$(git rev-parse --short "$2^{commit}") || fail "there is no commit $2: fetch it (fetch-depth: 0)"; fi
    echo "$out/$1$commit"
}
baseline_folder=$(side_folder baseline "$baseline_ref")
candidate_folder=$(side_folder candidate "${baseline_ref:+$candidate_ref}")
rm -rf "$baseline_folder" "$candidate_folder"

# Each commit is built in a worktree of its own: neither sees what the other left behind.
trees=()
service= before=0
cleanup() {
    end_service
    for tree in ${trees[@]+"${trees[@]}"}; do git worktree remove --force "$tree" || true; done
}
# What a service says last, where it has ended.
lives() { # side
    if kill -0 "$service" 2>/dev/null; then return 0; fi
    tail -n +"$((before + 1))" "$out/service-$1.log" | tail -n 20 >&2
    echo "regression.sh: the service of the $1 has ended; its output is above and in $out/service-$1.log" >&2
    exit 6
}
# A service of the side, in a group of its own, so that what it starts ends with it.
start_service() { # side, folder it runs in, program
    local log="$out/service-$1.log"
    echo "-- round $round" >>"$log"
    before=$(wc -l <"$log")
    (cd "$2" && PROGRAM=$3 exec setsid bash -c "$serve") >>"$log" 2>&1 &
    service=$!
    for _ in $(seq 240); do
        lives "$1"
        if [ -n "$ready" ]; then
            if (cd "$2" && bash -c "$ready") >/dev/null 2>&1; then return; fi
        elif [ "$(wc -l <"$log")" -gt "$before" ]; then
            return
        fi
        sleep 0.25
    done
    echo "regression.sh: the service of the $1 is not ready after a minute: ${ready:-it has printed no line}; see $log" >&2
    exit 6
}
end_service() {
    # In the trap a bare `return` would give the exit code of the script, and end the trap there.
    if [ -z "$service" ]; then return 0; fi
    kill -TERM -- "-$service" 2>/dev/null || true
    for _ in $(seq 40); do
        if ! kill -0 -- "-$service" 2>/dev/null; then break; fi
        sleep 0.25
    done
    kill -KILL -- "-$service" 2>/dev/null || true
    wait "$service" 2>/dev/null || true
    service=
}
trap cleanup EXIT
built() { # ref, name: prints the program
    local tree="$out/build-$2"
    git worktree add --force --detach "$tree" "$1" >&2
    (cd "$tree" && bash -c "${build:-true}") >&2
    if [ -n "$serve" ] && [ -z "$program" ]; then return; fi
    [ -x "$tree/$program" ] || fail "the build of $1 left no program at $program"
    echo "$tree/$program"
}
if [ -n "$baseline_ref" ]; then
    if [ -z "$serve" ]; then
        { [ -n "$build" ] && [ -n "$program" ]; } || fail "--baseline-ref needs --build and --program, or --serve"
    fi
    trees=("$out/build-baseline" "$out/build-candidate")
    baseline=$(built "$baseline_ref" baseline)
    candidate=$(built "$candidate_ref" candidate)
fi
if [ -z "$serve" ] || [ -z "$baseline_ref" ]; then
    [ -x "$baseline" ] || fail "--baseline is no program: \`$baseline\`"
    [ -x "$candidate" ] || fail "--candidate is no program: \`$candidate\`"
fi

RANDOM=$seed
for round in $(seq "$rounds"); do
    order="baseline candidate"
    if [ $((RANDOM % 2)) = 1 ]; then order="candidate baseline"; fi
    for side in $order; do
        system=$candidate folder=$candidate_folder
        if [ "$side" = baseline ]; then system=$baseline folder=$baseline_folder; fi
        echo "round $round of $rounds: $side" >&2
        code=0
        if [ -n "$serve" ]; then
            where=.
            if [ -n "$baseline_ref" ]; then where=$out/build-$side; fi
            start_service "$side" "$where" "$system"
        fi
        env ${system:+"$variable=$system"} "$msgbench" run "$scenario" --trials 1 --quiet --out "$folder" \
            ${sets[@]+"${sets[@]}"} || code=$?
        if [ -n "$serve" ]; then lives "$side"; fi
        end_service
        # An expectation that a round does not meet, or a round that is INVALID, is for the comparison to judge.
        case $code in 0 | 3 | 4 | 5) ;; *) exit $code ;; esac
    done
done

compare() { "$msgbench" compare "$baseline_folder" "$candidate_folder" ${gate[@]+"${gate[@]}"} "$@"; }
code=0
compare --html "$out/report.html" --out "$out/report.txt" || code=$?
[ -f "$out/report.txt" ] || exit $code
compare --exit-zero --format markdown --out "$out/report.md"
compare --exit-zero --format junit --out "$out/junit.xml"
compare --exit-zero --format json --out "$out/compare.json"
cat "$out/report.txt"
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then cat "$out/report.md" >>"$GITHUB_STEP_SUMMARY"; fi
if [ -n "${GITHUB_ACTIONS:-}" ]; then compare --exit-zero --format github; fi
if [ -n "${GITHUB_OUTPUT:-}" ]; then
    verdict=$(sed -n 's/^[▲▼≈~?✕] \([A-Z]*\): .*/\1/p' "$out/report.txt" | head -1)
    printf 'verdict=%s\nreport=%s\n' "$verdict" "$out/report.html" >>"$GITHUB_OUTPUT"
fi
exit $code
