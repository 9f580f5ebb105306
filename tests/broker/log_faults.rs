//! Faults of the log, end to end: what is injected is in the log of events, and nothing else
//! happens. Times with wide margins.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::log_support::{Client, batch_of, numbered, produce};
use crate::process::Process;
use serde_json::Value;

/// A broker with these faults, its folder, and a client that has made topic `t`.
struct Faulty {
    process: Process,
    client: Client,
    dir: tempfile::TempDir,
}

fn faulty(faults: &[&str]) -> Faulty {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("events");
    let mut args = vec!["--kafka", "127.0.0.1:0", "--format", "json", "--fault-log", log.to_str().unwrap()];
    faults.iter().for_each(|fault| args.extend(["--fault", fault]));
    let process = crate::process::start(&args);
    let mut client = Client::connect(process.kafka());
    client.create("t", 1, &[]);
    Faulty { process, client, dir }
}

impl Faulty {
    /// Sends `count` batches of one numbered record each, one after another.
    fn send(&mut self, count: usize) -> Vec<(i16, i64)> {
        (0..count).map(|n| self.client.produce("t", 0, batch_of(&[("k", &value(n))]))).collect()
    }

    /// The values stored.
    fn stored(&mut self) -> Vec<String> {
        let all = self.client.read_all("t", 0, 0);
        all.into_iter().map(|(_, _, value)| String::from_utf8(value).unwrap()).collect()
    }

    /// Ends the broker; the events it has logged.
    fn events(self) -> Vec<Value> {
        let Self { process, client, dir } = self;
        drop(client);
        process.signal(libc::SIGTERM);
        process.ended();
        read(&dir.path().join("events"))
    }
}

fn read(log: &Path) -> Vec<Value> {
    std::fs::read_to_string(log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn value(n: usize) -> String {
    format!("value-{n:04}")
}

/// The numbers of the batches, from 1, that an event befell. Their first value stands with it.
fn hit(events: &[Value], event: &str) -> Vec<u64> {
    let those = events.iter().filter(|e| e["event"] == event);
    those
        .map(|e| {
            let n = e["n"].as_u64().unwrap();
            let head: String = value(n as usize - 1).bytes().map(|b| format!("{b:02x}")).collect();
            assert_eq!((e["head"].as_str().unwrap(), e["subject"].as_str().unwrap()), (head.as_str(), "t"));
            n
        })
        .collect()
}

#[test]
fn what_is_dropped_is_acknowledged_and_missing() {
    let mut faulty = faulty(&["drop=every:7"]);
    let policy = faulty.process.json()["policy"]["faults"].as_str().unwrap().to_owned();
    assert!(policy.starts_with("drop every 7; "), "a reader must see it: {policy}");
    assert!(faulty.send(100).iter().all(|(code, _)| *code == 0));
    let expected: Vec<String> = (0..100).filter(|n| (n + 1) % 7 != 0).map(value).collect();
    assert_eq!(faulty.stored(), expected);
    assert_eq!(hit(&faulty.events(), "drop"), (1..=14).map(|n| n * 7).collect::<Vec<u64>>());
}

#[test]
fn what_is_duplicated_is_there_twice_also_from_a_numbered_producer() {
    let mut faulty = faulty(&["duplicate=every:10"]);
    for n in 0..50 {
        let batch = numbered(&[("k", &value(n as usize))], 7, 0, n);
        assert_eq!(faulty.client.produce("t", 0, batch).0, 0);
    }
    let expected: Vec<String> = (0..50).flat_map(|n| vec![value(n); if (n + 1) % 10 == 0 { 2 } else { 1 }]).collect();
    assert_eq!(faulty.stored(), expected);
    assert_eq!(hit(&faulty.events(), "duplicate"), [10, 20, 30, 40, 50]);
}

#[test]
fn what_is_corrupted_differs_in_one_bit_and_has_a_right_checksum() {
    let mut faulty = faulty(&["corrupt=every:5"]);
    faulty.send(20);
    // `stored` compares checksums, too.
    for (n, found) in faulty.stored().iter().enumerate() {
        let differs: u32 = found.bytes().zip(value(n).bytes()).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!(differs, u32::from((n + 1) % 5 == 0), "{found}");
    }
    assert_eq!(hit(&faulty.events(), "corrupt"), [5, 10, 15, 20]);
}

#[test]
fn a_stall_and_a_delay_hold_the_acknowledgement_up_and_keep_the_order() {
    let mut faulty = faulty(&["stall=at:0s,for:300ms", "delay=fixed:100ms"]);
    let began = Instant::now();
    for n in 0..20 {
        faulty.client.send(&produce("t", 0, batch_of(&[("k", &value(n))]), -1), 9).unwrap();
    }
    for n in 0..20 {
        let (_, answer) = faulty.client.receive::<kafka_protocol::messages::ProduceResponse>(9).unwrap();
        assert_eq!(answer.responses[0].partition_responses[0].base_offset, n);
    }
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    assert_eq!(faulty.stored(), (0..20).map(value).collect::<Vec<_>>());
    let events = faulty.events();
    assert_eq!((hit(&events, "stall").len(), hit(&events, "delay").len()), (1, 20));
    assert!(events.iter().filter(|e| e["event"] == "delay").all(|e| e["ns"].as_u64().unwrap() >= 100_000_000));
}

#[test]
fn service_times_and_a_rate_cap_make_one_server() {
    // A request of one client at a time: it is held by the cap only where it comes within 250 ms,
    // which most do on a busy machine too.
    let mut faulty = faulty(&["service=fixed:2ms", "rate-cap=rate:4/s,burst:1"]);
    let began = Instant::now();
    faulty.send(11);
    assert!(began.elapsed() >= Duration::from_millis(2500), "{:?}", began.elapsed());
    let events = faulty.events();
    assert_eq!(hit(&events, "service").len(), 11);
    assert!(hit(&events, "rate-cap").len() >= 5, "{}", hit(&events, "rate-cap").len());
}

#[test]
fn a_connection_is_cut_after_its_batch_is_stored() {
    let mut faulty = faulty(&["disconnect=after:3,who:publisher"]);
    faulty.send(2);
    faulty.client.send(&produce("t", 0, batch_of(&[("k", &value(2))]), -1), 9).unwrap();
    assert!(faulty.client.answer().is_err(), "there is no answer");
    faulty.client = Client::connect(faulty.process.kafka());
    assert_eq!(faulty.stored(), (0..3).map(value).collect::<Vec<_>>());
    assert_eq!(hit(&faulty.events(), "disconnect"), [3]);
}

#[test]
fn topics_that_are_not_named_are_left_alone() {
    let mut faulty = faulty(&["drop=every:1", "subjects=other.*"]);
    faulty.client.create("other.one", 1, &[]);
    faulty.send(5);
    assert_eq!(faulty.client.produce("other.one", 0, batch_of(&[("k", "v")])).0, 0);
    assert_eq!((faulty.stored().len(), faulty.client.read_all("other.one", 0, 0).len()), (5, 0));
    assert_eq!(faulty.events().len(), 1);
}

#[test]
fn a_batch_that_is_not_come_to_in_time_is_refused_with_the_protocols_error() {
    let mut faulty = faulty(&["service=fixed:3s"]);
    let request = produce("t", 0, batch_of(&[("k", "v")]), -1).with_timeout_ms(1000);
    let answer = faulty.client.call(&request, 9);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 7, "REQUEST_TIMED_OUT");
}

#[test]
fn what_makes_no_sense_for_a_log_is_refused() {
    for (fault, words) in [("swap=every:2", "order in which"), ("disconnect=after:1,who:subscribers", "no subscribers")]
    {
        let args = ["broker", "--kafka", "127.0.0.1:0", "--fault", fault];
        let output = Command::new(env!("CARGO_BIN_EXE_msgbench")).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{said}");
    }
}

#[test]
#[cfg(feature = "kafka")]
fn a_scenario_has_its_faults_where_messages_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.toml");
    let text = "name = \"faults\"\nquestion = \"Is what is injected in the books?\"\n[[system]]\ndriver = \"reference\"\n\
                [system.options.kafka]\nlinger = \"0s\"\n[[workload]]\npattern = \"stream\"\nload.rate = \"200/s\"\n\
                [faults]\ndrop = { every = 10 }\n\
                [run]\nwarmup = \"0s\"\nduration = \"1s\"\ntrials = 1\ndrain = \"3s\"\n";
    std::fs::write(&file, text).unwrap();
    let args = ["run", file.to_str().unwrap(), "--format", "record", "--out", dir.path().to_str().unwrap()];
    let output = Command::new(env!("CARGO_BIN_EXE_msgbench")).args(args).output().unwrap();
    let record: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let ledger = &record["trials"][0]["workloads"][0]["ledger"];
    let folder = std::fs::read_dir(dir.path().join("faults")).unwrap().next().unwrap().unwrap().path();
    let dropped = read(&folder.join("reference-1.faults.jsonl"));
    // A batch may hold more than one message, where the client was kept from its work for a while.
    let lost = ledger["lost"].as_u64().unwrap();
    assert!(dropped.len() >= 10 && lost >= dropped.len() as u64, "{lost} lost, {} dropped", dropped.len());
    assert_eq!(ledger["delivered"].as_u64().unwrap() + lost, ledger["acked"].as_u64().unwrap(), "{ledger}");
}
