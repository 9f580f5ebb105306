//! The requests about committed offsets, from and to the words of the protocol.

use std::time::Duration;

use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::super::code;
use super::super::groups::committed::{Committed, PartitionKey};
use super::super::groups::state::MemberIdentity;
use super::super::groups::wall;
use super::super::reply::text;
use super::context::{RequestContext, once};
use super::pending::Pending;
use crate::broker::shared::log_error;

/// Longest metadata of a committed offset.
pub(super) const MAX_METADATA: usize = 4096;
/// Bound on the wait for a sync.
pub(super) const SYNC_WAIT: Duration = Duration::from_secs(60);

/// Notes offsets; answered when the sync policy covers them.
pub(super) fn commit(call: &RequestContext<'_>, request: OffsetCommitRequest) -> Pending {
    let coordinator = &call.hub.groups;
    let who = MemberIdentity {
        member: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        generation: request.generation_id_or_member_epoch,
    };
    let alone = who.generation < 0;
    let allowed = match coordinator.may_commit(&request.group_id, who) {
        _ if request.group_id.is_empty() => Err(code::INVALID_GROUP_ID),
        // What older versions call an epoch that has passed.
        Some(Err(code::STALE_MEMBER_EPOCH)) if call.version < 9 => Err(code::ILLEGAL_GENERATION),
        Some(may) => may,
        None if alone => Ok(()),
        // A group that has committed offsets is there, and has no members.
        None if coordinator.offsets.knows(&request.group_id) => Err(code::UNKNOWN_MEMBER_ID),
        None => Err(code::ILLEGAL_GENERATION),
    };
    let mut changes = Vec::new();
    let topics: Vec<(TopicName, Vec<(i32, i16)>)> = request
        .topics
        .into_iter()
        .map(|topic| {
            let known = call.hub.log.topic(&topic.name);
            let codes = topic.partitions.into_iter().map(|part| {
                let index = part.partition_index;
                let there = known.as_ref().and_then(|topic| topic.partition(index)).is_some();
                let metadata = part.committed_metadata.map(|m| m.to_string()).unwrap_or_default();
                let error = match allowed {
                    Err(code) => code,
                    Ok(()) if !there => code::UNKNOWN_TOPIC_OR_PARTITION,
                    Ok(()) if metadata.len() > MAX_METADATA => code::OFFSET_METADATA_TOO_LARGE,
                    Ok(()) => {
                        let committed =
                            Committed { offset: part.committed_offset, epoch: part.committed_leader_epoch, metadata };
                        changes.push(((topic.name.to_string(), index), Some(committed)));
                        code::NONE
                    }
                };
                (index, error)
            });
            let codes = codes.collect();
            (topic.name, codes)
        })
        .collect();
    let response = |failed: Option<i16>| {
        let topics = topics.iter().map(|(name, codes)| {
            let parts = codes.iter().map(|(index, code)| {
                let code = if *code == code::NONE { failed.unwrap_or(code::NONE) } else { *code };
                OffsetCommitResponsePartition::default().with_partition_index(*index).with_error_code(code)
            });
            OffsetCommitResponseTopic::default().with_name(name.clone()).with_partitions(parts.collect())
        });
        OffsetCommitResponse::default().with_topics(topics.collect())
    };
    match coordinator.offsets.commit(&request.group_id, changes, wall()) {
        Ok(None) => call.ready(&response(None)),
        Ok(Some(ticket)) => {
            let failed = response(Some(code::COORDINATOR_NOT_AVAILABLE));
            Pending::Commit(
                vec![ticket],
                tokio::time::Instant::now() + SYNC_WAIT,
                Some(Box::new((call.reply(&response(None)), call.reply(&failed)))),
            )
        }
        Err(error) => {
            log_error(&error);
            call.ready(&response(Some(code::COORDINATOR_NOT_AVAILABLE)))
        }
    }
}

type RequestedOffsets = Option<Vec<(TopicName, Vec<i32>)>>;
type FetchedOffsets = Vec<(TopicName, Vec<(i32, Result<Option<Committed>, i16>)>)>;

/// What is committed; with `stable`, an error where an open transaction is about to change it.
fn committed(call: &RequestContext<'_>, group: &str, wanted: RequestedOffsets, stable: bool) -> FetchedOffsets {
    let offsets = &call.hub.groups.offsets;
    let settled = |place: &PartitionKey, committed| match stable && offsets.is_pending(group, place) {
        true => Err(code::UNSTABLE_OFFSET_COMMIT),
        false => Ok(committed),
    };
    let Some(wanted) = wanted else {
        let mut all: FetchedOffsets = Vec::new();
        for (place, committed) in offsets.all(group) {
            let committed = settled(&place, Some(committed));
            let (topic, index) = place;
            match all.last_mut().filter(|(name, _)| **name == *topic) {
                Some((_, parts)) => parts.push((index, committed)),
                None => all.push((TopicName(text(topic)), vec![(index, committed)])),
            }
        }
        return all;
    };
    let one = |name: &TopicName, index: i32| {
        let place = PartitionKey::from((name.to_string(), index));
        settled(&place, offsets.get(group, &place))
    };
    once(wanted, |(name, _)| name.clone())
        .into_iter()
        .map(|(name, indexes)| {
            let indexes = once(indexes, |index| *index);
            let parts = indexes.into_iter().map(|index| (index, one(&name, index))).collect();
            (name, parts)
        })
        .collect()
}

fn fields(committed: Result<Option<Committed>, i16>) -> (i16, i64, i32, Option<StrBytes>) {
    match committed {
        Ok(Some(committed)) => (code::NONE, committed.offset, committed.epoch, Some(text(committed.metadata))),
        Ok(None) => (code::NONE, -1, -1, Some(StrBytes::new())),
        Err(error) => (error, -1, -1, Some(StrBytes::new())),
    }
}

/// Answers what is committed.
pub(super) fn fetch_offsets(call: &RequestContext<'_>, request: OffsetFetchRequest) -> Pending {
    if call.version < 8 {
        let wanted = request.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
        let topics =
            committed(call, &request.group_id, wanted, request.require_stable).into_iter().map(|(name, parts)| {
                let parts = parts.into_iter().map(|(index, committed)| {
                    let (error, offset, epoch, metadata) = fields(committed);
                    OffsetFetchResponsePartition::default()
                        .with_partition_index(index)
                        .with_error_code(error)
                        .with_committed_offset(offset)
                        .with_committed_leader_epoch(epoch)
                        .with_metadata(metadata)
                });
                OffsetFetchResponseTopic::default().with_name(name).with_partitions(parts.collect())
            });
        return call.ready(&OffsetFetchResponse::default().with_topics(topics.collect()));
    }
    let groups = once(request.groups, |group| group.group_id.clone()).into_iter().map(|group| {
        let asking = group.member_id.as_deref().filter(|_| group.member_epoch >= 0);
        if let Some(member) = asking
            && let Some(Err(error)) = call.hub.groups.is_current(&group.group_id, member, group.member_epoch)
        {
            return OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_error_code(error);
        }
        let wanted = group.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
        let topics =
            committed(call, &group.group_id, wanted, request.require_stable).into_iter().map(|(name, parts)| {
                let parts = parts.into_iter().map(|(index, committed)| {
                    let (error, offset, epoch, metadata) = fields(committed);
                    OffsetFetchResponsePartitions::default()
                        .with_partition_index(index)
                        .with_error_code(error)
                        .with_committed_offset(offset)
                        .with_committed_leader_epoch(epoch)
                        .with_metadata(metadata)
                });
                OffsetFetchResponseTopics::default().with_name(name).with_partitions(parts.collect())
            });
        OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone()).with_topics(topics.collect())
    });
    call.ready(&OffsetFetchResponse::default().with_groups(groups.collect()))
}

/// Forgets what is committed at some places that no member reads from.
pub(super) fn delete_offsets(call: &RequestContext<'_>, request: OffsetDeleteRequest) -> Pending {
    let coordinator = &call.hub.groups;
    let classic = coordinator.groups().get(request.group_id.as_str()).is_some_and(|group| !group.members.is_empty());
    let in_use = classic || coordinator.consumers().contains_key(request.group_id.as_str());
    let have = coordinator.offsets.all(&request.group_id);
    if !coordinator.offsets.knows(&request.group_id) && !in_use {
        return call.ready(&OffsetDeleteResponse::default().with_error_code(code::GROUP_ID_NOT_FOUND));
    }
    let mut gone = Vec::new();
    let topics = request.topics.into_iter().map(|topic| {
        let parts = topic.partitions.into_iter().map(|part| {
            // Which topics a member has subscribed to is in metadata that the broker does not read.
            let error = if in_use { code::GROUP_SUBSCRIBED_TO_TOPIC } else { code::NONE };
            let place = (topic.name.to_string(), part.partition_index);
            if !in_use && have.contains_key(&place) {
                gone.push((place, None));
            }
            OffsetDeleteResponsePartition::default().with_partition_index(part.partition_index).with_error_code(error)
        });
        let parts = parts.collect();
        OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(parts)
    });
    let topics = topics.collect();
    let error =
        coordinator.offsets.commit(&request.group_id, gone, wall()).map_or_else(|e| code::of(&e), |_| code::NONE);
    call.ready(&OffsetDeleteResponse::default().with_error_code(error).with_topics(topics))
}
