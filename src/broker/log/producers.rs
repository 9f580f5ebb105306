//! Who has sent what: a batch sent again is stored once, a gap is refused.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::error::LogError;
use super::format::{BatchHeader, TransactionStep};
use super::position::End;
use super::transactions::Transactions;

/// Batches remembered per producer; a client has at most so many under way.
const REMEMBERED: usize = 5;

/// What the numbering of a batch says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceCheck {
    /// It is next.
    Due,
    /// It was stored before, with this offset for its first record.
    Duplicate {
        /// That offset.
        base: u64,
    },
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct RecentBatch {
    first: i32,
    last: i32,
    base: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct ProducerState {
    epoch: i16,
    batches: Vec<RecentBatch>,
    /// Offset of the last batch, by which the one unseen for longest is found.
    seen: u64,
    /// Offset of the batch that ended its last transaction, since the log was opened.
    #[serde(skip)]
    ended: Option<u64>,
}

/// The producers of one partition.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct ProducerStates {
    known: HashMap<i64, ProducerState>,
    #[serde(default)]
    pub(super) transactions: Transactions,
}

/// The number after `count` more, which starts again at zero after the largest.
fn advance(sequence: i32, count: u32) -> i32 {
    let next = i64::from(sequence) + i64::from(count);
    (next % (i64::from(i32::MAX) + 1)) as i32
}

impl ProducerStates {
    /// Whether a batch is next, was stored before, or is refused. A producer not known may start
    /// anywhere, since what it sent before may have been removed by retention.
    pub(super) fn check(&self, view: &BatchHeader) -> Result<SequenceCheck, LogError> {
        let Some(producer) = view.producer else {
            return match view.transaction.and_then(|stamp| Some((stamp, self.known.get(&stamp.producer)?))) {
                Some((stamp, state)) if stamp.epoch < state.epoch => {
                    Err(LogError::Fenced { producer: stamp.producer, got: stamp.epoch, current: state.epoch })
                }
                _ => Ok(SequenceCheck::Due),
            };
        };
        let Some(state) = self.known.get(&producer.id) else { return Ok(SequenceCheck::Due) };
        if producer.epoch < state.epoch {
            return Err(LogError::Fenced { producer: producer.id, got: producer.epoch, current: state.epoch });
        }
        if producer.epoch == state.epoch {
            let last = advance(producer.sequence, view.count - 1);
            if let Some(batch) = state.batches.iter().find(|b| b.first == producer.sequence && b.last == last) {
                return Ok(SequenceCheck::Duplicate { base: batch.base });
            }
        }
        let expected = match state.batches.last() {
            Some(batch) if producer.epoch == state.epoch => advance(batch.last, 1),
            _ => 0,
        };
        if producer.sequence != expected {
            return Err(LogError::OutOfSequence { producer: producer.id, got: producer.sequence, expected });
        }
        if view.transaction.is_none() && self.transactions.open_since(producer.id).is_some() {
            let reason = "its transaction is open, and this batch is no part of one";
            return Err(LogError::Transaction { producer: producer.id, reason });
        }
        Ok(SequenceCheck::Due)
    }

    /// Whether the transaction that a batch was admitted to is still the producer's; `admitted` is
    /// the offset that the next batch would have had then.
    pub(super) fn check_admitted(&self, view: &BatchHeader, admitted: u64) -> Result<(), LogError> {
        let Some(stamp) = view.transaction else { return Ok(()) };
        let ended = self.known.get(&stamp.producer).and_then(|state| state.ended);
        if ended.is_some_and(|ended| ended >= admitted) {
            let reason = "its transaction has ended before this batch was stored";
            return Err(LogError::Transaction { producer: stamp.producer, reason });
        }
        Ok(())
    }

    /// Notes a batch that was stored at `at`.
    pub(super) fn stored(&mut self, view: &BatchHeader, at: End, limit: usize) {
        self.transactions.stored(view, at);
        let numbered = view.producer.map(|producer| (producer.id, producer.epoch));
        let Some((id, epoch)) = numbered.or(view.transaction.map(|stamp| (stamp.producer, stamp.epoch))) else {
            return;
        };
        if self.known.len() >= limit
            && !self.known.contains_key(&id)
            && let Some(oldest) = self.oldest()
        {
            self.known.remove(&oldest);
        }
        let state = self.known.entry(id).or_default();
        if state.epoch != epoch {
            state.epoch = epoch;
            state.batches.clear();
        }
        state.seen = view.base;
        if view.transaction.is_some_and(|stamp| stamp.step != TransactionStep::Part) {
            state.ended = Some(view.base);
        }
        let Some(producer) = view.producer else { return };
        if state.batches.len() == REMEMBERED {
            state.batches.remove(0);
        }
        let last = advance(producer.sequence, view.count - 1);
        state.batches.push(RecentBatch { first: producer.sequence, last, base: view.base });
    }

    /// The producer unseen for longest; one whose transaction is open is not forgotten.
    fn oldest(&self) -> Option<i64> {
        let closed = self.known.iter().filter(|(id, _)| self.transactions.open_since(**id).is_none());
        closed.min_by_key(|(_, state)| state.seen).map(|(id, _)| *id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.transactions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::{ProducerStamp, TransactionStamp, TransactionStep};
    use super::*;

    const AT: End = End { base: 0, position: 0, offset: 0 };

    fn view(epoch: i16, sequence: i32, count: u32, base: u64) -> BatchHeader {
        BatchHeader {
            len: 100,
            base,
            count,
            max_timestamp: 0,
            producer: Some(ProducerStamp { id: 7, epoch, sequence }),
            transaction: None,
        }
    }

    #[test]
    fn a_retried_batch_is_known_and_a_gap_is_refused() {
        let mut producers = ProducerStates::default();
        for n in 0..8 {
            let batch = view(0, n * 10, 10, n as u64 * 10);
            assert_eq!(producers.check(&batch).unwrap(), SequenceCheck::Due);
            producers.stored(&batch, AT, 10);
        }
        assert_eq!(producers.check(&view(0, 30, 10, 0)).unwrap(), SequenceCheck::Duplicate { base: 30 });
        assert!(matches!(producers.check(&view(0, 20, 10, 0)), Err(LogError::OutOfSequence { expected: 80, .. })));
        assert!(matches!(producers.check(&view(0, 90, 10, 0)), Err(LogError::OutOfSequence { .. })));
        assert!(matches!(producers.check(&view(0, 70, 11, 0)), Err(LogError::OutOfSequence { .. })));
        assert!(matches!(producers.check(&view(1, 5, 1, 0)), Err(LogError::OutOfSequence { expected: 0, .. })));
        let next_life = view(1, 0, 1, 80);
        assert_eq!(producers.check(&next_life).unwrap(), SequenceCheck::Due);
        producers.stored(&next_life, AT, 10);
        assert!(matches!(producers.check(&view(0, 80, 1, 0)), Err(LogError::Fenced { current: 1, .. })));
    }

    #[test]
    fn an_end_with_a_newer_epoch_fences_and_starts_the_numbers_again() {
        let mut producers = ProducerStates::default();
        let end = |epoch| BatchHeader {
            producer: None,
            transaction: Some(TransactionStamp { producer: 7, epoch, step: TransactionStep::Abort }),
            ..view(epoch, 0, 1, 10)
        };
        producers.stored(&view(0, 0, 10, 0), AT, 10);
        producers.stored(&end(0), AT, 10);
        assert_eq!(producers.check(&view(0, 10, 1, 0)).unwrap(), SequenceCheck::Due);
        producers.stored(&end(1), AT, 10);
        assert!(matches!(producers.check(&view(0, 10, 1, 0)), Err(LogError::Fenced { current: 1, .. })));
        assert!(matches!(producers.check(&end(0)), Err(LogError::Fenced { current: 1, .. })));
        assert_eq!(producers.check(&view(1, 0, 1, 0)).unwrap(), SequenceCheck::Due);
    }

    #[test]
    fn a_producer_with_an_open_transaction_sends_nothing_beside_it() {
        let mut producers = ProducerStates::default();
        let part = |sequence, step| BatchHeader {
            transaction: Some(TransactionStamp { producer: 7, epoch: 0, step }),
            ..view(0, sequence, 1, sequence as u64)
        };
        producers.stored(&part(0, TransactionStep::Part), AT, 10);
        assert!(matches!(producers.check(&view(0, 1, 1, 0)), Err(LogError::Transaction { producer: 7, .. })));
        assert_eq!(producers.check(&part(1, TransactionStep::Part)).unwrap(), SequenceCheck::Due);
        producers.stored(&BatchHeader { producer: None, ..part(1, TransactionStep::Commit) }, AT, 10);
        assert_eq!(producers.check(&view(0, 1, 1, 0)).unwrap(), SequenceCheck::Due);
    }

    #[test]
    fn a_batch_admitted_to_a_transaction_is_refused_when_that_has_ended() {
        let mut producers = ProducerStates::default();
        let stamp = |step| Some(TransactionStamp { producer: 7, epoch: 0, step });
        let part = BatchHeader { transaction: stamp(TransactionStep::Part), ..view(0, 0, 1, 0) };
        assert!(producers.check_admitted(&part, 5).is_ok());
        let end = BatchHeader { producer: None, transaction: stamp(TransactionStep::Abort), ..view(0, 0, 1, 5) };
        producers.stored(&end, AT, 10);
        assert!(matches!(producers.check_admitted(&part, 5), Err(LogError::Transaction { producer: 7, .. })));
        assert!(producers.check_admitted(&part, 6).is_ok());
        assert!(producers.check_admitted(&view(0, 0, 1, 0), 0).is_ok(), "it is no part of one");
    }

    #[test]
    fn a_producer_with_an_open_transaction_is_not_forgotten() {
        let mut producers = ProducerStates::default();
        let part = BatchHeader {
            transaction: Some(TransactionStamp { producer: 7, epoch: 0, step: TransactionStep::Part }),
            ..view(0, 0, 1, 0)
        };
        producers.stored(&part, AT, 3);
        for id in 10..20 {
            let producer = Some(ProducerStamp { id, epoch: 0, sequence: 0 });
            producers.stored(&BatchHeader { producer, ..view(0, 0, 1, id as u64) }, AT, 3);
        }
        assert_eq!(producers.known.len(), 3);
        assert!(producers.known.contains_key(&7));
    }

    #[test]
    fn numbers_start_again_after_the_largest() {
        let mut producers = ProducerStates::default();
        let batch = view(0, i32::MAX - 1, 4, 0);
        producers.stored(&batch, AT, 10);
        assert_eq!(producers.check(&view(0, 2, 1, 0)).unwrap(), SequenceCheck::Due);
        assert_eq!(producers.check(&batch).unwrap(), SequenceCheck::Duplicate { base: 0 });
    }

    #[test]
    fn the_producer_unseen_for_longest_is_forgotten() {
        let mut producers = ProducerStates::default();
        for id in 0..4 {
            let batch =
                BatchHeader { producer: Some(ProducerStamp { id, epoch: 0, sequence: 0 }), ..view(0, 0, 1, id as u64) };
            producers.stored(&batch, AT, 3);
        }
        assert_eq!(producers.known.len(), 3);
        assert!(!producers.known.contains_key(&0));
    }
}
