//! The books: which messages of each producer a consumer has seen, exactly.

/// Numbers of a chunk; one is set aside when all of them were seen.
const CHUNK: u64 = 1 << 16;
const WORDS: usize = (CHUNK / 64) as usize;

/// The sequence numbers of one producer that were seen: one bit each, so that duplicates are found
/// and loss is counted to the message, also where the members of a group share a stream and each
/// sees only a part of it.
///
/// Where everything arrives, chunks fill up and their bits are used again for the next one: a run
/// of any length needs the memory of its gaps.
#[derive(Debug, Clone, Default)]
pub struct SequenceSet {
    chunks: Vec<Chunk>,
    /// Bits of a chunk that is full.
    spare: Option<Box<[u64; WORDS]>>,
}

#[derive(Debug, Clone, Default)]
enum Chunk {
    #[default]
    Empty,
    Part {
        bits: Box<[u64; WORDS]>,
        /// How many numbers are not seen.
        missing: u32,
    },
    Full,
}

impl Chunk {
    fn word(&self, at: usize) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Part { bits, .. } => bits[at],
            Self::Full => u64::MAX,
        }
    }
    fn of(bits: Box<[u64; WORDS]>) -> Self {
        match bits.iter().map(|word| word.count_zeros()).sum() {
            0 => Self::Full,
            missing => Self::Part { bits, missing },
        }
    }
}

impl SequenceSet {
    /// Room for so many messages without growing, where they come in order.
    pub fn with_capacity(messages: u64) -> Self {
        Self { chunks: Vec::with_capacity((messages / CHUNK + 1).min(1 << 20) as usize), spare: None }
    }
    /// Marks a number; true when it was new.
    #[inline]
    pub fn insert(&mut self, sequence: u64) -> bool {
        let chunk = (sequence / CHUNK) as usize;
        let (word, bit) = ((sequence % CHUNK / 64) as usize, 1u64 << (sequence % 64));
        if chunk >= self.chunks.len() {
            self.chunks.resize_with(chunk + 1, Chunk::default);
        }
        match &mut self.chunks[chunk] {
            Chunk::Part { bits, missing } => {
                if bits[word] & bit != 0 {
                    return false;
                }
                bits[word] |= bit;
                *missing -= 1;
                if *missing == 0
                    && let Chunk::Part { bits, .. } = std::mem::replace(&mut self.chunks[chunk], Chunk::Full)
                {
                    self.spare = Some(bits);
                }
                true
            }
            Chunk::Full => false,
            empty @ Chunk::Empty => {
                let mut bits = self.spare.take().unwrap_or_else(|| Box::new([0; WORDS]));
                bits.fill(0);
                bits[word] = bit;
                *empty = Chunk::Part { bits, missing: CHUNK as u32 - 1 };
                true
            }
        }
    }
    /// Whether a number was seen.
    pub fn contains(&self, sequence: u64) -> bool {
        let word = self.chunks.get((sequence / CHUNK) as usize).map_or(0, |c| c.word((sequence % CHUNK / 64) as usize));
        word >> (sequence % 64) & 1 == 1
    }
    /// Adds what another member of the group saw; returns how many both had.
    pub fn merge(&mut self, other: &Self) -> u64 {
        if other.chunks.len() > self.chunks.len() {
            self.chunks.resize_with(other.chunks.len(), Chunk::default);
        }
        let mut both = 0;
        for (mine, theirs) in self.chunks.iter_mut().zip(&other.chunks) {
            if matches!(theirs, Chunk::Empty) {
                continue;
            }
            let mut union = Box::new([0; WORDS]);
            for (at, word) in union.iter_mut().enumerate() {
                let (mine, theirs) = (mine.word(at), theirs.word(at));
                both += u64::from((mine & theirs).count_ones());
                *word = mine | theirs;
            }
            *mine = Chunk::of(union);
        }
        both
    }
    /// One above the highest number that was seen; 0 where none was.
    pub fn end(&self) -> u64 {
        let last = (0..self.chunks.len() * WORDS).rev().map(|at| (at, self.chunks[at / WORDS].word(at % WORDS)));
        last.filter(|(_, word)| *word != 0)
            .map(|(at, word)| at as u64 * 64 + 64 - u64::from(word.leading_zeros()))
            .next()
            .unwrap_or(0)
    }
    /// How many numbers of `from..to` were seen here and not there.
    pub fn count_without(&self, other: &Self, from: u64, to: u64) -> u64 {
        let theirs = |at: usize| other.chunks.get(at / WORDS).map_or(0, |chunk| chunk.word(at % WORDS));
        self.ones(from, to, |at, mine| mine & !theirs(at))
    }
    /// How many numbers of `from..to` were seen.
    pub fn count(&self, from: u64, to: u64) -> u64 {
        self.ones(from, to, |_, word| word)
    }
    /// The ones of `from..to` in words that are made of ours.
    fn ones(&self, from: u64, to: u64, of: impl Fn(usize, u64) -> u64) -> u64 {
        let words = (from / 64) as usize..to.div_ceil(64).min(self.chunks.len() as u64 * WORDS as u64) as usize;
        let one = |at: usize| {
            let start = at as u64 * 64;
            let low = from.saturating_sub(start);
            let high = (to - start).min(64);
            let mask = (u64::MAX << low) & (u64::MAX >> (64 - high));
            u64::from((of(at, self.chunks[at / WORDS].word(at % WORDS)) & mask).count_ones())
        };
        words.map(one).sum()
    }
}

/// Order of one producer's messages on one channel, as one consumer sees it.
#[derive(Debug, Clone, Copy, Default)]
pub struct OrderTracker {
    next: u64,
}

impl OrderTracker {
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
                let mut seen = SequenceSet::default();
                set.iter().for_each(|n| { seen.insert(*n); });
                seen
            };
            let expected = a.difference(&b).filter(|n| (50..400).contains(*n)).count() as u64;
            prop_assert_eq!(fill(&a).count_without(&fill(&b), 50, 400), expected);
        }
        #[test]
        fn agrees_with_a_set(numbers in prop::collection::vec(CHUNK - 500..CHUNK + 500, 0..300), from in CHUNK - 600..CHUNK + 600, len in 0u64..1000) {
            let (mut seen, mut set) = (SequenceSet::default(), BTreeSet::new());
            for n in &numbers {
                prop_assert_eq!(seen.insert(*n), set.insert(*n));
            }
            prop_assert!((CHUNK - 600..CHUNK + 600).all(|n| seen.contains(n) == set.contains(&n)));
            prop_assert_eq!(seen.end(), set.last().map_or(0, |last| last + 1));
            prop_assert_eq!(seen.count(from, from + len), set.range(from..from + len).count() as u64);
        }
        #[test]
        fn merging_counts_what_both_had(a in prop::collection::btree_set(0u64..500, 0..200), b in prop::collection::btree_set(0u64..900, 0..200)) {
            let fill = |set: &BTreeSet<u64>| {
                let mut seen = SequenceSet::with_capacity(100);
                set.iter().for_each(|n| { seen.insert(*n); });
                seen
            };
            let mut merged = fill(&a);
            prop_assert_eq!(merged.merge(&fill(&b)), a.intersection(&b).count() as u64);
            prop_assert_eq!(merged.count(0, 1000), a.union(&b).count() as u64);
        }
    }

    #[test]
    fn full_chunks_give_their_bits_back() {
        let mut seen = SequenceSet::default();
        let numbers = 5 * CHUNK + 3;
        for n in 0..numbers {
            seen.insert(n);
            assert!(!seen.insert(n));
        }
        assert_eq!(seen.count(0, u64::MAX), numbers);
        assert_eq!(seen.count(CHUNK - 1, 2 * CHUNK + 1), CHUNK + 2);
        assert!(seen.chunks[..5].iter().all(|chunk| matches!(chunk, Chunk::Full)));
        let mut other = SequenceSet::default();
        assert!((0..CHUNK).all(|n| other.insert(n)));
        assert_eq!(seen.count_without(&other, 0, numbers), numbers - CHUNK);
        assert_eq!(seen.merge(&other), CHUNK);
        assert_eq!(other.merge(&seen), CHUNK);
        assert_eq!(other.count(0, numbers), numbers);
    }

    #[test]
    fn order_counts_each_late_message_once() {
        let mut order = OrderTracker::default();
        let late: Vec<_> = [0, 1, 5, 2, 3, 6, 6].into_iter().filter(|n| order.late(*n)).collect();
        assert_eq!(late, [2, 3, 6]);
    }
}
