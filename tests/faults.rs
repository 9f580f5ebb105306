//! The faults of the reference broker, end to end: what is injected is in the books, to the
//! message; times with wide margins, because a test machine is not a quiet one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

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
    Command::new(PROGRAM).arg("run").arg(scenario).args(["--format", "record", "--out"]).arg(out).output().unwrap()
}

/// One trial of a scenario: 2 consumers, no warm-up, `rest` on top.
fn run(rate: &str, duration: &str, rest: &str) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.toml");
    let text = format!(
        "name = \"faults\"\nquestion = \"Is what is injected in the books?\"\n[[system]]\ndriver = \"reference\"\n\
         [[workload]]\npattern = \"fan-out\"\nconsumers = 2\nload.rate = \"{rate}\"\n{rest}\n\
         [run]\nwarmup = \"0s\"\nduration = \"{duration}\"\ntrials = 1\ndrain = \"60s\"\n\
         percentiles = [0.25, 0.5, 0.9]\n"
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

/// Each of two consumers is owed every message, and each delivery is hit by itself: the log says
/// which, and the books agree to the one.
#[test]
fn single_deliveries_are_hit_and_log_and_books_agree() {
    for (fault, every, kind) in
        [("drop", 7, "lost"), ("duplicate", 11, "duplicated"), ("swap", 13, "reordered"), ("corrupt", 17, "corrupted")]
    {
        let ran = run("5k/s", "1s", &format!("[faults]\ndelivery = {{ {fault} = {{ every = {every} }} }}"));
        let (sent, hits) = (ran.ledger("sent"), 2 * ran.ledger("sent") / every);
        assert_eq!(sent, 5_000, "{fault}");
        let event = format!("delivery-{fault}");
        // A swapped delivery that was the last one of its subscription has none to change places
        // with.
        let alone = ran.logged("delivery-released");
        assert!(alone <= 2 * u64::from(fault == "swap"), "{fault}: {alone}");
        assert_eq!(ran.logged(&event) + alone, hits, "{fault}");
        assert_eq!(ran.ledger(kind), hits - alone, "{fault}");
        let lost = if matches!(fault, "drop" | "corrupt") { hits } else { 0 };
        assert_eq!((ran.ledger("lost"), ran.ledger("delivered")), (lost, 2 * sent - lost), "{fault}");
        let of = |e: &Value, key: &str| e[key].as_u64().unwrap();
        let mut to: Vec<u64> = ran.log.iter().map(|e| of(e, "to")).collect();
        to.sort_unstable();
        to.dedup();
        assert_eq!(to.len(), 2, "{fault}: of one consumer and the other, and of nobody else");
        for e in ran.log.iter().filter(|e| e["event"] == event.as_str()) {
            assert_eq!(of(e, "delivery") % every, 0, "{e}");
            assert_eq!(of(e, "n"), of(e, "delivery").div_ceil(2), "two deliveries of each message: {e}");
        }
    }
}

#[test]
fn one_slow_subscriber_does_not_hold_up_the_other() {
    let ran = run("500/s", "1s", "[faults]\nslow-subscriber = { rate = \"100/s\" }");
    assert_eq!((ran.ledger("lost"), ran.ledger("reordered"), ran.logged("slow-subscriber")), (0, 0, 500));
    // Half of all deliveries wait up to 4 s, 3.2 s at p90 of all; the others do not. If all waited,
    // p25 were 1 s.
    let (quarter, late) = (ran.quantile(0.25), ran.quantile(0.9));
    assert!(late > 3.0 && quarter < late / 5.0, "{quarter} {late}");
    let mut to: Vec<u64> = ran.log.iter().map(|e| e["to"].as_u64().unwrap()).collect();
    to.dedup();
    assert_eq!(to.len(), 1);
}

#[test]
fn a_publisher_that_is_not_read_waits_and_loses_nothing() {
    let ran = run("1k/s", "2s", "[faults]\nstop-reading = { after = 500, for = \"600ms\" }");
    assert_eq!((ran.ledger("lost"), ran.logged("stop-reading"), ran.ledger("sent")), (0, 1, 2_000));
    let max = ran.trial["workloads"][0]["latency"]["e2e"]["max_ns"].as_f64().unwrap() / 1e9;
    // A third of the messages wait, and those after them no longer.
    assert!(max > 0.55 && ran.quantile(0.5) < max / 2.0, "{max} {}", ran.quantile(0.5));
}

#[test]
fn what_goes_to_a_half_open_connection_is_lost_and_counted() {
    let ran = run("1k/s", "2s", "[faults]\nhalf-open = { after = 500, who = \"subscribers\" }");
    assert_eq!((ran.logged("half-open"), ran.ledger("sent")), (1, 2_000));
    assert_eq!((ran.ledger("delivered"), ran.ledger("lost")), (1_000, 3_000), "500 for each of two, then nothing");
}

#[test]
fn who_is_cut_off_and_refused_comes_back_later() {
    let faults =
        "[faults]\ndisconnect = { after = 500, who = \"subscribers\" }\nrefuse = { at = \"0s\", for = \"1s\" }";
    let ran = run("1k/s", "3s", faults);
    assert!(ran.logged("refuse") >= 2, "{}", ran.logged("refuse"));
    let (lost, delivered) = (ran.ledger("lost"), ran.ledger("delivered"));
    // From 0.5 s until 1 s, and until the clients try again.
    assert!(lost >= 800 && delivered > 2_000 && lost + delivered == 6_000, "{lost} {delivered}");
}

/// A broker of its own, killed when it is dropped.
struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn faults_are_changed_while_the_broker_runs() {
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(PROGRAM)
        .args(["broker", "--listen", "127.0.0.1:0", "--fault-control", "127.0.0.1:0", "--format", "json"])
        .args(["--fault-log", "log"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut broker = Broker(child);
    let mut line = String::new();
    // Kept until the end: its last line wants to be written too.
    let mut said = BufReader::new(broker.0.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let control = TcpStream::connect(ready["policy"]["fault_control"].as_str().unwrap()).unwrap();
    control.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut answers = BufReader::new(control.try_clone().unwrap());
    let mut say = |words: &str| {
        (&control).write_all(format!("{words}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    };
    let lost = || {
        let file = dir.path().join("s.toml");
        let text = format!(
            "name = \"control\"\nquestion = \"?\"\n[[system]]\ndriver = \"reference\"\nurl = \"{}\"\n\
             [[workload]]\npattern = \"fan-out\"\nconsumers = 2\nload.rate = \"1k/s\"\n\
             [run]\nwarmup = \"0s\"\nduration = \"500ms\"\ntrials = 1\ndrain = \"10s\"\n",
            ready["url"].as_str().unwrap()
        );
        std::fs::write(&file, text).unwrap();
        let record: Value = serde_json::from_slice(&msgbench(&file, dir.path()).stdout).unwrap();
        record["trials"][0]["workloads"][0]["ledger"]["lost"].as_u64().unwrap()
    };
    assert_eq!(lost(), 0);
    assert_eq!(say("set subjects=mb.*.*.* drop=every:5"), "+OK drop every 5; seed 0; subjects mb.*.*.*");
    // Messages go on being numbered: what came before the change counts, all 500 and two that are
    // no load.
    assert!((198..=202).contains(&lost()), "a fifth of 500 for each of two consumers");
    assert_eq!(say("set drop=every:0"), "-ERR faults: drop.every: every 0th is none; write 1 for all, 2 for half");
    assert_eq!(say("show"), "+OK drop every 5; seed 0; subjects mb.*.*.*");
    assert!(say("sing").starts_with("-ERR `sing` is no command"));
    assert_eq!(say("clear"), "+OK seed 0");
    assert_eq!(lost(), 0);
    assert!(say(&"x".repeat(5000)).starts_with("-ERR the line has no end"));
    // SAFETY: the broker is a child of ours that is not reaped.
    assert_eq!(unsafe { libc::kill(broker.0.id() as i32, libc::SIGTERM) }, 0);
    broker.0.wait().unwrap();
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    let changes = log.lines().filter(|l| l.contains("\"event\":\"control\"")).count();
    let drops = log.lines().filter(|l| l.contains("\"event\":\"drop\"")).count();
    assert_eq!(changes, 2, "{log}");
    assert!((99..=101).contains(&drops), "{drops}");
    let abroad = Command::new(PROGRAM)
        .args(["broker", "--listen", "127.0.0.1:0", "--fault-control", "0.0.0.0:0"])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&abroad.stderr);
    assert!(!abroad.status.success() && words.contains("loopback"), "{words}");
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
    // One after the other they would take 25 s.
    assert!(ran.quantile(0.5) < 2.5, "{}", ran.quantile(0.5));
    assert!(ran.log.iter().all(|e| e["ns"].as_u64().unwrap() >= 50_000_000));
}

#[test]
fn a_stall_holds_up_what_comes_during_it() {
    let ran = run("1k/s", "2s", "[faults]\nstall = { at = \"500ms\", for = \"600ms\" }");
    assert_eq!((ran.ledger("lost"), ran.logged("stall")), (0, 1));
    // Three of ten messages are due while it lasts: p90 is 600 ms - 0.1 x 2 s.
    let (p50, p90) = (ran.quantile(0.5), ran.quantile(0.9));
    assert!(p90 > 0.39 && p50 < p90 / 2.0, "{p50} {p90}");
    assert!(ran.log[0]["ns"].as_u64().unwrap() >= 600_000_000, "{}", ran.log[0]);
}

#[test]
fn a_rate_cap_lets_no_more_pass() {
    let ran = run("2k/s", "2s", "[faults]\nrate-cap = { rate = \"1k/s\" }");
    assert_eq!(ran.ledger("lost"), 0);
    // Of two consumers together.
    let delivered = ran.trial["workloads"][0]["throughput"]["delivered"].as_f64().unwrap();
    assert!(delivered < 2_020.0 && delivered > 500.0, "{delivered}");
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
    // A quarter of the messages is due while it lasts.
    let (max, pause) = (ran.trial["workloads"][0]["latency"]["e2e"]["max_ns"].as_f64().unwrap() / 1e9, at[1] - at[0]);
    assert!(max > 0.9 * pause && ran.quantile(0.5) < pause, "{max} {} {at:?}", ran.quantile(0.5));
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
