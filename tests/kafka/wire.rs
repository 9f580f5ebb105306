//! Producers of msgbench's own, without librdkafka: what they send is acknowledged and read by
//! librdkafka's consumers, and what a broker refuses is told.

use std::time::{Duration, Instant};

use msgbench::driver::{Driver, DriverError, Incident, Outgoing, Producer, Start};
use serde_json::json;

use super::reference_log::ReferenceLog;
use super::support::{BOUND, Bench, launch, numbers, open_at, open_in, shared, workload};

const N: u64 = 20_000;

/// What is sent to three partitions in turn is acknowledged and read, in order in each.
fn carried(bench: Bench, what: &str) {
    let mut consumer = bench.consumer(0, 0, Start::Tail);
    let mut producer = bench.producer(0);
    assert!(producer.confirms());
    let mut confirmed = bench.send(&mut producer, 0, 0..N, |n| ((n % 3) as u32, None));
    for partition in 0..3 {
        let of: Vec<u64> = confirmed.acked.iter().copied().filter(|n| n % 3 == partition).collect();
        assert!(of.is_sorted() && !of.is_empty(), "{what}: acknowledged in order");
    }
    confirmed.acked.sort_unstable();
    assert_eq!((confirmed.acked, confirmed.failed), ((0..N).collect(), vec![]), "{what}");
    let heard = bench.receive(&mut consumer, N as usize);
    for partition in 0..3 {
        let of: Vec<u64> = heard.iter().map(|e| e.sequence).filter(|n| n % 3 == partition).collect();
        assert!(of.is_sorted(), "{what}: read in order");
    }
    assert_eq!(numbers(&heard), (0..N).collect::<Vec<_>>(), "{what}");
    bench.close(producer);
    drop(consumer);
    bench.cleanup();
}

#[test]
fn what_is_sent_without_librdkafka_arrives() {
    let Some(url) = shared() else { return };
    for options in [
        json!({ "producers": "wire" }),
        json!({ "producers": "wire", "acks": 1, "linger": "0s" }),
        json!({ "producers": "wire", "linger": "20ms", "batch-size": "300B" }),
    ] {
        let bench = open_at(url, options.clone(), &workload(3, 1, 1));
        assert_eq!(bench.guarantee("producer max.in.flight"), "5");
        assert!(bench.driver.facts().client.contains("; producers by msgbench "), "{}", bench.driver.facts().client);
        carried(bench, &options.to_string());
    }
}

#[test]
fn the_reference_broker_takes_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let log = ReferenceLog::start(dir.path(), "127.0.0.1:0".parse().unwrap());
    let url = format!("kafka://{}", log.at);
    carried(open_at(&url, json!({ "producers": "wire" }), &workload(3, 1, 1)), "reference");
    log.stop();
}

/// One message, and nothing behind it that would fill the batch: `linger` alone sends it.
#[test]
fn a_batch_that_is_not_full_leaves_after_its_linger() {
    let Some(url) = shared() else { return };
    let bench = open_at(url, json!({ "producers": "wire", "linger": "300ms" }), &workload(1, 1, 1));
    let mut producer = bench.producer(0);
    let begun = Instant::now();
    let confirmed = bench.send(&mut producer, 0, 0..1, |_| (0, None));
    assert_eq!(confirmed.acked, [0]);
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    bench.close(producer);
    bench.cleanup();
}

#[test]
fn what_the_broker_refuses_is_counted_and_said() {
    let Some(url) = shared() else { return };
    let options = json!({ "producers": "wire", "topic": { "max.message.bytes": 1000 }, "linger": "50ms" });
    let bench = open_at(url, options, &workload(1, 1, 1));
    let mut producer = bench.producer(0);
    let confirmed = bench.send(&mut producer, 0, 0..100, |_| (0, None));
    assert_eq!(confirmed.failed, (0..100).collect::<Vec<_>>(), "{confirmed:?}");
    let log = bench.driver.incidents().take_log();
    let said = |kind: &Incident, words: &str| *kind == Incident::Refused && words.contains("not delivered");
    assert_eq!(log.iter().filter(|(_, kind, words)| said(kind, words)).count(), 1, "{log:?}");
    // The next ones are small enough.
    let confirmed = bench.send(&mut producer, 0, 100..101, |_| (0, None));
    assert_eq!((confirmed.acked, confirmed.failed), (vec![100], vec![]));
    bench.close(producer);
    bench.cleanup();
}

/// A client that is full waits, says so, and loses nothing.
#[test]
fn a_full_client_waits() {
    let Some(url) = shared() else { return };
    let bench = open_at(url, json!({ "producers": "wire" }), &workload(1, 1, 1));
    let mut producer = bench.producer(0);
    let confirmed = bench.send(&mut producer, 0, 0..250_000, |_| (0, None));
    assert_eq!(confirmed.acked, (0..250_000).collect::<Vec<_>>());
    assert!(bench.driver.incidents().backpressure_total() > 0);
    bench.close(producer);
    bench.cleanup();
}

#[test]
fn a_broker_that_ends_is_told() {
    if !super::support::there() {
        return;
    }
    let mut kafka = launch(json!({}));
    let bench = open_in(&kafka.running, json!({ "producers": "wire", "linger": "0s" }), &workload(1, 1, 1));
    let mut producer = bench.producer(0);
    bench.send(&mut producer, 0, 0..10, |_| (0, None));
    kafka.system.stop().unwrap();
    let ended = bench.runtime.block_on(async {
        let until = tokio::time::Instant::now() + BOUND;
        loop {
            assert!(tokio::time::Instant::now() < until, "it goes on without a broker");
            let sent = producer.send(Outgoing { channel: 0, key: None, payload: &[0; 100], token: 11 }).await;
            if let Err(error) = sent.and(producer.flush().await) {
                break error;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(matches!(ended, DriverError::Lost { .. }), "{ended}");
}
