//! A launched node that is killed and started again: clients come back, and the books say what that
//! cost.

use std::path::Path;

use serde_json::Value;

use super::{record, run, words};

/// Four seconds at 1000/s, with a restart after half a second.
fn restarted(driver: &str, workload: &str, rest: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    restarted_in(dir.path(), driver, workload, rest)
}

fn restarted_in(dir: &Path, driver: &str, workload: &str, rest: &str) -> Value {
    let text = format!(
        "name = \"restart\"\nquestion = \"Does it come back?\"\n[[system]]\ndriver = \"{driver}\"\n\
         [[workload]]\npattern = \"fan-out\"\nconsumers = 2\nload.rate = \"1k/s\"\n{workload}\n\
         [[event]]\nat = \"500ms\"\naction = \"restart\"\n{rest}\n\
         [run]\nwarmup = \"0s\"\nduration = \"4s\"\ntrials = 1\ndrain = \"25s\"\n"
    );
    let output = run(dir, &text, &["--format", "record"]);
    let trial = record(&output)["trials"][0].clone();
    assert_ne!(output.status.code(), Some(6), "{} {trial}", words(&output));
    assert_eq!(trial["outcome"]["status"], "complete", "{}", trial["outcome"]);
    let events: Vec<&str> = trial["events"].as_array().unwrap().iter().map(|e| e["text"].as_str().unwrap()).collect();
    assert!(events.iter().any(|e| e.starts_with("restart node 0") && e.contains("started again")), "{events:?}");
    trial
}

fn ledger(trial: &Value, key: &str) -> u64 {
    trial["workloads"][0]["ledger"][key].as_u64().unwrap()
}

/// What is not delivered is lost, and what was due afterwards arrives again.
fn totals_agree(trial: &Value) {
    let (sent, delivered, lost) = (ledger(trial, "sent"), ledger(trial, "delivered"), ledger(trial, "lost"));
    assert_eq!(ledger(trial, "scheduled"), 4_000);
    assert_eq!((ledger(trial, "expected"), delivered + lost), (2 * sent, 2 * sent));
    // Of 4 s, 3.5 s come after the restart: as much again as before it, and more, has arrived.
    assert!(delivered > 2 * 1_000, "clients came back: {delivered} of {}", 2 * sent);
    assert_eq!((ledger(trial, "corrupted"), ledger(trial, "foreign")), (0, 0));
}

#[test]
fn the_router_forgets_its_clients_and_they_come_back() {
    let trial = restarted("reference", "", "");
    totals_agree(&trial);
    // What was on its way is lost, but between two messages nothing may be: that they lost it is
    // seen in the events.
    let events: Vec<&str> = trial["events"].as_array().unwrap().iter().map(|e| e["text"].as_str().unwrap()).collect();
    assert!(events.iter().any(|e| e.contains("disconnected")), "{events:?}");
    assert_eq!(ledger(&trial, "duplicated"), 0);
}

#[test]
fn the_log_keeps_what_it_has_acknowledged() {
    let trial = restarted("reference", "delivery = { durable = true }", "");
    totals_agree(&trial);
    assert_eq!((ledger(&trial, "acked_lost"), ledger(&trial, "lost")), (0, 0), "{trial}");
}

#[test]
fn faults_of_both_lives_are_in_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let trial = restarted_in(dir.path(), "reference", "", "[faults]\ndrop = { every = 10 }");
    totals_agree(&trial);
    let folder = std::fs::read_dir(dir.path().join("results/restart")).unwrap().next().unwrap().unwrap().path();
    let log = std::fs::read_to_string(folder.join("reference-1.faults.jsonl")).unwrap();
    let hit: Vec<u64> = log.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["n"].as_u64().unwrap()).collect();
    let lives = 1 + hit.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert_eq!((hit[0], lives), (10, 2), "each life counts from 1: {hit:?}");
    assert!(hit.windows(2).all(|pair| pair[1] == pair[0] + 10 || pair[1] == 10), "{hit:?}");
    assert!(ledger(&trial, "lost") >= 2 * hit.len() as u64, "{} of {}", ledger(&trial, "lost"), hit.len());
}

#[test]
fn a_nats_server_comes_back_too() {
    if super::needs::nats_server().is_none() {
        return;
    }
    totals_agree(&restarted("nats", "", ""));
    let stored = restarted("jetstream", "", "");
    totals_agree(&stored);
    assert_eq!(ledger(&stored, "acked_lost"), 0, "a stream in a file survives");
}
