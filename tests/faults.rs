//! The faults of the reference broker, end to end: what is injected is in the books, to the message; times with wide
//! margins, because a test machine is not a quiet one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_msgbench");

struct Ran {
    trial: Value,
    log: Vec<Value>,
    code: Option<i32>,
}

impl Ran {
    fn ledger(&self, key: &str) -> u64 {
        self.trial["workloads"][0]["ledger"][key].as_u64().unwrap()
    }
    fn logged(&self, event: &str) -> u64 {
        self.log.iter().filter(|e| e["event"] == event).count() as u64
    }
    fn quantile(&self, quantile: f64) -> f64 {
        let all = self.trial["workloads"][0]["latency"]["e2e"]["percentiles"].as_array().unwrap().clone();
        let one = all.iter().find(|p| p["quantile"].as_f64() == Some(quantile)).unwrap().clone();
        one["value_ns"].as_f64().unwrap_or(f64::INFINITY) / 1e9
    }
}

fn msgbench(scenario: &Path, out: &Path) -> Output {
    Command::new(PROGRAM).arg("run").arg(scenario).args(["--format", "json", "--out"]).arg(out).output().unwrap()
}

/// One trial of a scenario: 2 consumers, no warm-up, `rest` on top.
fn run(rate: &str, duration: &str, rest: &str) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.toml");
    let text = format!(
        "name = \"faults\"\nquestion = \"Is what is injected in the books?\"\n[[system]]\ndriver = \"reference\"\n\
         [[workload]]\npattern = \"fan-out\"\nconsumers = 2\nload.rate = \"{rate}\"\n{rest}\n\
         [run]\nwarmup = \"0s\"\nduration = \"{duration}\"\ntrials = 1\ndrain = \"10s\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let output = msgbench(&file, dir.path());
    let record: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let folder = std::fs::read_dir(dir.path().join("faults")).unwrap().next().unwrap().unwrap().path();
    let log = std::fs::read_to_string(folder.join("reference-1.faults.jsonl")).unwrap_or_default();
    Ran {
        trial: record["trials"][0].clone(),
        log: log.lines().map(|l| serde_json::from_str(l).unwrap()).collect(),
        code: output.status.code(),
    }
}

#[test]
fn counts_are_exact_and_in_the_log() {
    for (fault, every, kind) in
        [("drop", 7, "lost"), ("duplicate", 11, "duplicated"), ("swap", 13, "reordered"), ("corrupt", 17, "corrupted")]
    {
        let ran = run("5k/s", "1s", &format!("[faults]\n{fault} = {{ every = {every} }}"));
        let sent = ran.ledger("sent");
        assert_eq!(sent, 5_000, "{fault}");
        // 5000 is no multiple of 13: every swapped message has a next one.
        assert_eq!(ran.logged(fault), sent / every, "{fault}");
        assert_eq!(ran.ledger(kind), 2 * (sent / every), "{fault}");
        let lost = if matches!(fault, "drop" | "corrupt") { 2 * (sent / every) } else { 0 };
        assert_eq!((ran.ledger("lost"), ran.ledger("delivered")), (lost, 2 * sent - lost), "{fault}");
        assert_eq!(ran.ledger("client_dropped"), 0, "{fault}");
        let numbers: Vec<u64> = ran.log.iter().map(|e| e["n"].as_u64().unwrap()).collect();
        assert!(numbers.iter().zip(1..).all(|(n, k)| *n == k * every), "{fault}: {numbers:?}");
        let said = ran.trial["system"]["guarantees"]["faults"].as_str().unwrap();
        assert!(said.starts_with(&format!("{fault} every {every}; ")), "a reader must see it: {said}");
    }
}

#[test]
fn the_seed_decides_which_messages_are_hit() {
    let hit = |seed: u64| {
        let ran = run("5k/s", "400ms", &format!("[faults]\nseed = {seed}\ndrop = {{ probability = 0.1 }}"));
        assert_eq!(ran.ledger("lost"), 2 * ran.logged("drop"));
        ran.log.iter().map(|e| e["n"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let (first, again, other) = (hit(1), hit(1), hit(2));
    assert!(first.len() > 100 && first.len() < 320, "{}", first.len());
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[test]
fn a_delay_is_in_every_response_and_order_is_kept() {
    let ran = run("500/s", "1s", "[faults]\ndelay = { fixed = \"50ms\" }");
    assert_eq!((ran.ledger("lost"), ran.ledger("reordered"), ran.logged("delay")), (0, 0, ran.ledger("sent")));
    let min = ran.trial["workloads"][0]["latency"]["e2e"]["min_ns"].as_f64().unwrap();
    assert!(min >= 50e6, "{min}");
    assert!(ran.quantile(0.5) < 0.2, "{}", ran.quantile(0.5));
    assert!(ran.log.iter().all(|e| e["ns"].as_u64().unwrap() >= 50_000_000));
}

#[test]
fn a_stall_holds_up_what_comes_during_it() {
    let ran = run("1k/s", "2s", "[faults]\nstall = { at = \"500ms\", for = \"600ms\" }");
    assert_eq!((ran.ledger("lost"), ran.logged("stall")), (0, 1));
    // Three of ten messages are due while it lasts: p90 is 600 ms - 0.1 x 2 s.
    let p90 = ran.quantile(0.9);
    assert!(p90 > 0.39 && p90 < 0.8, "{p90}");
    assert!(ran.log[0]["ns"].as_u64().unwrap() >= 600_000_000, "{}", ran.log[0]);
}

#[test]
fn a_rate_cap_lets_no_more_pass() {
    let ran = run("2k/s", "2s", "[faults]\nrate-cap = { rate = \"1k/s\" }");
    assert_eq!(ran.ledger("lost"), 0);
    // Of two consumers together.
    let delivered = ran.trial["workloads"][0]["throughput"]["delivered"].as_f64().unwrap();
    assert!(delivered < 2_020.0 && delivered > 1_000.0, "{delivered}");
}

#[test]
fn service_times_make_a_queue_of_one_server() {
    let ran = run("100/s", "1s", "[faults]\nservice = { exponential = \"5ms\" }");
    let log = &ran.log;
    assert_eq!((ran.logged("service"), ran.ledger("lost")), (ran.ledger("sent"), 0));
    let number = |e: &Value, key: &str| e[key].as_u64().unwrap();
    for pair in log.windows(2) {
        assert!(number(&pair[1], "from") >= number(&pair[0], "at"), "one at a time: {pair:?}");
        assert!(number(&pair[1], "from") >= number(&pair[1], "arrived"));
        assert_eq!(number(&pair[1], "n"), number(&pair[0], "n") + 1);
    }
}

#[test]
fn a_publisher_that_is_cut_off_is_seen() {
    let ran = run("1k/s", "1s", "[faults]\ndisconnect = { after = 200, who = \"publisher\" }");
    assert_eq!(ran.logged("disconnect"), 1);
    let events = ran.trial["events"].to_string();
    assert!(events.contains("disconnect"), "{events}");
}

#[test]
fn a_killed_node_is_no_surprise_where_the_scenario_asks_for_it() {
    let ran = run("1k/s", "2s", "[[event]]\nat = \"1s\"\naction = \"kill\"");
    let events: Vec<&str> =
        ran.trial["events"].as_array().unwrap().iter().map(|e| e["text"].as_str().unwrap()).collect();
    assert!(events.iter().any(|e| e.starts_with("kill node 0")), "{events:?}");
    assert!(events.iter().any(|e| e.contains("SIGKILL")), "{events:?}");
    assert_eq!(ran.trial["outcome"]["status"], "complete", "{}", ran.trial["outcome"]);
    assert!(ran.ledger("lost") >= 1_000, "what was due afterwards is lost: {}", ran.ledger("lost"));
    assert_ne!(ran.code, Some(6), "{events:?}");
}

#[test]
fn a_pause_is_in_the_response_and_ends_in_order() {
    let events = "[[event]]\nat = \"500ms\"\naction = \"pause\"\n[[event]]\nat = \"1s\"\naction = \"resume\"";
    let ran = run("1k/s", "2s", events);
    assert_eq!(ran.ledger("lost"), 0);
    let at: Vec<f64> = ran.trial["events"].as_array().unwrap().iter().map(|e| e["at_s"].as_f64().unwrap()).collect();
    assert!(at.len() == 2 && at[0] >= 0.5 && at[1] - at[0] > 0.4, "{at:?}");
    let max = ran.trial["workloads"][0]["latency"]["e2e"]["max_ns"].as_f64().unwrap() / 1e9;
    assert!((max / (at[1] - at[0]) - 1.0).abs() < 0.5, "{max} {at:?}");
}

#[test]
fn faults_that_make_no_sense_name_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.toml");
    let text = std::fs::read_to_string("scenarios/fanout.toml").unwrap() + "\n[faults]\ndrop = { every = 0 }\n";
    std::fs::write(&file, &text).unwrap();
    let output = Command::new(PROGRAM).args(["check", file.to_str().unwrap()]).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().position(|l| l.starts_with("drop")).unwrap() + 1;
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains(&format!("bad.toml:{line}:")) && words.contains("every 0th is none"), "{words}");
    let output = Command::new(PROGRAM).args(["broker", "--fault", "dorp=every:7"]).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && words.contains("unknown field `dorp`"), "{words}");
}
