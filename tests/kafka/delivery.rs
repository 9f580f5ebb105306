//! What is sent arrives, with every way of sending it; and what the broker promises is read back.

use std::time::{Duration, SystemTime};

use msgbench::driver::{Confirmation, Consumer, Disposition, Driver, Incoming, MessageSink, Outgoing, Producer, Start};
use msgbench::load::message::{Envelope, Template, open};
use msgbench::plan::PayloadSize;
use msgbench::units::Bytes;
use serde_json::json;

use super::support::{BOUND, numbers, open_at, shared, workload};

const N: u64 = 2000;

#[test]
fn every_compression_carries_every_message() {
    let Some(url) = shared() else { return };
    for codec in ["none", "lz4", "zstd", "gzip", "snappy"] {
        let bench =
            open_at(url, json!({ "compression": codec, "linger": "2ms", "batch-size": "16KiB" }), &workload(1, 1, 1));
        let mut consumer = bench.consumer(0, 0, Start::Tail);
        let mut producer = bench.producer(0);
        let confirmed = bench.send(&mut producer, 0, 0..N, |_| (0, None));
        assert_eq!(confirmed.acked, (0..N).collect::<Vec<_>>(), "{codec}: acknowledged in order");
        let heard = bench.receive(&mut consumer, N as usize);
        assert_eq!(heard.iter().map(|e| e.sequence).collect::<Vec<_>>(), (0..N).collect::<Vec<_>>(), "{codec}");
        assert_eq!(bench.guarantee("producer compression.type"), codec);
        assert_eq!(bench.guarantee("producer linger.ms"), "2");
        assert_eq!(bench.guarantee("producer batch.size"), "16384");
        bench.close(producer);
        drop(consumer);
        bench.cleanup();
    }
}

#[test]
fn acks_and_idempotence_decide_what_is_confirmed_and_promised() {
    let Some(url) = shared() else { return };
    for (options, confirms, delivery, acknowledgement) in [
        (json!({ "acks": 0 }), false, "at most once", "none (acks=0)"),
        (json!({ "acks": 1 }), true, "at least once", "by the leader of the partition (acks=1)"),
        (json!({ "acks": "all" }), true, "at least once", "by all in-sync replicas, at least 1 (acks=all)"),
        (
            json!({ "idempotence": true }),
            true,
            "at least once; the log of a partition has each message once",
            "by all in-sync replicas, at least 1 (acks=all)",
        ),
    ] {
        let bench = open_at(url, options.clone(), &workload(1, 1, 1));
        let mut consumer = bench.consumer(0, 0, Start::Tail);
        let mut producer = bench.producer(0);
        assert_eq!(producer.confirms(), confirms, "{options}");
        let confirmed = bench.send(&mut producer, 0, 0..N, |_| (0, None));
        assert_eq!(confirmed.acked.len() as u64, if confirms { N } else { 0 }, "{options}");
        bench.close(producer);
        assert_eq!(numbers(&bench.receive(&mut consumer, N as usize)), (0..N).collect::<Vec<_>>(), "{options}");
        assert_eq!(bench.guarantee("delivery"), delivery);
        assert_eq!(bench.guarantee("acknowledgement"), acknowledgement);
        assert_eq!(bench.guarantee("producer enable.idempotence"), options.get("idempotence").is_some().to_string());
        drop(consumer);
        bench.cleanup();
    }
}

#[test]
fn the_settings_of_topic_and_client_are_read_back() {
    let Some(url) = shared() else { return };
    let options = json!({
        "topic": { "flush.messages": 10, "retention.ms": 60_000 }, "replicas": 1, "min-insync-replicas": 1,
        "isolation": "read-uncommitted", "raw": { "fetch.wait.max.ms": 17, "statistics.interval.ms": 0 },
    });
    let bench = open_at(url, options, &workload(3, 1, 1));
    for (key, value) in [
        ("partitions", "3"),
        ("replicas", "1"),
        ("in-sync replicas", "1"),
        ("brokers", "1"),
        ("durability", "synced every 10 messages"),
        ("topic retention.ms", "60000"),
        ("topic flush.messages", "10"),
        ("topic min.insync.replicas", "1"),
        ("consumer isolation.level", "read_uncommitted"),
        ("consumer fetch.wait.max.ms", "17"),
        ("raw fetch.wait.max.ms", "17"),
        ("order", "per producer and partition, unless a request is sent again (no idempotence)"),
        ("consumers", "in consumer groups"),
        ("commit", "automatic"),
        ("tls", "off"),
    ] {
        assert_eq!(bench.guarantee(key), value, "{key}");
    }
    assert!(bench.driver.facts().client.starts_with("librdkafka 2."), "{}", bench.driver.facts().client);
    bench.cleanup();
}

#[test]
fn messages_of_a_mebibyte_pass() {
    let Some(url) = shared() else { return };
    let mut w = workload(1, 1, 1);
    w.payload.size = PayloadSize::Fixed(Bytes(1 << 20));
    let bench = open_at(url, json!({}), &w);
    let mut consumer = bench.consumer(0, 0, Start::Tail);
    let mut producer = bench.producer(0);
    let mut template = Template::new(&vec![7; (1 << 20) - 44]);
    bench.runtime.block_on(async {
        for sequence in 0..5 {
            let e = Envelope { run: bench.run, producer: 0, sequence, intended: 0, sent: 0 };
            let payload = template.stamp(&e);
            producer.send(Outgoing { channel: 0, key: None, payload, token: sequence }).await.unwrap();
        }
    });
    bench.close(producer);
    assert_eq!(numbers(&bench.receive(&mut consumer, 5)), [0, 1, 2, 3, 4]);
    drop(consumer);
    bench.cleanup();
}

#[test]
fn a_full_client_is_counted_and_waited_for() {
    let Some(url) = shared() else { return };
    let bench = open_at(url, json!({ "raw": { "queue.buffering.max.messages": 50 } }), &workload(1, 1, 1));
    let mut producer = bench.producer(0);
    let confirmed = bench.send(&mut producer, 0, 0..N, |_| (0, None));
    assert_eq!(confirmed.acked.len() as u64, N);
    let waits = bench.driver.incidents().backpressure_total();
    // At least one wait for each time the client's fifty places were used up.
    assert!((1..=N).contains(&waits) && waits >= 5, "{waits}");
    bench.close(producer);
    bench.cleanup();
}

#[test]
fn channels_are_partitions_and_keys_keep_to_theirs() {
    let Some(url) = shared() else { return };
    let bench = open_at(url, json!({ "consumers": "assign" }), &workload(4, 1, 4));
    let mut members: Vec<_> = (0..4).map(|m| bench.consumer(0, m, Start::Tail)).collect();
    let mut producer = bench.producer(0);
    bench.send(&mut producer, 0, 0..400, |n| ((n % 4) as u32, None));
    for (m, member) in members.iter_mut().enumerate() {
        let heard: Vec<u64> = bench.receive(member, 100).iter().map(|e| e.sequence).collect();
        assert_eq!(heard, (0..400).filter(|n| n % 4 == m as u64).collect::<Vec<_>>(), "member {m}");
    }
    // 40 keys over 4 partitions: each key in one of them, in order.
    bench.send(&mut producer, 0, 400..1200, |n| (0, Some(n % 40)));
    let mut home = std::collections::BTreeMap::new();
    let mut heard = vec![Vec::new(); members.len()];
    let end = std::time::Instant::now() + BOUND;
    while heard.iter().map(Vec::len).sum::<usize>() < 800 && std::time::Instant::now() < end {
        for (member, heard) in members.iter_mut().zip(&mut heard) {
            bench.more(member, heard);
        }
    }
    let mut total = 0;
    for (m, (member, mut heard)) in members.iter_mut().zip(heard).enumerate() {
        let mut last = std::collections::BTreeMap::new();
        // Nothing comes twice.
        bench.more(member, &mut heard);
        total += heard.len();
        for number in heard {
            assert!(last.insert(number % 40, number).is_none_or(|before| before < number));
            assert_eq!(*home.entry(number % 40).or_insert(m), m, "key {} is in two partitions", number % 40);
        }
    }
    assert_eq!(total, 800);
    let used: std::collections::BTreeSet<_> = home.values().collect();
    assert!(used.len() >= 2, "40 keys all fell into one partition");
    bench.close(producer);
    drop(members);
    bench.cleanup();
}

#[test]
fn a_consumer_starts_where_it_is_told_to() {
    let Some(url) = shared() else { return };
    let bench = open_at(url, json!({}), &workload(1, 5, 1));
    let mut producer = bench.producer(0);
    bench.send(&mut producer, 0, 0..50, |_| (0, None));
    std::thread::sleep(Duration::from_millis(30));
    let between = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    std::thread::sleep(Duration::from_millis(30));
    bench.send(&mut producer, 0, 50..100, |_| (0, None));
    let mut all = Vec::new();
    for (group, (start, first)) in [
        (Start::First, 0),
        (Start::Offset(70), 70),
        (Start::Time(between), 50),
        (Start::Tail, 100),
        (Start::Time(between + 3_600_000_000_000), 100),
    ]
    .into_iter()
    .enumerate()
    {
        all.push((first, start, bench.consumer(group as u32, 0, start)));
    }
    bench.send(&mut producer, 0, 100..120, |_| (0, None));
    for (first, start, consumer) in &mut all {
        let heard: Vec<u64> = bench.receive(consumer, 120 - *first as usize).iter().map(|e| e.sequence).collect();
        assert_eq!(heard, (*first..120).collect::<Vec<_>>(), "{start:?}");
        assert!(bench.silent(consumer, Duration::from_millis(200)), "{start:?}");
    }
    bench.close(producer);
    drop(all);
    bench.cleanup();
}

#[test]
fn requests_are_answered_to_the_one_who_asked() {
    let Some(url) = shared() else { return };
    let mut w = workload(2, 1, 2);
    (w.topology.reply, w.topology.producers) = (true, 3);
    let bench = open_at(url, json!({}), &w);
    let mut responders: Vec<_> = (0..2).map(|m| bench.consumer(0, m, Start::Tail)).collect();
    let mut requesters: Vec<_> = (0..3).map(|p| bench.producer(p)).collect();
    assert!(requesters.iter().all(Producer::confirms));
    let bound = BOUND;
    bench.runtime.block_on(async {
        use futures_util::future::{Either, select};
        let mut collector: Vec<Answerer> = (0..2).map(|_| Answerer).collect();
        let serve = async {
            let (a, b) = responders.split_at_mut(1);
            let (x, y) = collector.split_at_mut(1);
            let one = async {
                loop {
                    a[0].receive(&mut x[0], usize::MAX).await.unwrap();
                }
            };
            let two = async {
                loop {
                    b[0].receive(&mut y[0], usize::MAX).await.unwrap();
                }
            };
            futures_util::future::join(one, two).await
        };
        let ask = async {
            for (index, requester) in requesters.iter_mut().enumerate() {
                let mut template = Template::new(b"what time is it?");
                for sequence in 0..100 {
                    let producer = index as u32;
                    let e = Envelope { run: bench.run, producer, sequence, intended: 1, sent: 1 };
                    let payload = template.stamp(&e);
                    let channel = (sequence % 2) as u32;
                    requester.send(Outgoing { channel, key: None, payload, token: sequence }).await.unwrap();
                }
                let mut answers = Vec::new();
                while answers.len() < 100 {
                    requester
                        .confirmed(&mut |c| {
                            let Confirmation::Answered { message, .. } = c else { panic!("{c:?}") };
                            let e = open(message, bench.run).unwrap();
                            assert_eq!(e.producer, index as u32, "an answer went to another requester");
                            answers.push(e.sequence);
                        })
                        .await
                        .unwrap();
                }
                answers.sort_unstable();
                assert_eq!(answers, (0..100).collect::<Vec<_>>());
            }
        };
        let both = select(Box::pin(serve), Box::pin(ask));
        let ended = tokio::time::timeout(bound, both).await.expect("all answers within the bound");
        assert!(matches!(ended, Either::Right(_)));
    });
    requesters.into_iter().for_each(|r| bench.close(r));
    drop(responders);
    bench.cleanup();
}

/// Has everything answered.
struct Answerer;

impl MessageSink for Answerer {
    fn take(&mut self, _: Incoming<'_>) -> Disposition {
        Disposition::Answer
    }
    fn dead_letter(&mut self, _: Incoming<'_>) {
        panic!("Kafka has no dead letters");
    }
}
