//! Transactions of one partition: which are open, which were aborted, and how far a reader gets who
//! wants neither.
//!
//! The engine knows a transaction by its producer: it begins with the first batch that is a part of
//! one and ends with a batch that says so. Whether the whole was committed in other partitions is
//! not known here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::format::{BatchHeader, TransactionStep};
use super::position::End;

/// A transaction that was given up: its producer's batches in this range do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortedTransaction {
    pub producer: i64,
    /// Offset of its first record.
    pub first: u64,
    /// Offset of the batch that ended it.
    pub last: u64,
    /// How far the log was decided once it had ended.
    stable: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct OpenTransaction {
    first: End,
    epoch: i16,
}

/// The transactions of one partition.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Transactions {
    /// Where each open one begins, by producer.
    open: BTreeMap<i64, OpenTransaction>,
    /// Where ended ones begin, and the offset of their end, which readers may not see yet.
    #[serde(skip)]
    ending: Vec<(End, u64)>,
    /// By the offset of their end.
    aborted: Vec<AbortedTransaction>,
}

impl Transactions {
    /// Notes a batch that was stored at `at`.
    pub(super) fn stored(&mut self, view: &BatchHeader, at: End) {
        let Some(stamp) = view.transaction else { return };
        if stamp.step == TransactionStep::Part {
            self.open.entry(stamp.producer).or_insert(OpenTransaction { first: at, epoch: stamp.epoch });
            return;
        }
        let Some(OpenTransaction { first, .. }) = self.open.remove(&stamp.producer) else { return };
        if stamp.step == TransactionStep::Abort {
            let stable = self.open.values().map(|open| open.first.offset).min().unwrap_or(view.next());
            let aborted = AbortedTransaction { producer: stamp.producer, first: first.offset, last: view.base, stable };
            self.aborted.push(aborted);
        }
        self.ending.push((first, view.base));
    }

    /// How far everything is decided, of what readers may see.
    pub(super) fn stable(&self, visible: End) -> End {
        let ending = self.ending.iter().filter(|(_, end)| *end >= visible.offset).map(|(first, _)| *first);
        let first = self.open.values().map(|open| open.first).chain(ending).min_by_key(|end| end.offset);
        first.filter(|first| first.offset < visible.offset).unwrap_or(visible)
    }

    /// Forgets the ends that readers may see.
    pub(super) fn shown(&mut self, visible: End) {
        self.ending.retain(|(_, end)| *end >= visible.offset);
    }

    /// Forgets what was given up before `start`.
    pub(super) fn trim(&mut self, start: u64) {
        self.aborted.retain(|aborted| aborted.last >= start);
    }

    /// The aborted ones with a record from `from` on and before `until`.
    pub(super) fn aborted(&self, from: u64, until: u64) -> Vec<AbortedTransaction> {
        let mut found = Vec::new();
        for aborted in &self.aborted[self.aborted.partition_point(|aborted| aborted.last < from)..] {
            if aborted.first < until {
                found.push(*aborted);
            }
            // Whatever ended later began beyond what was decided by then.
            if aborted.stable >= until {
                break;
            }
        }
        found
    }

    /// Whether a batch does not count, as its transaction was aborted.
    pub(super) fn is_aborted(&self, view: &BatchHeader) -> bool {
        let Some(stamp) = view.transaction.filter(|stamp| stamp.step == TransactionStep::Part) else { return false };
        let later = &self.aborted[self.aborted.partition_point(|aborted| aborted.last < view.base)..];
        // The first end of this producer after the batch is that of its transaction, or of a later
        // one.
        later.iter().any(|aborted| aborted.producer == stamp.producer && aborted.first <= view.base)
    }

    /// Where the producer's open transaction begins.
    pub(super) fn open_since(&self, producer: i64) -> Option<u64> {
        self.open.get(&producer).map(|open| open.first.offset)
    }

    /// The producers with an open transaction, and their epochs.
    pub(super) fn open(&self) -> Vec<(i64, i16)> {
        self.open.iter().map(|(producer, open)| (*producer, open.epoch)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.aborted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::TransactionStamp;
    use super::*;
    use proptest::prelude::*;

    /// Producer, first offset; where it ended, and whether it was aborted.
    type NaiveTransaction = (i64, u64, Option<(u64, bool)>);

    fn view(producer: i64, base: u64, step: TransactionStep) -> BatchHeader {
        let transaction = Some(TransactionStamp { producer, epoch: 0, step });
        BatchHeader { len: 100, base, count: 1, max_timestamp: 0, producer: None, transaction }
    }

    fn end(offset: u64) -> End {
        End { base: 0, position: offset * 100, offset }
    }

    proptest! {
        /// Whatever producers do, the look-ups give what a list of all batches does.
        #[test]
        fn what_is_decided_and_what_is_aborted_agrees_with_a_list(
            steps in proptest::collection::vec((0i64..4, 0u8..5), 1..60),
            visible in 0u64..70, from in 0u64..60, len in 1u64..20,
        ) {
            let mut transactions = Transactions::default();
            // Producer, first, end and whether it was aborted.
            let mut all: Vec<NaiveTransaction> = Vec::new();
            for (base, (producer, kind)) in steps.iter().enumerate() {
                let base = base as u64;
                let step = match kind {
                    0 => TransactionStep::Commit,
                    1 => TransactionStep::Abort,
                    _ => TransactionStep::Part,
                };
                transactions.stored(&view(*producer, base, step), end(base));
                let open = all.iter_mut().find(|(p, _, end)| p == producer && end.is_none());
                match (open, step) {
                    (None, TransactionStep::Part) => all.push((*producer, base, None)),
                    (None, _) | (Some(_), TransactionStep::Part) => {}
                    (Some(open), step) => open.2 = Some((base, step == TransactionStep::Abort)),
                }
            }
            let visible = visible.min(steps.len() as u64);
            let undecided = all.iter().filter(|(_, _, end)| end.is_none_or(|(end, _)| end >= visible));
            let stable = undecided.map(|(_, first, _)| *first).min().unwrap_or(visible).min(visible);
            prop_assert_eq!(transactions.stable(end(visible)).offset, stable);
            let until = from + len;
            let mut expected: Vec<_> = all.iter().filter_map(|(producer, first, end)| {
                let (last, aborted) = (*end)?;
                (aborted && last >= from && *first < until).then_some((last, *producer, *first))
            }).collect();
            expected.sort_unstable();
            let found: Vec<_> = transactions.aborted(from, until).iter().map(|a| (a.last, a.producer, a.first)).collect();
            prop_assert_eq!(found, expected);
            for (base, (producer, _)) in steps.iter().enumerate().filter(|(_, (_, kind))| *kind > 1) {
                let base = base as u64;
                let of = all.iter().rev().find(|(p, first, _)| p == producer && *first <= base).unwrap();
                let expected = of.2.is_some_and(|(_, aborted)| aborted);
                prop_assert_eq!(transactions.is_aborted(&view(*producer, base, TransactionStep::Part)), expected);
            }
            let text = serde_json::to_vec(&transactions).unwrap();
            let mut back: Transactions = serde_json::from_slice(&text).unwrap();
            prop_assert_eq!(back.open(), transactions.open());
            back.trim(from);
            prop_assert_eq!(back.aborted(0, u64::MAX).len(), transactions.aborted(from, u64::MAX).len());
        }
    }
}
