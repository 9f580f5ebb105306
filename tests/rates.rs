//! Rates, keeping up and single events, end to end: a broker that duplicates is not faster, what is
//! sent after the measured phase is not in its rates, a short overload is seen, and one stall hides
//! no percentile.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "common/calm.rs"]
mod calm;

use std::process::Command;

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_msgbench");

struct Ran {
    trial: Value,
    /// Lines of `intervals.csv` as (scheduled, sent, delivered).
    intervals: Vec<[u64; 3]>,
    /// What the terminal shows.
    text: String,
    code: Option<i32>,
}

impl Ran {
    fn ledger(&self, key: &str) -> u64 {
        self.trial["workloads"][0]["ledger"][key].as_u64().unwrap()
    }
    fn rate(&self, key: &str) -> f64 {
        self.trial["workloads"][0]["throughput"][key].as_f64().unwrap_or_else(|| panic!("no throughput.{key}"))
    }
    /// Messages of the measured phase that a rate stands for.
    fn within(&self, key: &str) -> u64 {
        (self.rate(key) * self.trial["measured_ns"].as_f64().unwrap() / 1e9).round() as u64
    }
    fn column(&self, at: usize) -> u64 {
        self.intervals.iter().map(|i| i[at]).sum()
    }
    fn check(&self, id: &str) -> (String, String) {
        let all = self.trial["validity"].as_array().unwrap();
        let one = all.iter().find(|c| c["id"] == id).unwrap_or_else(|| panic!("no {id}: {all:?}"));
        (one["status"].as_str().unwrap().into(), format!("{}: {}", one["observed"], one["message"]))
    }
}

/// One trial of a scenario without warm-up: system, workload and run settings as given.
fn run(system: &str, workload: &str, rest: &str) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.toml");
    let text = format!(
        "name = \"rates\"\nquestion = \"Is every rate of the measured phase?\"\n[[system]]\ndriver = \"{system}\"\n\
         [[workload]]\n{workload}\n[run]\nwarmup = \"0s\"\ntrials = 1\ndrain = \"20s\"\n{rest}\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(PROGRAM);
    let _host = calm::calm(&mut command);
    let output = command.arg("run").arg(&file).args(["--force", "--out"]).arg(dir.path()).output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let folder = std::fs::read_dir(dir.path().join("rates")).unwrap_or_else(|e| panic!("{e}: {words}"));
    let folder = folder.last().unwrap().unwrap().path();
    let record: Value = serde_json::from_slice(&std::fs::read(folder.join("run.json")).unwrap()).unwrap();
    let table = std::fs::read_to_string(folder.join("intervals.csv")).unwrap();
    let mut lines = table.lines().map(|l| l.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let places = ["scheduled", "sent", "delivered"].map(|name| head.iter().position(|h| *h == name).unwrap());
    Ran {
        trial: record["trials"][0].clone(),
        intervals: lines.map(|l| places.map(|p| l[p].parse().unwrap())).collect(),
        // The page has what the terminal leaves to --why.
        text: words + &std::fs::read_to_string(folder.join("report.md")).unwrap(),
        code: output.status.code(),
    }
}

#[test]
fn a_broker_that_duplicates_delivers_no_more() {
    let load = "load.rate = \"2k/s\"\npayload.size = \"100B\"";
    let fan_out = format!("pattern = \"fan-out\"\nconsumers = 2\n{load}");
    // The second copy goes to whichever member the broker chooses.
    let queue = format!("pattern = \"queue-group\"\nconsumers = 3\n{load}");
    for (workload, copies) in [(fan_out, 2), (queue, 1)] {
        let ran = run("reference", &workload, "duration = \"2s\"\n[faults]\nduplicate = { every = 2 }");
        let owed = copies * ran.ledger("sent");
        assert_eq!((ran.ledger("sent"), ran.ledger("delivered"), ran.ledger("lost")), (4_000, owed, 0), "{workload}");
        assert_eq!(ran.ledger("duplicated"), owed / 2, "{workload}");
        let delivered = ran.within("delivered");
        // The last ones may be on their way when the measured phase ends.
        assert!(delivered <= owed && delivered > owed - owed / 10, "{delivered} of {owed}: {workload}");
        assert_eq!(ran.column(2), delivered, "intervals.csv: {workload}");
        assert_eq!(ran.within("delivered_bytes"), 100 * delivered, "{workload}");
        let received = ran.within("received");
        assert!(received > delivered + owed / 3 && received <= owed + owed / 2, "{received} of {owed}: {workload}");
        assert_eq!(ran.within("received_bytes"), 100 * received, "{workload}");
        assert!(ran.text.contains("duplicates are not in delivered/s"), "{}", ran.text);
    }
}

#[test]
fn what_is_sent_in_the_drain_is_not_in_the_rate() {
    // More than the loop can send in time; the drain is long enough for all of it.
    let ran = run("null", "pattern = \"stream\"\nload.rate = \"4M/s\"", "duration = \"400ms\"");
    let (scheduled, sent) = (ran.ledger("scheduled"), ran.ledger("sent"));
    assert!(scheduled.abs_diff(1_600_000) < 10 && sent == scheduled, "{sent} of {scheduled}");
    let within = ran.within("sent");
    assert!(within < scheduled * 9 / 10 && within > 1_000, "{within} of {scheduled}");
    assert_eq!(ran.column(1), within, "intervals.csv");
    assert_eq!(ran.ledger("sent_late"), scheduled - within);
    let (status, words) = ran.check("V1");
    assert_eq!(status, "INVALID", "{words}");
    assert_eq!(ran.code, Some(4), "{}", ran.text);
}

#[test]
fn a_short_overload_is_seen_with_loss_and_without() {
    let load = "pattern = \"fan-out\"\nconsumers = 2\nload.rate = \"4k/s\"";
    for more in ["", "\ndrop = { every = 50 }"] {
        let ran =
            run("reference", load, &format!("duration = \"4s\"\n[faults]\nrate-cap = {{ rate = \"2k/s\" }}{more}"));
        let (status, words) = ran.check("V3");
        assert!(status == "INVALID" && words.contains("OVERLOADED"), "{status} {words}");
        assert_eq!(ran.code, Some(4), "{}", ran.text);
        assert!(ran.text.contains("\nINVALID: No trial counts"), "{}", ran.text);
        assert!(ran.text.contains("reference was overloaded, no trial counts: "), "{}", ran.text);
    }
}

#[test]
fn one_stall_hides_no_percentile() {
    let load = "pattern = \"fan-out\"\nconsumers = 1\nload.rate = \"500/s\"";
    let rest = "duration = \"10s\"\ninterval = \"500ms\"\n[faults]\nstall = { at = \"4s\", for = \"3s\" }";
    let ran = run("reference", load, rest);
    let e2e = &ran.trial["workloads"][0]["latency"]["e2e"];
    let p99 = e2e["percentiles"].as_array().unwrap().iter().find(|p| p["quantile"] == 0.99).unwrap().clone();
    // p of 0.99: 3 s - 0.01 x 10 s. No other stall of a busy machine comes near it.
    let value = p99["value_ns"].as_f64().unwrap() / 1e6;
    assert!(value > 2850.0, "{value}");
    let said = |text: &str| ran.text.lines().filter(|l| l.contains(text)).collect::<Vec<_>>();
    let row = said("| reference | e2e");
    assert!(!row.is_empty() && row.iter().all(|r| r.contains("s?")), "{}", ran.text);
    assert!(!said("are of one ").is_empty(), "{}", ran.text);
}
