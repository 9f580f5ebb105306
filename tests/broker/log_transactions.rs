//! Transactions: what a Kafka answers at each step and beside it, and what this broker does; what
//! is left of them by a restart, compaction and kill -9.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::log_rules::{Answers, as_by_kafka, make, settled, so_by_kafka};
use crate::log_support::*;
use kafka_protocol::messages::*;
use msgbench::broker::kafka::{KafkaConfig, batch};
use msgbench::broker::log::{BatchFormat as _, SyncPolicy};
use msgbench::faults::Faults;

const PATIENCE: Duration = Duration::from_secs(60);

/// A producer's id and epoch.
pub type Identity = (i64, i16);

/// Asks again while a coordinator is not there yet or has something else to end.
pub fn settle(mut ask: impl FnMut() -> i16) -> i16 {
    let end = Instant::now() + PATIENCE / 6;
    loop {
        match ask() {
            14..=16 | 51 | 88 if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            code => return code,
        }
    }
}

pub fn init(client: &mut Client, id: &str, timeout: i32, known: Identity, version: i16) -> (i16, Identity) {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text(id))))
        .with_transaction_timeout_ms(timeout)
        .with_producer_id(ProducerId(known.0))
        .with_producer_epoch(known.1);
    let mut identity = (-1, -1);
    let code = settle(|| {
        let answer = client.call(&request, version);
        identity = (answer.producer_id.0, answer.producer_epoch);
        answer.error_code
    });
    (code, identity)
}

pub const NOBODY: Identity = (-1, -1);

/// A producer with an open transaction in partition 0 of these topics.
fn begin(client: &mut Client, id: &str, topics: &[&str]) -> Identity {
    let (code, producer) = init(client, id, 60_000, NOBODY, 4);
    assert_eq!(code, 0, "{id}");
    for topic in topics {
        assert_eq!(add(client, id, producer, &[topic], 3), [0], "{id} {topic}");
    }
    producer
}

fn add(client: &mut Client, id: &str, producer: Identity, topics: &[&str], version: i16) -> Vec<i16> {
    let topics = topics.iter().map(|name| {
        add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
            .with_name(topic_name(name))
            .with_partitions(vec![0])
    });
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(TransactionalId(text(id)))
        .with_v3_and_below_producer_id(ProducerId(producer.0))
        .with_v3_and_below_producer_epoch(producer.1)
        .with_v3_and_below_topics(topics.collect());
    let mut codes = Vec::new();
    settle(|| {
        let answer = client.call(&request, version);
        let topics = answer.results_by_topic_v3_and_below.iter();
        codes = topics.map(|topic| topic.results_by_partition[0].partition_error_code).collect();
        // A Kafka answers in an order of its own.
        codes.sort_unstable();
        codes.first().copied().unwrap_or(0)
    });
    codes
}

fn end(client: &mut Client, id: &str, producer: Identity, commit: bool, version: i16) -> i16 {
    let request = EndTxnRequest::default()
        .with_transactional_id(TransactionalId(text(id)))
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_committed(commit);
    settle(|| client.call(&request, version).error_code)
}

/// A batch as a part of the producer's transaction.
pub fn part(records: &[(&str, &str)], producer: Identity, sequence: i32) -> Vec<u8> {
    let mut batch = numbered(records, producer.0, producer.1, sequence);
    batch[22] |= 0x10;
    let sum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&sum.to_be_bytes());
    batch
}

fn send(client: &mut Client, topic: &str, id: Option<&str>, batch: Vec<u8>) -> (i16, i64) {
    let request = produce(topic, 0, batch, -1).with_transactional_id(id.map(|id| TransactionalId(text(id))));
    let answer = client.call(&request, 9);
    let part = &answer.responses[0].partition_responses[0];
    (part.error_code, part.base_offset)
}

/// What a reader of committed or of all records is given.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub end: i64,
    pub stable: i64,
    /// First offsets of the aborted transactions named.
    pub aborted: Vec<i64>,
    /// Values, without those of aborted transactions.
    pub values: Vec<String>,
}

/// Waits until readers of what is committed see this: the end of a transaction is answered when it
/// is decided, and each partition learns of it after that.
fn comes_to(client: &mut Client, topic: &str, expected: &[String]) {
    for _ in 0..200 {
        if see(client, topic, true).values == expected {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(see(client, topic, true).values, expected);
}

pub fn see(client: &mut Client, topic: &str, committed: bool) -> Seen {
    let mut seen = Seen { end: 0, stable: 0, aborted: Vec::new(), values: Vec::new() };
    // As a client does: a producer's records do not count from an aborted first offset on until the
    // batch that ends the transaction.
    let mut skipped = std::collections::BTreeSet::new();
    let mut at = 0;
    loop {
        let request = fetch(topic, 0, at, 0, 8 << 20).with_isolation_level(i8::from(committed));
        let answer = client.call(&request, 11);
        let part = &answer.responses[0].partitions[0];
        assert_eq!(part.error_code, 0);
        (seen.end, seen.stable) = (part.high_watermark, part.last_stable_offset);
        let aborted = part.aborted_transactions.clone().unwrap_or_default();
        let mut waiting: Vec<(i64, i64)> = aborted.iter().map(|a| (a.first_offset, a.producer_id.0)).collect();
        seen.aborted.extend(waiting.iter().map(|(first, _)| *first));
        let bytes = part.records.clone().unwrap_or_default();
        let mut rest = &bytes[..];
        while let Ok(view) = batch::RecordBatches.view(rest)
            && view.len <= rest.len()
        {
            let producer = i64::from_be_bytes(rest[43..51].try_into().unwrap());
            let begun = waiting.iter().filter(|(first, _)| *first <= view.base as i64).map(|(_, producer)| *producer);
            skipped.extend(begun);
            waiting.retain(|(first, _)| *first > view.base as i64);
            match rest[22] & 0x30 {
                0x30 => {
                    skipped.remove(&producer);
                }
                0x10 if committed && skipped.contains(&producer) => {}
                _ => {
                    let records = batch::records(&rest[..view.len]).unwrap().map(Option::unwrap);
                    let values = records.map(|r| String::from_utf8_lossy(r.value.unwrap_or_default()).into_owned());
                    seen.values.extend(values);
                }
            }
            at = view.next() as i64;
            rest = &rest[view.len..];
        }
        if bytes.is_empty() || at >= if committed { seen.stable } else { seen.end } {
            seen.aborted.sort_unstable();
            seen.aborted.dedup();
            return seen;
        }
    }
}

fn latest(client: &mut Client, topic: &str, committed: bool) -> i64 {
    let part = list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1);
    let of = list_offsets_request::ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![part]);
    let request = ListOffsetsRequest::default()
        .with_topics(vec![of])
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(i8::from(committed));
    client.call(&request, 7).topics[0].partitions[0].offset
}

fn add_offsets(client: &mut Client, id: &str, producer: Identity, group: &str) -> i16 {
    let request = AddOffsetsToTxnRequest::default()
        .with_transactional_id(TransactionalId(text(id)))
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_group_id(GroupId(text(group)));
    settle(|| client.call(&request, 3).error_code)
}

fn commit_offset(
    client: &mut Client,
    id: &str,
    producer: Identity,
    group: &str,
    member: (&str, i32),
    offset: i64,
) -> i16 {
    let part = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
        .with_name(topic_name("in"))
        .with_partitions(vec![part]);
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(TransactionalId(text(id)))
        .with_group_id(GroupId(text(group)))
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_member_id(text(member.0))
        .with_generation_id(member.1)
        .with_topics(vec![topic]);
    // Without topics: -2.
    settle(|| client.call(&request, 3).topics.first().map_or(-2, |topic| topic.partitions[0].error_code))
}

/// Error and offset that a group has at partition 0 of a topic.
pub fn committed(client: &mut Client, group: &str, stable: bool) -> (i16, i64) {
    let topic = offset_fetch_request::OffsetFetchRequestTopic::default()
        .with_name(topic_name("in"))
        .with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(Some(vec![topic]))
        .with_require_stable(stable);
    let mut found = (0, 0);
    settle(|| {
        let answer = client.call(&request, 7);
        let part = answer.topics.first().map(|topic| &topic.partitions[0]);
        found = part.map_or((answer.error_code, -2), |part| (part.error_code, part.committed_offset));
        found.0
    });
    found
}

/// Waits until a reader of committed records is given everything.
pub fn decided(client: &mut Client, topic: &str) -> Seen {
    let end = Instant::now() + PATIENCE;
    loop {
        let seen = see(client, topic, true);
        if seen.stable == seen.end {
            return seen;
        }
        assert!(Instant::now() < end, "{seen:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn answers(address: SocketAddr) -> Answers {
    let mut client = Client::connect(address);
    let client = &mut client;
    let mut all = Answers::new();
    let mut note = |what: &str, answer: String| all.push((what.to_owned(), answer));
    for topic in ["in", "out", "other", "late"] {
        make(client, &[topic], &[], false);
        settled(client, topic);
    }
    // A Kafka makes its topics of offsets and of transactions when it is first asked for.
    for (kind, keys) in [(0, ["g", "h"]), (1, ["id", "slow"])] {
        let keys = keys.map(text).to_vec();
        let find = FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(keys);
        assert_eq!(settle(|| client.call(&find, 4).coordinators[0].error_code), 0);
    }

    for (id, timeout) in [("", 1000), ("id", 0), ("id", -1), ("id", 900_001)] {
        note(&format!("id `{id}` with {timeout} ms"), format!("{}", init(client, id, timeout, NOBODY, 4).0));
    }
    let (code, first) = init(client, "id", 60_000, NOBODY, 4);
    note("a first epoch", format!("{code}, {}", first.1));
    let mut again = |what: &str, known: Identity, version| {
        let (code, (id, epoch)) = init(client, "id", 60_000, known, version);
        note(what, format!("{code}, the same: {}, {epoch}", id == first.0));
    };
    again("a second", NOBODY, 4);
    again("a third, known", (first.0, 1), 4);
    again("the third again", (first.0, 1), 4);
    again("a first once more", (first.0, 0), 4);
    again("a first once more, version 3", (first.0, 0), 3);
    again("another producer", (first.0 + 77, 2), 4);
    again("half a producer", (first.0, -1), 4);
    let producer = (first.0, 2);
    let old = (first.0, 1);
    let stranger = (first.0 + 77, 2);
    note("nothing to commit", format!("{}", end(client, "id", producer, true, 3)));

    for version in [1, 3] {
        let mut tried = |what: &str, id: &str, producer: Identity, topics: &[&str]| {
            note(&format!("{what}, version {version}"), format!("{:?}", add(client, id, producer, topics, version)));
        };
        tried("added to an id nobody has", "none", producer, &["out"]);
        tried("by a stranger", "id", stranger, &["out"]);
        tried("by an older epoch", "id", old, &["out"]);
        tried("with a missing topic", "id", producer, &["out", "missing"]);
        tried("added", "id", producer, &["out"]);
        tried("added again", "id", producer, &["out"]);
    }
    let batch = |producer, sequence| part(&[("k", "one"), ("k", "two")], producer, sequence);
    note("without its id", format!("{:?}", send(client, "out", None, batch(producer, 0))));
    note("by an older epoch", format!("{:?}", send(client, "out", Some("id"), batch(old, 0))));
    note("to a partition not added", format!("{:?}", send(client, "other", Some("id"), batch(producer, 0))));
    note("written", format!("{:?}", send(client, "out", Some("id"), batch(producer, 0))));
    note("written again", format!("{:?}", send(client, "out", Some("id"), batch(producer, 0))));
    note("and more", format!("{:?}", send(client, "out", Some("id"), batch(producer, 2))));
    note("out of sequence", format!("{:?}", send(client, "out", Some("id"), batch(producer, 7))));
    note("beside it", format!("{:?}", client.produce("out", 0, batch_of(&[("k", "plain")]))));
    for is_committed in [false, true] {
        note(&format!("seen, committed {is_committed}"), format!("{:?}", see(client, "out", is_committed)));
        note(&format!("latest, committed {is_committed}"), format!("{}", latest(client, "out", is_committed)));
    }
    note("ended by an older epoch", format!("{}", end(client, "id", old, true, 3)));
    note("ended by an older epoch, version 1", format!("{}", end(client, "id", old, true, 1)));
    note("ended by a stranger", format!("{}", end(client, "id", stranger, true, 3)));
    note("ended by nobody", format!("{}", end(client, "none", producer, true, 3)));
    note("committed", format!("{}", end(client, "id", producer, true, 3)));
    note("seen then", format!("{:?}", decided(client, "out")));
    note("committed again", format!("{}", end(client, "id", producer, true, 3)));
    note("aborted then", format!("{}", end(client, "id", producer, false, 3)));
    note("written outside", format!("{:?}", send(client, "out", Some("id"), batch(producer, 4))));

    note("another", format!("{:?}", add(client, "id", producer, &["out"], 3)));
    note("with numbers that go on", format!("{:?}", send(client, "out", Some("id"), batch(producer, 4))));
    note("aborted", format!("{}", end(client, "id", producer, false, 3)));
    note("seen after that", format!("{:?}", decided(client, "out")));
    note("seen by who wants all", format!("{:?}", see(client, "out", false)));
    note("aborted again", format!("{}", end(client, "id", producer, false, 3)));

    // Offsets.
    note("offsets not added", format!("{}", commit_offset(client, "id", producer, "g", ("", -1), 5)));
    note("offsets by an older epoch", format!("{}", add_offsets(client, "id", old, "g")));
    note("offsets added", format!("{}", add_offsets(client, "id", producer, "g")));
    note("by a member nobody knows", format!("{}", commit_offset(client, "id", producer, "g", ("m", 1), 5)));
    note("offsets written by an older epoch", format!("{}", commit_offset(client, "id", old, "g", ("", -1), 5)));
    note("offsets written", format!("{}", commit_offset(client, "id", producer, "g", ("", -1), 5)));
    note("what the group has", format!("{:?}", committed(client, "g", false)));
    note("offsets aborted", format!("{}", end(client, "id", producer, false, 3)));
    note("what it has then", format!("{:?}", committed(client, "g", true)));
    add_offsets(client, "id", producer, "g");
    commit_offset(client, "id", producer, "g", ("", -1), 6);
    note("offsets committed", format!("{}", end(client, "id", producer, true, 3)));
    note("what it has in the end", format!("{:?}", committed(client, "g", true)));

    // Of an offset in a transaction and one beside it the later record counts, whenever that ends.
    add_offsets(client, "id", producer, "g");
    commit_offset(client, "id", producer, "g", ("", -1), 7);
    note("an offset beside it", format!("{}", client.commit("g", "in", 0, 9)));
    note("and committed", format!("{}", end(client, "id", producer, true, 3)));
    note("which counts", format!("{:?}", committed(client, "g", true)));
    add(client, "id", producer, &["out"], 3);
    note("one more part", format!("{:?}", send(client, "out", Some("id"), batch(producer, 6))));
    let beside = numbered(&[("k", "beside")], producer.0, producer.1, 8);
    note("a batch of no transaction while one is open", format!("{:?}", send(client, "out", None, beside)));
    note("and committed, too", format!("{}", end(client, "id", producer, true, 3)));

    // A successor ends what is open.
    add(client, "id", producer, &["other"], 3);
    note("left open", format!("{:?}", send(client, "other", Some("id"), batch(producer, 0))));
    let (code, next) = init(client, "id", 60_000, NOBODY, 4);
    note("a successor", format!("{code}, newer: {}", next.1 > producer.1));
    note("seen after it", format!("{:?}", decided(client, "other")));
    note("the fenced one writes", format!("{:?}", send(client, "other", Some("id"), batch(producer, 2))));
    note("the fenced one adds", format!("{:?}", add(client, "id", producer, &["other"], 3)));
    note("the fenced one ends", format!("{}", end(client, "id", producer, true, 3)));

    // What takes too long.
    let (code, slow) = init(client, "slow", 500, NOBODY, 4);
    note("a slow one", format!("{code}, {}", slow.1));
    add(client, "slow", slow, &["late"], 3);
    note("its records", format!("{:?}", send(client, "late", Some("slow"), batch(slow, 0))));
    note("in the end", format!("{:?}", decided(client, "late")));
    note("it comes too late", format!("{}", end(client, "slow", slow, true, 3)));
    note("and writes too late", format!("{:?}", send(client, "late", Some("slow"), batch(slow, 2))));
    note("and begins again too late", format!("{}", init(client, "slow", 500, slow, 4).0));
    let (code, anew) = init(client, "slow", 60_000, NOBODY, 4);
    note("and begins anew", format!("{code}, newer: {}", anew.1 > slow.1));
    note("offsets without a group", format!("{}", add_offsets(client, "slow", anew, "")));
    note("with a partition", format!("{:?}", add(client, "slow", anew, &["late"], 3)));
    let control = batch::end_of_transaction(anew.0, anew.1, true, 0);
    note("a control batch", format!("{:?}", send(client, "late", Some("slow"), control)));
    all
}

/// The answers of Kafka 4.4.0, a line each.
const KAFKA: &str = include_str!("log_transactions.txt");

#[test]
fn transactions_are_answered_as_by_kafka() {
    for sync in [SyncPolicy::Never, SyncPolicy::Group] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = KafkaConfig::new(dir.path());
        config.log.sync = sync;
        let broker = start(config);
        as_by_kafka(&answers(broker.address), KAFKA);
        assert_eq!(broker.counters.totals().protocol_errors, 0);
    }
}

#[test]
fn transactions_are_answered_so_by_kafka() {
    so_by_kafka(KAFKA, answers);
}

/// What is committed, aborted and open is that after a restart, also when it is spread over
/// segments.
#[test]
fn a_restart_changes_nothing_about_transactions() {
    for sync in [SyncPolicy::Never, SyncPolicy::Group] {
        let dir = tempfile::tempdir().unwrap();
        let config = || {
            let mut config = KafkaConfig::new(dir.path());
            config.log.sync = sync;
            config.log.defaults.segment_bytes = 1 << 10;
            config
        };
        let broker = start(config());
        let mut client = Client::connect(broker.address);
        for topic in ["in", "out"] {
            client.create(topic, 1, &[]);
        }
        let producer = begin(&mut client, "id", &["out"]);
        let mut sequence = 0;
        let mut expected = Vec::new();
        for n in 0..40 {
            add(&mut client, "id", producer, &["out"], 3);
            let value = format!("{n} {}", "x".repeat(100));
            assert_eq!(send(&mut client, "out", Some("id"), part(&[("k", &value)], producer, sequence)).0, 0);
            sequence += 1;
            assert_eq!(end(&mut client, "id", producer, n % 3 > 0, 3), 0);
            expected.extend((n % 3 > 0).then_some(value));
        }
        add_offsets(&mut client, "id", producer, "g");
        commit_offset(&mut client, "id", producer, "g", ("", -1), 7);
        assert_eq!(end(&mut client, "id", producer, true, 3), 0);
        // One more stays open, with records in the log and an offset.
        add(&mut client, "id", producer, &["out"], 3);
        add_offsets(&mut client, "id", producer, "g");
        commit_offset(&mut client, "id", producer, "g", ("", -1), 8);
        assert_eq!(send(&mut client, "out", Some("id"), part(&[("k", "open")], producer, sequence)).0, 0);
        client.produce("out", 0, batch_of(&[("k", "beyond")]));
        comes_to(&mut client, "out", &expected);
        let before = see(&mut client, "out", true);
        assert_eq!((&before.values, before.end - before.stable), (&expected, 2));
        drop(client);
        drop(broker);
        let broker = start(config());
        let mut client = Client::connect(broker.address);
        assert_eq!(see(&mut client, "out", true), before, "{sync:?}");
        assert_eq!(client.committed("g", "in", 0), 7);
        // Its producer goes on where it was.
        assert_eq!(send(&mut client, "out", Some("id"), part(&[("k", "more")], producer, sequence + 1)).0, 0);
        assert_eq!(end(&mut client, "id", producer, true, 3), 0);
        expected.extend(["open", "beyond", "more"].map(str::to_owned));
        comes_to(&mut client, "out", &expected);
        assert_eq!(client.committed("g", "in", 0), 8);
    }
}

/// A batch on its way while its transaction ends is a part of none, not of the next.
#[test]
fn a_batch_that_comes_after_the_end_of_its_transaction_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = KafkaConfig::new(dir.path());
    // The end overtakes it.
    config.fault_options.faults = Faults::default().with_flags(&["delay=fixed:1s".to_owned()]).unwrap();
    let broker = start(config);
    let mut client = Client::connect(broker.address);
    client.create("out", 1, &[]);
    let producer = begin(&mut client, "id", &["out"]);
    let late = part(&[("k", "late")], producer, 0);
    let late = produce("out", 0, late, -1).with_transactional_id(Some(TransactionalId(text("id"))));
    let abort = EndTxnRequest::default()
        .with_transactional_id(TransactionalId(text("id")))
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1);
    // Together: the batch is admitted, and the end is carried out while it waits.
    let mut other = Client::connect(broker.address);
    other.stream.write_all(&[&frame(&late, 9, 1)[..], &frame(&abort, 3, 2)].concat()).unwrap();
    let refused = other.receive::<ProduceResponse>(9).unwrap().1.responses[0].partition_responses[0].error_code;
    assert_eq!(other.receive::<EndTxnResponse>(3).unwrap().1.error_code, 0);
    assert_eq!(refused, 48);
    assert_eq!(add(&mut client, "id", producer, &["out"], 3), [0]);
    assert_eq!(end(&mut client, "id", producer, true, 3), 0);
    assert_eq!(decided(&mut client, "out").values, Vec::<String>::new());
}

/// Of a key, compaction keeps the newest value that counts.
#[test]
fn compaction_keeps_what_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = KafkaConfig::new(dir.path());
    config.log.housekeeping = Duration::from_millis(20);
    let broker = start(config);
    let mut client = Client::connect(broker.address);
    client.create("kept", 1, &[("cleanup.policy", "compact"), ("segment.bytes", "1024"), ("delete.retention.ms", "0")]);
    let producer = begin(&mut client, "id", &["kept"]);
    let mut sequence = 0;
    let mut write = |client: &mut Client, key: &str, value: &str, commit: bool| {
        add(client, "id", producer, &["kept"], 3);
        let value = format!("{value}{}", "x".repeat(200));
        assert_eq!(send(client, "kept", Some("id"), part(&[(key, &value)], producer, sequence)).0, 0);
        sequence += 1;
        assert_eq!(end(client, "id", producer, commit, 3), 0);
    };
    write(&mut client, "a", "first", true);
    write(&mut client, "a", "second", true);
    write(&mut client, "a", "never", false);
    write(&mut client, "b", "first", true);
    for n in 0..10 {
        write(&mut client, "filler", &n.to_string(), true);
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let values: Vec<String> =
            see(&mut client, "kept", true).values.iter().map(|value| value.trim_end_matches('x').to_owned()).collect();
        if values.first().is_some_and(|first| first == "second") {
            assert_eq!(values[..2], ["second", "first"], "{values:?}");
            break;
        }
        assert!(Instant::now() < end && values.contains(&"second".to_owned()), "{values:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Commits transactions over two partitions until the broker is gone, and says when the first is
/// acknowledged; returns how many were.
fn load(address: SocketAddr, first: usize, begun: &std::sync::mpsc::Sender<()>) -> usize {
    let mut client = Client::connect(address);
    let (code, producer) = init(&mut client, "id", 60_000, NOBODY, 4);
    assert_eq!(code, 0);
    let (mut acked, mut sequence) = (first, 0);
    loop {
        let value = acked.to_string();
        let mut one = || -> std::io::Result<()> {
            let topics = ["one", "two"].map(|name| {
                add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
                    .with_name(topic_name(name))
                    .with_partitions(vec![0])
            });
            let request = AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(TransactionalId(text("id")))
                .with_v3_and_below_producer_id(ProducerId(producer.0))
                .with_v3_and_below_producer_epoch(producer.1)
                .with_v3_and_below_topics(topics.into());
            client.send(&request, 3)?;
            client.receive::<AddPartitionsToTxnResponse>(3)?;
            for topic in ["one", "two"] {
                let batch = part(&[("k", &value)], producer, sequence);
                let request = produce(topic, 0, batch, -1).with_transactional_id(Some(TransactionalId(text("id"))));
                client.send(&request, 9)?;
                let (_, answer) = client.receive::<ProduceResponse>(9)?;
                assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
            }
            let request = EndTxnRequest::default()
                .with_transactional_id(TransactionalId(text("id")))
                .with_producer_id(ProducerId(producer.0))
                .with_producer_epoch(producer.1)
                .with_committed(true);
            client.send(&request, 3)?;
            let (_, answer) = client.receive::<EndTxnResponse>(3)?;
            assert_eq!(answer.error_code, 0);
            Ok(())
        };
        if one().is_err() {
            return acked;
        }
        acked += 1;
        sequence += 1;
        // Once is enough.
        let _ = begun.send(());
    }
}

fn killed(dir: &Path, sync: &str) -> crate::process::Process {
    let args = ["--kafka", "127.0.0.1:0", "--format", "json", "--segment-size", "16KiB", "--sync", sync, "--data"];
    crate::process::start(&[&args[..], &[dir.to_str().unwrap()]].concat())
}

#[test]
fn a_transaction_is_whole_or_not_there_after_kill_9() {
    let rounds: u64 = std::env::var("MSGBENCH_KILLS").ok().map_or(5, |n| n.parse().unwrap());
    for sync in ["never", "group"] {
        let dir = tempfile::tempdir().unwrap();
        let mut acked = 0;
        for round in 0..=rounds {
            let mut broker = killed(dir.path(), sync);
            let address = broker.kafka();
            let mut client = Client::connect(address);
            if round == 0 {
                client.create("one", 1, &[]);
                client.create("two", 1, &[]);
            }
            // What was open is ended by a successor.
            assert_eq!(init(&mut client, "id", 60_000, NOBODY, 4).0, 0);
            let (one, two) = (decided(&mut client, "one").values, decided(&mut client, "two").values);
            assert_eq!(one, two, "{sync} round {round}");
            let known: Vec<usize> = one.iter().map(|value| value.parse().unwrap()).collect();
            // The last may have been committed without having been acknowledged, and is then sent
            // once more.
            let missing = (0..acked).find(|n| !known.contains(n));
            assert_eq!(missing, None, "{sync} round {round}: acknowledged and missing");
            if round == rounds {
                println!("{sync}: {rounds} kills, {acked} transactions acknowledged, {} found", known.len());
                assert!(acked as u64 > rounds, "{acked}");
                break;
            }
            let (begun, has_begun) = std::sync::mpsc::channel();
            let load = std::thread::spawn(move || load(address, acked, &begun));
            has_begun.recv().unwrap();
            std::thread::sleep(Duration::from_millis(100 + round * 37 % 80));
            broker.child.kill().unwrap();
            broker.child.wait().unwrap();
            acked = load.join().unwrap();
        }
    }
}
