//! Fetch sessions (KIP-227): what a Kafka answers at each step, and what this broker does; and that
//! a client with a session knows what one without is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::log_rules::{Answers, as_by_kafka, make, settled, so_by_kafka};
use crate::log_support::*;
use bytes::Bytes;
use kafka_protocol::messages::*;
use msgbench::broker::kafka::{KafkaConfig, batch};
use msgbench::broker::log::BatchFormat as _;
use proptest::prelude::*;

const VERSION: i16 = 12;

/// Topic, partition and offset.
type Wanted<'a> = (&'a str, i32, i64);

fn request(session: (i32, i32), wanted: &[Wanted<'_>], forgotten: &[(&str, i32)]) -> FetchRequest {
    let topics = wanted.chunk_by(|a, b| a.0 == b.0).map(|parts| {
        let each = parts.iter().map(|(_, index, offset)| {
            fetch_request::FetchPartition::default()
                .with_partition(*index)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(1 << 20)
        });
        fetch_request::FetchTopic::default().with_topic(topic_name(parts[0].0)).with_partitions(each.collect())
    });
    let forgotten = forgotten.iter().map(|(topic, index)| {
        fetch_request::ForgottenTopic::default().with_topic(topic_name(topic)).with_partitions(vec![*index])
    });
    FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_session_id(session.0)
        .with_session_epoch(session.1)
        .with_topics(topics.collect())
        .with_forgotten_topics_data(forgotten.collect())
}

/// How many records are in these batches.
fn count(records: &Bytes) -> usize {
    let (mut rest, mut count) = (&records[..], 0);
    while let Ok(view) = batch::RecordBatches.view(rest)
        && view.len <= rest.len()
    {
        count += view.count as usize;
        rest = &rest[view.len..];
    }
    count
}

/// What an answer says, a partition each: error, end, start, records.
fn said(answer: &FetchResponse) -> String {
    let topics = answer.responses.iter().map(|topic| {
        let parts = topic.partitions.iter().map(|part| {
            let records = part.records.as_ref().map_or(0, count);
            let (end, start) = (part.high_watermark, part.log_start_offset);
            format!("{}: error {}, {start} to {end}, {records} records", part.partition_index, part.error_code)
        });
        format!("{} [{}]", topic.topic.as_str(), parts.collect::<Vec<_>>().join("; "))
    });
    let session = if answer.session_id == 0 { "none" } else { "one" };
    format!("error {}, session: {session}, {}", answer.error_code, topics.collect::<Vec<_>>().join(" "))
}

fn trim(client: &mut Client, topic: &str, index: i32, offset: i64) {
    let part =
        delete_records_request::DeleteRecordsPartition::default().with_partition_index(index).with_offset(offset);
    let of =
        delete_records_request::DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![part]);
    let request = DeleteRecordsRequest::default().with_topics(vec![of]).with_timeout_ms(10_000);
    assert_eq!(client.call(&request, 2).topics[0].partitions[0].error_code, 0);
}

fn answers(address: SocketAddr) -> Answers {
    let mut client = Client::connect(address);
    let client = &mut client;
    for topic in ["a", "b", "c"] {
        make(client, &[topic], &[], false);
        settled(client, topic);
    }
    let mut all = Answers::new();
    let mut id = 0;
    let mut ask = |client: &mut Client, what: &str, request: FetchRequest| {
        let answer = client.call(&request, VERSION);
        all.push((what.to_owned(), said(&answer)));
        answer.session_id
    };
    let full: [Wanted<'_>; 3] = [("a", 0, 0), ("b", 0, 0), ("c", 0, 0)];
    ask(client, "without a session", request((0, -1), &full, &[]));
    id = ask(client, "one begins", request((0, 0), &full, &[])).max(id);
    ask(client, "nothing is new", request((id, 1), &[], &[]));
    ask(client, "an epoch twice", request((id, 1), &[], &[]));
    ask(client, "an epoch that is not due", request((id, 9), &[], &[]));
    ask(client, "a session nobody has", request((id ^ 1, 2), &[], &[]));
    ask(client, "an epoch without a session", request((0, 2), &[], &[]));
    let send = |client: &mut Client, topic: &str| {
        assert_eq!(client.produce(topic, 0, batch_of(&[("k", "v")])).0, 0, "{topic}");
    };
    send(client, "b");
    ask(client, "records", request((id, 2), &[], &[]));
    ask(client, "they are told while they are asked for", request((id, 3), &[], &[]));
    ask(client, "the offset moves on", request((id, 4), &[("b", 0, 1)], &[]));
    send(client, "a");
    send(client, "b");
    ask(client, "what had records goes last", request((id, 5), &[], &[]));
    ask(client, "both move on", request((id, 6), &[("a", 0, 1), ("b", 0, 2)], &[]));
    trim(client, "b", 0, 1);
    ask(client, "a start that moves", request((id, 7), &[], &[]));
    ask(client, "is told once", request((id, 8), &[], &[]));
    ask(client, "an offset out of range", request((id, 9), &[("b", 0, 77)], &[]));
    ask(client, "is told again", request((id, 10), &[], &[]));
    ask(client, "and when it is right, once", request((id, 11), &[("b", 0, 2)], &[]));
    ask(client, "only once", request((id, 12), &[], &[]));
    ask(client, "a partition is forgotten", request((id, 13), &[], &[("a", 0)]));
    send(client, "a");
    ask(client, "and not told of", request((id, 14), &[], &[]));
    ask(client, "it comes back", request((id, 15), &[("a", 0, 2)], &[]));
    ask(client, "a partition that is not there", request((id, 16), &[("a", 7, 0)], &[]));
    ask(client, "is told again, too", request((id, 17), &[], &[]));
    ask(client, "one that is not in it is forgotten", request((id, 18), &[], &[("c", 5), ("a", 7)]));
    let next = ask(client, "another begins in its place", request((id, 0), &full[..2], &[]));
    ask(client, "the first is over", request((id, 19), &[], &[]));
    ask(client, "the second goes on", request((next, 1), &[("a", 0, 2)], &[]));
    ask(client, "it ends with a request for all", request((next, -1), &full, &[]));
    ask(client, "and is over", request((next, 2), &[], &[]));
    let last = ask(client, "a third", request((0, 0), &[("a", 0, 2)], &[]));
    ask(client, "without partitions", request((last, 1), &[], &[("a", 0)]));
    ask(client, "it is over, too", request((last, 2), &[], &[]));
    ask(client, "none is begun for nothing", request((0, 0), &[], &[]));
    all
}

/// The answers of Kafka 4.4.0, a line each.
const KAFKA: &str = include_str!("log_fetch_sessions.txt");

#[test]
fn fetch_sessions_are_answered_as_by_kafka() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(KafkaConfig::new(dir.path()));
    as_by_kafka(&answers(broker.address), KAFKA);
}

#[test]
fn fetch_sessions_are_answered_so_by_kafka() {
    so_by_kafka(KAFKA, answers);
}

/// What a client knows of a partition: error, end, start.
type Known = (i16, i64, i64);

#[derive(Debug, Clone)]
enum Step {
    /// A record is written to a partition.
    Write(i32),
    /// Its first records are let go.
    Trim(i32),
    /// The client reads a partition from this offset on, relative to its end.
    Want(i32, i64),
    Forget(i32),
    /// The session begins anew.
    Anew,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0i32..4).prop_map(Step::Write),
        1 => (0i32..4).prop_map(Step::Trim),
        4 => (0i32..5, -2i64..2).prop_map(|(index, offset)| Step::Want(index, offset)),
        1 => (0i32..5).prop_map(Step::Forget),
        1 => Just(Step::Anew),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_client_with_a_session_knows_what_one_without_is_told(steps in proptest::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let broker = start(KafkaConfig::new(dir.path()));
        let mut client = Client::connect(broker.address);
        client.create("t", 4, &[]);
        let mut ends = [0i64; 4];
        let (mut session, mut wanted) = ((0, 0), BTreeMap::from([(0, 0i64)]));
        let mut known: BTreeMap<i32, Known> = BTreeMap::new();
        for step in steps {
            let (mut changes, mut forgotten) = (Vec::new(), Vec::new());
            match step {
                Step::Write(index) => {
                    client.produce("t", index, batch_of(&[("k", "v")]));
                    ends[index as usize] += 1;
                }
                Step::Trim(index) => trim(&mut client, "t", index, ends[index as usize]),
                // Partition 4 is not there.
                Step::Want(index, offset) => {
                    let offset = ends.get(index as usize).unwrap_or(&0) + offset;
                    wanted.insert(index, offset);
                    changes.push(("t", index, offset));
                }
                Step::Forget(index) => {
                    wanted.remove(&index);
                    forgotten.push(("t", index));
                }
                Step::Anew => session.1 = 0,
            }
            if session.1 == 0 {
                changes = wanted.iter().map(|(index, offset)| ("t", *index, *offset)).collect();
                forgotten.clear();
                known.clear();
            }
            let answer = client.call(&request(session, &changes, &forgotten), VERSION);
            prop_assert_eq!(answer.error_code, 0);
            session = (answer.session_id, if answer.session_id == 0 { 0 } else { session.1 + 1 });
            let all: Vec<Wanted<'_>> = wanted.iter().map(|(index, offset)| ("t", *index, *offset)).collect();
            let alone = client.call(&request((0, -1), &all, &[]), VERSION);
            let parts = |answer: FetchResponse| {
                answer.responses.into_iter().flat_map(|topic| topic.partitions).collect::<Vec<_>>()
            };
            known.retain(|index, _| wanted.contains_key(index));
            let mut records = BTreeMap::new();
            for part in parts(answer) {
                known.insert(part.partition_index, (part.error_code, part.high_watermark, part.log_start_offset));
                records.insert(part.partition_index, part.records.unwrap_or_default());
            }
            let alone = parts(alone);
            prop_assert_eq!(alone.len(), known.len());
            for part in alone {
                let index = part.partition_index;
                prop_assert_eq!(known[&index], (part.error_code, part.high_watermark, part.log_start_offset), "{}", index);
                let had = records.remove(&index).unwrap_or_default();
                prop_assert_eq!(had, part.records.unwrap_or_default(), "{}", index);
            }
        }
    }
}
