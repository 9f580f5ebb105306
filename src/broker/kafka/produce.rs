//! Produce: a batch per partition, appended as it came.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};
use tokio::time::Instant;

use super::super::log::{Appended, BatchFormat as _, LogError, Partition, SyncTicket, TopicSettings, WakeSignal};
use super::batch::{self, RecordBatches};
use super::code;
use super::counters::{KafkaCounters, add};
use super::faults::{Decided, Decision, QueuedBatch};
use super::groups;
use super::hub::{RequestContext, text};
use super::pending::Pending;
use super::reply::{Reply, respond};
use super::request::RequestViolation;
use super::validity;
use crate::broker::shared::log_error;

/// Longest wait for a sync, whatever the client allows.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A produce request whose records are written.
pub(super) struct ProduceWait {
    correlation: i32,
    version: i16,
    pub(super) deadline: Instant,
    topics: Vec<(TopicName, Vec<PartitionOutcome>)>,
    /// Whether the client wants no answer: a failure closes its connection.
    silent: bool,
}

struct PartitionOutcome {
    index: i32,
    code: i16,
    base: i64,
    start: i64,
    words: Option<String>,
    /// The records it is refused for.
    records: Vec<(i32, String)>,
    ticket: Option<SyncTicket>,
    /// What the fault server has not decided yet.
    undecided: Option<Arc<Decision>>,
    /// What is to be appended together with what has come with it.
    staged: Option<(Arc<Partition>, Bytes)>,
}

/// Takes what the request brings, to be appended by [`append_staged`]. With acks=0 there is no
/// answer, and a failure closes the connection.
pub(super) fn produce(call: &RequestContext<'_>, request: ProduceRequest) -> Result<Option<Pending>, RequestViolation> {
    let refused = match request.acks {
        _ if request.transactional_id.is_some() => Some(code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        -1..=1 => None,
        _ => Some(code::INVALID_REQUIRED_ACKS),
    };
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
            let result = found.and_then(|partition| admit(call, &data.name, &partition, &settings, part.records));
            failed |= result.is_err();
            match result {
                Ok(AppendPath::FaultQueue(decision)) => PartitionOutcome {
                    undecided: Some(decision),
                    ..outcome(part.index, Err(ProduceRefusal::default()))
                },
                Ok(AppendPath::Staged(partition, records)) => PartitionOutcome {
                    staged: Some((partition, records)),
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

/// An error of the protocol, and words for it.
#[derive(Debug, Default)]
pub(super) struct ProduceRefusal {
    pub(super) code: i16,
    pub(super) words: Option<String>,
    /// The records it is about, by their place in the batch, with words for each.
    pub(super) records: Vec<(i32, String)>,
}

impl ProduceRefusal {
    pub(super) fn new(code: i16, words: impl Into<String>) -> Self {
        Self { code, words: Some(words.into()), records: Vec::new() }
    }

    fn bare(code: i16) -> Self {
        Self { code, ..Self::default() }
    }
}

/// Where a batch has been put.
enum AppendPath {
    FaultQueue(Arc<Decision>),
    Staged(Arc<Partition>, Bytes),
}

/// Looks whether a batch is one, and keeps it to be appended with what comes with it; with faults,
/// hands it to their server.
fn admit(
    call: &RequestContext<'_>,
    topic: &TopicName,
    partition: &Arc<Partition>,
    settings: &TopicSettings,
    records: Option<Bytes>,
) -> Result<AppendPath, ProduceRefusal> {
    let counters = &call.hub.counters;
    let records = records.unwrap_or_default();
    let refuse = |code, words: &str| refuse(counters, ProduceRefusal::new(code, words));
    if records.len() > 16 && records[16] < 2 {
        return refuse(code::UNSUPPORTED_FOR_MESSAGE_FORMAT, "message formats before version 2 are not kept");
    }
    let view = match RecordBatches.view(&records) {
        Ok(view) if view.len < records.len() => {
            return refuse(code::INVALID_RECORD, "a partition's data must be one batch");
        }
        Ok(view) => view,
        Err(malformed) => return refuse(code::CORRUPT_MESSAGE, malformed.0),
    };
    if let Some(words) = batch::refusal(&records) {
        return refuse(code::INVALID_RECORD, words);
    }
    let checked = validity::check(&records, &view, settings, topic, groups::wall());
    let records = match checked.and_then(|()| validity::recompressed(&records, settings)) {
        Ok(Some(recompressed)) => recompressed.into(),
        Ok(None) => records,
        Err(refusal) => return self::refuse(counters, refusal),
    };
    match &call.hub.faults {
        Some(faults) if faults.takes(topic.as_bytes()) => {
            let (batch, decision) = QueuedBatch::new(topic.clone(), partition, records, counters, call.wake_signal);
            faults.send(batch);
            Ok(AppendPath::FaultQueue(decision))
        }
        _ => Ok(AppendPath::Staged(Arc::clone(partition), records)),
    }
}

fn refuse<T>(counters: &KafkaCounters, refusal: ProduceRefusal) -> Result<T, ProduceRefusal> {
    add(&counters.rejected, 1);
    Err(refusal)
}

/// Appends a batch and counts it.
pub(super) fn store(
    counters: &KafkaCounters,
    partition: &Arc<Partition>,
    records: &[u8],
) -> Result<Appended, ProduceRefusal> {
    counted(counters, records, partition.append(records))
}

/// Counts what an append has come to, and puts a failure into the protocol's words.
fn counted(
    counters: &KafkaCounters,
    records: &[u8],
    result: Result<Appended, LogError>,
) -> Result<Appended, ProduceRefusal> {
    match result {
        Ok(appended) if appended.duplicate => {
            add(&counters.duplicates, 1);
            Ok(appended)
        }
        Ok(appended) => {
            add(&counters.batches_in, 1);
            add(&counters.records_in, RecordBatches.view(records).map_or(0, |view| u64::from(view.count)));
            Ok(appended)
        }
        Err(error) => {
            if matches!(error, LogError::Io { .. }) {
                log_error(&error);
            }
            refuse(counters, ProduceRefusal::new(code::of(&error), error.to_string()))
        }
    }
}

fn outcome(index: i32, result: Result<Appended, ProduceRefusal>) -> PartitionOutcome {
    match result {
        Ok(appended) => PartitionOutcome {
            index,
            code: code::NONE,
            base: appended.base as i64,
            start: appended.start as i64,
            words: None,
            records: Vec::new(),
            ticket: appended.ticket,
            undecided: None,
            staged: None,
        },
        Err(ProduceRefusal { code, words, records }) => PartitionOutcome {
            index,
            code,
            base: -1,
            start: -1,
            words,
            records,
            ticket: None,
            undecided: None,
            staged: None,
        },
    }
}

/// Appends what requests that came together have brought, each partition's batches at once.
pub(super) fn append_staged<'a>(counters: &KafkaCounters, requests: impl Iterator<Item = &'a mut ProduceWait>) {
    let outcomes = requests.flat_map(|wait| &mut wait.topics).flat_map(|(_, outcomes)| outcomes);
    let mut staged: Vec<(Arc<Partition>, Bytes, &mut PartitionOutcome)> = outcomes
        .filter_map(|outcome| outcome.staged.take().map(|(partition, records)| (partition, records, outcome)))
        .collect();
    // Stable: the order within a partition stays.
    staged.sort_by_key(|(partition, ..)| Arc::as_ptr(partition));
    for group in staged.chunk_by_mut(|a, b| Arc::ptr_eq(&a.0, &b.0)) {
        let batches: Vec<&[u8]> = group.iter().map(|(_, records, _)| &records[..]).collect();
        let results = group[0].0.append_all(&batches);
        for ((_, records, place), result) in group.iter_mut().zip(results) {
            **place = outcome(place.index, counted(counters, records, result));
        }
    }
}

impl ProduceWait {
    /// The answer once every ticket is fulfilled, void or late.
    pub(super) fn poll(&mut self, wake_signal: &Arc<WakeSignal>) -> Option<Reply> {
        let late = || Instant::now() >= self.deadline;
        let mut waits = false;
        for outcome in self.topics.iter_mut().flat_map(|(_, outcomes)| outcomes) {
            if let Some(decision) = &outcome.undecided {
                match decision.take() {
                    Some(Decided::Done(result)) => *outcome = self::outcome(outcome.index, result),
                    Some(Decided::Cut) => return Some(Reply { hangs_up: true, ..Reply::default() }),
                    None if late() => {
                        let words = "the fault server has not come to it in the time the request allows";
                        let refusal = ProduceRefusal::new(code::REQUEST_TIMED_OUT, words);
                        *outcome = self::outcome(outcome.index, Err(refusal));
                    }
                    None => {
                        waits = true;
                        continue;
                    }
                }
            }
            let Some(ticket) = outcome.ticket.as_ref().filter(|_| !self.silent) else { continue };
            let kept = match ticket.poll(wake_signal) {
                Some(kept) => kept,
                None if late() => false,
                None => {
                    waits = true;
                    continue;
                }
            };
            outcome.ticket = None;
            if !kept {
                outcome.code = code::KAFKA_STORAGE_ERROR;
                outcome.base = -1;
                outcome.words = Some("the records could not be synced".to_owned());
            }
        }
        match (waits, self.silent) {
            (true, _) => None,
            (false, false) => Some(self.reply()),
            (false, true) => {
                let mut outcomes = self.topics.iter().flat_map(|(_, outcomes)| outcomes);
                Some(Reply { hangs_up: outcomes.any(|outcome| outcome.code != code::NONE), ..Reply::default() })
            }
        }
    }

    fn reply(&mut self) -> Reply {
        let version = self.version;
        let topics = self.topics.drain(..).map(|(name, outcomes)| {
            let parts = outcomes.into_iter().map(|outcome| {
                let words = outcome.words.filter(|_| version >= 8).map(text);
                let records = outcome.records.into_iter().filter(|_| version >= 8).map(|(index, words)| {
                    BatchIndexAndErrorMessage::default()
                        .with_batch_index(index)
                        .with_batch_index_error_message(Some(text(words)))
                });
                PartitionProduceResponse::default()
                    .with_index(outcome.index)
                    .with_error_code(outcome.code)
                    .with_base_offset(outcome.base)
                    .with_log_append_time_ms(-1)
                    .with_log_start_offset(outcome.start)
                    .with_error_message(words)
                    .with_record_errors(records.collect())
            });
            TopicProduceResponse::default().with_name(name).with_partition_responses(parts.collect())
        });
        respond(self.correlation, version, &ProduceResponse::default().with_responses(topics.collect()))
    }
}
