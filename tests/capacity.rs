//! The search for the highest load, end to end: a broker that passes so many messages a second and
//! no more is measured as that.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "common/calm.rs"]
mod calm;

use std::process::{Command, Output};

use calm::calm;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_msgbench");

/// The limit is one of the median: a machine that stalls delays few messages, which decide p99.
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
limits = ["e2e.p50 < 50ms", "ledger.lost == 0"]
width = "30%"
lead = 1
max = "100k/s"
"#;

fn capacity(dir: &std::path::Path, text: &str, args: &[&str]) -> Output {
    let file = dir.join("s.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(PROGRAM);
    let _host = calm(&mut command);
    command.arg("capacity").arg(&file).arg("--out").arg(dir).args(args).output().unwrap()
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
    // A backlog of 50 ms after 300 ms is a sixth too much.
    assert!(lower > 1_000.0 && lower < 2_400.0 && upper > 1_200.0 && upper < 3_200.0, "{lower} to {upper}: {words}");
    assert!(upper / lower < 1.31, "{lower} to {upper}");
    // Every trial of the record is one of the search, at a case that the plan then has.
    let trials = record["trials"].as_array().unwrap();
    assert_eq!(trials.len(), search["trials"].as_array().unwrap().len());
    let cases: Vec<&str> =
        record["plan"]["cases"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert!(trials.iter().all(|t| cases.contains(&t["case"].as_str().unwrap())), "{cases:?}");
    // People read the same on each page.
    let said = "reference holds 50 of 100 within 50 ms and nothing lost up to ";
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
    let words = refused(&CAPPED.replace("e2e.p50 <", "e2e.p98 <"), &[]);
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

/// What is interrupted goes on where it was: no trial is made twice, and the answer is whole.
#[test]
fn an_interrupted_search_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.toml");
    std::fs::write(&file, CAPPED).unwrap();
    let mut command = Command::new(PROGRAM);
    let _host = calm(&mut command);
    command.arg("capacity").arg(&file).arg("--out").arg(dir.path()).arg("--quiet");
    let mut child = command.spawn().unwrap();
    let record = |folder: &std::path::Path| -> Option<Value> {
        serde_json::from_slice(&std::fs::read(folder.join("run.json")).ok()?).ok()
    };
    let results = dir.path().join("capped");
    let first = || std::fs::read_dir(&results).ok()?.next().map(|e| e.unwrap().path());
    let trials = |record: &Value| record["searches"][0]["trials"].as_array().map_or(0, Vec::len);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while first().and_then(|f| record(&f)).is_none_or(|r| trials(&r) < 3) {
        assert!(std::time::Instant::now() < until && child.try_wait().unwrap().is_none(), "no three trials");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // SAFETY: a signal to a child that was not waited for.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let place = first().unwrap();
    let before = record(&place).unwrap();
    let output = capacity(dir.path(), CAPPED, &["--resume", place.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let mut all: Vec<_> = std::fs::read_dir(&results).unwrap().map(|e| e.unwrap().path()).collect();
    all.retain(|f| *f != place);
    let after = record(&all[0]).unwrap();
    let (was, is) = (&before["searches"][0]["trials"], &after["searches"][0]["trials"]);
    let n = was.as_array().unwrap().len();
    assert_eq!(was.as_array().unwrap()[..], is.as_array().unwrap()[..n]);
    assert_eq!(after["searches"][0]["bracket"]["ending"], "found", "{}", said(&output));
    for trial in after["trials"].as_array().unwrap() {
        assert!(all[0].join(trial["hlog"].as_str().unwrap()).exists(), "{}", trial["hlog"]);
    }
    // Another scenario is not what was begun.
    let other =
        capacity(dir.path(), &CAPPED.replace("p50 < 50ms", "p50 < 40ms"), &["--resume", place.to_str().unwrap()]);
    assert_eq!(other.status.code(), Some(2));
    assert!(said(&other).contains("it searched for something else"), "{}", said(&other));
}

/// A promise about the capacity is held to what the search knows for sure; two results are compared
/// by it.
#[test]
fn a_capacity_can_be_promised_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let short = CAPPED.replace("600ms", "300ms");
    let promised = |that: &str| format!("{short}\n[[expect]]\nthat = \"{that}\"\n");
    let kept = capacity(dir.path(), &promised("capacity >= 500/s"), &[]);
    let words = said(&kept);
    assert_eq!(kept.status.code(), Some(0), "{words}");
    let broken = capacity(dir.path(), &promised("capacity >= 20k/s").replace("capped", "again"), &[]);
    let words = said(&broken);
    assert_eq!(broken.status.code(), Some(3), "{words}");
    assert!(words.contains("the search breaks `capacity >= 20k/s`"), "{words}");
    // Only a search has a capacity.
    let file = dir.path().join("run.toml");
    let run = CAPPED.split("[search]").next().unwrap();
    std::fs::write(&file, format!("{run}[[expect]]\nthat = \"capacity >= 1/s\"\n")).unwrap();
    let refused = Command::new(PROGRAM).arg("check").arg(&file).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("nothing is searched, so that no `capacity` is found"), "{}", said(&refused));
    let place = |name: &str| std::fs::read_dir(dir.path().join(name)).unwrap().next().unwrap().unwrap().path();
    let compared = Command::new(PROGRAM).arg("compare").args([place("capped"), place("again")]).output().unwrap();
    let words = said(&compared);
    // On a busy host the generator may have been the limit of one.
    let said = ["1 + 1 searches", "cannot be compared at capacity"];
    assert!(words.contains("capacity") && said.iter().any(|s| words.contains(s)), "{words}");
    // A promise that is broken is a failure of a test, with what was found.
    let places = [place("capped"), place("again")];
    let junit = Command::new(PROGRAM).args(["compare", "--format", "junit"]).args(places).output().unwrap();
    let xml = String::from_utf8_lossy(&junit.stdout);
    let case = xml.split("<testcase").find(|c| c.contains("capacity &gt;= 20k/s")).unwrap_or_else(|| panic!("{xml}"));
    assert!(case.contains("<failure") && case.contains("type=\"UNMET\""), "{case}");
    assert!(case.contains("the search breaks") && case.contains("lower ends of the searches (msg/s): "), "{case}");
    let record: Value = serde_json::from_slice(&std::fs::read(place("again").join("run.json")).unwrap()).unwrap();
    let lower = record["searches"][0]["bracket"]["lower"].as_f64().unwrap();
    assert!(case.contains(&lower.to_string()), "{case}");
}

/// The demand curve: a search at each number of processors, each really bound; what is needed is
/// answered in words.
#[test]
fn a_setting_of_the_system_is_swept_around_the_search() {
    let all = std::thread::available_parallelism().unwrap().get();
    let dir = tempfile::tempdir().unwrap();
    let text = CAPPED.replace("600ms", "200ms") + &format!("[sweep]\n\"system.cpus\" = [1, {}]\n", all.max(2));
    let args = ["--format", "json", "--need", "1k/s", "--max", "8k/s", "--min", "500/s"];
    let output = capacity(dir.path(), &text, &args);
    match all {
        1 => {
            assert_eq!(output.status.code(), Some(2), "{}", said(&output));
            assert!(said(&output).contains("s.toml:") && said(&output).contains("may use 1 here"), "{}", said(&output));
        }
        _ => swept_over_processors(&output, dir.path(), all),
    }
}

fn swept_over_processors(output: &Output, dir: &std::path::Path, all: usize) {
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(output)));
    let found = summary["summary"]["capacity"].as_array().unwrap();
    let mut points: Vec<&str> = found.iter().map(|c| c["point"]["system.cpus"].as_str().unwrap()).collect();
    // They take turns in a random order.
    points.sort_unstable_by_key(|p| p.parse::<usize>().unwrap());
    assert_eq!(points, ["1", &all.to_string()], "{summary}");
    for search in found {
        assert!(!search["votes"].as_array().unwrap().is_empty(), "{search}");
    }
    let folder = std::fs::read_dir(dir.join("capped")).unwrap().next().unwrap().unwrap().path();
    let record: Value = serde_json::from_slice(&std::fs::read(folder.join("run.json")).unwrap()).unwrap();
    let cases = record["plan"]["cases"].as_array().unwrap();
    for trial in record["trials"].as_array().unwrap() {
        let case = cases.iter().find(|c| c["id"] == trial["case"]).unwrap();
        let asked = case["changed"]["cpus"].as_f64().unwrap_or_else(|| panic!("{case}"));
        let bound = trial["system"]["guarantees"]["cpus"].as_str().unwrap_or_else(|| panic!("{trial}"));
        assert!(bound.starts_with(&format!("{asked} (bound to processor ")), "{bound}");
        assert_eq!(bound.matches(", ").count() + 1, asked as usize, "{bound}");
    }
    let page = std::fs::read_to_string(folder.join("report.html")).unwrap();
    let answered = ["needs cpus = ", "holds 1k/s for sure at no cpus"];
    assert!(answered.iter().any(|a| page.contains(a)), "what is needed is answered");
}
