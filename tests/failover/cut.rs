//! One node is cut off from all others, and nobody is told. It needs namespaces.

use serde_json::Value;

use super::{complete, faults, needs, run, said, trials};

/// The trial of a system under these events; `None` where the kernel or its administrator allows no
/// network of a node's own, and the test is skipped.
fn trial(system: &str, duration: u32, events: &str) -> Option<Value> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.toml");
    let text = format!(
        "name = \"cut\"\nquestion = \"Is one node cut off alone?\"\n[[system]]\n{system}\n[[workload]]\npattern = \"stream\"\n\
         load.rate = \"300/s\"\n{events}[run]\nwarmup = \"0s\"\nduration = \"{duration}s\"\ntrials = 1\ndrain = \"90s\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let output = run(dir.path(), file.to_str().unwrap(), &[]);
    let words = String::from_utf8_lossy(&output.stderr);
    needs::own_network(output.status.code(), &words).then(|| trials(&output).remove(0))
}

fn seconds(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no time")) / 1e9
}

const JETSTREAM: &str = "driver = \"jetstream\"\noptions = { nodes = 3, replicas = 3 }";
const KAFKA: &str = "driver = \"kafka\"\noptions = { broker = { nodes = 3, heap = \"384MiB\", properties = { \"min.insync.replicas\" = 2 } } }";

/// What holds of a leader that was cut off: the fact, the line, the settings, and that nobody was
/// told.
fn cut_off(trial: &Value) {
    complete(trial);
    let faults = faults(trial);
    assert_eq!((faults.len(), &faults[0]["role"]), (1, &"leader".into()), "{faults:?} {}", trial["events"]);
    let node = &faults[0]["nodes"][0];
    let lines = said(trial, &format!("cut node {node}, the leader of "));
    assert!(lines[0].contains(" off from all others"), "{lines:?}");
    assert_eq!(said(trial, &format!("mend the network of node {node}")).len(), 1, "{}", trial["events"]);
    // It came back, and all replicas with it.
    assert!(faults[0]["settled_ns"].as_u64() >= faults[0]["undone_ns"].as_u64(), "{faults:?}");
    assert!(trial["system"]["guarantees"]["network"].as_str().unwrap().contains("namespace of its own"));
    assert!(!trial["events"].to_string().contains("SIG"), "no process ended: {}", trial["events"]);
    assert_eq!(trial["workloads"][0]["ledger"]["acked_lost"], 0, "{}", trial["workloads"][0]["ledger"]);
}

#[test]
fn a_leader_of_jetstream_is_cut_off_alone() {
    if needs::nats_server().is_none() {
        return;
    }
    let event = "[[event]]\nat = \"2s\"\naction = \"cut\"\nnode = \"leader\"\nfor = \"12s\"\n";
    // The load ends as the leader is back; that the replicas are as one is waited for.
    let Some(trial) = trial(JETSTREAM, 15, event) else { return };
    cut_off(&trial);
    // While nobody leads nothing is acknowledged: the followers wait for 4 s at least.
    let longest = trial["workloads"][0]["latency"]["ack"]["max_ns"].as_f64().map_or(f64::INFINITY, |ns| ns / 1e9);
    let refused = trial["workloads"][0]["ledger"]["refused"].as_u64().unwrap();
    assert!(longest > 3.0 || refused > 3 * 300, "{longest} s, {refused} refused");
}

#[test]
fn a_leader_of_kafka_is_cut_off_alone() {
    if needs::system("kafka").is_none() {
        return;
    }
    let event = "[[event]]\nat = \"3s\"\naction = \"cut\"\nnode = \"leader\"\nfor = \"15s\"\n";
    // As above.
    let Some(trial) = trial(KAFKA, 19, event) else { return };
    cut_off(&trial);
    // The session of a broker is 9 s.
    let longest = seconds(&trial["workloads"][0]["latency"]["ack"]["max_ns"]);
    assert!(longest > 6.0, "{longest} s");
}

/// What goes to the leader, and comes from it, waits in a queue of the kernel.
#[test]
fn a_leader_of_jetstream_is_far_away_alone() {
    if needs::nats_server().is_none() {
        return;
    }
    // A quarter of what it needs: the queue is full within a moment, and three seconds long.
    let qdisc = "tbf rate 200kbit burst 4kb latency 3s";
    let event =
        format!("[[event]]\nat = \"2s\"\naction = \"shape\"\nqdisc = \"{qdisc}\"\nnode = \"leader\"\nfor = \"6s\"\n");
    // The load ends as the leader comes near again; that the replicas are as one is waited for.
    let Some(trial) = trial(JETSTREAM, 8, &event) else { return };
    complete(&trial);
    let faults = faults(&trial);
    assert_eq!((faults.len(), &faults[0]["action"]), (1, &"shape".into()), "{faults:?} {}", trial["events"]);
    let node = &faults[0]["nodes"][0];
    let lines = said(&trial, &format!("shape the network of node {node}, the leader of "));
    assert!(lines[0].contains(qdisc), "{lines:?}");
    assert_eq!(said(&trial, &format!("mend the network of node {node}")).len(), 1, "{}", trial["events"]);
    assert!(faults[0]["settled_ns"].as_u64() >= faults[0]["undone_ns"].as_u64(), "{faults:?}");
    let ledger = &trial["workloads"][0]["ledger"];
    let longest = trial["workloads"][0]["latency"]["ack"]["max_ns"].as_f64().map_or(f64::INFINITY, |ns| ns / 1e9);
    assert!(longest > 1.0, "{longest} s, {ledger}");
    assert_eq!(ledger["acked_lost"], 0, "{ledger}");
}

/// The same nodes and the same load, and nothing is cut: what is seen above is the cut's.
#[test]
fn who_is_cut_off_for_an_instant_is_not_missed() {
    if needs::nats_server().is_none() {
        return;
    }
    let event = "[[event]]\nat = \"2s\"\naction = \"cut\"\nnode = \"leader\"\nfor = \"100ms\"\n";
    let Some(trial) = trial(JETSTREAM, 6, event) else { return };
    complete(&trial);
    let longest = seconds(&trial["workloads"][0]["latency"]["ack"]["max_ns"]);
    assert!(longest < 3.0, "{longest} s");
}
