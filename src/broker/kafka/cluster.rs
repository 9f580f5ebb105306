//! What tools ask of a cluster, answered for one broker: its topics page by page, its directory,
//! elections and moves that never happen.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{
    BrokerId, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse, ElectLeadersRequest, ElectLeadersResponse, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse, TopicName,
};
use uuid::Uuid;

use super::super::log::Topic;
use super::code;
use super::hub::{LEADER_EPOCH, OFFSETS_TOPIC, RequestContext, once, text};
use super::metadata::NO_OPERATIONS;
use super::pending::Pending;

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
        .with_log_dir(text(call.hub.config.log.dir.display().to_string()))
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

/// Answers that nothing is being moved.
pub(super) fn reassignments(call: &RequestContext<'_>, _: ListPartitionReassignmentsRequest) -> Pending {
    call.ready(&ListPartitionReassignmentsResponse::default().with_error_message(None))
}
