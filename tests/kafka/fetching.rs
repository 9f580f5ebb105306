//! Consumers of msgbench's own, without librdkafka: every message of every partition is given once
//! and in order, from wherever a group begins, also when leaders go away.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use msgbench::driver::kafka::KafkaConsumer;
use msgbench::driver::{Consumer, Driver, DriverError, Incident, Start};
use serde_json::json;

use super::reference_log::{Passage, ReferenceLog};
use super::support::{
    BOUND, Bench, ConsumerRecorder, launch, numbers, open_at, open_in, shared, target, there, try_open, workload,
};

const N: u64 = 20_000;

/// Whether the messages `first..last`, dealt out to the partitions in turn, are here once, and in
/// order in each partition.
fn expect(bench: &Bench, consumer: &mut KafkaConsumer, (first, last, partitions): (u64, u64, u64), what: &str) {
    let heard = bench.receive(consumer, (last - first) as usize);
    for partition in 0..partitions {
        let of: Vec<u64> = heard.iter().map(|e| e.sequence).filter(|n| n % partitions == partition).collect();
        assert!(of.is_sorted(), "{what}: partition {partition} out of order");
    }
    assert_eq!(numbers(&heard), (first..last).collect::<Vec<_>>(), "{what}");
}

/// Whether the messages below `last` are here once each, sooner or later.
fn all_heard(bench: &Bench, consumer: &mut KafkaConsumer, heard: &mut Vec<u64>, last: u64) {
    let until = Instant::now() + 4 * BOUND;
    while heard.len() < last as usize && Instant::now() < until {
        bench.more(consumer, heard);
    }
    heard.sort_unstable();
    assert_eq!(*heard, (0..last).collect::<Vec<_>>());
}

/// Readers of the end and, when everything is there, of the beginning and the middle have every
/// message of three partitions.
fn carried(url: &str, options: &serde_json::Value) {
    let mut options = options.clone();
    options["consumers"] = "wire".into();
    let bench = open_at(url, options.clone(), &workload(3, 3, 1));
    let what = options.to_string();
    let client = &bench.driver.facts().client;
    assert!(client.contains("consumers by msgbench ") || client.contains("and consumers by"), "{client}");
    assert_eq!(bench.guarantee("consumer fetch.min.bytes"), "1");
    let mut tail = bench.consumer(0, 0, Start::Tail);
    let mut producer = bench.producer(0);
    bench.send(&mut producer, 0, 0..N, |n| ((n % 3) as u32, None));
    expect(&bench, &mut tail, (0, N, 3), &what);
    let mut first = bench.consumer(1, 0, Start::First);
    expect(&bench, &mut first, (0, N, 3), &what);
    let mut middle = bench.consumer(2, 0, Start::Offset(5000));
    expect(&bench, &mut middle, (15_000, N, 3), &what);
    // One after the other, when there is nothing to read.
    for n in N..N + 20 {
        bench.send(&mut producer, 0, n..n + 1, |n| ((n % 3) as u32, None));
        expect(&bench, &mut tail, (n, n + 1, 3), &what);
    }
    assert!(bench.silent(&mut tail, Duration::from_millis(300)), "{what}: something came twice");
    let log = bench.driver.incidents().take_log();
    assert!(log.is_empty(), "{what}: {log:?}");
    bench.close(producer);
    drop((tail, first, middle));
    bench.cleanup();
}

#[test]
fn every_message_of_every_partition_is_given_once() {
    let Some(url) = shared() else { return };
    // The third: a fetch brings a few batches, the last of them cut off.
    for options in [
        json!({}),
        json!({ "producers": "wire" }),
        json!({ "batch-size": "5000B", "raw": { "fetch.message.max.bytes": 12_345, "check.crcs": true } }),
    ] {
        carried(url, &options);
    }
    for codec in ["lz4", "zstd", "gzip", "snappy"] {
        carried(url, &json!({ "compression": codec }));
    }
}

#[test]
fn the_reference_broker_gives_them_too() {
    let dir = tempfile::tempdir().unwrap();
    let log = ReferenceLog::start(dir.path(), "127.0.0.1:0".parse().unwrap());
    let url = format!("kafka://{}", log.at);
    carried(&url, &json!({ "producers": "wire" }));
    carried(&url, &json!({ "compression": "lz4", "raw": { "check.crcs": true } }));
    log.stop();
}

/// Everything that was acknowledged before and after the only broker was away.
#[test]
fn a_broker_that_comes_back_is_read_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = ReferenceLog::start(dir.path(), "127.0.0.1:0".parse().unwrap());
    let (at, url) = (log.at, format!("kafka://{}", log.at));
    let bench = open_at(&url, json!({ "consumers": "wire" }), &workload(3, 1, 1));
    let mut consumer = bench.consumer(0, 0, Start::Tail);
    let mut producer = bench.producer(0);
    bench.send(&mut producer, 0, 0..3000, |n| ((n % 3) as u32, None));
    let mut heard = numbers(&bench.receive(&mut consumer, 1000));
    log.stop();
    while bench.driver.incidents().disconnects_total() == 0 {
        bench.more(&mut consumer, &mut heard);
    }
    let log = ReferenceLog::start(dir.path(), at);
    bench.send(&mut producer, 0, 3000..6000, |n| ((n % 3) as u32, None));
    all_heard(&bench, &mut consumer, &mut heard, 6000);
    let lost = bench.driver.incidents().take_log();
    assert!(lost.iter().any(|(_, kind, _)| *kind == Incident::Disconnected), "{lost:?}");
    bench.close(producer);
    drop(consumer);
    bench.cleanup();
    log.stop();
}

/// Three brokers, each of which leads a partition; one of them is killed and comes back.
#[test]
fn partitions_are_read_from_their_next_leader() {
    if !there() {
        return;
    }
    let mut kafka = launch(json!({ "broker": { "nodes": 3, "heap": "256MiB" } }));
    let bench = open_in(&kafka.running, json!({ "consumers": "wire" }), &workload(3, 1, 1));
    let mut consumer = bench.consumer(0, 0, Start::Tail);
    let mut producer = bench.producer(0);
    let mut heard = Vec::new();
    let mut send = |from: u64| bench.send(&mut producer, 0, from..from + 900, |n| ((n % 3) as u32, None));
    send(0);
    // SAFETY: the broker is this test's own.
    assert_eq!(unsafe { libc::kill(kafka.running.pids[0] as i32, libc::SIGKILL) }, 0);
    send(900);
    all_heard(&bench, &mut consumer, &mut heard, 1800);
    kafka.system.restart(0).unwrap();
    send(1800);
    all_heard(&bench, &mut consumer, &mut heard, 2700);
    let log = bench.driver.incidents().take_log();
    assert!(log.iter().any(|(_, kind, _)| *kind == Incident::Disconnected), "{log:?}");
    bench.close(producer);
    drop(consumer);
    bench.cleanup();
}

/// What was taken is committed at the end of a consumer that ends in order; one that is abandoned
/// says nothing, and its messages come again.
#[test]
fn a_group_goes_on_from_what_it_has_committed() {
    let Some(url) = shared() else { return };
    for (commit, again) in [("auto", 0), ("sync", 200), ("none", 0)] {
        let bench = open_at(
            url,
            json!({ "consumers": "wire", "commit": commit, "commit-interval": "10m" }),
            &workload(2, 1, 1),
        );
        let mut producer = bench.producer(0);
        let place = |n: u64| ((n % 2) as u32, None);
        let mut consumer = bench.consumer(0, 0, Start::Tail);
        bench.send(&mut producer, 0, 0..200, place);
        expect(&bench, &mut consumer, (0, 200, 2), commit);
        consumer.abandon();
        let mut consumer = bench.consumer(0, 0, Start::Tail);
        bench.send(&mut producer, 0, 200..300, place);
        expect(&bench, &mut consumer, (again, 300, 2), commit);
        drop(consumer);
        let mut consumer = bench.consumer(0, 0, Start::Tail);
        bench.send(&mut producer, 0, 300..310, place);
        expect(&bench, &mut consumer, (if commit == "none" { 0 } else { 300 }, 310, 2), commit);
        let log = bench.driver.incidents().take_log();
        assert!(log.is_empty(), "{commit}: {log:?}");
        bench.close(producer);
        drop(consumer);
        bench.cleanup();
    }
}

/// An offset that is not there, because retention has removed it or nothing was ever written: as
/// with librdkafka here, the first message is the next one.
#[test]
fn an_offset_that_is_not_there_is_said_and_the_beginning_read() {
    let Some(url) = shared() else { return };
    let bench = open_at(url, json!({ "consumers": "wire" }), &workload(1, 1, 1));
    let mut producer = bench.producer(0);
    bench.send(&mut producer, 0, 0..10, |_| (0, None));
    let mut consumer = bench.consumer(0, 0, Start::Offset(1000));
    expect(&bench, &mut consumer, (0, 10, 1), "out of range");
    let log = bench.driver.incidents().take_log();
    let said = |words: &str| words == "partition 0 is read from 0 on: 1000 is not there";
    assert!(log.iter().any(|(_, kind, words)| *kind == Incident::Server && said(words)), "{log:?}");
    bench.close(producer);
    drop(consumer);
    bench.cleanup();
}

/// A consumer whose broker is not to be reached any more ends, and says why.
fn ends(url: &str, go_away: impl FnOnce()) {
    let mut to = target(url, &json!({ "consumers": "wire", "commit": "none" }));
    to.timeout = Duration::from_secs(2);
    let bench = try_open(to, &workload(1, 1, 1)).unwrap();
    let mut consumer = bench.consumer(0, 0, Start::Tail);
    go_away();
    let mut nothing = ConsumerRecorder { run: bench.run, heard: Vec::new() };
    let ended = bench.runtime.block_on(async {
        tokio::time::timeout(BOUND, consumer.receive(&mut nothing, 1)).await.expect("it goes on without a broker")
    });
    let error = ended.unwrap_err();
    assert!(matches!(error, DriverError::Lost { .. } | DriverError::Connect { .. }), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[test]
fn a_broker_that_stays_away_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = ReferenceLog::start(dir.path(), "127.0.0.1:0".parse().unwrap());
    let url = format!("kafka://{}", log.at);
    ends(&url, || log.stop());
}

/// The brokers still answer who leads a partition, and the leader is not where they say.
#[test]
fn a_leader_that_nobody_reaches_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let log = ReferenceLog::known_as(dir.path(), listener.local_addr().unwrap());
    let passage = Passage::start(listener, log.at);
    ends(&format!("kafka://{}", log.at), || passage.stop());
    log.stop();
}
