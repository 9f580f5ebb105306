//! The requests: from a frame to its handler, and the handlers.
//!
//! A handler takes a [`RequestContext`] and gives a [`Pending`]: an answer, or what it waits for.

mod admin;
mod cluster;
mod committed;
mod configs;
mod consumer_groups;
mod context;
mod fetch;
mod fetch_wait;
mod groups;
mod metadata;
mod offsets;
mod pending;
mod produce;
mod produce_wait;
mod sasl;
mod topic_settings;
mod transactions;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self as m, ApiKey};
use kafka_protocol::protocol::Decodable;

use super::blocking::run_blocking;
use super::hub::KafkaHub;
use super::{api, shape};
use crate::broker::log::WakeSignal;
use context::RequestContext;

pub(super) use context::RequestViolation;
pub(super) use pending::Pending;
pub(super) use produce_wait::append_staged;
pub(super) use sasl::SaslSession;

/// Where requests come from.
pub(super) struct RequestOrigin<'a> {
    pub(super) hub: &'a Arc<KafkaHub>,
    pub(super) wake_signal: &'a Arc<WakeSignal>,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
}

/// Carries out the request in `frame`; `None` when it has no answer.
pub(super) fn carry_out(
    origin: &RequestOrigin<'_>,
    login: &mut SaslSession,
    frame: Bytes,
) -> Result<Option<Pending>, RequestViolation> {
    if let Some(reply) = login.raw(&frame)? {
        return Ok(Some(Pending::Ready(Some(reply))));
    }
    let (head, rest) = frame.split_first_chunk::<8>().ok_or(RequestViolation::Malformed)?;
    let key = i16::from_be_bytes([head[0], head[1]]);
    let version = i16::from_be_bytes([head[2], head[3]]);
    let correlation = i32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let served = api::find(key).ok_or(RequestViolation::Malformed)?;
    if served.key == ApiKey::ApiVersions && !(served.from..=served.to).contains(&version) {
        return Ok(Some(Pending::Ready(Some(api::versions(correlation, version)))));
    }
    if !(served.from..=served.to).contains(&version) {
        return Err(RequestViolation::Malformed);
    }
    let (client, mut rest) = client(rest).ok_or(RequestViolation::Malformed)?;
    if served.key.request_header_version(version) >= 2 {
        rest = shape::skip_tags(rest).map_err(|_| RequestViolation::Malformed)?;
    }
    let length = shape::check(key, version, rest).map_err(|_| RequestViolation::Malformed)?;
    let body = frame.slice_ref(&rest[..length]);
    login.gate(served.key)?;
    let call = RequestContext {
        hub: origin.hub,
        wake_signal: origin.wake_signal,
        local: origin.local,
        peer: origin.peer,
        client,
        correlation,
        version,
    };
    match served.key {
        // What these make, remove, write down or look for may take the disk a while.
        ApiKey::CreateTopics
        | ApiKey::DeleteTopics
        | ApiKey::CreatePartitions
        | ApiKey::AlterConfigs
        | ApiKey::IncrementalAlterConfigs
        | ApiKey::DeleteRecords
        | ApiKey::ListOffsets => run_blocking(|| dispatch(&call, served.key, login, body)),
        key => dispatch(&call, key, login, body),
    }
}

/// The client's name, and what follows it.
fn client(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let Ok(length) = usize::try_from(i16::from_be_bytes(*length)) else { return Some(("", rest)) };
    Some((std::str::from_utf8(rest.get(..length)?).ok()?, &rest[length..]))
}

fn decode<T: Decodable>(call: &RequestContext<'_>, mut body: Bytes) -> Result<T, RequestViolation> {
    T::decode(&mut body, call.version).map_err(|_| RequestViolation::Malformed)
}

fn dispatch(
    call: &RequestContext<'_>,
    key: ApiKey,
    login: &mut SaslSession,
    body: Bytes,
) -> Result<Option<Pending>, RequestViolation> {
    macro_rules! serve {
        ($($key:ident, $request:ident => $handler:expr;)*) => {
            match key {
                ApiKey::Produce => return produce::produce(call, decode(call, body)?),
                ApiKey::ApiVersions => {
                    decode::<m::ApiVersionsRequest>(call, body)?;
                    Pending::Ready(Some(api::versions(call.correlation, call.version)))
                }
                ApiKey::SaslHandshake => sasl::handshake(call, login, &decode(call, body)?),
                ApiKey::SaslAuthenticate => sasl::authenticate(call, login, &decode(call, body)?),
                $(ApiKey::$key => {
                    let request: m::$request = decode(call, body)?;
                    $handler(call, request)
                })*
                _ => return Err(RequestViolation::Malformed),
            }
        };
    }
    Ok(Some(serve! {
        Fetch, FetchRequest => fetch::fetch;
        ListOffsets, ListOffsetsRequest => offsets::list;
        OffsetForLeaderEpoch, OffsetForLeaderEpochRequest => offsets::of_epoch;
        DeleteRecords, DeleteRecordsRequest => offsets::delete_records;
        Metadata, MetadataRequest => metadata::metadata;
        DescribeCluster, DescribeClusterRequest => metadata::cluster;
        DescribeTopicPartitions, DescribeTopicPartitionsRequest => cluster::topic_partitions;
        DescribeLogDirs, DescribeLogDirsRequest => cluster::log_dirs;
        AlterReplicaLogDirs, AlterReplicaLogDirsRequest => cluster::move_dirs;
        ElectLeaders, ElectLeadersRequest => cluster::elect_leaders;
        AlterPartitionReassignments, AlterPartitionReassignmentsRequest => cluster::reassign;
        ListPartitionReassignments, ListPartitionReassignmentsRequest => cluster::reassignments;
        DescribeQuorum, DescribeQuorumRequest => cluster::quorum;
        CreateTopics, CreateTopicsRequest => admin::create_topics;
        DeleteTopics, DeleteTopicsRequest => admin::delete_topics;
        CreatePartitions, CreatePartitionsRequest => admin::create_partitions;
        InitProducerId, InitProducerIdRequest => transactions::init_producer_id;
        AddPartitionsToTxn, AddPartitionsToTxnRequest => transactions::add_partitions;
        AddOffsetsToTxn, AddOffsetsToTxnRequest => transactions::add_offsets;
        TxnOffsetCommit, TxnOffsetCommitRequest => transactions::commit_offsets;
        EndTxn, EndTxnRequest => transactions::end;
        DescribeConfigs, DescribeConfigsRequest => configs::describe;
        AlterConfigs, AlterConfigsRequest => configs::alter;
        IncrementalAlterConfigs, IncrementalAlterConfigsRequest => configs::alter_some;
        FindCoordinator, FindCoordinatorRequest => groups::find_coordinator;
        JoinGroup, JoinGroupRequest => groups::join;
        SyncGroup, SyncGroupRequest => groups::sync;
        Heartbeat, HeartbeatRequest => groups::heartbeat;
        ConsumerGroupHeartbeat, ConsumerGroupHeartbeatRequest => consumer_groups::heartbeat;
        ConsumerGroupDescribe, ConsumerGroupDescribeRequest => consumer_groups::describe;
        LeaveGroup, LeaveGroupRequest => groups::leave;
        DescribeGroups, DescribeGroupsRequest => groups::describe;
        ListGroups, ListGroupsRequest => groups::list;
        DeleteGroups, DeleteGroupsRequest => groups::delete;
        OffsetCommit, OffsetCommitRequest => committed::commit;
        OffsetFetch, OffsetFetchRequest => committed::fetch_offsets;
        OffsetDelete, OffsetDeleteRequest => committed::delete_offsets;
    }))
}
