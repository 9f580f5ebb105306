//! The requests of members of the new group protocol (KIP-848), from and to the words of the
//! protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::messages::consumer_group_describe_response as described;
use kafka_protocol::messages::consumer_group_heartbeat_response as told;
use kafka_protocol::messages::*;
use uuid::Uuid;

use super::super::code;
use super::super::groups::consumer::assign::{PartitionId, ServerAssignor};
use super::super::groups::consumer::{Beat, BeatRefusal, BeatReply, ConsumerGroupState, ConsumerMember};
use super::super::names::NO_OPERATIONS;
use super::super::reply::text;
use super::context::{RequestContext, once};
use super::pending::Pending;

/// Topics that a member may name, and partitions that it may say it has.
const MAX_NAMED: usize = 10_000;

/// Partitions by topic, each topic once.
fn by_topic(partitions: &BTreeSet<PartitionId>) -> BTreeMap<[u8; 16], Vec<i32>> {
    let mut topics: BTreeMap<[u8; 16], Vec<i32>> = BTreeMap::new();
    for (topic, index) in partitions {
        topics.entry(*topic).or_default().push(*index);
    }
    topics
}

/// Takes a heartbeat, which also joins and leaves.
pub(super) fn heartbeat(call: &RequestContext<'_>, request: ConsumerGroupHeartbeatRequest) -> Pending {
    let interval = i32::try_from(call.hub.config.consumer_heartbeat.as_millis()).unwrap_or(i32::MAX);
    // Before version 1 the broker names members.
    let member = match request.member_id.is_empty() && request.member_epoch == 0 && call.version == 0 {
        true => Uuid::from_bytes(call.hub.log.new_id()).to_string(),
        false => request.member_id.to_string(),
    };
    let result = beat(call, &request, &member).and_then(|beat| call.hub.groups.beat(&request.group_id, &beat));
    let response = match result {
        Err((error, words)) => {
            ConsumerGroupHeartbeatResponse::default().with_error_code(error).with_error_message(Some(text(words)))
        }
        Ok(BeatReply { epoch, assignment }) => {
            let assignment = assignment.map(|partitions| {
                let topics = by_topic(&partitions).into_iter().map(|(topic, indexes)| {
                    told::TopicPartitions::default().with_topic_id(Uuid::from_bytes(topic)).with_partitions(indexes)
                });
                told::Assignment::default().with_topic_partitions(topics.collect())
            });
            ConsumerGroupHeartbeatResponse::default()
                .with_member_id(Some(text(member)))
                .with_member_epoch(epoch)
                .with_heartbeat_interval_ms(interval)
                .with_assignment(assignment)
        }
    };
    call.ready(&response)
}

fn beat(call: &RequestContext<'_>, request: &ConsumerGroupHeartbeatRequest, member: &str) -> Result<Beat, BeatRefusal> {
    let invalid = |words| Err((code::INVALID_REQUEST, words));
    if request.group_id.is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if member.is_empty() {
        return invalid("MemberId can't be empty.");
    }
    if request.subscribed_topic_regex.as_ref().is_some_and(|regex| !regex.is_empty()) {
        return Err((code::INVALID_REGULAR_EXPRESSION, "this broker takes no regular expression: name the topics"));
    }
    if request.member_epoch < -2 {
        return invalid("MemberEpoch is invalid.");
    }
    if request.instance_id.as_ref().is_some_and(|id| id.is_empty()) {
        return invalid("InstanceId can't be empty.");
    }
    if request.member_epoch == -2 && request.instance_id.is_none() {
        return invalid("InstanceId can't be null.");
    }
    let assignor = match request.server_assignor.as_deref() {
        None => None,
        Some(name) => match ServerAssignor::of(name) {
            Some(assignor) => Some(assignor),
            None => return Err((code::UNSUPPORTED_ASSIGNOR, "there are the assignors uniform and range")),
        },
    };
    let named = request.subscribed_topic_names.as_ref().map_or(0, Vec::len);
    let held = request.topic_partitions.iter().flatten().map(|topic| topic.partitions.len()).sum::<usize>();
    if named.max(held) > MAX_NAMED {
        return invalid("too many topics or partitions are named");
    }
    let names = |names: &Vec<TopicName>| names.iter().map(|name| name.to_string()).collect();
    let owned = |topics: &Vec<consumer_group_heartbeat_request::TopicPartitions>| {
        let all =
            topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (*topic.topic_id.as_bytes(), *index)));
        all.collect()
    };
    Ok(Beat {
        member: member.to_owned(),
        epoch: request.member_epoch,
        instance: request.instance_id.as_ref().map(|id| id.to_string()),
        client: call.client.to_owned(),
        host: format!("/{}", call.peer.ip().to_canonical()),
        rebalance: u64::try_from(request.rebalance_timeout_ms).ok().map(Duration::from_millis),
        names: request.subscribed_topic_names.as_ref().map(names),
        assignor,
        owned: request.topic_partitions.as_ref().map(owned),
    })
}

/// Tells what groups of the new protocol are made of.
pub(super) fn describe(call: &RequestContext<'_>, request: ConsumerGroupDescribeRequest) -> Pending {
    let topics = call.hub.log.topics();
    let names: BTreeMap<[u8; 16], TopicName> =
        topics.iter().map(|topic| (topic.id(), TopicName(text(&**topic.name())))).collect();
    let shown = |partitions: &BTreeSet<PartitionId>| {
        let topics = by_topic(partitions).into_iter().map(|(topic, indexes)| {
            described::TopicPartitions::default()
                .with_topic_id(Uuid::from_bytes(topic))
                .with_topic_name(names.get(&topic).cloned().unwrap_or_default())
                .with_partitions(indexes)
        });
        described::Assignment::default().with_topic_partitions(topics.collect())
    };
    let member = |group: &ConsumerGroupState, id: &str, member: &ConsumerMember| {
        let target = group.target.get(id).cloned().unwrap_or_default();
        described::Member::default()
            .with_member_id(text(id))
            .with_instance_id(member.instance.clone().map(text))
            .with_member_epoch(member.epoch)
            .with_client_id(text(member.client.as_str()))
            .with_client_host(text(member.host.as_str()))
            .with_subscribed_topic_names(member.names.iter().map(|name| TopicName(text(name.as_str()))).collect())
            .with_assignment(shown(&member.assigned))
            .with_target_assignment(shown(&target))
            .with_member_type(1)
    };
    let consumers = call.hub.groups.consumers();
    let groups = once(request.group_ids, GroupId::clone).into_iter().map(|id| {
        let answer = described::DescribedGroup::default()
            .with_group_id(id.clone())
            .with_error_message(None)
            .with_authorized_operations(NO_OPERATIONS);
        match consumers.get(id.as_str()) {
            Some(group) => answer
                .with_group_state(text(group.state()))
                .with_group_epoch(group.epoch)
                .with_assignment_epoch(group.target_epoch)
                .with_assignor_name(text(group.assignor().name()))
                .with_members(group.members.iter().map(|(id, m)| member(group, id, m)).collect()),
            None => answer
                .with_error_code(code::GROUP_ID_NOT_FOUND)
                .with_error_message(Some(text(format!("Group {} is not a consumer group.", id.as_str())))),
        }
    });
    let groups = groups.collect();
    drop(consumers);
    call.ready(&ConsumerGroupDescribeResponse::default().with_groups(groups))
}
