//! Transactions of clients that know KIP-890 (`transaction.version` 2): partitions become a part by
//! being written to, and each end gives the producer its next epoch. What a Kafka answers, and what
//! this broker does.

use std::fs::File;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::log_rules::{Answers, as_by_kafka, make, settled, so_by_kafka};
use crate::log_support::*;
use crate::log_transactions::{Identity, NOBODY, committed, decided, init, part, see, settle};
use kafka_protocol::messages::*;
use msgbench::broker::kafka::KafkaConfig;
use msgbench::broker::log::{Disk, SyncPolicy, SystemDisk};

/// Error, and who the producer is then.
fn end(client: &mut Client, id: &str, producer: Identity, commit: bool) -> (i16, Identity) {
    let request = EndTxnRequest::default()
        .with_transactional_id(TransactionalId(text(id)))
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_committed(commit);
    let mut then = NOBODY;
    let code = settle(|| {
        let answer = client.call(&request, 5);
        then = (answer.producer_id.0, answer.producer_epoch);
        answer.error_code
    });
    (code, then)
}

fn send(client: &mut Client, topic: &str, id: &str, batch: Vec<u8>) -> (i16, i64) {
    let request = produce(topic, 0, batch, -1).with_transactional_id(Some(TransactionalId(text(id))));
    let mut base = -1;
    let code = settle(|| {
        let answer = client.call(&request, 12);
        let part = &answer.responses[0].partition_responses[0];
        base = part.base_offset;
        part.error_code
    });
    (code, base)
}

fn commit_offset(client: &mut Client, id: &str, producer: Identity, group: &str, offset: i64) -> i16 {
    settle(|| commit_once(client, id, producer, group, offset))
}

fn commit_once(client: &mut Client, id: &str, producer: Identity, group: &str, offset: i64) -> i16 {
    let part = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
        .with_name(topic_name("in"))
        .with_partitions(vec![part]);
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(TransactionalId(text(id)))
        .with_group_id(GroupId(text(group)))
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_generation_id(-1)
        .with_topics(vec![topic]);
    client.call(&request, 5).topics.first().map_or(-2, |topic| topic.partitions[0].error_code)
}

fn batch(producer: Identity, sequence: i32, value: &str) -> Vec<u8> {
    part(&[("k", value)], producer, sequence)
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
    for (kind, keys) in [(0, ["g", "h"]), (1, ["id", "slow"])] {
        let keys = keys.map(text).to_vec();
        let find = FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(keys);
        assert_eq!(settle(|| client.call(&find, 4).coordinators[0].error_code), 0);
    }
    // A Kafka tells nothing to who does not say what he is.
    let hello =
        ApiVersionsRequest::default().with_client_software_name(text("test")).with_client_software_version(text("1"));
    let features = client.call(&hello, 3).finalized_features;
    let level = features.iter().find(|f| f.name.as_str() == "transaction.version");
    note("the feature", format!("{:?}", level.map(|f| (f.min_version_level, f.max_version_level))));

    let (code, mut it) = init(client, "id", 60_000, NOBODY, 5);
    note("a first epoch", format!("{code}, {}", it.1));
    let number = it.0;
    // What is ended, by which epoch; the producer's id is always the same here.
    let mut ended = |client: &mut Client, what: &str, producer: Identity, commit: bool| {
        let (code, then) = end(client, "id", producer, commit);
        let who = if then.0 == number { "the same" } else { "nobody" };
        note(what, format!("{code}, {who}, {}", then.1));
        then
    };
    ended(client, "nothing to commit", it, true);
    it = ended(client, "nothing to abort", it, false);
    ended(client, "that again", (number, it.1 - 1), false);
    ended(client, "as a commit", (number, it.1 - 1), true);
    let mut wrote = |client: &mut Client, what: &str, topic: &str, producer: Identity, sequence: i32| {
        let answer = send(client, topic, "id", batch(producer, sequence, what));
        all.push((what.to_owned(), format!("{answer:?}")));
    };
    wrote(client, "one", "out", it, 0);
    wrote(client, "one again", "out", it, 0);
    wrote(client, "two", "out", it, 1);
    wrote(client, "out of sequence", "out", it, 7);
    wrote(client, "elsewhere", "other", it, 0);
    wrote(client, "of an older epoch", "out", (number, it.1 - 1), 2);
    wrote(client, "of a newer epoch", "out", (number, it.1 + 1), 0);
    wrote(client, "of a stranger", "out", (number + 77, it.1), 0);
    let answer = send(client, "__consumer_offsets", "id", batch(it, 0, "inside"));
    all.push(("into a topic of the broker".into(), format!("{}", answer.0 == 0)));
    all.push(("seen".into(), format!("{:?}", see(client, "out", true))));

    let mut note = |what: &str, answer: String| all.push((what.to_owned(), answer));
    let mut ended = |client: &mut Client, what: &str, producer: Identity, commit: bool| {
        let (code, then) = end(client, "id", producer, commit);
        let who = if then.0 == number { "the same" } else { "nobody" };
        note(what, format!("{code}, {who}, {}", then.1));
        then
    };
    ended(client, "ended by an older epoch", (number, it.1 - 1), true);
    ended(client, "ended by a stranger", (number + 77, it.1), true);
    let before = it;
    it = ended(client, "committed", it, true);
    ended(client, "committed again", before, true);
    ended(client, "aborted then", before, false);
    ended(client, "committed once more", it, true);
    ended(client, "ended by who was two epochs ago", (number, it.1 - 2), true);
    note("seen then", format!("{:?}", decided(client, "out")));
    note("seen elsewhere", format!("{:?}", decided(client, "other")));
    note("too late", format!("{:?}", send(client, "out", "id", batch(before, 2, "late"))));
    note("numbers that go on", format!("{:?}", send(client, "out", "id", batch(it, 2, "three"))));
    note("numbers that begin", format!("{:?}", send(client, "out", "id", batch(it, 0, "three"))));
    let (code, then) = end(client, "id", it, false);
    note("aborted", format!("{code}, {}", then.1));
    let (code, again) = end(client, "id", it, false);
    note("aborted again", format!("{code}, {}", again.1));
    it = then;
    note("seen after that", format!("{:?}", decided(client, "out")));

    note("offsets", format!("{}", commit_offset(client, "id", it, "g", 5)));
    note("offsets of an older epoch", format!("{}", commit_offset(client, "id", (number, it.1 - 1), "g", 6)));
    note("what the group has", format!("{:?}", committed(client, "g", false)));
    let (code, then) = end(client, "id", it, true);
    note("offsets committed", format!("{code}, {}", then.1));
    note("what it has then", format!("{:?}", committed(client, "g", true)));
    let before = it;
    it = then;

    // Who has not heard of an end begins again.
    let (code, then) = init(client, "id", 60_000, before, 5);
    note("begun again with the epoch before", format!("{code}, {}, {}", then.0 == number, then.1));
    if code == 0 {
        it = then;
    }
    note("left open", format!("{:?}", send(client, "other", "id", batch(it, 0, "open"))));
    let (code, next) = init(client, "id", 60_000, NOBODY, 5);
    note("a successor", format!("{code}, newer: {}", next.1 > it.1));
    note("the fenced one writes", format!("{:?}", send(client, "other", "id", batch(it, 1, "fenced"))));
    note("the fenced one ends", format!("{}", end(client, "id", it, true).0));
    note("seen after it", format!("{:?}", decided(client, "other")));

    let (code, slow) = init(client, "slow", 500, NOBODY, 5);
    note("a slow one", format!("{code}, {}", slow.1));
    note("its records", format!("{:?}", send(client, "late", "slow", batch(slow, 0, "slow"))));
    note("in the end", format!("{:?}", decided(client, "late")));
    std::thread::sleep(Duration::from_millis(200));
    note("it commits too late", format!("{}", end(client, "slow", slow, true).0));
    note("and writes too late", format!("{:?}", send(client, "late", "slow", batch(slow, 1, "slow"))));
    all
}

/// The answers of Kafka 4.4.0, a line each.
const KAFKA: &str = include_str!("log_transaction_epochs.txt");

#[test]
fn epochs_of_transactions_are_given_as_by_kafka() {
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
fn epochs_of_transactions_are_given_so_by_kafka() {
    so_by_kafka(KAFKA, answers);
}

/// A disk on which the topic of transactions cannot be synced for a while.
#[derive(Default)]
struct NoTransactions(AtomicBool);

impl Disk for NoTransactions {
    fn write(&self, file: &File, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        SystemDisk.write(file, parts, position)
    }
    fn sync(&self, file: &File) -> io::Result<()> {
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        match self.0.load(Ordering::Acquire) && path.to_string_lossy().contains("__transaction_state") {
            true => Err(io::Error::other("made to fail")),
            false => Ok(()),
        }
    }
}

/// What is written is not acknowledged before it is synced that its partition is a part of the
/// transaction: a start that knows of none would abort it, and what follows would be committed
/// without it.
#[test]
fn nothing_is_acknowledged_before_its_partition_is_known_to_be_a_part() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(NoTransactions::default());
    let mut config = KafkaConfig::new(dir.path());
    (config.log.sync, config.log.disk, config.log.prewrite) = (SyncPolicy::Group, disk.clone(), false);
    let broker = start(config);
    let client = &mut Client::connect(broker.address);
    client.create("in", 1, &[]);
    let (code, producer) = init(client, "id", 60_000, NOBODY, 5);
    assert_eq!(code, 0);
    disk.0.store(true, Ordering::Release);
    let storage = 56;
    assert_eq!(send(client, "in", "id", batch(producer, 0, "one")).0, storage);
    // It is there now, and its place in the transaction still is not.
    assert_eq!(send(client, "in", "id", batch(producer, 0, "one")).0, storage);
    assert_ne!(commit_once(client, "id", producer, "g", 7), 0);
    disk.0.store(false, Ordering::Release);
    assert_eq!(send(client, "in", "id", batch(producer, 0, "one")), (0, 0));
    assert_eq!(commit_offset(client, "id", producer, "g", 7), 0);
    assert_eq!(end(client, "id", producer, true), (0, (producer.0, producer.1 + 1)));
    assert_eq!(decided(client, "in").values, ["one"]);
    assert_eq!(committed(client, "g", true), (0, 7));
}
