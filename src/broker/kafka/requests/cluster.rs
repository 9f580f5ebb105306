//! What tools ask of a cluster, answered for one broker: its topics page by page, its directory,
//! its quorum, elections and moves that never happen.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::describe_quorum_response::{Node, PartitionData, ReplicaState, TopicData};
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse, BrokerId, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeQuorumRequest,
    DescribeQuorumResponse, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, ElectLeadersRequest,
    ElectLeadersResponse, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, TopicName,
};
use uuid::Uuid;

use super::super::code;
use super::super::groups::wall;
use super::super::names::{LEADER_EPOCH, NO_OPERATIONS, OFFSETS_TOPIC};
use super::super::reply::text;
use super::context::{RequestContext, once};
use super::pending::Pending;
use crate::broker::log::Topic;

/// Partitions in one answer at most, whatever the client asks for.
const PAGE: usize = 2000;

/// Describes topics by name, or all from the cursor on, so many partitions at a time.
pub(super) fn topic_partitions(call: &RequestContext<'_>, request: DescribeTopicPartitionsRequest) -> Pending {
    let log = &call.hub.log;
    let mut wanted: BTreeMap<String, ()> = request.topics.iter().map(|topic| (topic.name.to_string(), ())).collect();
    if wanted.is_empty() {
        wanted = log.topics().iter().map(|topic| (topic.name().to_string(), ())).collect();
    }
    let (mut name_from, mut first) = (String::new(), 0);
    if let Some(cursor) = request.cursor {
        name_from = cursor.topic_name.to_string();
        first = usize::try_from(cursor.partition_index).unwrap_or(0);
    }
    let mut left = usize::try_from(request.response_partition_limit).unwrap_or(PAGE).clamp(1, PAGE);
    let mut next = None;
    let mut topics = Vec::new();
    for name in wanted.into_keys().filter(|name| *name >= name_from) {
        let from = if name == name_from { first } else { 0 };
        if left == 0 {
            next = Some((name, from));
            break;
        }
        let answer = DescribeTopicPartitionsResponseTopic::default()
            .with_name(Some(TopicName(text(name.as_str()))))
            .with_topic_authorized_operations(NO_OPERATIONS);
        let Some(topic) = log.topic(&name) else {
            topics.push(answer.with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION));
            continue;
        };
        let count = topic.count();
        let to = count.min(from.saturating_add(left));
        left -= to.saturating_sub(from);
        let node = BrokerId(call.hub.config.node);
        let partitions = (from..to).map(|index| {
            DescribeTopicPartitionsResponsePartition::default()
                .with_partition_index(index as i32)
                .with_leader_id(node)
                .with_leader_epoch(LEADER_EPOCH)
                .with_replica_nodes(vec![node])
                .with_isr_nodes(vec![node])
                // Kafka's own client takes them for granted, though the protocol allows null.
                .with_eligible_leader_replicas(Some(Vec::new()))
                .with_last_known_elr(Some(Vec::new()))
        });
        topics.push(
            answer
                .with_topic_id(Uuid::from_bytes(topic.id()))
                .with_is_internal(name == OFFSETS_TOPIC)
                .with_partitions(partitions.collect()),
        );
        if to < count {
            next = Some((name, to));
            break;
        }
    }
    let cursor = |(name, index): (String, usize)| {
        Cursor::default().with_topic_name(TopicName(text(name))).with_partition_index(index as i32)
    };
    call.ready(&DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(next.map(cursor)))
}

/// The name of the one directory there is.
fn directory(call: &RequestContext<'_>) -> String {
    call.hub.config.log.dir.display().to_string()
}

/// Tells the size of every partition asked for.
pub(super) fn log_dirs(call: &RequestContext<'_>, request: DescribeLogDirsRequest) -> Pending {
    let sizes = |topic: &Topic, wanted: &dyn Fn(i32) -> bool| {
        let indexes = (0..topic.count() as i32).filter(|index| wanted(*index));
        let partitions = indexes.filter_map(|index| {
            let size = topic.partition(index)?.size();
            Some(DescribeLogDirsPartition::default().with_partition_index(index).with_partition_size(size as i64))
        });
        DescribeLogDirsTopic::default()
            .with_name(TopicName(text(&**topic.name())))
            .with_partitions(partitions.collect())
    };
    let log = &call.hub.log;
    let topics = match request.topics {
        None => log.topics().iter().map(|topic| sizes(topic, &|_| true)).collect(),
        Some(wanted) => once(wanted, |one| one.topic.clone())
            .iter()
            .filter_map(|one| Some(sizes(&*log.topic(&one.topic)?, &|index| one.partitions.contains(&index))))
            .collect(),
    };
    let dir = DescribeLogDirsResult::default()
        .with_log_dir(text(directory(call)))
        .with_topics(topics)
        .with_total_bytes(-1)
        .with_usable_bytes(-1);
    call.ready(&DescribeLogDirsResponse::default().with_results(vec![dir]))
}

/// Answers that the one broker leads already.
pub(super) fn elect_leaders(call: &RequestContext<'_>, request: ElectLeadersRequest) -> Pending {
    let wanted = request.topic_partitions.unwrap_or_default();
    let results = wanted.into_iter().map(|topic| {
        let results = topic.partitions.iter().map(|index| {
            let there = call.hub.partition(&topic.topic, *index).is_some();
            let code = if there { code::ELECTION_NOT_NEEDED } else { code::UNKNOWN_TOPIC_OR_PARTITION };
            let words =
                if there { "Leader election not needed for topic partition." } else { "No such topic-partition" };
            PartitionResult::default()
                .with_partition_id(*index)
                .with_error_code(code)
                .with_error_message(Some(text(words)))
        });
        let results = results.collect();
        ReplicaElectionResult::default().with_topic(topic.topic).with_partition_result(results)
    });
    let results = results.collect();
    call.ready(&ElectLeadersResponse::default().with_replica_election_results(results))
}

/// Answers that a partition is where it is to go, or that there is no such directory.
pub(super) fn move_dirs(call: &RequestContext<'_>, request: AlterReplicaLogDirsRequest) -> Pending {
    let own = directory(call);
    // Who names a partition again means the last directory, as in Kafka.
    let mut wanted: BTreeMap<TopicName, BTreeMap<i32, bool>> = BTreeMap::new();
    for dir in request.dirs {
        let here = *dir.path == *own;
        for topic in dir.topics {
            wanted.entry(topic.name).or_default().extend(topic.partitions.into_iter().map(|index| (index, here)));
        }
    }
    let results = wanted.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, here)| {
            let code = match here {
                false => code::LOG_DIR_NOT_FOUND,
                true if call.hub.partition(&name, index).is_none() => code::UNKNOWN_TOPIC_OR_PARTITION,
                true => code::NONE,
            };
            AlterReplicaLogDirPartitionResult::default().with_partition_index(index).with_error_code(code)
        });
        let partitions = partitions.collect();
        AlterReplicaLogDirTopicResult::default().with_topic_name(name).with_partitions(partitions)
    });
    let results = results.collect();
    call.ready(&AlterReplicaLogDirsResponse::default().with_results(results))
}

/// Answers that the partitions are on the one broker already, or that they cannot go elsewhere.
pub(super) fn reassign(call: &RequestContext<'_>, request: AlterPartitionReassignmentsRequest) -> Pending {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let (code, words) = moved(call, &topic.name, wanted);
            ReassignablePartitionResponse::default()
                .with_partition_index(wanted.partition_index)
                .with_error_code(code)
                .with_error_message(words.map(text))
        });
        let partitions = partitions.collect();
        ReassignableTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    let topics = topics.collect();
    call.ready(
        &AlterPartitionReassignmentsResponse::default()
            .with_allow_replication_factor_change(request.allow_replication_factor_change)
            .with_error_message(None)
            .with_responses(topics),
    )
}

/// What becomes of one partition's move, in code and words.
fn moved(call: &RequestContext<'_>, topic: &str, wanted: &ReassignablePartition) -> (i16, Option<String>) {
    let (node, index) = (BrokerId(call.hub.config.node), wanted.partition_index);
    let Some(known) = call.hub.log.topic(topic) else {
        return (code::UNKNOWN_TOPIC_OR_PARTITION, Some(format!("Unable to find a topic named {topic}.")));
    };
    if known.partition(index).is_none() {
        return (code::UNKNOWN_TOPIC_OR_PARTITION, Some(format!("Unable to find partition {topic}:{index}.")));
    }
    let wrong = match wanted.replicas.as_deref() {
        None => return (code::NO_REASSIGNMENT_IN_PROGRESS, None),
        Some([]) => "an empty replica list".to_owned(),
        Some(replicas) => match replicas.iter().find(|replica| **replica != node) {
            Some(BrokerId(other)) => format!("broker {other}, but the only broker is {}", node.0),
            None if replicas.len() > 1 => format!("the broker {} more than once", node.0),
            None => return (code::NONE, None),
        },
    };
    (code::INVALID_REPLICA_ASSIGNMENT, Some(format!("The manual partition assignment includes {wrong}.")))
}

/// The topic that a Kafka keeps its metadata in. Here they are in files, so what is told of it has
/// no records.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// Tells that the one broker leads itself. The log of the metadata is empty: its end and its high
/// watermark are 0.
pub(super) fn quorum(call: &RequestContext<'_>, request: DescribeQuorumRequest) -> Pending {
    let node = BrokerId(call.hub.config.node);
    let known = match request.topics.as_slice() {
        [topic] => **topic.topic_name == *METADATA_TOPIC && matches!(&*topic.partitions, [p] if p.partition_index == 0),
        _ => false,
    };
    let described = |index: i32| {
        let part = PartitionData::default().with_partition_index(index);
        if !known {
            return part
                .with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION)
                .with_error_message(Some(text("This server does not host this topic-partition.")));
        }
        let now = wall();
        let voter = ReplicaState::default()
            .with_replica_id(node)
            .with_log_end_offset(0)
            .with_last_fetch_timestamp(now)
            .with_last_caught_up_timestamp(now);
        part.with_leader_id(node)
            .with_leader_epoch(LEADER_EPOCH)
            .with_high_watermark(0)
            .with_current_voters(vec![voter])
    };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|part| described(part.partition_index)).collect();
        TopicData::default().with_topic_name(topic.topic_name).with_partitions(partitions)
    });
    let topics = topics.collect();
    // Without listeners: there is nobody else to vote with.
    let nodes = if known && call.version >= 2 { vec![Node::default().with_node_id(node)] } else { Vec::new() };
    call.ready(&DescribeQuorumResponse::default().with_topics(topics).with_nodes(nodes))
}

/// Answers that nothing is being moved.
pub(super) fn reassignments(call: &RequestContext<'_>, _: ListPartitionReassignmentsRequest) -> Pending {
    call.ready(&ListPartitionReassignmentsResponse::default().with_error_message(None))
}
