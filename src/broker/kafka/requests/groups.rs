//! The requests about groups and their members, from and to the words of the protocol.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::find_coordinator_response::Coordinator as Found;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::super::code;
use super::super::groups::state::{Group, GroupReply, GroupState, JoinReply, JoinRequest, MemberIdentity, SyncReply};
use super::super::groups::waiter::{Waiter, join_response, sync_response};
use super::super::groups::wall;
use super::super::reply::text;
use super::context::{RequestContext, once};
use super::pending::Pending;

/// Bytes that a member may say about itself, over all protocols.
const MAX_METADATA: usize = 1 << 20;
/// Bound on the wait of a join or sync, beyond what the group itself allows.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// The place in a group of a request that waits, and what its connection waits for.
fn waiter(call: &RequestContext<'_>) -> (Waiter, Pending) {
    let (waiter, slot) = Waiter::new(call.wake_signal, call.correlation, call.version);
    (waiter, Pending::Group(slot, tokio::time::Instant::now() + MAX_WAIT))
}

/// What is kept must not keep the receive buffer it came in.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn optional(name: &Option<StrBytes>) -> Option<&str> {
    name.as_deref()
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// Every key's coordinator is this broker, if it has such coordinators.
pub(super) fn find_coordinator(call: &RequestContext<'_>, request: FindCoordinatorRequest) -> Pending {
    let refusal = match request.key_type {
        // Of groups and of transactional ids.
        0 | 1 => None,
        _ => Some((code::INVALID_REQUEST, "this broker has no such coordinator")),
    };
    let (error, words) = refusal.unwrap_or((code::NONE, ""));
    let (node, host, port) = match refusal {
        None => (call.hub.config.node, call.host(), call.port()),
        Some(_) => (-1, StrBytes::new(), -1),
    };
    let words = refusal.map(|_| StrBytes::from_static_str(words));
    let response = if call.version >= 4 {
        let found = request.coordinator_keys.into_iter().map(|key| {
            Found::default()
                .with_key(key)
                .with_node_id(BrokerId(node))
                .with_host(host.clone())
                .with_port(port)
                .with_error_code(error)
                .with_error_message(words.clone())
        });
        FindCoordinatorResponse::default().with_coordinators(found.collect())
    } else {
        FindCoordinatorResponse::default()
            .with_error_code(error)
            .with_error_message(words.filter(|_| call.version >= 1))
            .with_node_id(BrokerId(node))
            .with_host(host)
            .with_port(port)
    };
    call.ready(&response)
}

/// Takes a member into a group; answered when all have joined.
pub(super) fn join(call: &RequestContext<'_>, request: JoinGroupRequest) -> Pending {
    let refuse =
        |code| call.ready(&join_response(JoinReply::refused(code, request.member_id.to_string()), call.version));
    if request.group_id.is_empty() {
        return refuse(code::INVALID_GROUP_ID);
    }
    if !call.hub.config.sessions.contains(&request.session_timeout_ms) {
        return refuse(code::INVALID_SESSION_TIMEOUT);
    }
    if request.protocols.iter().map(|p| p.name.len() + p.metadata.len()).sum::<usize>() > MAX_METADATA {
        return refuse(code::INVALID_REQUEST);
    }
    let session = millis(request.session_timeout_ms);
    let coordinator = &call.hub.groups;
    if coordinator.consumers().contains_key(request.group_id.as_str()) {
        // Its members speak the new protocol.
        return refuse(code::INCONSISTENT_GROUP_PROTOCOL);
    }
    let join = JoinRequest {
        member: request.member_id.to_string(),
        instance: request.group_instance_id.as_ref().map(|id| id.to_string()),
        client: call.client.to_owned(),
        host: format!("/{}", call.peer.ip().to_canonical()),
        session,
        rebalance: if call.version == 0 { session } else { millis(request.rebalance_timeout_ms).max(session) },
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.iter().map(|p| (p.name.to_string(), own(&p.metadata))).collect(),
        needs_id: call.version >= 4,
        knows_skip: call.version >= 9,
    };
    let mut groups = coordinator.groups();
    let name = request.group_id.as_str();
    if !groups.contains_key(name) {
        if !join.member.is_empty() {
            return refuse(code::UNKNOWN_MEMBER_ID);
        }
        if groups.len() >= coordinator.max_groups {
            return refuse(code::COORDINATOR_NOT_AVAILABLE);
        }
        groups.insert(name.to_owned(), Group::new(coordinator.delay, coordinator.max_members));
    }
    let id = coordinator.member_id(request.group_instance_id.as_deref().unwrap_or(call.client));
    let (place, pending) = waiter(call);
    coordinator.with_group(&mut groups, name, |group, out| group.join(join, place, id, Instant::now(), out));
    pending
}

/// Takes the leader's assignments, or gives a member its own; answered when the leader's are there.
pub(super) fn sync(call: &RequestContext<'_>, request: SyncGroupRequest) -> Pending {
    let coordinator = &call.hub.groups;
    let who = MemberIdentity {
        member: &request.member_id,
        instance: optional(&request.group_instance_id),
        generation: request.generation_id,
    };
    let assignments = request.assignments.iter().map(|a| (a.member_id.to_string(), own(&a.assignment))).collect();
    let protocol = (optional(&request.protocol_type), optional(&request.protocol_name));
    let (place, pending) = waiter(call);
    let mut groups = coordinator.groups();
    let change = |group: &mut Group<Waiter>, out: &mut Vec<(Waiter, GroupReply)>| {
        group.sync(who, protocol, assignments, place, Instant::now(), out);
    };
    match coordinator.with_group(&mut groups, &request.group_id, change) {
        Some(()) => pending,
        None => call.ready(&sync_response(SyncReply::refused(code::UNKNOWN_MEMBER_ID))),
    }
}

/// Takes a heartbeat.
pub(super) fn heartbeat(call: &RequestContext<'_>, request: HeartbeatRequest) -> Pending {
    let coordinator = &call.hub.groups;
    let who = MemberIdentity {
        member: &request.member_id,
        instance: optional(&request.group_instance_id),
        generation: request.generation_id,
    };
    let mut groups = coordinator.groups();
    let beat = coordinator.with_group(&mut groups, &request.group_id, |group, _| group.heartbeat(who, Instant::now()));
    call.ready(&HeartbeatResponse::default().with_error_code(beat.unwrap_or(code::UNKNOWN_MEMBER_ID)))
}

/// Lets members go.
pub(super) fn leave(call: &RequestContext<'_>, request: LeaveGroupRequest) -> Pending {
    let coordinator = &call.hub.groups;
    let mut groups = coordinator.groups();
    let mut leave = |member: &str, instance: Option<&str>| {
        let left = coordinator.with_group(&mut groups, &request.group_id, |group, out| {
            group.leave(member, instance, Instant::now(), out)
        });
        left.unwrap_or(code::UNKNOWN_MEMBER_ID)
    };
    if call.version < 3 {
        let error = leave(&request.member_id, None);
        return call.ready(&LeaveGroupResponse::default().with_error_code(error));
    }
    let members = request.members.iter().map(|member| {
        let error = leave(&member.member_id, optional(&member.group_instance_id));
        MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(error)
    });
    let members = members.collect();
    call.ready(&LeaveGroupResponse::default().with_members(members))
}

/// Tells what groups are made of.
pub(super) fn describe(call: &RequestContext<'_>, request: DescribeGroupsRequest) -> Pending {
    let coordinator = &call.hub.groups;
    let groups = coordinator.groups();
    let described = once(request.groups, GroupId::clone).into_iter().map(|id| {
        let answer = DescribedGroup::default().with_group_id(id.clone()).with_authorized_operations(i32::MIN);
        let Some(group) = groups.get(id.as_str()) else {
            let known = coordinator.offsets.knows(&id);
            let state = if known { GroupState::Empty.name() } else { "Dead" };
            let kind = if known { "consumer" } else { "" };
            return answer.with_group_state(text(state)).with_protocol_type(text(kind));
        };
        let members = group.members.iter().map(|(id, member)| {
            let chosen = member.protocols.iter().find(|(name, _)| Some(name) == group.protocol.as_ref());
            DescribedGroupMember::default()
                .with_member_id(text(id.as_str()))
                .with_group_instance_id(member.instance.clone().filter(|_| call.version >= 4).map(text))
                .with_client_id(text(member.client.as_str()))
                .with_client_host(text(member.host.as_str()))
                .with_member_metadata(chosen.map(|(_, metadata)| metadata.clone()).unwrap_or_default())
                .with_member_assignment(member.assignment.clone())
        });
        answer
            .with_group_state(text(group.state.name()))
            .with_protocol_type(text(group.protocol_type.clone().unwrap_or_default()))
            .with_protocol_data(text(group.protocol.clone().unwrap_or_default()))
            .with_members(members.collect())
    });
    let described = described.collect();
    call.ready(&DescribeGroupsResponse::default().with_groups(described))
}

/// Lists the groups that have members or committed offsets.
pub(super) fn list(call: &RequestContext<'_>, request: ListGroupsRequest) -> Pending {
    let coordinator = &call.hub.groups;
    let groups = coordinator.groups();
    let kind = |group: &Group<Waiter>| group.protocol_type.clone().unwrap_or_default();
    let live = groups.iter().map(|(name, group)| (name.clone(), kind(group), group.state));
    let consumers = coordinator.consumers();
    let new = consumers.iter().map(|(name, group)| (name.clone(), "consumer".to_owned(), group.state()));
    let rest = |name: &String| !groups.contains_key(name) && !consumers.contains_key(name);
    let known = coordinator.offsets.names().into_iter().filter(rest);
    let known = known.map(|name| (name, "consumer".to_owned(), GroupState::Empty.name()));
    let all = live.map(|(name, kind, state)| (name, kind, state.name())).chain(new).chain(known);
    let wanted = |state: &str| {
        request.states_filter.is_empty() || request.states_filter.iter().any(|s| s.eq_ignore_ascii_case(state))
    };
    let listed = all.filter(|(_, _, state)| wanted(state)).map(|(name, kind, state)| {
        let state = if call.version >= 4 { state } else { "" };
        ListedGroup::default()
            .with_group_id(GroupId(text(name)))
            .with_protocol_type(text(kind))
            .with_group_state(text(state))
    });
    call.ready(&ListGroupsResponse::default().with_groups(listed.collect()))
}

/// Deletes groups without members, and what they have committed.
pub(super) fn delete(call: &RequestContext<'_>, request: DeleteGroupsRequest) -> Pending {
    let coordinator = &call.hub.groups;
    let mut groups = coordinator.groups();
    let results = request.groups_names.into_iter().map(|id| {
        let offsets = coordinator.offsets.all(&id);
        let error = match groups.get(id.as_str()) {
            Some(group) if !group.is_idle() => code::NON_EMPTY_GROUP,
            None if coordinator.consumers().contains_key(id.as_str()) => code::NON_EMPTY_GROUP,
            None if !coordinator.offsets.knows(&id) => code::GROUP_ID_NOT_FOUND,
            _ => {
                groups.remove(id.as_str());
                let gone = offsets.into_keys().map(|place| (place, None)).collect();
                match coordinator.offsets.commit(&id, gone, wall()) {
                    Ok(_) => {
                        coordinator.offsets.forget(&id);
                        code::NONE
                    }
                    Err(error) => code::of(&error),
                }
            }
        };
        delete_groups_response::DeletableGroupResult::default().with_group_id(id).with_error_code(error)
    });
    let results = results.collect();
    call.ready(&DeleteGroupsResponse::default().with_results(results))
}
