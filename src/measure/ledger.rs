//! The books: which messages of each producer a consumer has seen, exactly.

/// The sequence numbers of one producer that were seen: one bit each, so that duplicates are found and loss is counted
/// to the message, also where the members of a group share a stream and each sees only a part of it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    bits: Vec<u64>,
}

impl Seen {
    /// Room for so many messages without growing.
    pub fn with_capacity(messages: u64) -> Self {
        Self { bits: Vec::with_capacity((messages / 64 + 1).min(1 << 24) as usize) }
    }
    /// Marks a number; true when it was new.
    #[inline]
    pub fn insert(&mut self, sequence: u64) -> bool {
        let (word, bit) = ((sequence / 64) as usize, 1u64 << (sequence % 64));
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        let new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        new
    }
    /// Adds what another member of the group saw; returns how many both had.
    pub fn merge(&mut self, other: &Self) -> u64 {
        if other.bits.len() > self.bits.len() {
            self.bits.resize(other.bits.len(), 0);
        }
        let mut both = 0;
        for (mine, theirs) in self.bits.iter_mut().zip(&other.bits) {
            both += u64::from((*mine & theirs).count_ones());
            *mine |= theirs;
        }
        both
    }
    /// How many numbers of `from..to` were seen here and not there.
    pub fn count_without(&self, other: &Self, from: u64, to: u64) -> u64 {
        let theirs = other.bits.iter().copied().chain(std::iter::repeat(0));
        let bits = self.bits.iter().zip(theirs).map(|(mine, theirs)| mine & !theirs).collect();
        Self { bits }.count(from, to)
    }
    /// How many numbers of `from..to` were seen.
    pub fn count(&self, from: u64, to: u64) -> u64 {
        let mut total = 0;
        for (i, word) in self.bits.iter().enumerate() {
            let start = i as u64 * 64;
            if start >= to || start + 64 <= from {
                continue;
            }
            let low = from.saturating_sub(start).min(63);
            let high = (to - start).min(64);
            let mask = (u64::MAX << low) & (u64::MAX >> (64 - high));
            total += u64::from((word & mask).count_ones());
        }
        total
    }
}

/// Order of one producer's messages on one channel, as one consumer sees it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Order {
    next: u64,
}

impl Order {
    /// Takes a number; true when a later one came before it.
    #[inline]
    pub fn late(&mut self, sequence: u64) -> bool {
        if sequence < self.next {
            return true;
        }
        self.next = sequence + 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn what_is_missing_elsewhere_is_counted(a in prop::collection::btree_set(0u64..500, 0..200), b in prop::collection::btree_set(0u64..300, 0..200)) {
            let fill = |set: &BTreeSet<u64>| {
                let mut seen = Seen::default();
                set.iter().for_each(|n| { seen.insert(*n); });
                seen
            };
            let expected = a.difference(&b).filter(|n| (50..400).contains(*n)).count() as u64;
            prop_assert_eq!(fill(&a).count_without(&fill(&b), 50, 400), expected);
        }
        #[test]
        fn agrees_with_a_set(numbers in prop::collection::vec(0u64..1000, 0..300), from in 0u64..1000, len in 0u64..1000) {
            let (mut seen, mut set) = (Seen::default(), BTreeSet::new());
            for n in &numbers {
                prop_assert_eq!(seen.insert(*n), set.insert(*n));
            }
            prop_assert_eq!(seen.count(from, from + len), set.range(from..from + len).count() as u64);
        }
        #[test]
        fn merging_counts_what_both_had(a in prop::collection::btree_set(0u64..500, 0..200), b in prop::collection::btree_set(0u64..900, 0..200)) {
            let fill = |set: &BTreeSet<u64>| {
                let mut seen = Seen::with_capacity(100);
                set.iter().for_each(|n| { seen.insert(*n); });
                seen
            };
            let mut merged = fill(&a);
            prop_assert_eq!(merged.merge(&fill(&b)), a.intersection(&b).count() as u64);
            prop_assert_eq!(merged.count(0, 1000), a.union(&b).count() as u64);
        }
    }

    #[test]
    fn order_counts_each_late_message_once() {
        let mut order = Order::default();
        let late: Vec<_> = [0, 1, 5, 2, 3, 6, 6].into_iter().filter(|n| order.late(*n)).collect();
        assert_eq!(late, [2, 3, 6]);
    }
}
