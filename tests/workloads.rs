//! The shipped scenarios of stored messages, redelivery, several workloads and bridges, end to end:
//! on the reference broker everywhere, and on the real servers where they are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "workloads/kept.rs"]
mod kept;
#[path = "common/needs.rs"]
mod needs;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_msgbench");

/// Runs a scenario for a second, one trial of each system, and returns the record.
fn run(scenario: &str, args: &[&str]) -> Value {
    try_run(scenario, args).unwrap_or_else(|said| panic!("{said}"))
}

/// The same, or what was said where the run did not end well.
fn try_run(scenario: &str, args: &[&str]) -> Result<Value, String> {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    let file = if scenario.ends_with(".toml") { scenario.to_owned() } else { format!("scenarios/{scenario}.toml") };
    command.args(["run", &file, "--trials", "1"]);
    if !args.contains(&"--duration") {
        command.args(["--duration", "1s"]);
    }
    // The bound on the start of a system: on a busy machine Java alone takes a minute.
    command.args(["--set", "run.connect=180s", "--set", "run.warmup=300ms"]);
    command.args(["--format", "record", "--out", out.path().to_str().unwrap()]).args(args);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().unwrap();
    // 4: a busy machine makes a trial invalid, and says so; books and promises must hold all the
    // same.
    let record: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{scenario}: {code}: {e}: {said}"));
    let trials = record["trials"].as_array().into_iter().flatten();
    let outcomes: Vec<String> = trials.map(|t| format!("{}: {}", t["case"], t["outcome"])).collect();
    match code {
        0 | 4 => Ok(record),
        _ => Err(format!("{scenario}: {code}: {said}{}", outcomes.join("\n"))),
    }
}

/// Every trial ran to its end, kept every promise, and its books balance: what was expected is
/// there once, or is counted as what the scenario made of it. Returns the workloads of the trials
/// by system.
fn balanced(record: &Value) -> Vec<(String, Vec<Value>)> {
    let mut all = Vec::new();
    for trial in record["trials"].as_array().unwrap() {
        let system = trial["case"].as_str().unwrap().to_owned();
        assert_eq!(trial["outcome"]["status"], "complete", "{system}: {}", trial["outcome"]);
        let workloads = trial["workloads"].as_array().unwrap();
        for workload in workloads {
            let ledger = &workload["ledger"];
            assert!(ledger["sent"].as_u64().unwrap() > 50, "{system}: {ledger}");
            assert_eq!(ledger["scheduled"], ledger["sent"], "{system}: {ledger}");
            for fault in ["lost", "corrupted", "foreign", "refused"] {
                assert_eq!(ledger[fault], 0, "{system}: {fault}: {ledger}");
            }
            let promises = workload["promises"].as_array().unwrap();
            // A store that answers requests has promised nothing of them.
            let answered = !workload["latency"]["rtt"].is_null();
            assert!(
                (answered || !promises.is_empty()) && promises.iter().all(|p| p["kept"] == true),
                "{system}: {promises:?}"
            );
        }
        all.push((system, workloads.clone()));
    }
    assert!(!all.is_empty(), "nothing was run: {}", record["skipped"]);
    all
}

#[test]
fn stored_messages_balance_on_the_reference_log() {
    for scenario in ["stream", "partitions", "exactly-once", "mixed", "slow-consumer"] {
        for (system, workloads) in balanced(&run(scenario, &["--system", "reference"])) {
            for workload in workloads {
                let ledger = &workload["ledger"];
                assert_eq!(ledger["expected"], ledger["delivered"], "{scenario} on {system}: {ledger}");
                assert_eq!(ledger["duplicated"], 0, "{scenario} on {system}: {ledger}");
            }
        }
    }
}

/// What a stream processor copies is all there, whoever it is.
#[test]
fn what_a_stream_processor_copies_is_there_once() {
    let mut systems = vec!["reference-client"];
    if needs::system("jetstream").is_some() {
        systems.push("jetstream-client");
    }
    if needs::kafka_streams() {
        systems.push("kafka-streams");
    }
    let mut args = vec!["--set", "run.drain=60s"];
    systems.iter().for_each(|system| args.extend(["--system", system]));
    let record = run("stream-processing", &args);
    let all = balanced(&record);
    assert_eq!(all.len(), systems.len());
    for (system, workloads) in all {
        let ledger = &workloads[0]["ledger"];
        assert_eq!(ledger["expected"], ledger["delivered"], "{system}: {ledger}");
        assert_eq!(ledger["duplicated"], 0, "{system}: {ledger}");
    }
    for trial in record["trials"].as_array().unwrap() {
        let streams = trial["case"].as_str().unwrap().contains("streams");
        let used = trial["application"]["cpu_seconds"].as_f64();
        assert_eq!(used.is_some_and(|used| used > 0.0), streams, "{}: {used:?}", trial["case"]);
    }
}

/// The scenarios that only streams of NATS have, by their systems.
#[test]
fn scenarios_of_jetstream_balance() {
    if needs::system("jetstream").is_none() {
        return;
    }
    for (scenario, since) in
        [("key-value", "2.10"), ("flow-control", "2.10"), ("mirror", "2.10"), ("batch-publish", "2.14")]
    {
        if needs::since("jetstream", since).is_none() {
            return;
        }
        for (system, workloads) in balanced(&run(scenario, &["--set", "run.drain=60s"])) {
            for workload in workloads {
                let ledger = &workload["ledger"];
                let count = |key: &str| ledger[key].as_u64().unwrap();
                let told = count("delivered") + count("superseded");
                assert_eq!(count("expected"), told, "{scenario} on {system}: {ledger}");
                assert_eq!(ledger["duplicated"], 0, "{scenario} on {system}: {ledger}");
            }
        }
    }
}

#[test]
fn a_backlog_is_read_while_publishing_goes_on() {
    let record = run("replay", &["--system", "reference", "--set", "workload.delivery.backlog=20000"]);
    for (_, workloads) in balanced(&record) {
        let replay = &workloads[0]["replay"];
        assert_eq!(replay["backlog"], 20000, "{replay}");
        assert!(replay["rate"].as_f64().is_some_and(|rate| rate > 0.0), "{replay}");
    }
}

/// Every 50th message is rejected at each of three deliveries, every other 20th at its first.
#[test]
fn what_is_rejected_comes_again_and_what_is_dead_is_told_apart() {
    for (system, kind) in [("reference", "reference"), ("kafka", "kafka")] {
        if needs::system(kind).is_none() {
            continue;
        }
        // Two groups, each with its own retries.
        let sets = ["--set", "workload.consumers=2", "--set", "workload.channels=3", "--system", system];
        for (system, workloads) in balanced(&run("redelivery", &sets)) {
            let ledger = &workloads[0]["ledger"];
            let count = |key: &str| ledger[key].as_u64().unwrap();
            assert!(count("dead_lettered") > 10 && count("redelivered") > 20, "{system}: {ledger}");
            assert_eq!(count("delivered") + count("dead_lettered"), count("expected"), "{system}: {ledger}");
            assert_eq!(count("rejected"), 3 * count("dead_lettered") + count("redelivered"), "{system}: {ledger}");
            assert!(count("dead_lettered").abs_diff(count("expected") / 50) <= 2, "{system}: {ledger}");
        }
    }
}

/// The same with share groups: the broker itself gives a message again, and writes the dead ones to
/// a topic of the group.
#[test]
fn a_share_group_gives_again_what_is_released_and_buries_what_is_dead() {
    if needs::since("kafka", "4.2").is_none() {
        return;
    }
    let sets = ["--set", "workload.consumers=2", "--set", "workload.channels=3", "--system", "kafka-share"];
    for (system, workloads) in balanced(&run("redelivery", &sets)) {
        let ledger = &workloads[0]["ledger"];
        let count = |key: &str| ledger[key].as_u64().unwrap();
        assert!(count("dead_lettered") > 10 && count("redelivered") > 20, "{system}: {ledger}");
        assert_eq!(count("delivered") + count("dead_lettered"), count("expected"), "{system}: {ledger}");
        assert_eq!(count("rejected"), 3 * count("dead_lettered") + count("redelivered"), "{system}: {ledger}");
        assert_eq!(count("duplicated"), 0, "{system}: {ledger}");
    }
    for (system, workloads) in balanced(&run("queue-group", &["--system", "kafka-share"])) {
        let ledger = &workloads[0]["ledger"];
        assert_eq!(ledger["delivered"], ledger["expected"], "{system}: {ledger}");
        assert_eq!(ledger["duplicated"], 0, "{system}: {ledger}");
    }
}

/// A consumer joins, one leaves, one dies: each event is there with what the members noted, and
/// what the system promises to keep is not lost.
#[test]
fn consumers_come_leave_and_die_while_it_is_measured() {
    let kinds = [
        ("reference", "reference", "0.2"),
        ("jetstream", "jetstream", "2.10"),
        ("kafka-classic", "kafka", "4.0"),
        ("kafka-consumer", "kafka", "4.0"),
        ("kafka-share", "kafka", "4.2"),
    ];
    for (system, kind, since) in kinds {
        if needs::since(kind, since).is_none() {
            continue;
        }
        let out = tempfile::tempdir().unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["run", "scenarios/rebalance.toml", "--quick", "--system", system, "--format", "record"]);
        // A dead member is missed when its session ends, after 10 s.
        command.args(["--set", "run.connect=180s", "--set", "run.drain=60s", "--out"]).arg(out.path());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let record: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{system}: {e}: {said}"));
        let trial = &record["trials"][0];
        assert_eq!(trial["outcome"]["status"], "complete", "{system}: {}: {said}", trial["outcome"]);
        let workload = &trial["workloads"][0];
        let changes = workload["membership"].as_array().unwrap_or_else(|| panic!("{system}: {workload}"));
        let of = |key: &str| changes.iter().map(|c| c[key].clone()).collect::<Vec<_>>();
        assert_eq!(of("action"), ["consumer-join", "consumer-leave", "consumer-kill"], "{system}");
        assert_eq!(of("consumer"), [3, 1, 2], "{system}");
        assert!(changes.iter().all(|c| c["took_s"].as_f64().is_some()), "{system}: {changes:?}");
        let last: Vec<u64> =
            changes[2]["members"].as_array().unwrap().iter().map(|m| m["consumer"].as_u64().unwrap()).collect();
        // The second is dead a moment after it was due to die, and may get messages until then.
        assert!(!last.is_empty() && !last.contains(&1), "{system}: {last:?}");
        if system != "reference" {
            assert_eq!(workload["ledger"]["lost"], 0, "{system}: {}", workload["ledger"]);
        }
    }
}

/// A reference broker with both halves.
struct Broker(Child, Value);

impl Broker {
    fn start() -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["broker", "--listen", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--format", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child, serde_json::from_str(&line).unwrap())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// `bridge` with the systems written here instead of its own.
fn bridge(systems: &str) -> Value {
    let text = std::fs::read_to_string("scenarios/bridge.toml").unwrap();
    let workload = &text[text.find("[[workload]]").unwrap()..];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bridge.toml");
    std::fs::write(&file, format!("name = \"bridge\"\nquestion = \"?\"\n{systems}\n{workload}")).unwrap();
    run(file.to_str().unwrap(), &[])
}

#[test]
fn a_bridge_forwards_every_message_and_tells_its_hops_apart() {
    let broker = Broker::start();
    let (nats, kafka) = (broker.1["url"].as_str().unwrap(), broker.1["policy"]["kafka"].as_str().unwrap());
    let record = bridge(&format!(
        "[[system]]\nname = \"router-to-log\"\ndriver = \"bridge\"\nurl = \"{nats} {kafka}\"\noptions = {{ from = \"reference\" }}\n"
    ));
    for (_, workloads) in balanced(&record) {
        let (ledger, latency) = (&workloads[0]["ledger"], &workloads[0]["latency"]);
        assert_eq!(ledger["expected"], ledger["delivered"], "{ledger}");
        let p50 = |kind: &str| {
            let all = latency[kind]["percentiles"].as_array().unwrap_or_else(|| panic!("no {kind}"));
            all.iter().find(|p| p["quantile"] == 0.5).unwrap()["value_ns"].as_f64().unwrap()
        };
        let (whole, first, second) = (p50("e2e"), p50("e2e.to-bridge"), p50("e2e.from-bridge"));
        assert!(first > 0.0 && second > 0.0, "{first} {second}");
        // Medians of parts need not add up, but neither part is longer than the whole.
        assert!(first < 1.1 * whole && second < 1.1 * whole, "{first} + {second} against {whole}");
    }
}

#[test]
fn a_bridge_joins_the_real_servers() {
    if needs::system("nats").is_none() || needs::system("kafka").is_none() {
        return;
    }
    for (system, workloads) in balanced(&run("bridge", &["--system", "jetstream-to-kafka"])) {
        let ledger = &workloads[0]["ledger"];
        assert_eq!(ledger["expected"], ledger["delivered"], "{system}: {ledger}");
        assert_eq!(ledger["duplicated"], 0, "{system}: {ledger}");
    }
}

#[test]
fn options_of_a_bridges_parts_are_checked_before_anything_starts() {
    for (options, says) in [
        (r#"{ nats = { tsl = "server" } }"#, "`nats`: option `tsl`"),
        (r#"{ kafka = { acks = 7 } }"#, "`kafka`: "),
        (r#"{ from = "kafka" }"#, "option `from`"),
        (r#"{ jetstream = {} }"#, "option `jetstream`"),
    ] {
        let output = Command::new(PROGRAM)
            .args(["run", "scenarios/bridge.toml", "--quick", "--system", "nats-to-kafka", "--out", "unused"])
            .args(["--set", &format!("system.nats-to-kafka.options={options}")])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(says), "{options}: {said}");
    }
}

#[test]
fn the_bare_protocol_balances_its_books_on_both_brokers() {
    for scenario in ["fanout", "request-reply"] {
        for (system, kind) in [("reference", "reference"), ("nats", "nats")] {
            if needs::system(kind).is_none() {
                continue;
            }
            let option = format!("system.{system}.options={{ client = \"wire\" }}");
            let record = run(scenario, &["--system", system, "--set", &option]);
            for (system, workloads) in balanced(&record) {
                let ledger = &workloads[0]["ledger"];
                assert_eq!(ledger["expected"], ledger["delivered"], "{scenario} on {system}: {ledger}");
            }
            assert!(record["trials"][0]["system"]["client"].as_str().unwrap().starts_with("msgbench wire "));
        }
    }
}

/// Each client of four systems is one that connects, and gets what it published.
#[test]
fn clients_come_and_go_on_every_system_that_is_there() {
    let rate = "workload.connect.load.rate=100/s";
    let all = balanced(&run("connect", &["--set", rate]));
    assert!(all.iter().any(|(system, _)| system.contains("reference")));
    for (system, workloads) in all {
        let (ledger, latency) = (&workloads[0]["ledger"], &workloads[0]["latency"]);
        assert_eq!(ledger["expected"], ledger["delivered"], "{system}: {ledger}");
        for step in ["rtt.connected", "rtt.subscribed", "rtt.first-message"] {
            assert!(latency[step]["count"].as_u64().unwrap() > 50, "{system}: {step}: {latency}");
        }
    }
}

/// The broker pays for connections that carry nothing, and keeps them.
#[test]
fn idle_connections_are_there_and_cost_memory() {
    let sweep = "sweep={ \"workload.idle-connections\" = [0, 500] }";
    let record = run("idle-connections", &["--set", sweep, "--system", "reference"]);
    balanced(&record);
    let trials = record["trials"].as_array().unwrap();
    let peak = |end: &str| {
        let trial = trials.iter().find(|t| t["case"].as_str().unwrap().ends_with(end)).unwrap();
        assert_eq!(trial["events"].as_array().map_or(0, Vec::len), 0, "{}", trial["events"]);
        trial["broker"]["rss_peak_bytes"].as_u64().unwrap()
    };
    // Two buffers of a socket in the process at least.
    let (without, with) = (peak("-0"), peak("-500"));
    assert!(with > without + 500 * 1024, "{without} B without, {with} B with 500 connections");
}

/// A scenario that no other test runs, and every message of it is there.
fn the_rest(scenario: &str, set: &str) {
    for (system, workloads) in balanced(&run(scenario, &["--set", set])) {
        let ledger = &workloads[0]["ledger"];
        assert_eq!(ledger["expected"], ledger["delivered"], "{scenario} on {system}: {ledger}");
    }
}

#[test]
fn a_broker_that_is_pushed_to_its_limit_loses_nothing() {
    the_rest("ceiling", "sweep={ \"workload.consumers\" = [1, 4] }");
}

#[test]
fn messages_of_64_bytes_and_of_a_mebibyte_are_carried() {
    the_rest("payload", "sweep={ \"workload.payload.size\" = [\"64B\", \"1MiB\"] }");
}

#[test]
fn three_copies_are_kept_of_every_message() {
    the_rest("replicated", "run.drain=20s");
}

/// Two clusters and a leaf node, once with links as they are and once with a delay on some.
#[test]
fn every_way_between_servers_loses_nothing_and_is_later_by_its_delay() {
    if needs::system("nats").is_none() {
        return;
    }
    let record = run("topology", &[]);
    let all = balanced(&record);
    assert_eq!(all.len(), 2, "{}", record["skipped"]);
    for (system, workloads) in all {
        for workload in &workloads {
            let ledger = &workload["ledger"];
            assert_eq!(ledger["expected"], ledger["delivered"], "{system}: {ledger}");
            assert_eq!(ledger["duplicated"], 0, "{system}: {ledger}");
        }
        // The fastest message waited least for a core.
        let at = |name: &str| {
            let workload = workloads.iter().find(|w| w["name"] == name).unwrap();
            workload["latency"]["e2e"]["min_ns"].as_f64().unwrap() / 1e6
        };
        if system == "nats-wide" {
            for (way, delay) in [("over-leaf", 20.0), ("over-gateway", 40.0)] {
                let ratio = (at(way) - at("same-server")) / delay;
                assert!((0.9..2.0).contains(&ratio), "{way}: {} ms, {} ms without", at(way), at("same-server"));
            }
        }
    }
    let settings = &record["trials"][0]["system"]["guarantees"];
    assert!(settings["server_versions"].as_str().is_some_and(|v| v.contains("leaf-1")), "{settings}");
}

/// What is stored in the hub crosses the link to the leaf node twice, or once where it is read
/// there; what is stored at the leaf node crosses it where it is read in the hub alone.
#[test]
fn a_stream_of_the_hub_is_reached_over_the_link_of_its_leaf_node() {
    if needs::system("jetstream").is_none() {
        return;
    }
    let record = run("leaf-streams", &["--set", "run.drain=60s"]);
    let all = balanced(&record);
    assert_eq!(all.len(), 2, "{}", record["skipped"]);
    for (system, workloads) in all {
        for (workload, hub, leaf) in [("office", 40.0, 0.0), ("office-to-hub", 20.0, 20.0)] {
            let of = workloads.iter().find(|w| w["name"] == workload).unwrap();
            let ledger = &of["ledger"];
            assert_eq!(ledger["expected"], ledger["delivered"], "{system}: {workload}: {ledger}");
            assert_eq!(ledger["duplicated"], 0, "{system}: {workload}: {ledger}");
            // The fastest message waited least for a core.
            let fastest = of["latency"]["e2e"]["min_ns"].as_f64().unwrap() / 1e6;
            let added = if system == "hub" { hub } else { leaf };
            let about = (0.95 * added, added + 15.0);
            assert!(
                (about.0..about.1).contains(&fastest),
                "{system}: {workload}: {fastest} ms, {added} ms of it links"
            );
        }
    }
}

#[test]
fn nobody_gets_in_who_has_no_right_to() {
    if needs::system("nats").is_none() {
        return;
    }
    let record = run("intruder", &[]);
    let all = balanced(&record);
    let kafka = match (needs::system("kafka"), cfg!(feature = "kafka-tls")) {
        (None, _) => 0,
        // The others need OpenSSL.
        (Some(_), false) => 1,
        (Some(_), true) => 4,
    };
    assert_eq!(all.len(), 5 + kafka, "{}", record["skipped"]);
    for (system, workloads) in all {
        let ledger = &workloads[0]["ledger"];
        assert!(ledger["intrusions"].as_u64().unwrap() >= 4, "{system}: {ledger}");
        assert_eq!(ledger["intrusions"], ledger["intrusions_refused"], "{system}: {ledger}");
        assert_eq!(ledger["let_in"], 0, "{system}: {ledger}");
        let promises = workloads[0]["promises"].as_array().unwrap();
        assert!(promises.iter().any(|p| p["promised"] == "intruders stay out"), "{system}: {promises:?}");
        for who in workloads[0]["intrusions"].as_array().unwrap() {
            assert!(!who["said"].as_str().unwrap().is_empty(), "{system}: {who}");
        }
    }
}

/// Every way of showing who connects carries messages, on each system that has it.
#[test]
fn every_way_of_showing_who_one_is_carries_messages() {
    let (nats, kafka) = (needs::system("nats").is_some(), needs::system("kafka").is_some());
    for (scenario, own, of_nats, of_kafka, with_openssl) in [("auth", 2, 6, 3, 6), ("tls", 3, 3, 1, 3)] {
        let record = run(scenario, &[]);
        let all = balanced(&record);
        let of_kafka = if cfg!(feature = "kafka-tls") { with_openssl } else { of_kafka };
        let count = |there: bool, n: usize| if there { n } else { 0 };
        let there = own + count(nats, of_nats) + count(kafka, of_kafka);
        assert_eq!(all.len(), there, "{scenario}: {}", record["skipped"]);
        for (system, workloads) in all {
            let ledger = &workloads[0]["ledger"];
            assert_eq!(ledger["expected"], ledger["delivered"], "{scenario} on {system}: {ledger}");
        }
        // What this build has not comes with the way to have it.
        for skipped in record["skipped"].as_array().into_iter().flatten() {
            let remedy = skipped["remedy"].as_str().unwrap();
            assert!(!nats || !kafka || remedy.contains("--features kafka-tls"), "{skipped}");
        }
    }
}

/// The same at a server that asks nobody who he is: the run fails, and says why.
#[test]
fn somebody_who_gets_in_fails_the_run() {
    if needs::system("nats").is_none() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    for pattern in ["fan-out", "request-reply"] {
        let output = Command::new(PROGRAM)
            .args(["run", "scenarios/intruder.toml", "--quick", "--system", "nats-password", "--format", "record"])
            .args(["--set", "system.nats-password.options={}", "--set", &format!("workload.pattern={pattern}")])
            .args(["--out", out.path().to_str().unwrap()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "{pattern}: {said}");
        let record: Value = serde_json::from_slice(&output.stdout).unwrap();
        let workload = &record["trials"][0]["workloads"][0];
        assert!(workload["ledger"]["let_in"].as_u64().unwrap() > 0, "{pattern}: {workload}");
        let broken: Vec<&Value> =
            workload["promises"].as_array().unwrap().iter().filter(|p| p["kept"] == false).collect();
        assert_eq!(broken.len(), 1, "{pattern}: {broken:?}");
        assert_eq!(broken[0]["promised"], "intruders stay out");
    }
}
