//! Faults of a cluster by role, again and again, on JetStream: its servers start in a moment.

use serde_json::Value;

use super::{complete, faults, needs, run, said, trials};

/// A stream of three replicas for 25 s, and what is done to it.
fn scenario(events: &str) -> String {
    format!(
        "name = \"faults\"\nquestion = \"Is it done to whom it is to be done?\"\n[[system]]\ndriver = \"jetstream\"\n\
         options = {{ nodes = 3, replicas = 3 }}\n[[workload]]\npattern = \"stream\"\nload.rate = \"500/s\"\n{events}\
         [run]\nwarmup = \"0s\"\nduration = \"25s\"\ntrials = 1\ndrain = \"20s\"\n"
    )
}

fn trial(events: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.toml");
    std::fs::write(&file, scenario(events)).unwrap();
    trials(&run(dir.path(), file.to_str().unwrap(), &[])).remove(0)
}

fn number(fault: &Value, key: &str) -> u64 {
    fault[key].as_u64().unwrap_or_else(|| panic!("no {key}: {fault}"))
}

/// The leader is another one each time, and each time it is the one that leads.
#[test]
fn leaders_are_killed_again_and_again_each_when_the_cluster_has_settled() {
    if needs::nats_server().is_none() {
        return;
    }
    let trial = trial(
        "[[event]]\nat = \"1s\"\naction = \"kill\"\nnode = \"leader\"\nfor = \"6s\"\nwithin = \"1s\"\nevery = \"10s\"\ncount = 2\n",
    );
    complete(&trial);
    let faults = faults(&trial);
    assert_eq!(faults.len(), 2, "{faults:?} {}", trial["events"]);
    for (k, fault) in (0..).zip(&faults) {
        assert_eq!((number(fault, "occurrence"), &fault["role"]), (k + 1, &"leader".into()));
        let (due, at, undone) = (number(fault, "due_ns"), number(fault, "at_ns"), number(fault, "undone_ns"));
        let least = (1 + 10 * k) * 1_000_000_000;
        assert!((least..=least + 1_000_000_000).contains(&due) && at >= due, "{fault}");
        assert!(undone >= at + 6_000_000_000, "{fault}");
    }
    let (first, second) = (&faults[0], &faults[1]);
    let settled = number(first, "settled_ns");
    assert!(settled >= number(first, "undone_ns") && number(second, "at_ns") >= settled, "{faults:?}");
    // A leader that was dead for six seconds does not lead any more; a follower would.
    assert_ne!(first["nodes"], second["nodes"], "{faults:?}");
    let lines = said(&trial, "kill node");
    assert!(lines[1].contains(", the leader of stream MSGBENCH_") && lines[1].contains("(2 of 2)"), "{lines:?}");
    assert_eq!(said(&trial, "restart node").len(), 2, "{}", trial["events"]);
    // While nobody leads, nothing is acknowledged: an election takes 4 s at least.
    let ack = trial["workloads"][0]["ledger"]["acked"].as_u64().unwrap();
    assert!(ack < 500 * 25 - 2 * 500 * 3, "{ack} acknowledged");
    assert_eq!(trial["workloads"][0]["ledger"]["acked_lost"], 0);
}

#[test]
fn a_follower_is_paused_and_goes_on_and_nobody_waits_for_it() {
    if needs::nats_server().is_none() {
        return;
    }
    let trial = trial("[[event]]\nat = \"1s\"\naction = \"pause\"\nnode = \"follower\"\nfor = \"3s\"\n");
    complete(&trial);
    let faults = faults(&trial);
    assert_eq!((faults.len(), faults[0]["nodes"].as_array().unwrap().len()), (1, 1), "{faults:?}");
    let node = &faults[0]["nodes"][0];
    assert!(said(&trial, &format!("pause node {node} "))[0].contains(", a follower of stream"), "{}", trial["events"]);
    assert_eq!(said(&trial, &format!("resume node {node} ")).len(), 1, "{}", trial["events"]);
    let ledger = &trial["workloads"][0]["ledger"];
    assert_eq!((&ledger["refused"], &ledger["lost"]), (&0.into(), &0.into()), "{ledger}");
}

/// Nobody leads: the trial fails and says so, and no other node is killed in the place of one.
#[test]
fn a_role_that_nobody_has_fails_the_trial() {
    if needs::nats_server().is_none() {
        return;
    }
    let trial = trial(
        "[[event]]\nat = \"1s\"\naction = \"kill\"\nnode = \"leader\"\n[[event]]\nat = \"1500ms\"\naction = \"kill\"\nnode = \"leader\"\n",
    );
    assert_eq!(trial["outcome"]["status"], "failed", "{}", trial["outcome"]);
    let error = trial["outcome"]["error"].as_str().unwrap();
    assert!(error.starts_with("kill the leader of stream: no node says that it leads stream"), "{error}");
    assert_eq!(faults(&trial).len(), 1);
}
