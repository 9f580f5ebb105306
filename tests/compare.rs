//! `msgbench compare` and `[[expect]]` as processes: what a CI job sees.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_msgbench");

const SCENARIO: &str = r#"name = "floor"
question = "What does the harness itself cost?"
[[system]]
name = "one"
driver = "null"
[[system]]
name = "two"
driver = "null"
[[workload]]
pattern = "fan-in"
producers = 1
[workload.load]
rate = "2k/s"
[run]
warmup = "100ms"
duration = "400ms"
trials = 1
percentiles = [0.5, 0.9]
"#;

fn msgbench(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs the scenario with a tail added and returns (exit code, standard output, folder of the
/// result).
fn measured(dir: &Path, tail: &str) -> (Option<i32>, String, PathBuf) {
    let file = dir.join("floor.toml");
    std::fs::write(&file, format!("{SCENARIO}{tail}")).unwrap();
    let out = dir.join("results");
    let output = msgbench(&["run", file.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    let folders = std::fs::read_dir(out.join("floor")).map(|d| d.map(|e| e.unwrap().path()).collect::<Vec<_>>());
    let newest = folders.unwrap_or_default().into_iter().max().unwrap_or_default();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr), newest)
}

/// Copies a record, with ten trials of each case whose latencies are `micros` (case, round), all of
/// them valid.
fn synthetic(from: &Path, to: &Path, micros: impl Fn(&str, u32) -> u64) {
    let mut record: Value = serde_json::from_slice(&std::fs::read(from.join("run.json")).unwrap()).unwrap();
    let templates = record["trials"].as_array().unwrap().clone();
    let mut trials = Vec::new();
    for round in 1..=10u32 {
        for (i, template) in templates.iter().enumerate() {
            let mut t = template.clone();
            let ns = micros(t["case"].as_str().unwrap(), round) * 1000;
            t["round"] = json!(round);
            t["started_at"] = json!(format!("2026-11-23T12:{round:02}:{:02}Z", 20 * i));
            t["outcome"] = json!({"status": "complete"});
            t["validity"] = json!([]);
            t["workloads"][0]["throughput"]["delivered"] = json!(2000.0);
            for p in t["workloads"][0]["latency"]["ack"]["percentiles"].as_array_mut().unwrap() {
                p["value_ns"] = json!(ns);
            }
            trials.push(t);
        }
    }
    record["trials"] = json!(trials);
    record["plan"]["trials"] = json!(10);
    std::fs::create_dir_all(to).unwrap();
    std::fs::write(to.join("run.json"), serde_json::to_vec(&record).unwrap()).unwrap();
}

#[test]
fn a_job_sees_what_the_comparison_says() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    let (code, said, folder) = measured(dir, "");
    assert!(matches!(code, Some(0 | 4)), "{said}");
    let at = |name: &str| dir.join(name);
    let wave = |round: u32| u64::from(round * 7 % 10);
    synthetic(&folder, &at("main"), |_, r| 1000 + wave(r));
    synthetic(&folder, &at("same"), |_, r| 1001 + wave(r + 3));
    synthetic(&folder, &at("slow"), |case, r| if case == "two" { 1200 } else { 1000 } + wave(r + 3));
    let gate = at("gate.toml");
    std::fs::write(&gate, "[gate]\nprimary = [\"ack.p50\"]\n").unwrap();
    let gate = gate.to_str().unwrap();
    let compare = |a: &str, b: &str, more: &[&str]| {
        let (a, b) = (at(a), at(b));
        let mut args = vec!["compare", a.to_str().unwrap(), b.to_str().unwrap(), "--gate", gate];
        args.extend(more);
        msgbench(&args)
    };
    let same = compare("main", "same", &[]);
    assert_eq!(same.status.code(), Some(0), "{}", text(&same.stderr));
    assert!(text(&same.stdout).contains("\n≈ EQUIVALENT: "), "{}", text(&same.stdout));
    let slow = compare("main", "slow", &[]);
    assert_eq!(slow.status.code(), Some(3));
    assert!(
        text(&slow.stdout).contains("two (slow) is 19.9 % slower than two (main) at ack.p50"),
        "{}",
        text(&slow.stdout)
    );
    assert!(text(&compare("slow", "main", &[]).stdout).contains("▼ IMPROVED"));
    assert_eq!(compare("main", "slow", &["--exit-zero"]).status.code(), Some(0));
    let junit = at("junit.xml");
    assert_eq!(
        compare("main", "slow", &["--format", "junit", "--out", junit.to_str().unwrap()]).status.code(),
        Some(3)
    );
    assert!(std::fs::read_to_string(junit).unwrap().contains("type=\"REGRESSED\""));
    let json: Value = serde_json::from_slice(&compare("main", "slow", &["--format", "json"]).stdout).unwrap();
    assert_eq!(json["overall"]["verdict"], "REGRESSED");
    // Within one result.
    let slow_dir = at("slow");
    let within = msgbench(&["compare", slow_dir.to_str().unwrap(), "--against", "one", "--gate", gate]);
    assert_eq!(within.status.code(), Some(3));
    assert!(
        text(&within.stdout)
            .contains("two is 19.9 % slower than one at the median of the acknowledgement time (95 % CI"),
        "{}",
        text(&within.stdout)
    );
    assert!(text(&within.stdout).contains("10 + 10 interleaved runs"));
    let pairs = msgbench(&["compare", slow_dir.to_str().unwrap(), "--gate", gate]);
    assert_eq!(pairs.status.code(), Some(0), "nothing is gated without a baseline");
    // One real trial of each decides nothing; the policy says whether that fails.
    std::fs::write(gate, "[gate]\nprimary = [\"ack.p50\"]\non-inconclusive = \"fail\"\n").unwrap();
    synthetic(&folder, &at("few"), |_, r| 1000 + 300 * u64::from(r % 3));
    let open = compare("main", "few", &[]);
    assert!(matches!(open.status.code(), Some(3 | 5)), "{}", text(&open.stdout));
    // What cannot be read is a usage error with a remedy.
    let missing = msgbench(&["compare", dir.join("nowhere").to_str().unwrap()]);
    assert_eq!(missing.status.code(), Some(2));
    std::fs::write(gate, "[gate]\nprimry = []\n").unwrap();
    let wrong = compare("main", "same", &[]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("did you mean `primary`?"));
}

#[test]
fn run_holds_the_result_to_its_limits() {
    let root = tempfile::tempdir().unwrap();
    let (code, said, _) = measured(root.path(), "[[expect]]\nthat = \"ledger.sent < 1\"\n");
    // A machine too busy to keep the schedule makes the run invalid, which comes first.
    assert!(matches!(code, Some(3 | 4)), "{code:?} {said}");
    assert!(said.contains("UNMET") || said.contains("INVALID"), "{said}");
    let (code, said, _) = measured(root.path(), "[[expect]]\nthat = \"ledger.lost == 0\"\n");
    assert!(matches!(code, Some(0 | 4)), "{code:?} {said}");
    assert!(said.contains("keep `ledger.lost == 0`") || said.contains("INVALID"), "{said}");
    let (code, said, _) = measured(root.path(), "[[expect]]\nthat = \"ack.p99 < 5ms\"\n");
    assert_eq!(code, Some(2));
    assert!(said.contains("p99 is not among the percentiles") && said.contains("add 0.99"), "{said}");
}

#[test]
fn history_tells_a_step_from_noise() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    let (code, said, folder) = measured(dir, "");
    assert!(matches!(code, Some(0 | 4)), "{said}");
    let file = dir.join("history.jsonl");
    let charts = dir.join("charts");
    let history = |more: &[&str]| {
        let mut args = vec!["history", file.to_str().unwrap(), "--metric", "ack.p50"];
        args.extend(more);
        msgbench(&args)
    };
    assert_eq!(history(&[]).status.code(), Some(2), "there is none yet");
    for day in 1..=16u32 {
        let to = dir.join(format!("day-{day}"));
        let step = if day > 12 { 300 } else { 0 };
        synthetic(&folder, &to, |_, r| u64::from(1000 + step + (day * 7 + r) % 10));
        let path = to.join("run.json");
        let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        record["started_at"] = json!(format!("2026-11-{day:02}T00:00:00Z"));
        std::fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
        let commit = format!("c{day}");
        let added = history(&["--add", to.to_str().unwrap(), "--commit", &commit]);
        assert_eq!(added.status.code(), Some(0), "{}", text(&added.stderr));
    }
    let last = dir.join("day-16");
    let again = history(&["--add", last.to_str().unwrap(), "--charts", charts.to_str().unwrap(), "--gate"]);
    let said = text(&again.stdout);
    assert_eq!(again.status.code(), Some(3), "{said}{}", text(&again.stderr));
    let verdict = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(verdict.contains("REGRESSED one ack.p50 is 29.9 % slower ("), "{said}");
    assert!(verdict.contains(" since c13 (2026-11-13); 1 more finding alike."), "{said}");
    assert!(said.trim_end().lines().rev().take(3).any(|l| l.contains("REGRESSED")), "the verdict is last: {said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 32, "a result counts once");
    assert_eq!(std::fs::read_dir(charts).unwrap().count(), 4);
}

/// A gate that cannot fail: the same result, a copy under another name, a folder that holds a copy.
#[test]
fn a_result_and_its_copy_are_not_two() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    let (_, _, folder) = measured(dir, "");
    let at = |name: &str| dir.join(name);
    synthetic(&folder, &at("a"), |_, r| 1000 + u64::from(r));
    let copy = |from: &Path, to: &Path| {
        std::fs::create_dir_all(to).unwrap();
        std::fs::copy(from.join("run.json"), to.join("run.json")).unwrap();
    };
    copy(&at("a"), &at("renamed"));
    for copied in ["one", "two"] {
        copy(&at("a"), &at("pool").join(copied));
    }
    for (a, b, code, why) in [
        ("a", "a", 4, "have 20 trials in common"),
        ("a", "renamed", 4, "and `a` have"),
        ("pool", "a", 2, "stands in it twice"),
        ("a/run.json", "renamed", 4, "measure again"),
    ] {
        let (a, b) = (at(a), at(b));
        let found = msgbench(&["compare", a.to_str().unwrap(), b.to_str().unwrap()]);
        let said = text(&found.stdout) + &text(&found.stderr);
        assert_eq!(found.status.code(), Some(code), "{a:?} {b:?}: {said}");
        assert!(said.contains(why), "{said}");
    }
}

/// Selectors on the command line and in a gate file that match nothing: each is told, none passes.
#[test]
fn a_selector_that_matches_nothing_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    let (_, _, folder) = measured(dir, "");
    let at = |name: &str| dir.join(name);
    synthetic(&folder, &at("a"), |_, r| 1000 + u64::from(r));
    synthetic(&folder, &at("b"), |_, r| 1001 + u64::from(r));
    let gate = at("gate.toml");
    let compare = |more: &[&str]| {
        let (a, b) = (at("a"), at("b"));
        let mut args = vec!["compare", a.to_str().unwrap(), b.to_str().unwrap(), "--gate", gate.to_str().unwrap()];
        args.extend(more);
        let found = msgbench(&args);
        (found.status.code(), text(&found.stderr) + &text(&found.stdout))
    };
    for (table, hint) in [
        ("[[expect]]\nthat = \"ack.p50 < 1h\"\nsystem = \"onee\"\n", "did you mean `one`?"),
        ("[[expect]]\nthat = \"fan-inn.ack.p50 < 1h\"\n", "did you mean `fan-in`?"),
        ("[[expect]]\nthat = \"ack.p99 < 1h\"\n", "add 0.99 to run.percentiles"),
        ("[[expect]]\nthat = \"rtt.p50 < 1h\"\n", "is never measured at one"),
        ("[gate]\nprimary = [\"fan-out.ack.p50\"]\n", "there is no workload `fan-out`"),
        ("[gate.max-change-of]\n\"ack.p95\" = \"9%\"\n", "p95 is not among"),
        ("[gate]\nmax-change = 5\n", "write \"5%\""),
    ] {
        std::fs::write(&gate, table).unwrap();
        let (code, said) = compare(&[]);
        assert_eq!(code, Some(2), "{table}: {said}");
        assert!(said.contains("gate.toml:") && said.contains(hint), "{table}: {said}");
    }
    std::fs::write(&gate, "[gate]\nprimary = [\"ack.p50\"]\n").unwrap();
    assert_eq!(compare(&[]).0, Some(0));
    let (code, said) = compare(&["--log-unit", "us"]);
    assert_eq!(code, Some(2), "{said}");
    // A scenario's own limit for a system that this run leaves out is neither kept nor an error,
    // and a misspelt one is.
    let limit = |system: &str| format!("[[expect]]\nthat = \"ledger.lost == 0\"\nsystem = \"{system}\"\n");
    let file = at("limits.toml");
    std::fs::write(&file, format!("{SCENARIO}{}", limit("two"))).unwrap();
    let out = at("limits");
    let run = ["run", file.to_str().unwrap(), "--out", out.to_str().unwrap(), "--system", "one"];
    let ran = msgbench(&run);
    let said = text(&ran.stdout);
    assert!(
        said.contains("NOT JUDGED") && said.contains("does not have the system two"),
        "{said}{}",
        text(&ran.stderr)
    );
    std::fs::write(&file, format!("{SCENARIO}{}", limit("tow"))).unwrap();
    for command in ["check", "run"] {
        let found = msgbench(&[command, file.to_str().unwrap(), "--system", "one"]);
        assert_eq!(found.status.code(), Some(2), "{}", text(&found.stdout));
        assert!(text(&found.stderr).contains("did you mean `two`?"), "{}", text(&found.stderr));
    }
    let closed = SCENARIO.replace("rate = \"2k/s\"", "mode = \"unthrottled\"");
    std::fs::write(&file, closed).unwrap();
    let found = msgbench(&["check", file.to_str().unwrap(), "--rate", "5k/s"]);
    assert_eq!(found.status.code(), Some(2), "a rate that no workload has: {}", text(&found.stdout));
}

/// A changed setting opens a new series: it is named, and the gate does not pass on what nothing
/// judges.
#[test]
fn history_does_not_pass_on_a_series_that_nothing_judges() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    let (_, _, folder) = measured(dir, "");
    let file = dir.join("history.jsonl");
    let history = |more: &[&str]| {
        let mut args = vec!["history", file.to_str().unwrap(), "--metric", "ack.p50"];
        args.extend(more);
        let found = msgbench(&args);
        let said = text(&found.stdout) + &text(&found.stderr);
        (found.status.code(), said.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let add = |day: u32, change: &dyn Fn(&mut Value)| {
        let to = dir.join(format!("day-{day}"));
        synthetic(&folder, &to, |_, r| u64::from(1000 + (day * 7 + r) % 10));
        let path = to.join("run.json");
        let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        record["started_at"] = json!(format!("2026-11-{day:02}T00:00:00Z"));
        change(&mut record);
        std::fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
        history(&["--add", to.to_str().unwrap(), "--gate"])
    };
    for day in 1..=12 {
        let (code, said) = add(day, &|_| ());
        assert_eq!(code, Some(if day < 10 { 5 } else { 0 }), "day {day}: {said}");
        assert_eq!(said.contains("NOT JUDGED"), day < 10, "day {day}: {said}");
    }
    let (code, said) = add(13, &|r| {
        for case in r["plan"]["cases"].as_array_mut().unwrap() {
            case["workloads"][0]["topology"]["producers"] = json!(2);
        }
    });
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("topology.producers is 2 instead of 1") && said.contains("1 of the 10 results"), "{said}");
    assert_eq!(history(&["--gate", "--on-unjudged", "warn"]).0, Some(0));
    assert_eq!(history(&[]).0, Some(0), "without a gate it is said");
    let (code, said) = history(&["--metric", "e2e.p50"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("has the metric `e2e.p50`; there are ack.max, ack.p50"), "{said}");
    let (_, said) = history(&["--add", dir.join("day-13").to_str().unwrap()]);
    assert!(said.contains("stands in the history already"), "{said}");
}

#[test]
fn every_schema_names_its_fields() {
    for (of, field) in [
        ("scenario", "workload"),
        ("gate", "expect"),
        ("run", "trials"),
        ("compare", "overall"),
        ("history", "metrics"),
    ] {
        let schema: Value = serde_json::from_slice(&msgbench(&["schema", of]).stdout).unwrap();
        assert!(schema["properties"][field].is_object(), "{of}: {field}");
    }
    let default = msgbench(&["schema"]);
    assert_eq!(default.stdout, msgbench(&["schema", "scenario"]).stdout);
}
