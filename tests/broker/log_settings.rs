//! Settings of topics: the words for those that cannot be, and what those that can be do. The same
//! to a Kafka and to this broker.

use std::net::SocketAddr;

use crate::log_compressed::{CODECS, batch_of, produced};
use crate::log_rules::{Answers, lines, make, newest, now, settled, so_by_kafka};
use crate::log_support::{Client, fetch, produce, start, text, topic_name};
use kafka_protocol::messages::*;
use msgbench::broker::kafka::{KafkaConfig, batch};

/// What is tried with every setting.
const VALUES: [&str; 12] =
    ["abc", "-2", "-1", "0", "1", "1.5", "TRUE", "9223372036854775808", "3000000000", "", " 5 ", "1048576"];
/// What is tried with some.
const OTHERS: [(&str, &str); 26] = [
    ("cleanup.policy", "delete,compact"),
    ("cleanup.policy", "delete, burn"),
    ("cleanup.policy", "delete,"),
    ("cleanup.policy", "delete,delete"),
    ("compression.type", "brotli"),
    ("compression.type", "GZIP"),
    ("message.timestamp.type", "LogAppendTime"),
    ("message.timestamp.type", "logappendtime"),
    ("compression.zstd.level", "22"),
    ("compression.zstd.level", "23"),
    ("compression.gzip.level", "9"),
    ("compression.gzip.level", "10"),
    ("compression.lz4.level", "17"),
    ("compression.lz4.level", "18"),
    ("min.cleanable.dirty.ratio", "1.1"),
    ("min.insync.replicas", "2"),
    ("leader.replication.throttled.replicas", "*"),
    ("leader.replication.throttled.replicas", "0:1"),
    ("leader.replication.throttled.replicas", "0:1,1:2"),
    ("local.retention.ms", "604800001"),
    ("preallocate", "yes"),
    ("unclean.leader.election.enable", "true"),
    ("no.such", "1"),
    ("retention.ms", "1000"),
    ("max.message.bytes", "2147483647"),
    ("segment.ms", "1"),
];

/// What a Kafka answers to the making of a topic with that setting.
fn tried(client: &mut Client, name: &str, value: &str) -> String {
    let config =
        create_topics_request::CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)));
    let topic = create_topics_request::CreatableTopic::default()
        .with_name(topic_name("tried"))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(vec![config]);
    let request =
        CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000).with_validate_only(true);
    let answer = client.call(&request, 5);
    let topic = &answer.topics[0];
    format!("{}, {}", topic.error_code, topic.error_message.clone().unwrap_or_default().as_str())
}

/// The names of all settings of topics that a Kafka has.
fn names(client: &mut Client) -> Vec<String> {
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("plain"))
        .with_configuration_keys(None);
    let answer = client.call(&DescribeConfigsRequest::default().with_resources(vec![resource]), 4);
    let mut names: Vec<String> = answer.results[0].configs.iter().map(|config| config.name.to_string()).collect();
    names.sort();
    names.retain(|name| name != "retention.records");
    names
}

/// Offset and time that a search for a time finds.
fn search(client: &mut Client, topic: &str, timestamp: i64) -> (i64, i64) {
    let part = list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
    let of = list_offsets_request::ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![part]);
    let answer = client.call(&ListOffsetsRequest::default().with_topics(vec![of]).with_replica_id(BrokerId(-1)), 7);
    let part = &answer.topics[0].partitions[0];
    (part.offset, part.timestamp)
}

/// Error, and whether the records were given the time of their append.
fn stamped(client: &mut Client, topic: &str, batch: Vec<u8>, acks: i16) -> String {
    let answer = client.call(&produce(topic, 0, batch, acks), 9);
    let part = &answer.responses[0].partition_responses[0];
    format!("{}, given a time: {}", part.error_code, part.log_append_time_ms > 0)
}

fn append_times(client: &mut Client, note: &mut dyn FnMut(&str, String)) {
    let t = now() - 3_600_000;
    make(client, &["stamped"], &[("message.timestamp.type", "LogAppendTime")], false);
    settled(client, "stamped");
    let mut last = 0;
    for codec in CODECS {
        let on = |what: &str| format!("{}: {what}", codec.0);
        // Of the batches of one millisecond the first is the newest.
        while now() <= last {
            std::thread::yield_now();
        }
        let before = now();
        let old = batch_of(&[(true, t), (true, t + 5), (true, t + 3)], codec);
        note(&on("on a topic of append times"), stamped(client, "stamped", old, -1));
        let (offset, time) = newest(client, "stamped");
        note(&on("the newest"), format!("{offset}, of now: {}", (before..=now()).contains(&time)));
        last = time;
        let (offset, found) = search(client, "stamped", before);
        note(&on("searched"), format!("{offset}, of now: {}", found == time));
    }
    let answer = client.call(&fetch("stamped", 0, 0, 1000, 8 << 20), 11);
    let bytes = answer.responses[0].partitions[0].records.clone().unwrap_or_default();
    let first = batch::append_time(&bytes);
    note("its batch says so", format!("{}, first {}", first.is_some(), batch::first_timestamp(&bytes) - t));
    // A year ahead or behind means nothing there.
    let far = batch_of(&[(true, t + 31_536_000_000), (true, 5)], CODECS[0]);
    note("far away", stamped(client, "stamped", far, -1));
    let plain = batch_of(&[(true, t)], CODECS[0]);
    note("the time of the client where that counts", stamped(client, "plain", plain.clone(), -1));
    note("its own stamp where the client's time counts", stamped(client, "plain", batch::stamped(&plain, t), -1));
    note("its own stamp where the broker's counts", stamped(client, "stamped", batch::stamped(&plain, t), -1));
}

fn answers(address: SocketAddr) -> Answers {
    let mut client = Client::connect(address);
    let client = &mut client;
    let mut all = Answers::new();
    let mut note = |what: &str, answer: String| all.push((what.to_owned(), answer));
    make(client, &["plain"], &[], false);
    settled(client, "plain");
    let names = names(client);
    note("settings", names.join(" "));
    for name in &names {
        for value in VALUES {
            note(&format!("{name}={value}"), tried(client, name, value));
        }
    }
    for (name, value) in OTHERS {
        note(&format!("{name}={value}"), tried(client, name, value));
    }
    append_times(client, &mut note);

    let t = now() - 3_600_000;
    make(client, &["aged"], &[("message.timestamp.before.max.ms", "60000")], false);
    settled(client, "aged");
    for codec in CODECS {
        let on = |what: &str| format!("{}: {what}", codec.0);
        note(&on("too old"), produced(client, "aged", batch_of(&[(true, now()), (true, t), (true, now())], codec)));
        note(&on("young enough"), produced(client, "aged", batch_of(&[(true, now() - 10_000)], codec)));
    }
    make(client, &["two"], &[("min.insync.replicas", "2")], false);
    settled(client, "two");
    for acks in [-1, 1] {
        let batch = batch_of(&[(true, now())], CODECS[0]);
        note(&format!("acks {acks} where two must have it"), stamped(client, "two", batch, acks));
    }
    for codec in CODECS {
        let topic = format!("times.{}", codec.0);
        make(client, &[&topic], &[], false);
        settled(client, &topic);
        stored(client, &topic, &batch_of(&[(true, t), (true, t + 5), (true, t + 3)], codec));
        stored(client, &topic, &batch_of(&[(true, t + 4), (true, t + 2), (true, t + 9), (true, t + 8)], codec));
        let found: Vec<_> =
            (-1..=10).map(|ms| search(client, &topic, t + ms)).map(|(o, at)| (o, at.max(t - 1) - t)).collect();
        note(&format!("{}: searched by time", codec.0), format!("{found:?}"));
    }
    for (name, value) in [("compression.type", "gzip"), ("message.timestamp.type", "LogAppendTime")] {
        let topic = format!("sealed.{name}");
        make(client, &[&topic], &[(name, value)], false);
        settled(client, &topic);
        let mut broken = batch_of(&[(true, now())], CODECS[0]);
        let last = broken.len() - 2;
        broken[last] ^= 1;
        note(&format!("a broken batch under {name}"), produced(client, &topic, broken));
    }
    all
}

/// Waits until the batch is in the topic: a Kafka names the leader of a new one before that leads.
fn stored(client: &mut Client, topic: &str, batch: &[u8]) {
    let mut answer = String::new();
    for _ in 0..200 {
        answer = produced(client, topic, batch.to_vec());
        if answer.starts_with("0 at ") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{topic} takes nothing: {answer}");
}

/// The answers of Kafka 4.4.0, a line each.
const KAFKA: &str = include_str!("log_settings.txt");

/// Whether this broker answers otherwise, on purpose.
fn is_otherwise(what: &str) -> bool {
    // A smaller segment is taken, and when it syncs is said where it is started.
    let sizes = ["segment.bytes=-", "segment.bytes=0", "segment.bytes=1", "segment.bytes= 5 "];
    let small = sizes.iter().any(|start| what.starts_with(start)) && what != "segment.bytes=1.5";
    let syncs = ["flush.ms=", "flush.messages="].iter().any(|start| what.starts_with(start));
    small && what != "segment.bytes=1048576" || syncs
}

#[test]
fn settings_are_answered_as_by_kafka() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(KafkaConfig::new(dir.path()));
    let ours = lines(&answers(broker.address));
    let differs =
        |(ours, kafka): &(&String, &str)| ours.as_str() != *kafka && !is_otherwise(kafka.split(':').next().unwrap());
    let different: Vec<_> = ours.iter().zip(KAFKA.lines()).filter(differs).collect();
    assert!(different.is_empty(), "{different:#?}");
    assert_eq!(ours.len(), KAFKA.lines().count());
}

#[test]
fn settings_are_answered_so_by_kafka() {
    so_by_kafka(KAFKA, answers);
}
