//! Offsets by time, by epoch, and the forgetting of records.

use std::ops::ControlFlow;

use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};

use super::super::code;
use super::super::compressed::walk;
use super::super::names::LEADER_EPOCH;
use super::context::RequestContext;
use super::pending::Pending;
use crate::broker::log::{LogError, Partition, ReadIsolation};

/// Times that mean something else.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// The first offset on the broker's own disk. There is no tiered storage, so it is the first of
/// all.
const EARLIEST_LOCAL: i64 = -4;
/// The last offset in tiered storage, which there never is.
const LATEST_TIERED: i64 = -5;

/// The first version that knows what a negative time means; `None` if none that is served does.
fn since(timestamp: i64) -> Option<i16> {
    match timestamp {
        MAX_TIMESTAMP => Some(7),
        EARLIEST_LOCAL => Some(8),
        LATEST_TIERED => Some(9),
        time if time < LATEST_TIERED => None,
        _ => Some(0),
    }
}

/// Answers with the first offset at or after a time, or an end of the log.
pub(super) fn list(call: &RequestContext<'_>, request: ListOffsetsRequest) -> Pending {
    let isolation = if request.isolation_level == 1 { ReadIsolation::Committed } else { ReadIsolation::Uncommitted };
    let topics = request.topics.into_iter().map(|topic| {
        let parts = topic.partitions.into_iter().map(|part| {
            let response = ListOffsetsPartitionResponse::default()
                .with_partition_index(part.partition_index)
                .with_timestamp(-1)
                .with_offset(-1)
                .with_leader_epoch(-1);
            let found = match call.hub.partition(&topic.name, part.partition_index) {
                None => Err(code::UNKNOWN_TOPIC_OR_PARTITION),
                _ if since(part.timestamp).is_none_or(|first| call.version < first) => Err(code::UNSUPPORTED_VERSION),
                Some(_) if part.current_leader_epoch > LEADER_EPOCH => Err(code::UNKNOWN_LEADER_EPOCH),
                Some(partition) => find(&partition, part.timestamp, isolation).map_err(|error| code::of(&error)),
            };
            match found {
                Err(code) => response.with_error_code(code),
                Ok(None) => response,
                Ok(Some((offset, timestamp))) => response
                    .with_offset(offset as i64)
                    .with_timestamp(timestamp)
                    .with_leader_epoch(if call.version >= 4 { LEADER_EPOCH } else { -1 }),
            }
        });
        let parts = parts.collect();
        ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(parts)
    });
    let topics = topics.collect();
    call.ready(&ListOffsetsResponse::default().with_topics(topics))
}

/// The offset, and the time of the record there if it was looked for by time.
fn find(partition: &Partition, timestamp: i64, isolation: ReadIsolation) -> Result<Option<(u64, i64)>, LogError> {
    let (start, end) = partition.bounds();
    let end = if isolation == ReadIsolation::Committed { partition.stable_end() } else { end };
    let timestamp = match timestamp {
        LATEST => return Ok(Some((end, -1))),
        EARLIEST | EARLIEST_LOCAL => return Ok(Some((start, -1))),
        LATEST_TIERED => return Ok(None),
        MAX_TIMESTAMP => match partition.max_timestamp() {
            Some(newest) => newest,
            None => return Ok(None),
        },
        time => time,
    };
    let Some((view, bytes)) = partition.find_time(timestamp, isolation)? else { return Ok(None) };
    let mut found = None;
    // What cannot be read on is known as far as it could be: the first offset of the batch is
    // early, never late.
    let _ = walk(&bytes, |record| {
        let offset = view.base + u64::from(record.offset);
        if record.timestamp >= timestamp && offset >= start {
            found = Some((offset, record.timestamp));
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    Ok(found.or(Some((view.base.max(start), view.max_timestamp))))
}

/// Answers where an epoch of leadership ended; there has been one, and it goes on.
pub(super) fn of_epoch(call: &RequestContext<'_>, request: OffsetForLeaderEpochRequest) -> Pending {
    let topics = request.topics.into_iter().map(|topic| {
        let parts = topic.partitions.into_iter().map(|part| {
            let response =
                EpochEndOffset::default().with_partition(part.partition).with_leader_epoch(-1).with_end_offset(-1);
            match call.hub.partition(&topic.topic, part.partition) {
                None => response.with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION),
                Some(_) if part.current_leader_epoch > LEADER_EPOCH => {
                    response.with_error_code(code::UNKNOWN_LEADER_EPOCH)
                }
                Some(_) if (0..LEADER_EPOCH).contains(&part.current_leader_epoch) => {
                    response.with_error_code(code::FENCED_LEADER_EPOCH)
                }
                Some(partition) if part.leader_epoch == LEADER_EPOCH => {
                    response.with_leader_epoch(LEADER_EPOCH).with_end_offset(partition.bounds().1 as i64)
                }
                Some(_) => response,
            }
        });
        let parts = parts.collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(parts)
    });
    let topics = topics.collect();
    call.ready(&OffsetForLeaderEpochResponse::default().with_topics(topics))
}

/// Forgets records before an offset; -1 is all there are.
pub(super) fn delete_records(call: &RequestContext<'_>, request: DeleteRecordsRequest) -> Pending {
    let topics = request.topics.into_iter().map(|topic| {
        let parts = topic.partitions.into_iter().map(|part| {
            let response = DeleteRecordsPartitionResult::default().with_partition_index(part.partition_index);
            let allowed = !topic.name.starts_with("__");
            let trimmed = match call.hub.partition(&topic.name, part.partition_index).filter(|_| allowed) {
                None => Err(code::UNKNOWN_TOPIC_OR_PARTITION),
                Some(partition) => {
                    let offset =
                        if part.offset == -1 { Some(partition.bounds().1) } else { u64::try_from(part.offset).ok() };
                    let trim = |offset| partition.trim(offset).map_err(|error| code::of(&error));
                    offset.ok_or(code::OFFSET_OUT_OF_RANGE).and_then(trim)
                }
            };
            match trimmed {
                Ok(start) => response.with_low_watermark(start as i64),
                Err(code) => response.with_low_watermark(-1).with_error_code(code),
            }
        });
        let parts = parts.collect();
        DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(parts)
    });
    let topics = topics.collect();
    call.ready(&DeleteRecordsResponse::default().with_topics(topics))
}
