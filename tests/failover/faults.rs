//! Faults of a cluster by role, again and again, on JetStream: its servers start in a moment.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{complete, faults, needs, run, said, trials};

/// A stream of three replicas, and what is done to it.
fn scenario(seconds: u32, events: &str) -> String {
    format!(
        "name = \"faults\"\nquestion = \"Is it done to whom it is to be done?\"\n[[system]]\ndriver = \"jetstream\"\n\
         options = {{ nodes = 3, replicas = 3 }}\n[[workload]]\npattern = \"stream\"\nload.rate = \"500/s\"\n{events}\
         [run]\nwarmup = \"0s\"\nduration = \"{seconds}s\"\ntrials = 1\ndrain = \"60s\"\n"
    )
}

/// The trial of that scenario, whose load takes so long. A busy machine needs longer for what is to
/// happen in it, and the log says what was not done: then the load takes four times as long.
fn trial(mut seconds: u32, events: &str) -> Value {
    loop {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s.toml");
        std::fs::write(&file, scenario(seconds, events)).unwrap();
        let trial = trials(&run(dir.path(), file.to_str().unwrap(), &[])).remove(0);
        let missed = trial["events"].to_string().contains(" was not done: the trial ended before");
        if seconds > 100 || !missed || trial["outcome"]["status"] != "complete" {
            return trial;
        }
        seconds *= 4;
    }
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
        20,
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
    let ledger = &trial["workloads"][0]["ledger"];
    assert!(number(ledger, "acked") < number(ledger, "scheduled") - 2 * 500 * 3, "{ledger}");
    assert_eq!(ledger["acked_lost"], 0, "{ledger}");
}

#[test]
fn a_follower_is_paused_and_goes_on_and_nobody_waits_for_it() {
    if needs::nats_server().is_none() {
        return;
    }
    let trial = trial(8, "[[event]]\nat = \"1s\"\naction = \"pause\"\nnode = \"follower\"\nfor = \"3s\"\n");
    complete(&trial);
    let faults = faults(&trial);
    assert_eq!((faults.len(), faults[0]["nodes"].as_array().unwrap().len()), (1, 1), "{faults:?}");
    let node = &faults[0]["nodes"][0];
    assert!(said(&trial, &format!("pause node {node} "))[0].contains(", a follower of stream"), "{}", trial["events"]);
    assert_eq!(said(&trial, &format!("resume node {node} ")).len(), 1, "{}", trial["events"]);
    let ledger = &trial["workloads"][0]["ledger"];
    assert_eq!((&ledger["refused"], &ledger["lost"]), (&0.into(), &0.into()), "{ledger}");
}

/// Every message is here when the load ends, and the follower has been back for a moment only: that
/// all is well is said when it was so for a second.
#[test]
fn a_follower_that_comes_back_as_the_load_ends_is_waited_for() {
    if needs::nats_server().is_none() {
        return;
    }
    let trial = trial(4, "[[event]]\nat = \"1s\"\naction = \"pause\"\nnode = \"follower\"\nfor = \"2900ms\"\n");
    complete(&trial);
    let faults = faults(&trial);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(number(&faults[0], "settled_ns") >= number(&faults[0], "undone_ns"), "{faults:?}");
    // It is no part of the time that messages needed.
    assert_eq!(trial["workloads"][0]["ledger"]["lost"], 0, "{trial}");
}

/// Nobody leads: the trial fails and says so, and no other node is killed in the place of one.
#[test]
fn a_role_that_nobody_has_fails_the_trial() {
    if needs::nats_server().is_none() {
        return;
    }
    let begun = Instant::now();
    let trial = trial(
        4,
        "[[event]]\nat = \"1s\"\naction = \"kill\"\nnode = \"leader\"\n[[event]]\nat = \"1500ms\"\naction = \"kill\"\nnode = \"leader\"\n",
    );
    assert_eq!(trial["outcome"]["status"], "failed", "{}", trial["outcome"]);
    let error = trial["outcome"]["error"].as_str().unwrap();
    assert!(error.starts_with("kill the leader of stream: no node says that it leads stream"), "{error}");
    // Its stream is removed when the others have elected a leader, and `run.connect`, after which
    // nothing more is waited for, is three minutes.
    assert!(begun.elapsed() < Duration::from_secs(150), "{:?}", begun.elapsed());
    assert_eq!(faults(&trial).len(), 1);
}

/// The leader hands over, and another node leads afterwards: each time the one that took over
/// before hands over in its turn.
#[test]
fn a_leader_hands_over_when_it_is_asked() {
    if needs::nats_server().is_none() {
        return;
    }
    let trial = trial(16, "[[event]]\nat = \"1s\"\naction = \"transfer\"\nevery = \"5s\"\ncount = 3\n");
    complete(&trial);
    let faults = faults(&trial);
    assert_eq!(faults.len(), 3, "{faults:?} {}", trial["events"]);
    let lines = said(&trial, "transfer from node");
    for (fault, line) in faults.iter().zip(&lines) {
        let from = &fault["nodes"][0];
        assert!(line.starts_with(&format!("transfer from node {from}, the leader of stream MSGBENCH_")), "{line}");
        assert!(!line.contains(&format!(" to node {from},")), "{line}");
        let (at, undone) = (number(fault, "at_ns"), number(fault, "undone_ns"));
        assert!(undone > at && undone < at + 10_000_000_000, "{fault}");
    }
    for (line, next) in lines.iter().zip(&faults[1..]) {
        assert!(line.contains(&format!(" to node {},", next["nodes"][0])), "{lines:?}");
    }
    assert_eq!(trial["workloads"][0]["ledger"]["acked_lost"], 0);
}

/// One node after the other ends and comes back, and never two are away at a time.
#[test]
fn nodes_are_restarted_in_turn() {
    if needs::nats_server().is_none() {
        return;
    }
    let trial = trial(20, "[[event]]\nat = \"1s\"\naction = \"rolling-restart\"\n");
    complete(&trial);
    let faults = faults(&trial);
    let nodes: Vec<&Value> = faults.iter().map(|f| &f["nodes"][0]).collect();
    assert_eq!(nodes, [0, 1, 2], "{faults:?} {}", trial["events"]);
    for pair in faults.windows(2) {
        assert!(number(&pair[1], "at_ns") >= number(&pair[0], "settled_ns"), "{faults:?}");
    }
    // It is asked to end, and not killed.
    let killed = trial["events"].to_string().contains("SIGKILL");
    assert!(!killed && said(&trial, "restart node").len() == 3, "{}", trial["events"]);
}

/// The trials of systems with transactions, of this timeout, whose producer is killed; each message
/// was there once.
fn killed_producers(event: &str, seconds: u64, timeout: Duration) -> Vec<Value> {
    let raw = format!("raw = {{ \"transaction.timeout.ms\" = {} }}", timeout.as_millis());
    let once = format!("exactly-once = \"transactional\", {raw}");
    let mut systems = vec![format!("driver = \"reference\"\noptions = {{ kafka = {{ {once} }} }}")];
    if needs::system("kafka").is_some() {
        let often = "\"transaction.abort.timed.out.transaction.cleanup.interval.ms\" = 500";
        let broker = format!("broker = {{ heap = \"384MiB\", properties = {{ {often} }} }}");
        systems.push(format!("driver = \"kafka\"\noptions = {{ {once}, {broker} }}"));
    }
    let mut all = Vec::new();
    for system in systems {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s.toml");
        let text = format!(
            "name = \"transactions\"\nquestion = \"Is each message there once?\"\n[[system]]\n{system}\n[[workload]]\n\
             pattern = \"stream\"\nload.rate = \"300/s\"\n[[event]]\nat = \"1s\"\naction = \"producer-kill\"\n{event}\n\
             [run]\nwarmup = \"0s\"\nduration = \"{seconds}s\"\ntrials = 1\ndrain = \"60s\"\n"
        );
        std::fs::write(&file, text).unwrap();
        let trial = trials(&run(dir.path(), file.to_str().unwrap(), &[])).remove(0);
        complete(&trial);
        let ledger = &trial["workloads"][0]["ledger"];
        let counts = ["lost", "duplicated", "reordered"].map(|key| ledger[key].as_u64().unwrap());
        assert_eq!((counts, ledger["delivered"].as_u64()), ([0; 3], Some(300 * seconds)), "{system}: {ledger}");
        all.push(trial);
    }
    all
}

/// The milliseconds that a line begins to tell after these words.
fn milliseconds(trial: &Value, words: &str) -> Vec<u64> {
    let lines = said(trial, words);
    lines.iter().map(|line| line[words.len()..].split(' ').next().unwrap().parse().unwrap()).collect()
}

/// A producer of the reference log, or of Kafka, dies with an open transaction: what it wrote is
/// not read, and its successor writes it once.
#[test]
fn a_producer_that_dies_in_a_transaction_loses_and_doubles_nothing() {
    // A busy machine takes its time for a transaction that nobody has killed.
    for trial in killed_producers("every = \"3s\"\ncount = 3", 10, Duration::from_secs(60)) {
        assert_eq!(faults(&trial).len(), 3, "{}", trial["events"]);
        assert_eq!(said(&trial, "the producer died in a transaction of ").len(), 3, "{}", trial["events"]);
        assert_eq!(said(&trial, "another producer took its place").len(), 3, "{}", trial["events"]);
        assert!(said(&trial, "the broker aborted its transaction").is_empty(), "{}", trial["events"]);
    }
}

/// Where nobody takes its place the broker aborts the transaction when its time is over.
#[test]
fn a_transaction_of_a_dead_producer_ends_at_its_timeout() {
    for trial in killed_producers("for = \"9s\"", 12, Duration::from_secs(3)) {
        let aborted = milliseconds(&trial, "the broker aborted its transaction by itself, ");
        // It began a moment before its producer died, which is 100 ms or so.
        assert!(matches!(aborted[..], [ms] if (2_000..9_000).contains(&ms)), "{aborted:?} {}", trial["events"]);
        let replaced = milliseconds(&trial, "another producer took its place, ");
        assert!(matches!(replaced[..], [ms] if ms >= 9_000), "{replaced:?}");
        // Nothing came through in the meantime, and the books say so.
        let longest = trial["workloads"][0]["latency"]["e2e"]["max_ns"].as_f64().unwrap() / 1e9;
        assert!(longest > 8.0, "{longest} s");
    }
}

/// Who has no transactions says so.
#[test]
fn without_transactions_no_producer_dies_in_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.toml");
    let text = "name = \"t\"\nquestion = \"?\"\n[[system]]\ndriver = \"reference\"\n[[workload]]\npattern = \"fan-out\"\n\
                load.rate = \"100/s\"\n[[event]]\nat = \"500ms\"\naction = \"producer-kill\"\n[run]\nduration = \"1s\"\n\
                trials = 1\n";
    std::fs::write(&file, text).unwrap();
    let trial = trials(&run(dir.path(), file.to_str().unwrap(), &[])).remove(0);
    assert!(trial["outcome"]["error"].as_str().unwrap().contains("no producer of this system has transactions"));
}

/// A server that starts again is asked again at once: what was asked of the one before is gone, and
/// a missing heartbeat would say so after ten seconds only.
#[test]
fn a_consumer_asks_again_as_soon_as_its_server_is_there_again() {
    if needs::nats_server().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.toml");
    let text = "name = \"again\"\nquestion = \"Who asks again?\"\n[[system]]\ndriver = \"jetstream\"\n[[workload]]\n\
                pattern = \"stream\"\nload.rate = \"300/s\"\n[[event]]\nat = \"1s\"\naction = \"restart\"\n[run]\n\
                warmup = \"0s\"\nduration = \"4s\"\ntrials = 1\ndrain = \"30s\"\n";
    std::fs::write(&file, text).unwrap();
    let trial = trials(&run(dir.path(), file.to_str().unwrap(), &[])).remove(0);
    complete(&trial);
    assert_eq!(said(&trial, "restart node 0").len(), 1, "{}", trial["events"]);
    assert!(said(&trial, "no heartbeat of a consumer").is_empty(), "{}", trial["events"]);
    assert_eq!(trial["workloads"][0]["ledger"]["acked_lost"], 0, "{}", trial["workloads"][0]["ledger"]);
}
