//! The network of a trial is cut and shaped, in a namespace of the run's own. Truth: nothing passes
//! while it is cut, and no connection is lost.

use std::process::Command;

use serde_json::Value;

use super::{PROGRAM, needs, record, run, words};

// The drain is long: after an outage TCP waits before it sends again, each time twice as long, and
// the drain ends with the last message all the same.
const SCENARIO: &str = "name = \"network\"\nquestion = \"Is an outage of the network in the percentiles?\"\n[[system]]\ndriver = \"reference\"\n\
    [[workload]]\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"500/s\"\n[run]\nwarmup = \"300ms\"\nduration = \"3s\"\ndrain = \"30s\"\ntrials = 1\n";

/// The trial of the scenario with these events; `None` where the kernel or its
/// administrator does not allow them, and the test is skipped.
fn trial(events: &str, may_lack: &str) -> Option<Value> {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &format!("{SCENARIO}{events}"), &["--format", "record"]);
    let said = words(&output);
    if output.status.code() == Some(2) && said.contains(may_lack) {
        needs::network(&said);
        return None;
    }
    let trial = record(&output)["trials"][0].clone();
    assert_eq!(trial["outcome"]["status"], "complete", "{} {said}", trial["outcome"]);
    Some(trial)
}

fn longest(trial: &Value) -> f64 {
    let workload = &trial["workloads"][0];
    let max = workload["latency"]["e2e"]["max_ns"].as_f64();
    max.unwrap_or_else(|| panic!("no longest latency: {}", workload["ledger"]))
}

#[test]
fn an_outage_of_the_network_is_in_the_percentiles_and_loses_nothing() {
    let events = "[[event]]\nat = \"1s\"\naction = \"cut\"\n[[event]]\nat = \"1500ms\"\naction = \"mend\"\n";
    let Some(trial) = trial(events, "a network namespace cannot be made") else { return };
    let said: Vec<_> = trial["events"].as_array().unwrap().iter().collect();
    let at = |what: &str| said.iter().find(|e| e["text"].as_str().unwrap().starts_with(what)).unwrap()["at_s"].as_f64();
    let out = (at("mend the network").unwrap() - at("cut the network").unwrap()) * 1e9;
    assert!(out > 0.4e9, "{said:?}");
    // What was due when it was cut waits until it is mended, and then for TCP to send again.
    assert!(longest(&trial) > 0.95 * out, "{}", longest(&trial));
    let ledger = &trial["workloads"][0]["ledger"];
    assert!(ledger["sent"].as_u64().unwrap() > 1000, "{ledger}");
    assert_eq!((&ledger["lost"], &ledger["duplicated"], &ledger["reordered"]), (&0.into(), &0.into(), &0.into()));
}

/// As the first process of a container, msgbench has no parent that it could see.
#[test]
fn the_first_process_of_a_container_cuts_its_network_too() {
    let dir = tempfile::tempdir().unwrap();
    let events = "[[event]]\nat = \"1s\"\naction = \"cut\"\n[[event]]\nat = \"1500ms\"\naction = \"mend\"\n";
    let file = dir.path().join("s.toml");
    std::fs::write(&file, format!("{SCENARIO}{events}")).unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"])
        .args([PROGRAM, "run"])
        .arg(&file)
        .args(["--format", "record", "--out"])
        .arg(dir.path().join("results"))
        .env("MSGBENCH_CERTIFICATE", dir.path().join("certificate.json"))
        .output();
    let Ok(output) = output else { return needs::network("there is no unshare (util-linux)") };
    let said = words(&output);
    if said.contains("unshare:") || said.contains("a network namespace cannot be made") {
        return needs::network(&said);
    }
    let trial = record(&output)["trials"][0].clone();
    assert_eq!(trial["outcome"]["status"], "complete", "{} {said}", trial["outcome"]);
    assert!(longest(&trial) > 0.3e9, "{}", longest(&trial));
}

#[test]
fn a_network_that_is_shaped_is_slower_until_it_is_mended() {
    // 500 messages a second, there and back, need about 2 Mbit/s.
    let events = "[[event]]\nat = \"500ms\"\naction = \"shape\"\nqdisc = \"tbf rate 400kbit burst 66kb latency 5s\"\n\
        [[event]]\nat = \"2s\"\naction = \"mend\"\n";
    let Some(trial) = trial(events, "the network cannot be shaped") else { return };
    assert!(longest(&trial) > 0.2e9, "{}", longest(&trial));
    assert_eq!(trial["workloads"][0]["ledger"]["lost"], 0);
}

#[test]
fn what_the_kernel_does_not_have_is_said_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let events = "[[event]]\nat = \"1s\"\naction = \"shape\"\nqdisc = \"nosuchthing delay 1ms\"\n";
    let output = run(dir.path(), &format!("{SCENARIO}{events}"), &[]);
    let said = words(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    if said.contains("a network namespace cannot be made") {
        return needs::network(&said);
    }
    assert!(said.contains("nosuchthing") && said.contains("tc-nosuchthing(8)"), "{said}");
}
