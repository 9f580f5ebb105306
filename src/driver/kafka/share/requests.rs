//! Acknowledgements as parts of requests.

use std::collections::BTreeMap;

use kafka_protocol::messages::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch as AckBatch,
};
use kafka_protocol::messages::share_fetch_request::{AcknowledgementBatch as FetchBatch, FetchPartition};
use kafka_protocol::messages::{GroupId, ShareAcknowledgeRequest};
use kafka_protocol::protocol::StrBytes;

use super::acks::AckRun;
use super::member::ShareIdentity;

/// A partition to be fetched from, with what is said of messages of it.
pub(super) fn fetch_partition(partition: i32, runs: Vec<AckRun>) -> FetchPartition {
    let batch = |run: AckRun| {
        FetchBatch::default().with_first_offset(run.first).with_last_offset(run.last).with_acknowledge_types(run.types)
    };
    FetchPartition::default()
        .with_partition_index(partition)
        .with_acknowledgement_batches(runs.into_iter().map(batch).collect())
}

/// The request that says nothing but what became of messages.
pub(super) fn acknowledgement(
    identity: &ShareIdentity,
    epoch: i32,
    acks: BTreeMap<i32, Vec<AckRun>>,
) -> ShareAcknowledgeRequest {
    let batch = |run: AckRun| {
        AckBatch::default().with_first_offset(run.first).with_last_offset(run.last).with_acknowledge_types(run.types)
    };
    let partition = |(partition, runs): (i32, Vec<AckRun>)| {
        AcknowledgePartition::default()
            .with_partition_index(partition)
            .with_acknowledgement_batches(runs.into_iter().map(batch).collect())
    };
    let topic = AcknowledgeTopic::default()
        .with_topic_id(identity.topic_id)
        .with_partitions(acks.into_iter().map(partition).collect());
    ShareAcknowledgeRequest::default()
        .with_group_id(Some(GroupId(StrBytes::from_string(identity.group.clone()))))
        .with_member_id(Some(StrBytes::from_string(identity.member.clone())))
        .with_share_session_epoch(epoch)
        .with_topics(vec![topic])
}
