//! Batches of a broker with faults: they pass the fault server, are appended there, and their producers are told.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kafka_protocol::messages::TopicName;

use super::super::faults::{Errand, Settled};
use super::super::log::{Appended, Bell, Partition};
use super::batch;
use super::counters::KafkaCounters;
use super::produce::{Refusal, store};

/// A batch on its way through the fault server.
pub(super) struct Detoured {
    topic: TopicName,
    partition: Arc<Partition>,
    records: Bytes,
    counters: Arc<KafkaCounters>,
    decision: Arc<Decision>,
}

/// What becomes of it, for the request that waits.
pub(super) struct Decision {
    made: Mutex<Option<Decided>>,
    bell: Arc<Bell>,
}

pub(super) enum Decided {
    /// It is stored, or said to be, or refused.
    Done(Result<Appended, Refusal>),
    /// The connection is to be closed instead of an answer.
    Cut,
}

impl Detoured {
    pub(super) fn new(
        topic: TopicName,
        partition: &Arc<Partition>,
        records: Bytes,
        counters: &Arc<KafkaCounters>,
        bell: &Arc<Bell>,
    ) -> (Self, Arc<Decision>) {
        let decision = Arc::new(Decision { made: Mutex::default(), bell: Arc::clone(bell) });
        let (partition, counters) = (Arc::clone(partition), Arc::clone(counters));
        (Self { topic, partition, records, counters, decision: Arc::clone(&decision) }, decision)
    }
}

impl Decision {
    /// What was decided; the bell rings when it is.
    pub(super) fn take(&self) -> Option<Decided> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Errand for Detoured {
    fn subject(&self) -> &[u8] {
        self.topic.as_bytes()
    }

    fn payload(&self) -> &[u8] {
        let first = batch::records(&self.records).and_then(|mut records| records.next()).flatten();
        first.and_then(|record| record.value).unwrap_or_default()
    }

    fn weight(&self) -> usize {
        self.records.len() + size_of::<Self>()
    }

    fn corrupt(&mut self) -> bool {
        let spoilt = batch::spoilt(&self.records);
        let can = spoilt.is_some();
        if let Some(spoilt) = spoilt {
            self.records = spoilt.into();
        }
        can
    }

    fn settle(self, how: Settled) {
        let result = match how.copies {
            0 => {
                let (start, end) = self.partition.bounds();
                // As if it were there: the offset it would have had.
                Ok(Appended { base: end, start, duplicate: false, ticket: None })
            }
            copies => {
                let first = store(&self.counters, &self.partition, &self.records);
                for _ in 1..copies {
                    // Without its producer's number, or the log would know it again.
                    let again = store(&self.counters, &self.partition, &batch::anonymous(&self.records));
                    if let Err(refusal) = again {
                        crate::broker::complain(format_args!(
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
        self.decision.bell.ring();
    }
}
