//! Metadata and DescribeCluster: the one broker, and its topics.

use std::sync::Arc;

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, MetadataRequest, MetadataResponse, TopicName,
};
use uuid::Uuid;

use super::super::code;
use super::super::names::{CLUSTER, LEADER_EPOCH, NO_OPERATIONS, OFFSETS_TOPIC};
use super::super::reply::text;
use super::context::{RequestContext, once};
use super::pending::Pending;
use crate::broker::log::Topic;

/// Answers with the broker and the topics asked for, which are made if that is allowed.
pub(super) fn metadata(call: &RequestContext<'_>, request: MetadataRequest) -> Pending {
    let all = match &request.topics {
        None => true,
        Some(topics) => topics.is_empty() && call.version == 0,
    };
    let create = request.allow_auto_topic_creation || call.version < 4;
    let topics = if all {
        call.hub.log.topics().iter().map(|topic| described(call, topic)).collect()
    } else {
        let wanted = once(request.topics.unwrap_or_default(), |topic| (topic.name.clone(), topic.topic_id));
        wanted.into_iter().map(|topic| one(call, topic.name, topic.topic_id, create)).collect()
    };
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(call.hub.config.node))
        .with_host(call.host())
        .with_port(call.port());
    let response = MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(text(CLUSTER)))
        .with_controller_id(BrokerId(call.hub.config.node))
        .with_cluster_authorized_operations(NO_OPERATIONS)
        .with_topics(topics);
    call.ready(&response)
}

fn one(call: &RequestContext<'_>, name: Option<TopicName>, id: Uuid, create: bool) -> MetadataResponseTopic {
    let refused = |code, name: Option<TopicName>| {
        MetadataResponseTopic::default()
            .with_error_code(code)
            .with_name(name)
            .with_topic_id(id)
            .with_topic_authorized_operations(NO_OPERATIONS)
    };
    let Some(name) = name else {
        let known = call.hub.log.topics().into_iter().find(|topic| topic.id() == *id.as_bytes());
        // Versions below 12 cannot say that a topic has no name.
        let nameless = (call.version < 12).then(TopicName::default);
        return known.map_or_else(|| refused(code::UNKNOWN_TOPIC_ID, nameless), |topic| described(call, &topic));
    };
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > 249 || !name.bytes().all(legal) || matches!(name.as_str(), "." | "..") {
        return refused(code::INVALID_TOPIC, Some(name));
    }
    match call.hub.topic_or_new(&name, create) {
        Some(topic) => described(call, &topic),
        None if create && call.hub.config.auto_create && call.hub.colliding(&name).is_some() => {
            refused(code::INVALID_TOPIC, Some(name))
        }
        None => refused(code::UNKNOWN_TOPIC_OR_PARTITION, Some(name)),
    }
}

fn described(call: &RequestContext<'_>, topic: &Arc<Topic>) -> MetadataResponseTopic {
    let partition = |index: usize| {
        MetadataResponsePartition::default()
            .with_partition_index(index as i32)
            .with_leader_id(BrokerId(call.hub.config.node))
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![BrokerId(call.hub.config.node)])
            .with_isr_nodes(vec![BrokerId(call.hub.config.node)])
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&**topic.name()))))
        .with_topic_id(Uuid::from_bytes(topic.id()))
        .with_is_internal(&**topic.name() == OFFSETS_TOPIC)
        .with_topic_authorized_operations(NO_OPERATIONS)
        .with_partitions((0..topic.count()).map(partition).collect())
}

/// Answers with the one broker.
pub(super) fn cluster(call: &RequestContext<'_>, _: DescribeClusterRequest) -> Pending {
    let broker = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(call.hub.config.node))
        .with_host(call.host())
        .with_port(call.port());
    let response = DescribeClusterResponse::default()
        .with_endpoint_type(1)
        .with_cluster_id(text(CLUSTER))
        .with_controller_id(BrokerId(call.hub.config.node))
        .with_brokers(vec![broker])
        .with_cluster_authorized_operations(NO_OPERATIONS);
    call.ready(&response)
}
