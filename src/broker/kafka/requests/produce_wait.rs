//! Produce requests on their way: appended together, answered when their records are synced.

use std::sync::Arc;

use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceResponse, TopicName};
use tokio::time::Instant;

use super::super::code;
use super::super::counters::KafkaCounters;
use super::super::faults::{Decided, Decision};
use super::super::reply::{Reply, respond, text};
use super::super::store::{ProduceRefusal, StagedBatch, counted};
use crate::broker::log::{Appended, SyncTicket, WakeSignal};

/// A produce request whose records are written.
pub(in crate::broker::kafka) struct ProduceWait {
    pub(super) correlation: i32,
    pub(super) version: i16,
    pub(super) deadline: Instant,
    pub(super) topics: Vec<(TopicName, Vec<PartitionOutcome>)>,
    /// Whether the client wants no answer: a failure closes its connection.
    pub(super) silent: bool,
}

pub(super) struct PartitionOutcome {
    pub(super) index: i32,
    pub(super) code: i16,
    pub(super) base: i64,
    pub(super) start: i64,
    /// The time the records were given, in milliseconds since the Unix epoch; -1 when they keep
    /// their own.
    pub(super) append_time: i64,
    pub(super) words: Option<String>,
    /// The records it is refused for.
    pub(super) records: Vec<(i32, String)>,
    pub(super) ticket: Option<SyncTicket>,
    /// The sync of what made the partition a part of a transaction.
    pub(super) joined: Option<SyncTicket>,
    /// What the fault server has not decided yet.
    pub(super) undecided: Option<Arc<Decision>>,
    /// What is to be appended together with what has come with it.
    pub(super) staged: Option<StagedBatch>,
}

pub(super) fn outcome(index: i32, result: Result<Appended, ProduceRefusal>) -> PartitionOutcome {
    match result {
        Ok(appended) => PartitionOutcome {
            index,
            code: code::NONE,
            base: appended.base as i64,
            start: appended.start as i64,
            append_time: -1,
            words: None,
            records: Vec::new(),
            ticket: appended.ticket,
            joined: None,
            undecided: None,
            staged: None,
        },
        Err(ProduceRefusal { code, words, records }) => PartitionOutcome {
            index,
            code,
            base: -1,
            start: -1,
            append_time: -1,
            words,
            records,
            ticket: None,
            joined: None,
            undecided: None,
            staged: None,
        },
    }
}

/// Appends what requests that came together have brought, each partition's batches at once.
pub(in crate::broker::kafka) fn append_staged<'a>(
    counters: &KafkaCounters,
    requests: impl Iterator<Item = &'a mut ProduceWait>,
) {
    let outcomes = requests.flat_map(|wait| &mut wait.topics).flat_map(|(_, outcomes)| outcomes);
    let mut staged: Vec<(StagedBatch, &mut PartitionOutcome)> =
        outcomes.filter_map(|outcome| Some((outcome.staged.take()?, outcome))).collect();
    // Stable: the order within a partition stays.
    staged.sort_by_key(|(batch, _)| Arc::as_ptr(&batch.partition));
    for group in staged.chunk_by_mut(|a, b| Arc::ptr_eq(&a.0.partition, &b.0.partition)) {
        let batches: Vec<_> = group.iter().map(|(batch, _)| (&batch.records[..], batch.admitted)).collect();
        let results = group[0].0.partition.append_admitted(&batches);
        for ((batch, place), result) in group.iter_mut().zip(results) {
            **place = PartitionOutcome {
                append_time: place.append_time,
                joined: place.joined.take(),
                ..outcome(place.index, counted(counters, &batch.records, result))
            };
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
                    Some(Decided::Done(result)) => {
                        let (append_time, joined) = (outcome.append_time, outcome.joined.take());
                        *outcome = PartitionOutcome { append_time, joined, ..self::outcome(outcome.index, result) };
                    }
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
            if self.silent || outcome.code != code::NONE {
                continue;
            }
            let mut kept = true;
            for place in [&mut outcome.ticket, &mut outcome.joined] {
                match place.as_ref().map(|ticket| ticket.poll(wake_signal)) {
                    None => continue,
                    Some(Some(synced)) => kept &= synced,
                    Some(None) if late() => kept = false,
                    Some(None) => {
                        waits = true;
                        continue;
                    }
                }
                *place = None;
            }
            if !kept {
                (outcome.ticket, outcome.joined) = (None, None);
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
                    .with_log_append_time_ms(if outcome.base < 0 { -1 } else { outcome.append_time })
                    .with_log_start_offset(outcome.start)
                    .with_error_message(words)
                    .with_record_errors(records.collect())
            });
            TopicProduceResponse::default().with_name(name).with_partition_responses(parts.collect())
        });
        respond(self.correlation, version, &ProduceResponse::default().with_responses(topics.collect()))
    }
}
