//! The search for the highest load, end to end: a broker that passes so many messages a second and
//! no more is measured as that.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::process::{Command, Output};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_msgbench");

const CAPPED: &str = r#"name = "capped"
question = "How much does a broker take that passes 2,000 messages a second?"
[[system]]
driver = "reference"
[[workload]]
pattern = "fan-out"
consumers = 1
load.rate = "1k/s"
[faults]
rate-cap = { rate = "2k/s" }
[run]
warmup = "0s"
duration = "600ms"
drain = "10s"
interval = "50ms"
[search]
limits = ["e2e.p99 < 100ms", "ledger.lost == 0"]
width = "30%"
lead = 1
max = "100k/s"
"#;

fn capacity(dir: &std::path::Path, text: &str, args: &[&str]) -> Output {
    let file = dir.join("s.toml");
    std::fs::write(&file, text).unwrap();
    Command::new(PROGRAM).arg("capacity").arg(&file).arg("--out").arg(dir).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_rate_cap_is_found_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let output = capacity(dir.path(), CAPPED, &[]);
    let words = said(&output);
    assert_eq!(output.status.code(), Some(0), "{words}");
    let folder = std::fs::read_dir(dir.path().join("capped")).unwrap().next().unwrap().unwrap().path();
    let record: Value = serde_json::from_slice(&std::fs::read(folder.join("run.json")).unwrap()).unwrap();
    let search = &record["searches"][0];
    assert_eq!(search["bracket"]["ending"], "found", "{search}");
    let (lower, upper) = (search["bracket"]["lower"].as_f64().unwrap(), search["bracket"]["upper"].as_f64().unwrap());
    // A backlog of 100 ms in 600 ms is a sixth too much.
    assert!(lower > 1_000.0 && lower < 2_400.0 && upper > 1_200.0 && upper < 3_200.0, "{lower} to {upper}: {words}");
    assert!(upper / lower < 1.31, "{lower} to {upper}");
    // Every trial of the record is one of the search, at a case that the plan then has.
    let trials = record["trials"].as_array().unwrap();
    assert_eq!(trials.len(), search["trials"].as_array().unwrap().len());
    let cases: Vec<&str> =
        record["plan"]["cases"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert!(trials.iter().all(|t| cases.contains(&t["case"].as_str().unwrap())), "{cases:?}");
    // People read the same on each page.
    let said = "99 of 100 within 100 ms and nothing lost: reference holds ";
    for page in ["report.md", "report.html"] {
        let text = std::fs::read_to_string(folder.join(page)).unwrap();
        assert!(text.contains(said), "{page}");
        assert!(text.contains("Every load that was tried"), "{page}");
    }
    assert!(words.contains(said) && words.contains("the limit is between"), "{words}");
}

#[test]
fn a_search_without_a_limit_or_a_rate_is_refused_where_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |text: &str, args: &[&str]| {
        let output = capacity(dir.path(), text, args);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        said(&output)
    };
    let none = CAPPED.split("[search]").next().unwrap();
    assert!(refused(none, &[]).contains("--limit 'e2e.p99 < 20ms'"));
    let words = refused(&CAPPED.replace("load.rate = \"1k/s\"", "load = { mode = \"unthrottled\" }"), &[]);
    assert!(words.contains("no workload has a rate to vary"), "{words}");
    let words = refused(&CAPPED.replace("e2e.p99 <", "e2e.p98 <"), &[]);
    assert!(words.contains("s.toml:17:") && words.contains("p98 is not among the percentiles"), "{words}");
    let words = refused(CAPPED, &["--limit", "e2e.p99 about 3ms"]);
    assert!(words.contains("compares nothing") && words.contains("--limit"), "{words}");
    let words = refused(CAPPED, &["--max", "100/s", "--min", "90/s"]);
    assert!(words.contains("nothing to search"), "{words}");
    let words = refused(&CAPPED.replace("width = ", "parameter = \"workload.consumers\"\nwidth = "), &[]);
    assert!(words.contains("needs the values that may be tried"), "{words}");
}

#[test]
fn a_listed_setting_is_searched_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let text = CAPPED
        .replace("lead = 1\nmax = \"100k/s\"", "lead = 1\nparameter = \"workload.consumers\"\nvalues = [1, 2, 3]")
        .replace("[faults]\nrate-cap = { rate = \"2k/s\" }\n", "");
    let output = capacity(dir.path(), &text, &["--format", "json"]);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
    let found = &summary["summary"]["capacity"][0];
    assert_eq!((&found["keeps"], &found["ending"]), (&"3".into(), &"above-max".into()), "{summary}");
}
