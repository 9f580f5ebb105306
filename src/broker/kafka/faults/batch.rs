//! Batches of a broker with faults: they pass the fault server, are appended there, and their
//! producers are told.

use std::sync::{Arc, Mutex, PoisonError};

use kafka_protocol::messages::TopicName;

use super::stored::{StoreAction, StoredBatch};
use crate::broker::kafka::batch;
use crate::broker::kafka::counters::KafkaCounters;
use crate::broker::kafka::store::{ProduceRefusal, StagedBatch, store};
use crate::broker::log::{Appended, WakeSignal};

/// A batch on its way through the fault server.
pub(in crate::broker::kafka) struct QueuedBatch {
    topic: TopicName,
    batch: StagedBatch,
    counters: Arc<KafkaCounters>,
    decision: Arc<Decision>,
}

/// What becomes of it, for the request that waits.
pub(in crate::broker::kafka) struct Decision {
    made: Mutex<Option<Decided>>,
    wake_signal: Arc<WakeSignal>,
}

pub(in crate::broker::kafka) enum Decided {
    /// It is stored, or said to be, or refused.
    Done(Result<Appended, ProduceRefusal>),
    /// The connection is to be closed instead of an answer.
    Cut,
}

impl QueuedBatch {
    pub(in crate::broker::kafka) fn new(
        topic: TopicName,
        batch: StagedBatch,
        counters: &Arc<KafkaCounters>,
        wake_signal: &Arc<WakeSignal>,
    ) -> (Self, Arc<Decision>) {
        let decision = Arc::new(Decision { made: Mutex::default(), wake_signal: Arc::clone(wake_signal) });
        (Self { topic, batch, counters: Arc::clone(counters), decision: Arc::clone(&decision) }, decision)
    }
}

impl Decision {
    /// What was decided; the wake signal is sent when it is.
    pub(in crate::broker::kafka) fn take(&self) -> Option<Decided> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl StoredBatch for QueuedBatch {
    fn subject(&self) -> &[u8] {
        self.topic.as_bytes()
    }

    fn payload(&self) -> &[u8] {
        let first = batch::records(&self.batch.records).and_then(|mut records| records.next()).flatten();
        first.and_then(|record| record.value).unwrap_or_default()
    }

    fn memory_bytes(&self) -> usize {
        self.batch.records.len() + size_of::<Self>()
    }

    fn corrupt(&mut self) -> bool {
        let corrupted_copy = batch::corrupted_copy(&self.batch.records);
        let can = corrupted_copy.is_some();
        if let Some(corrupted_copy) = corrupted_copy {
            self.batch.records = corrupted_copy.into();
        }
        can
    }

    fn settle(mut self, how: StoreAction) {
        let result = match how.copies {
            0 => {
                let (start, end) = self.batch.partition.bounds();
                // As if it were there: the offset it would have had.
                Ok(Appended { base: end, start, duplicate: false, ticket: None })
            }
            copies => {
                let first = store(&self.counters, &self.batch);
                if copies > 1 {
                    // Without its producer's number, or the log would know it again.
                    self.batch.records = batch::anonymous(&self.batch.records).into();
                }
                for _ in 1..copies {
                    let again = store(&self.counters, &self.batch);
                    if let Err(refusal) = again {
                        crate::broker::shared::log_error(format_args!(
                            "a duplicate is not stored: {}",
                            refusal.words.unwrap_or_default()
                        ));
                    }
                }
                first
            }
        };
        let decided = if how.cut { Decided::Cut } else { Decided::Done(result) };
        *self.decision.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(decided);
        self.decision.wake_signal.wake();
    }
}
