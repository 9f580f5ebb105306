//! Which updates a watcher need not have seen, because a store that keeps but some values of a key
//! may have replaced them before it came to them.
//!
//! # Design
//! The store has replaced an update when so many later values of its key were put as it keeps. The
//! watcher passes it by when it gets a later one; only what was put by then counts. Each message
//! says when it was sent, so that the first one sent after that instant tells where the count ends.
//! A watcher that keeps up has no excuse for what it missed.

use serde::{Deserialize, Serialize};

use crate::measure::ledger::SequenceSet;
use crate::units::Nanos;

/// Numbers of one producer that a watcher passed by: what it missed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Gap {
    from: u64,
    /// The number that came instead.
    to: u64,
    /// When that came.
    at: Nanos,
    /// None of the numbers from here on had been put by then.
    bound: u64,
}

/// The gaps in what a watcher saw of one producer, in ascending order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct GapLog {
    gaps: Vec<Gap>,
    /// Gaps before this one have a bound.
    bounded: usize,
    next: u64,
}

impl GapLog {
    /// A number came, `sent` at one instant, at another.
    #[inline]
    pub fn note(&mut self, number: u64, sent: Nanos, at: Nanos) {
        while let Some(gap) = self.gaps.get_mut(self.bounded).filter(|gap| gap.at < sent) {
            gap.bound = number.max(gap.to + 1);
            self.bounded += 1;
        }
        if number > self.next {
            self.gaps.push(Gap { from: self.next, to: number, at, bound: u64::MAX });
        }
        self.next = self.next.max(number + 1);
    }

    /// The missed numbers that a store of `history` values of each key may have replaced, where
    /// those below `end` were put. `key` gives that of a number, below `keys`.
    pub fn superseded(
        &self,
        seen: &SequenceSet,
        end: u64,
        (key, keys): (impl Fn(u64) -> u64, u64),
        history: u32,
    ) -> SequenceSet {
        let mut missed = SequenceSet::default();
        // How often each key is among the numbers from `low` to `high`.
        let mut counts = vec![0u32; keys as usize];
        let (mut low, mut high) = (end.max(self.next), end.max(self.next));
        for gap in self.gaps.iter().rev() {
            let bound = gap.bound.min(end.max(self.next));
            while high > bound {
                high -= 1;
                match high < low {
                    true => low = high,
                    false => counts[key(high) as usize] -= 1,
                }
            }
            for number in (gap.from..gap.to).rev() {
                while low > number + 1 {
                    low -= 1;
                    counts[key(low) as usize] += 1;
                }
                if counts[key(number) as usize] >= history && !seen.contains(number) {
                    missed.insert(number);
                }
            }
        }
        missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const KEYS: u64 = 4;

    /// A store of `history` values of each key, and a watcher that reads in order.
    #[derive(Default)]
    struct Watched {
        clock: Nanos,
        /// Numbers with the instants at which they were put.
        stored: Vec<(u64, Nanos)>,
        put: u64,
        position: u64,
        /// What was read, sent and read when.
        read: Vec<(u64, Nanos, Nanos)>,
        /// What was replaced before it was read.
        replaced: BTreeSet<u64>,
    }

    impl Watched {
        fn put(&mut self, history: usize) {
            self.clock += 1;
            self.stored.push((self.put, self.clock));
            let of_key = |n: u64| n % KEYS == self.put % KEYS;
            let same: Vec<u64> = self.stored.iter().map(|(n, _)| *n).filter(|n| of_key(*n)).collect();
            if same.len() > history {
                self.stored.retain(|(n, _)| *n != same[0]);
                self.replaced.extend(Some(same[0]).filter(|n| *n >= self.position));
            }
            self.put += 1;
        }

        fn read(&mut self, most: usize) {
            self.clock += 1;
            let open: Vec<_> = self.stored.iter().copied().filter(|(n, _)| *n >= self.position).take(most).collect();
            for (n, sent) in open {
                self.read.push((n, sent, self.clock));
                self.position = n + 1;
            }
        }
    }

    /// What is said to be superseded.
    fn excused(read: &[(u64, Nanos, Nanos)], put: u64, history: usize) -> BTreeSet<u64> {
        let (mut seen, mut log) = (SequenceSet::default(), GapLog::default());
        for (n, sent, at) in read {
            seen.insert(*n);
            log.note(*n, *sent, *at);
        }
        let missed = log.superseded(&seen, put, (|n| n % KEYS, KEYS), history as u32);
        (0..seen.end()).filter(|n| missed.contains(*n)).collect()
    }

    proptest! {
        #[test]
        fn what_was_replaced_before_it_was_read_is_superseded(
            history in 1usize..4,
            steps in prop::collection::vec((0u64..30, 0usize..20), 1..20),
        ) {
            let mut store = Watched::default();
            for (puts, reads) in steps {
                (0..puts).for_each(|_| store.put(history));
                store.read(reads);
            }
            let last = store.read.last().map(|(n, ..)| *n);
            let passed: BTreeSet<u64> = store.replaced.iter().copied().filter(|n| Some(*n) < last).collect();
            prop_assert_eq!(excused(&store.read, store.put, history), passed);
        }

        #[test]
        fn what_a_watcher_that_keeps_up_misses_is_lost(
            history in 1usize..4, rounds in 2u64..20, drop in any::<prop::sample::Index>(),
        ) {
            let mut store = Watched::default();
            for _ in 0..rounds {
                (0..history as u64 * KEYS / 2).for_each(|_| store.put(history));
                store.read(usize::MAX);
            }
            prop_assert!(store.replaced.is_empty());
            store.read.remove(drop.index(store.read.len()));
            let found = excused(&store.read, store.put, history);
            prop_assert!(found.is_empty(), "{found:?}");
        }
    }
}
