//! Produce: a batch per partition, appended as it came.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{ProduceRequest, TopicName};
use tokio::time::Instant;

use super::super::batch::{self, RecordBatches};
use super::super::faults::{Decision, QueuedBatch};
use super::super::groups::wall;
use super::super::store::{ProduceRefusal, StagedBatch, refuse};
use super::super::transactions::state::ProducerIdentity;
use super::super::{code, validity};
use super::context::{RequestContext, RequestViolation};
use super::pending::Pending;
use super::produce_wait::{PartitionOutcome, ProduceWait, outcome};
use crate::broker::log::{BatchFormat as _, Partition, SyncTicket, TopicSettings, TransactionStamp};

/// From this version on a partition becomes a part of a transaction by being written to (KIP-890).
const PARTITIONS_ADDED: i16 = 12;
/// Longest wait for a sync, whatever the client allows.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Takes what the request brings, to be appended by [`super::append_staged`]. With acks=0 there is
/// no answer, and a failure closes the connection.
pub(super) fn produce(call: &RequestContext<'_>, request: ProduceRequest) -> Result<Option<Pending>, RequestViolation> {
    let refused = match request.acks {
        -1..=1 => None,
        _ => Some(code::INVALID_REQUIRED_ACKS),
    };
    let transactional_id = request.transactional_id.as_ref().map(|id| id.as_str());
    let mut failed = false;
    let topics = request.topic_data.into_iter().map(|data| {
        // Clients ask for metadata first, which makes a topic; produce only finds it.
        let topic = call.hub.log.topic(&data.name).filter(|_| !data.name.starts_with("__"));
        let settings = topic.as_ref().map(|topic| topic.settings()).unwrap_or_default();
        let outcomes = data.partition_data.into_iter().map(|part| {
            let partition = topic.as_ref().and_then(|topic| topic.partition(part.index));
            let found = match (refused, partition) {
                (Some(code), _) => Err(ProduceRefusal::bare(code)),
                (None, None) => Err(ProduceRefusal::bare(code::UNKNOWN_TOPIC_OR_PARTITION)),
                (None, Some(partition)) => Ok(partition),
            };
            let now = wall();
            let append_time = if settings.append_time { now } else { -1 };
            let place = RecordsTarget { topic: &data.name, index: part.index, settings: &settings, now };
            let records = part.records.unwrap_or_default();
            let result = found.and_then(|partition| admit(call, &place, &partition, transactional_id, records));
            failed |= result.is_err();
            match result {
                Ok((AppendPath::FaultQueue(decision), joined)) => PartitionOutcome {
                    undecided: Some(decision),
                    joined,
                    append_time,
                    ..outcome(part.index, Err(ProduceRefusal::default()))
                },
                Ok((AppendPath::Staged(batch), joined)) => PartitionOutcome {
                    staged: Some(batch),
                    joined,
                    append_time,
                    ..outcome(part.index, Err(ProduceRefusal::default()))
                },
                Err(refusal) => outcome(part.index, Err(refusal)),
            }
        });
        let outcomes = outcomes.collect();
        (data.name, outcomes)
    });
    let topics = topics.collect();
    let silent = request.acks == 0;
    if silent && failed {
        return Err(RequestViolation::Failed);
    }
    let wait =
        Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)).clamp(Duration::from_secs(1), MAX_WAIT);
    let deadline = Instant::now() + wait;
    Ok(Some(Pending::Produce(ProduceWait {
        correlation: call.correlation,
        version: call.version,
        deadline,
        topics,
        silent,
    })))
}

/// Where a batch is to go.
struct RecordsTarget<'a> {
    topic: &'a TopicName,
    index: i32,
    settings: &'a TopicSettings,
    now: i64,
}

/// Where a batch has been put.
enum AppendPath {
    FaultQueue(Arc<Decision>),
    Staged(StagedBatch),
}

/// What the next batch of the partition was to be when a batch of the producer's transaction was
/// admitted. Where the client leaves that to the broker the partition becomes a part of it, and the
/// batch is not there before that is synced: it could be aborted alone, by a start that knows of no
/// transaction.
fn admitted(
    call: &RequestContext<'_>,
    id: &str,
    stamp: TransactionStamp,
    (topic, index): (&TopicName, i32),
    partition: &Partition,
) -> Result<(u64, Option<SyncTicket>), i16> {
    let transactions = &call.hub.transactions;
    let mut joined = None;
    if call.version >= PARTITIONS_ADDED {
        let producer = ProducerIdentity { id: stamp.producer, epoch: stamp.epoch };
        joined = transactions.add(id, producer, &[(topic.to_string(), index)]).map_err(of_a_batch)?;
    }
    Ok((transactions.admits(id, stamp, (topic, index), partition)?, joined))
}

/// What a batch of a producer that is fenced is told.
fn of_a_batch(error: i16) -> i16 {
    if error == code::PRODUCER_FENCED { code::INVALID_PRODUCER_EPOCH } else { error }
}

/// Looks whether a batch is one, and keeps it to be appended with what comes with it; with faults,
/// hands it to their server.
fn admit(
    call: &RequestContext<'_>,
    target: &RecordsTarget<'_>,
    partition: &Arc<Partition>,
    transactional_id: Option<&str>,
    records: Bytes,
) -> Result<(AppendPath, Option<SyncTicket>), ProduceRefusal> {
    let RecordsTarget { topic, index, settings, now } = *target;
    let counters = &call.hub.counters;
    let refused = |code, words: &str| refuse(counters, ProduceRefusal::new(code, words));
    if records.len() > 16 && records[16] < 2 {
        return refused(code::UNSUPPORTED_FOR_MESSAGE_FORMAT, "message formats before version 2 are not kept");
    }
    let view = match RecordBatches.view(&records) {
        Ok(view) if view.len < records.len() => {
            return refused(code::INVALID_RECORD, "a partition's data must be one batch");
        }
        Ok(view) => view,
        Err(malformed) => return refused(code::CORRUPT_MESSAGE, malformed.0),
    };
    if let Some(words) = batch::refusal(&records) {
        return refused(code::INVALID_RECORD, words);
    }
    let (mut next, mut joined) = (None, None);
    if let Some(stamp) = view.transaction {
        let member = transactional_id.ok_or(code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
        match member.and_then(|id| admitted(call, id, stamp, (topic, index), partition)) {
            Ok((offset, ticket)) => (next, joined) = (Some(offset), ticket),
            Err(code) => return refuse(counters, ProduceRefusal::bare(code)),
        }
    }
    if (settings.append_time || settings.codec.is_some()) && !RecordBatches.intact(&records) {
        // Written anew, it would be sealed anew.
        return refused(code::CORRUPT_MESSAGE, "its checksum is wrong");
    }
    let checked = validity::check(&records, &view, settings, topic, now);
    let records = match checked.and_then(|()| validity::recompressed(&records, settings)) {
        Ok(Some(recompressed)) => recompressed.into(),
        Ok(None) => records,
        Err(refusal) => return refuse(counters, refusal),
    };
    let records = if settings.append_time { batch::stamped(&records, now).into() } else { records };
    match &call.hub.faults {
        Some(faults) if faults.takes(topic.as_bytes()) => {
            let batch = StagedBatch { partition: Arc::clone(partition), records, admitted: next };
            let (batch, decision) = QueuedBatch::new(topic.clone(), batch, counters, call.wake_signal);
            faults.send(batch);
            Ok((AppendPath::FaultQueue(decision), joined))
        }
        _ => {
            let batch = StagedBatch { partition: Arc::clone(partition), records, admitted: next };
            Ok((AppendPath::Staged(batch), joined))
        }
    }
}
