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
