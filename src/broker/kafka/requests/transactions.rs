//! The requests about transactions, from and to the words of the protocol.

use std::time::Duration;

use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::*;

use super::super::code;
use super::super::groups::committed::{Committed, PartitionKey};
use super::super::groups::state::MemberIdentity;
use super::super::groups::wall;
use super::super::names::OFFSETS_TOPIC;
use super::super::reply::ReplySlot;
use super::super::transactions::state::{PartitionName, ProducerIdentity};
use super::super::transactions::{EndOutcome, EndWaiter, end_response};
use super::committed::{MAX_METADATA, SYNC_WAIT};
use super::context::RequestContext;
use super::pending::Pending;
use crate::broker::log::SyncTicket;
use crate::broker::shared::log_error;

/// Longest time a producer may ask for until its transaction is aborted, in milliseconds; Kafka's
/// `transaction.max.timeout.ms`.
const MAX_TIMEOUT: i32 = 900_000;

/// From this version on offsets become a part of the transaction by being committed (KIP-890).
const OFFSETS_ADDED: i16 = 5;

/// What older versions call a producer that is fenced.
fn spoken(error: i16, version: i16, fenced_since: i16) -> i16 {
    if error == code::PRODUCER_FENCED && version < fenced_since { code::INVALID_PRODUCER_EPOCH } else { error }
}

/// An answer that waits for syncs, if any are due: the good one, and the one when one fails.
fn once_synced<T>(
    call: &RequestContext<'_>,
    tickets: impl IntoIterator<Item = SyncTicket>,
    response: impl Fn(i16) -> T,
) -> Pending
where
    T: kafka_protocol::protocol::Encodable + kafka_protocol::protocol::HeaderVersion,
{
    let tickets: Vec<SyncTicket> = tickets.into_iter().collect();
    match tickets.is_empty() {
        true => call.ready(&response(code::NONE)),
        false => {
            let replies = (call.reply(&response(code::NONE)), call.reply(&response(code::COORDINATOR_NOT_AVAILABLE)));
            Pending::Commit(tickets, tokio::time::Instant::now() + SYNC_WAIT, Some(Box::new(replies)))
        }
    }
}

/// Gives a producer an id, or a new epoch to one with a transactional id.
pub(super) fn init_producer_id(call: &RequestContext<'_>, request: InitProducerIdRequest) -> Pending {
    let refused = |error| {
        InitProducerIdResponse::default()
            .with_error_code(spoken(error, call.version, 4))
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    let granted =
        |id, epoch| InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(epoch);
    let Some(id) = &request.transactional_id else {
        // An idempotent producer without transactions gets a new id each time, as from Kafka.
        return call.ready(&match call.hub.log.producer_id() {
            Ok(id) => granted(id, 0),
            Err(error) => refused(code::of(&error)),
        });
    };
    if id.is_empty() {
        return call.ready(&refused(code::INVALID_REQUEST));
    }
    if !(1..=MAX_TIMEOUT).contains(&request.transaction_timeout_ms) {
        return call.ready(&refused(code::INVALID_TRANSACTION_TIMEOUT));
    }
    let known = ProducerIdentity { id: request.producer_id.0, epoch: request.producer_epoch };
    let known = match (known.id >= 0, known.epoch >= 0) {
        _ if call.version < 3 => None,
        (true, true) => Some(known),
        (false, false) => None,
        _ => return call.ready(&refused(code::INVALID_REQUEST)),
    };
    match call.hub.transactions.init(id, request.transaction_timeout_ms, known) {
        Err(error) => call.ready(&refused(error)),
        Ok((producer, ticket)) => once_synced(call, ticket, |error| match error {
            code::NONE => granted(producer.id, producer.epoch),
            error => refused(error),
        }),
    }
}

/// Makes partitions a part of a transaction.
pub(super) fn add_partitions(call: &RequestContext<'_>, request: AddPartitionsToTxnRequest) -> Pending {
    let producer =
        ProducerIdentity { id: request.v3_and_below_producer_id.0, epoch: request.v3_and_below_producer_epoch };
    let topics = &request.v3_and_below_topics;
    let known = |name: &TopicName, index| !name.starts_with("__") && call.hub.partition(name, index).is_some();
    let wanted = topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (&topic.name, *index)));
    let complete = wanted.clone().all(|(name, index)| known(name, index));
    let response = |error: i16| {
        let results = topics.iter().map(|topic| {
            let parts = topic.partitions.iter().map(|index| {
                let error = match error {
                    code::OPERATION_NOT_ATTEMPTED if !known(&topic.name, *index) => code::UNKNOWN_TOPIC_OR_PARTITION,
                    error => spoken(error, call.version, 2),
                };
                AddPartitionsToTxnPartitionResult::default()
                    .with_partition_index(*index)
                    .with_partition_error_code(error)
            });
            AddPartitionsToTxnTopicResult::default()
                .with_name(topic.name.clone())
                .with_results_by_partition(parts.collect())
        });
        AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results.collect())
    };
    if !complete {
        return call.ready(&response(code::OPERATION_NOT_ATTEMPTED));
    }
    let partitions: Vec<PartitionName> = wanted.map(|(name, index)| (name.to_string(), index)).collect();
    match add(call, &request.v3_and_below_transactional_id, producer, &partitions) {
        Ok(ticket) => once_synced(call, ticket, response),
        Err(error) => call.ready(&response(error)),
    }
}

fn add(
    call: &RequestContext<'_>,
    id: &str,
    producer: ProducerIdentity,
    partitions: &[PartitionName],
) -> Result<Option<SyncTicket>, i16> {
    if id.is_empty() { Err(code::INVALID_REQUEST) } else { call.hub.transactions.add(id, producer, partitions) }
}

/// Makes a group's offsets a part of a transaction.
pub(super) fn add_offsets(call: &RequestContext<'_>, request: AddOffsetsToTxnRequest) -> Pending {
    let producer = ProducerIdentity { id: request.producer_id.0, epoch: request.producer_epoch };
    let response = |error| AddOffsetsToTxnResponse::default().with_error_code(spoken(error, call.version, 2));
    match add(call, &request.transactional_id, producer, &[(OFFSETS_TOPIC.to_owned(), 0)]) {
        Ok(ticket) => once_synced(call, ticket, response),
        Err(error) => call.ready(&response(error)),
    }
}

/// Commits offsets within a transaction.
pub(super) fn commit_offsets(call: &RequestContext<'_>, request: TxnOffsetCommitRequest) -> Pending {
    let (allowed, admitted, joined) = match may_commit(call, &request) {
        Ok((admitted, joined)) => (Ok(()), admitted, joined),
        Err(error) => (Err(error), 0, None),
    };
    let mut changes: Vec<(PartitionKey, Committed)> = Vec::new();
    let topics = request.topics.into_iter().map(|topic| {
        let known = call.hub.log.topic(&topic.name);
        let codes = topic.partitions.into_iter().map(|part| {
            let index = part.partition_index;
            let there = known.as_ref().and_then(|topic| topic.partition(index)).is_some();
            let metadata = part.committed_metadata.map(|m| m.to_string()).unwrap_or_default();
            let error = match allowed {
                _ if !there => code::UNKNOWN_TOPIC_OR_PARTITION,
                Err(error) => error,
                Ok(()) if metadata.len() > MAX_METADATA => code::OFFSET_METADATA_TOO_LARGE,
                Ok(()) => {
                    let committed =
                        Committed { offset: part.committed_offset, epoch: part.committed_leader_epoch, metadata };
                    changes.push(((topic.name.to_string(), index), committed));
                    code::NONE
                }
            };
            (index, error)
        });
        let codes: Vec<(i32, i16)> = codes.collect();
        (topic.name, codes)
    });
    let topics: Vec<(TopicName, Vec<(i32, i16)>)> = topics.collect();
    let response = |failed: i16| {
        let topics = topics.iter().map(|(name, codes)| {
            let parts = codes.iter().map(|(index, code)| {
                let code = if *code == code::NONE { failed } else { *code };
                TxnOffsetCommitResponsePartition::default().with_partition_index(*index).with_error_code(code)
            });
            TxnOffsetCommitResponseTopic::default().with_name(name.clone()).with_partitions(parts.collect())
        });
        TxnOffsetCommitResponse::default().with_topics(topics.collect())
    };
    let producer = (request.producer_id.0, request.producer_epoch, admitted);
    match call.hub.groups.offsets.commit_within(&request.group_id, changes, producer, wall()) {
        Ok(ticket) => once_synced(call, ticket.into_iter().chain(joined), response),
        Err(error) => {
            log_error(&error);
            call.ready(&response(code::of(&error)))
        }
    }
}

/// Whether the producer may commit offsets of this group within its transaction; what the next
/// record of offsets was to be when that was so. Where the client leaves that to the broker the
/// offsets become a part of the transaction, by a record whose sync is given.
fn may_commit(call: &RequestContext<'_>, request: &TxnOffsetCommitRequest) -> Result<(u64, Option<SyncTicket>), i16> {
    if request.group_id.is_empty() {
        return Err(code::INVALID_GROUP_ID);
    }
    let producer = ProducerIdentity { id: request.producer_id.0, epoch: request.producer_epoch };
    let mut joined = None;
    if call.version >= OFFSETS_ADDED {
        let added = add(call, &request.transactional_id, producer, &[(OFFSETS_TOPIC.to_owned(), 0)]);
        joined =
            added.map_err(|error| if error == code::PRODUCER_FENCED { code::INVALID_PRODUCER_EPOCH } else { error })?;
    }
    let admitted = call.hub.transactions.admits_offsets(&request.transactional_id, producer)?;
    let who = MemberIdentity {
        member: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    if who.member.is_empty() && who.generation < 0 && who.instance.is_none() {
        // Who reads without a group, or is too old to say who it is.
        return Ok((admitted, joined));
    }
    match call.hub.groups.may_commit(&request.group_id, who) {
        None if who.generation < 0 => Ok((admitted, joined)),
        Some(Err(code::STALE_MEMBER_EPOCH)) | None => Err(code::ILLEGAL_GENERATION),
        Some(may) => may.map(|()| (admitted, joined)),
    }
}

/// Ends a transaction; answered when that is decided for good.
pub(super) fn end(call: &RequestContext<'_>, request: EndTxnRequest) -> Pending {
    let producer = ProducerIdentity { id: request.producer_id.0, epoch: request.producer_epoch };
    let refused = |error| end_response(Err(spoken(error, call.version, 2)));
    if request.transactional_id.is_empty() {
        return call.ready(&refused(code::INVALID_REQUEST));
    }
    let slot = ReplySlot::new(call.wake_signal);
    let waiter = EndWaiter { slot: std::sync::Arc::clone(&slot), correlation: call.correlation, version: call.version };
    match call.hub.transactions.end(&request.transactional_id, producer, request.committed, waiter) {
        Ok(EndOutcome::Done(producer)) => call.ready(&end_response(Ok(producer))),
        Ok(EndOutcome::Waits) => Pending::Group(slot, tokio::time::Instant::now() + END_WAIT),
        Err(error) => call.ready(&refused(error)),
    }
}

/// Bound on the wait for a decision to be synced.
const END_WAIT: Duration = Duration::from_secs(120);
