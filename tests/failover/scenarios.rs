//! The shipped scenarios that disturb clusters, in short.

use super::{complete, faults, needs, run, said, trials};

/// The arguments that leave out systems that are not here.
fn systems<'a>(all: &[(&'a str, &str)]) -> Vec<&'a str> {
    let here = all.iter().filter(|(_, driver)| needs::system(driver).is_some());
    here.flat_map(|(name, _)| ["--system", *name]).collect()
}

#[test]
fn failover_kills_the_leader_of_each_system() {
    let args = systems(&[("jetstream", "jetstream"), ("kafka", "kafka")]);
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "scenarios/failover.toml", &[&["--quick"], &args[..]].concat());
    let trials = trials(&output);
    assert_eq!(trials.len(), args.len() / 2, "{}", String::from_utf8_lossy(&output.stderr));
    for trial in &trials {
        complete(trial);
        let faults = faults(trial);
        assert_eq!((faults.len(), &faults[0]["role"]), (1, &"leader".into()), "{}: {faults:?}", trial["case"]);
        let node = &faults[0]["nodes"][0];
        let killed = said(trial, &format!("kill node {node} "));
        assert!(killed[0].contains(", the leader of "), "{killed:?}");
        assert!(faults[0]["undone_ns"].as_u64() > faults[0]["at_ns"].as_u64(), "{faults:?}");
        let ledger = &trial["workloads"][0]["ledger"];
        assert_eq!(
            (&ledger["acked_lost"], &ledger["corrupted"]),
            (&0.into(), &0.into()),
            "{}: {ledger}",
            trial["case"]
        );
    }
}

#[test]
fn planned_maintenance_hands_over_and_restarts() {
    let args = systems(&[("jetstream", "jetstream"), ("kafka", "kafka")]);
    let dir = tempfile::tempdir().unwrap();
    let quick = |more: &[&str]| {
        let output = run(dir.path(), "scenarios/failover-planned.toml", &[&["--quick"], more, &args[..]].concat());
        let trials = trials(&output);
        assert_eq!(trials.len(), args.len() / 2, "{}", String::from_utf8_lossy(&output.stderr));
        trials
    };
    let mut trials = quick(&[]);
    // On a busy machine the load is over before the leader has handed over.
    if trials.iter().any(|trial| trial["outcome"]["status"] == "complete" && faults(trial).len() < 2) {
        trials = quick(&["--set", "run.duration=30s"]);
    }
    for trial in &trials {
        complete(trial);
        let faults = faults(trial);
        let actions: Vec<&str> = faults.iter().filter_map(|f| f["action"].as_str()).collect();
        assert_eq!(actions[..2], ["transfer", "rolling-restart"], "{}: {faults:?}", trial["case"]);
        let line = &said(trial, "transfer from node")[0];
        let from = &faults[0]["nodes"][0];
        assert!(line.starts_with(&format!("transfer from node {from}, the leader of ")), "{line}");
        assert!(!line.contains(&format!(" to node {from},")), "{line}");
        let ledger = &trial["workloads"][0]["ledger"];
        assert_eq!(
            (&ledger["acked_lost"], &ledger["corrupted"]),
            (&0.into(), &0.into()),
            "{}: {ledger}",
            trial["case"]
        );
    }
}

/// What a dead consumer had comes again, late, and nothing is lost.
#[test]
fn a_consumer_that_crashes_loses_nothing() {
    let mut args = systems(&[("jetstream", "jetstream"), ("kafka-consumer", "kafka")]);
    if needs::since("kafka", "4.2").is_some() {
        args.extend(["--system", "kafka-share"]);
    }
    let dir = tempfile::tempdir().unwrap();
    let args = [&["--quick", "--set", "run.drain=90s"], &args[..]].concat();
    let output = run(dir.path(), "scenarios/consumer-crash.toml", &args);
    let trials = trials(&output);
    assert_eq!(trials.len(), (args.len() - 3) / 2, "{}", String::from_utf8_lossy(&output.stderr));
    for trial in &trials {
        complete(trial);
        let faults = faults(trial);
        let mut consumers: Vec<_> = faults.iter().map(|f| f["consumer"].as_u64().unwrap()).collect();
        // Two die at once: their threads do it in any order.
        consumers[1..].sort_unstable();
        assert_eq!(consumers, [0, 1, 2], "{}: {faults:?}", trial["case"]);
        assert!(faults[0]["undone_ns"].as_u64() > faults[0]["at_ns"].as_u64(), "{faults:?}");
        assert!(faults[1]["undone_ns"].is_null(), "{faults:?}");
        let ledger = &trial["workloads"][0]["ledger"];
        assert_eq!((&ledger["lost"], &ledger["corrupted"]), (&0.into(), &0.into()), "{}: {ledger}", trial["case"]);
        // What comes again has no place in the order, and breaks no promise of it.
        let promises = trial["workloads"][0]["promises"].as_array().unwrap();
        assert!(promises.iter().all(|p| p["kept"] == true), "{}: {promises:?}", trial["case"]);
    }
}
