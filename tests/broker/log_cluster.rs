//! What Kafka answers to the tools of a cluster (directories, quorum, moves, who sets what), and
//! what this broker does.

use std::net::SocketAddr;
use std::time::Duration;

use crate::log_rules::{Answers, incremental, make, now, settled, so_by_kafka};
use crate::log_support::*;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use msgbench::broker::kafka::{KafkaConfig, batch};

/// Moves a partition to directories, each named once, and says what becomes of it.
fn move_to(client: &mut Client, dirs: &[(&str, &str, i32)]) -> Vec<i16> {
    let dirs = dirs.iter().map(|(dir, topic, index)| {
        let of = alter_replica_log_dirs_request::AlterReplicaLogDirTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![*index]);
        alter_replica_log_dirs_request::AlterReplicaLogDir::default().with_path(text(*dir)).with_topics(vec![of])
    });
    let answer = client.call(&AlterReplicaLogDirsRequest::default().with_dirs(dirs.collect()), 2);
    let of = answer.results.iter().flat_map(|topic| topic.partitions.iter().map(|part| part.error_code));
    of.collect()
}

fn reassign(client: &mut Client, topic: &str, index: i32, to: Option<&[i32]>, version: i16) -> String {
    let to = to.map(|nodes| nodes.iter().map(|node| BrokerId(*node)).collect());
    let part = alter_partition_reassignments_request::ReassignablePartition::default()
        .with_partition_index(index)
        .with_replicas(to);
    let of = alter_partition_reassignments_request::ReassignableTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![part]);
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![of]).with_timeout_ms(10_000);
    let answer = client.call(&request, version);
    let part = &answer.responses[0].partitions[0];
    let words = are_words(&answer.error_message) || are_words(&part.error_message);
    format!("{}, {}, words: {words}", answer.error_code, part.error_code)
}

fn quorum(client: &mut Client, topic: &str, index: i32) -> DescribeQuorumResponse {
    let part = describe_quorum_request::PartitionData::default().with_partition_index(index);
    let of =
        describe_quorum_request::TopicData::default().with_topic_name(topic_name(topic)).with_partitions(vec![part]);
    client.call(&DescribeQuorumRequest::default().with_topics(vec![of]), 2)
}

fn are_words(message: &Option<StrBytes>) -> bool {
    message.as_ref().is_some_and(|message| !message.is_empty())
}

/// What a quorum is like, without the figures that differ from broker to broker.
fn told(answer: &DescribeQuorumResponse, node: i32) -> String {
    let Some(part) = answer.topics.first().and_then(|topic| topic.partitions.first()) else {
        return format!("{}, words: {}, nothing", answer.error_code, are_words(&answer.error_message));
    };
    let voters: Vec<_> = part.current_voters.iter().map(|v| v.replica_id.0 == node).collect();
    let reached = part.current_voters.iter().all(|v| v.log_end_offset >= part.high_watermark);
    let nodes: Vec<_> = answer.nodes.iter().map(|n| n.node_id.0 == node).collect();
    let led = (part.leader_id.0 == node, part.leader_epoch >= 0, part.high_watermark >= 0);
    format!(
        "{}, words: {}, {}, words: {}, led {led:?}, voters {voters:?}, reached {reached}, observers {}, nodes {nodes:?}",
        answer.error_code,
        are_words(&answer.error_message),
        part.error_code,
        are_words(&part.error_message),
        part.observers.len()
    )
}

/// A setting of a topic or a broker: its value and where that comes from.
fn setting(client: &mut Client, kind: i8, resource: &str, name: &str) -> String {
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(resource))
        .with_configuration_keys(Some(vec![text(name)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    let answer = client.call(&request, 4);
    let Some(found) = answer.results[0].configs.first() else {
        return format!("{}, none", answer.results[0].error_code);
    };
    let first = found.synonyms.first().map(|s| (s.name.to_string(), s.source));
    let value = found.value.clone().unwrap_or_default();
    format!("`{value}` from {}, read only: {}, {first:?}", found.config_source, found.read_only)
}

/// The setting once it is as expected: a Kafka's metadata come after its answer.
fn settled_at(client: &mut Client, topic: &str, name: &str, expected: &str) -> String {
    let mut found = String::new();
    for _ in 0..100 {
        found = setting(client, 2, topic, name);
        if found.contains(expected) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    found
}

fn offset(client: &mut Client, timestamp: i64, version: i16) -> (i16, i64, i64, i32) {
    let part = list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
    let of =
        list_offsets_request::ListOffsetsTopic::default().with_name(topic_name("here")).with_partitions(vec![part]);
    let request = ListOffsetsRequest::default().with_topics(vec![of]).with_replica_id(BrokerId(-1));
    let answer = client.call(&request, version);
    let part = &answer.topics[0].partitions[0];
    (part.error_code, part.offset, part.timestamp, part.leader_epoch)
}

fn answers(address: SocketAddr) -> Answers {
    let mut client = Client::connect(address);
    let client = &mut client;
    let mut all = Answers::new();
    let mut note = |what: &str, answer: String| all.push((what.to_owned(), answer));
    make(client, &["here"], &[], false);
    settled(client, "here");
    let node = client.call(&MetadataRequest::default().with_topics(None), 9).brokers[0].node_id.0;
    for n in 0..5 {
        client.produce("here", 0, batch::encode(&[(b"k", Some(&[n]))], now() + i64::from(n)));
    }
    let part = delete_records_request::DeleteRecordsPartition::default().with_offset(2);
    let of =
        delete_records_request::DeleteRecordsTopic::default().with_name(topic_name("here")).with_partitions(vec![part]);
    client.call(&DeleteRecordsRequest::default().with_topics(vec![of]).with_timeout_ms(10_000), 2);

    let dirs = client.call(&DescribeLogDirsRequest::default().with_topics(None), 4);
    let dir = dirs.results[0].log_dir.to_string();
    note("moved to where it is", format!("{:?}", move_to(client, &[(&dir, "here", 0)])));
    note("moved to another directory", format!("{:?}", move_to(client, &[("/no/such/directory", "here", 0)])));
    note("moved to a directory by half its name", format!("{:?}", move_to(client, &[("here", "here", 0)])));
    note("a missing partition moved", format!("{:?}", move_to(client, &[(&dir, "here", 9)])));
    note("a missing topic moved", format!("{:?}", move_to(client, &[(&dir, "missing", 0)])));
    note("a missing topic moved elsewhere", format!("{:?}", move_to(client, &[("/no/such", "missing", 0)])));
    let twice = move_to(client, &[(&dir, "here", 0), ("/no/such", "here", 0)]);
    note("moved to its own and another", format!("{twice:?}"));
    let twice = move_to(client, &[("/no/such", "here", 0), (&dir, "here", 0)]);
    note("moved to another and its own", format!("{twice:?}"));

    for version in [0, 1] {
        let on = |what: &str| format!("{what}, version {version}");
        note(&on("reassigned to the broker"), reassign(client, "here", 0, Some(&[node]), version));
        note(&on("reassigned to another"), reassign(client, "here", 0, Some(&[77]), version));
        note(&on("reassigned to both"), reassign(client, "here", 0, Some(&[node, 77]), version));
        note(&on("reassigned to none"), reassign(client, "here", 0, Some(&[]), version));
        note(&on("reassigned twice to one"), reassign(client, "here", 0, Some(&[node, node]), version));
        note(&on("reassigned to none such"), reassign(client, "here", 0, Some(&[-1]), version));
        note(&on("nothing to cancel"), reassign(client, "here", 0, None, version));
        note(&on("a missing partition"), reassign(client, "here", 9, Some(&[node]), version));
        note(&on("a missing topic"), reassign(client, "missing", 0, Some(&[node]), version));
        note(&on("a missing topic, cancelled"), reassign(client, "missing", 0, None, version));
    }

    note("the quorum", told(&quorum(client, "__cluster_metadata", 0), node));
    note("another partition's quorum", told(&quorum(client, "__cluster_metadata", 1), node));
    note("a topic's quorum", told(&quorum(client, "here", 0), node));
    note("no topic's quorum", told(&client.call(&DescribeQuorumRequest::default(), 2), node));
    let mut twice = quorum(client, "__cluster_metadata", 0).topics;
    twice.extend(quorum(client, "here", 0).topics);
    let of = twice.iter().map(|topic| {
        let part = describe_quorum_request::PartitionData::default();
        describe_quorum_request::TopicData::default()
            .with_topic_name(topic.topic_name.clone())
            .with_partitions(vec![part])
    });
    let both = DescribeQuorumRequest::default().with_topics(of.collect());
    note("two topics' quorum", told(&client.call(&both, 2), node));

    let least = "min.insync.replicas";
    note("the topic's least replicas", setting(client, 2, "here", least));
    note("they are set", format!("{}", incremental(client, "here", least, 0, Some("1"))));
    note("and are the topic's", settled_at(client, "here", least, "from 1"));
    note("no more", format!("{}", incremental(client, "here", least, 1, None)));
    note("and are not", settled_at(client, "here", least, "from 3"));
    note("the broker's", setting(client, 4, &node.to_string(), least));
    note("all brokers'", setting(client, 4, "", least));
    note("all brokers' partitions", setting(client, 4, "", "num.partitions"));

    for version in 6..=10 {
        for time in -7..0 {
            let (code, offset, timestamp, epoch) = offset(client, time, version);
            let at = if timestamp > 0 { "a time" } else { "no time" };
            note(&format!("offset {time} in version {version}"), format!("{code}, {offset} at {at}, epoch {epoch}"));
        }
    }
    all
}

/// The answers of Kafka 4.4.0, a line each; [`the_clusters_answers_are_kafkas`] compares them with
/// a real one.
const KAFKA: &str = include_str!("log_cluster.txt");

/// What this broker answers otherwise, on purpose.
const OTHERWISE: [(&str, &str); 2] = [
    // Nothing of the broker's own can be changed.
    ("the broker's", "`1` from 3, read only: true, Some((\"min.insync.replicas\", 3))"),
    ("all brokers'", "`1` from 3, read only: true, Some((\"min.insync.replicas\", 3))"),
];

#[test]
fn a_cluster_of_one_answers_as_kafka() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(KafkaConfig::new(dir.path()));
    let answers = answers(broker.address);
    let mut different = Vec::new();
    for ((what, answer), kafka) in answers.iter().zip(KAFKA.lines()) {
        let same = format!("{what}: {answer}") == kafka;
        if same == OTHERWISE.contains(&(what.as_str(), answer.as_str())) {
            different.push(format!("{what}: {answer}, Kafka: {kafka}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert_eq!(answers.len(), KAFKA.lines().count());
}

#[test]
fn the_clusters_answers_are_kafkas() {
    so_by_kafka(KAFKA, answers);
}
