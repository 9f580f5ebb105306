//! The books: which messages of each producer a consumer has seen, exactly.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Numbers of a chunk; one is set aside when all of them were seen. A consumer of a thousand has
/// one of each of a thousand producers: a large chunk for a few messages of each took gigabytes.
const CHUNK: u64 = 1 << 12;
const WORDS: usize = (CHUNK / 64) as usize;
/// Chunks that room is made for at first.
const ROOM: u64 = 2;

/// The sequence numbers of one producer that were seen: one bit each, so that duplicates are found
/// and loss is counted to the message, also where the members of a group share a stream and each
/// sees only a part of it.
///
/// Where everything arrives, chunks fill up and their bits are used again for the next one: a run
/// of any length needs the memory of its gaps. What is seen without a gap from the beginning on is
/// a number.
#[derive(Debug, Clone, Default)]
pub struct SequenceSet {
    /// So many chunks from the beginning are full, and not in `chunks`.
    full: usize,
    chunks: VecDeque<Chunk>,
    /// Bits of a chunk that is full.
    spare: Option<Box<[u64; WORDS]>>,
}

#[derive(Debug, Clone, Default)]
enum Chunk {
    #[default]
    Empty,
    /// Of a set that another process has told: these numbers, in 24 bytes and not 512.
    Few(Box<[u16]>),
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
            Self::Few(numbers) => {
                numbers.iter().filter(|n| usize::from(**n / 64) == at).fold(0, |word, n| word | 1 << (n % 64))
            }
            Self::Part { bits, .. } => bits[at],
            Self::Full => u64::MAX,
        }
    }
    fn bits(&self) -> [u64; WORDS] {
        match self {
            Self::Empty => [0; WORDS],
            Self::Few(numbers) => {
                let mut bits = [0; WORDS];
                numbers.iter().for_each(|n| bits[usize::from(n / 64)] |= 1 << (n % 64));
                bits
            }
            Self::Part { bits, .. } => **bits,
            Self::Full => [u64::MAX; WORDS],
        }
    }
    /// How many numbers were seen.
    fn seen(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Few(numbers) => numbers.len() as u64,
            Self::Part { missing, .. } => CHUNK - u64::from(*missing),
            Self::Full => CHUNK,
        }
    }
    /// Adds what another chunk has; returns how many both had.
    fn merge(&mut self, other: &Self) -> u64 {
        match (&mut *self, other) {
            (_, Self::Empty) => 0,
            (Self::Full, _) => other.seen(),
            (_, Self::Full) => std::mem::replace(self, Self::Full).seen(),
            (Self::Empty, _) => {
                *self = other.clone();
                0
            }
            (Self::Part { bits, missing }, _) => {
                let mut both = 0;
                let mut add = |word: usize, theirs: u64| {
                    both += u64::from((bits[word] & theirs).count_ones());
                    bits[word] |= theirs;
                };
                match other {
                    Self::Few(numbers) => numbers.iter().for_each(|n| add(usize::from(n / 64), 1 << (n % 64))),
                    _ => (0..WORDS).for_each(|word| add(word, other.word(word))),
                }
                *missing -= (other.seen() - both) as u32;
                if *missing == 0 {
                    *self = Self::Full;
                }
                both
            }
            (Self::Few(_), _) => {
                *self = Self::of(Box::new(self.bits()));
                self.merge(other)
            }
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
        Self { chunks: VecDeque::with_capacity((messages / CHUNK + 1).min(ROOM) as usize), ..Self::default() }
    }
    /// Marks a number; true when it was new.
    #[inline]
    pub fn insert(&mut self, sequence: u64) -> bool {
        let (word, bit) = ((sequence % CHUNK / 64) as usize, 1u64 << (sequence % 64));
        let Some(chunk) = ((sequence / CHUNK) as usize).checked_sub(self.full) else { return false };
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
                if *missing == 0 {
                    self.fill(chunk);
                }
                true
            }
            Chunk::Full => false,
            Chunk::Few(_) => {
                self.open(chunk);
                self.insert(sequence)
            }
            empty @ Chunk::Empty => {
                let mut bits = self.spare.take().unwrap_or_else(|| Box::new([0; WORDS]));
                bits.fill(0);
                bits[word] = bit;
                *empty = Chunk::Part { bits, missing: CHUNK as u32 - 1 };
                true
            }
        }
    }
    /// Makes bits of a few numbers, so that there can be more of them.
    #[cold]
    fn open(&mut self, chunk: usize) {
        self.chunks[chunk] = Chunk::of(Box::new(self.chunks[chunk].bits()));
    }
    /// Sets the bits of a chunk aside of which all numbers were seen.
    #[cold]
    fn fill(&mut self, chunk: usize) {
        if let Chunk::Part { bits, .. } = std::mem::replace(&mut self.chunks[chunk], Chunk::Full) {
            self.spare = Some(bits);
        }
        self.advance();
    }
    fn advance(&mut self) {
        while matches!(self.chunks.front(), Some(Chunk::Full)) {
            self.chunks.pop_front();
            self.full += 1;
        }
    }
    /// Chunks up to the last one that is not empty for sure.
    fn len(&self) -> usize {
        self.full + self.chunks.len()
    }
    /// The 64 numbers from `64 * at` on.
    #[inline]
    fn word(&self, at: usize) -> u64 {
        match (at / WORDS).checked_sub(self.full) {
            None => u64::MAX,
            Some(chunk) => self.chunks.get(chunk).map_or(0, |chunk| chunk.word(at % WORDS)),
        }
    }
    /// Whether a number was seen.
    pub fn contains(&self, sequence: u64) -> bool {
        self.word((sequence / 64) as usize) >> (sequence % 64) & 1 == 1
    }
    /// Adds what another member of the group saw; returns how many both had.
    pub fn merge(&mut self, other: &Self) -> u64 {
        let mut both = self.full.min(other.full) as u64 * CHUNK;
        if other.len() > self.len() {
            self.chunks.resize_with(other.len() - self.full, Chunk::default);
        }
        for chunk in self.full.min(other.full)..other.len() {
            let theirs = chunk.checked_sub(other.full).map_or(&Chunk::Full, |at| &other.chunks[at]);
            both += match chunk.checked_sub(self.full) {
                None => theirs.seen(),
                Some(at) => self.chunks[at].merge(theirs),
            };
        }
        self.advance();
        both
    }
    /// One above the highest number that was seen; 0 where none was.
    pub fn end(&self) -> u64 {
        let last = (self.full * WORDS..self.len() * WORDS).rev().map(|at| (at, self.word(at)));
        last.filter(|(_, word)| *word != 0)
            .map(|(at, word)| at as u64 * 64 + 64 - u64::from(word.leading_zeros()))
            .next()
            .unwrap_or(self.full as u64 * CHUNK)
    }
    /// How many numbers of `from..to` were seen here and not there.
    pub fn count_without(&self, other: &Self, from: u64, to: u64) -> u64 {
        self.ones(from, to, |at, mine| mine & !other.word(at))
    }
    /// How many numbers of `from..to` were seen.
    pub fn count(&self, from: u64, to: u64) -> u64 {
        self.ones(from, to, |_, word| word)
    }
    /// The ones of `from..to` in words that are made of ours.
    fn ones(&self, from: u64, to: u64, of: impl Fn(usize, u64) -> u64) -> u64 {
        let words = (from / 64) as usize..to.div_ceil(64).min(self.len() as u64 * WORDS as u64) as usize;
        let one = |at: usize| {
            let start = at as u64 * 64;
            let low = from.saturating_sub(start);
            let high = (to - start).min(64);
            let mask = (u64::MAX << low) & (u64::MAX >> (64 - high));
            u64::from((of(at, self.word(at)) & mask).count_ones())
        };
        words.map(one).sum()
    }
}

/// A set as it is written: of each chunk that is neither empty nor full its numbers where they are
/// few, or else its words.
#[derive(Serialize, Deserialize)]
struct WrittenSet {
    full: usize,
    chunks: Vec<WrittenChunk>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenChunk {
    Empty,
    Full,
    Words(Vec<u64>),
    Numbers(Vec<u16>),
}

/// Numbers of a chunk that are few. A member of a group of a thousand has a few of each chunk of
/// each producer.
const FEW: u32 = 32;

impl WrittenChunk {
    fn of(chunk: &Chunk) -> Self {
        match chunk {
            Chunk::Empty => Self::Empty,
            Chunk::Full => Self::Full,
            Chunk::Few(numbers) => Self::Numbers(numbers.to_vec()),
            Chunk::Part { bits, missing } if CHUNK as u32 - missing <= FEW => {
                let has = |n: &u16| bits[usize::from(n / 64)] >> (n % 64) & 1 == 1;
                Self::Numbers((0..CHUNK as u16).filter(has).collect())
            }
            Chunk::Part { bits, .. } => Self::Words(bits.to_vec()),
        }
    }

    fn read(self) -> Result<Chunk, &'static str> {
        match self {
            Self::Empty => Ok(Chunk::Empty),
            Self::Full => Ok(Chunk::Full),
            Self::Words(words) => match Box::<[u64; WORDS]>::try_from(words.into_boxed_slice()) {
                Ok(bits) => Ok(Chunk::of(bits)),
                Err(_) => Err("a chunk of numbers has not its length"),
            },
            Self::Numbers(numbers)
                if numbers.len() > FEW as usize
                    || numbers.last().is_some_and(|last| u64::from(*last) >= CHUNK)
                    || !numbers.is_sorted_by(|a, b| a < b) =>
            {
                Err("the numbers of a chunk are too many, not in order, or beyond it")
            }
            Self::Numbers(numbers) => Ok(Chunk::Few(numbers.into())),
        }
    }
}

impl Serialize for SequenceSet {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        WrittenSet { full: self.full, chunks: self.chunks.iter().map(WrittenChunk::of).collect() }.serialize(to)
    }
}

impl<'de> Deserialize<'de> for SequenceSet {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let WrittenSet { full, chunks } = WrittenSet::deserialize(from)?;
        let chunks = chunks.into_iter().map(WrittenChunk::read).collect::<Result<_, _>>();
        let mut set = Self { full, chunks: chunks.map_err(serde::de::Error::custom)?, spare: None };
        set.advance();
        Ok(set)
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

/// The order on each lane of each producer: a channel, or a key. Where there are more of them than
/// messages are likely, those that had a message are kept.
#[derive(Debug, Clone)]
pub struct LaneOrder {
    lanes: u64,
    all: Vec<OrderTracker>,
    some: HashMap<u64, OrderTracker, RandomState>,
}

/// With more lanes of all producers than this, only those that had a message are kept.
const MOST: u64 = 1 << 13;

impl LaneOrder {
    /// For so many producers with so many lanes each.
    pub fn new(producers: u64, lanes: u64) -> Self {
        let count = producers.saturating_mul(lanes);
        let all = vec![OrderTracker::default(); if count > MOST { 0 } else { count as usize }];
        Self { lanes, all, some: HashMap::default() }
    }

    /// Takes a number; true when a later one came before it.
    #[inline]
    pub fn late(&mut self, producer: u64, lane: u64, sequence: u64) -> bool {
        let lane = producer * self.lanes + lane;
        match self.all.get_mut(lane as usize) {
            Some(order) => order.late(sequence),
            None => self.some.entry(lane).or_default().late(sequence),
        }
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
        fn merging_counts_what_both_had(
            a in prop::collection::btree_set(0u64..500, 0..200), b in prop::collection::btree_set(0u64..900, 0..200),
            few in prop::collection::btree_set(prop_oneof![0u64..500, 0..3 * CHUNK], 0..60),
        ) {
            let fill = |set: &BTreeSet<u64>| {
                let mut seen = SequenceSet::with_capacity(100);
                set.iter().for_each(|n| { seen.insert(*n); });
                seen
            };
            // Another process has told it: a few numbers are kept as such.
            let told = |set: &BTreeSet<u64>| {
                serde_json::from_str::<SequenceSet>(&serde_json::to_string(&fill(set)).unwrap()).unwrap()
            };
            let mut merged = fill(&a);
            prop_assert_eq!(merged.merge(&fill(&b)), a.intersection(&b).count() as u64);
            prop_assert_eq!(merged.count(0, 1000), a.union(&b).count() as u64);
            let pairs = [(fill(&a), told(&few), &a, &few), (told(&few), fill(&a), &few, &a), (told(&few), told(&b), &few, &b)];
            for (mut merged, other, mine, theirs) in pairs {
                prop_assert_eq!(merged.merge(&other), mine.intersection(theirs).count() as u64);
                let union: BTreeSet<u64> = mine.union(theirs).copied().collect();
                prop_assert_eq!((merged.count(0, 4 * CHUNK), merged.end()), (union.len() as u64, union.last().map_or(0, |n| n + 1)));
                prop_assert_eq!(merged.merge(&fill(&union)), union.len() as u64);
            }
        }
        /// Some numbers, many or few in each chunk, behind so many whole chunks.
        #[test]
        fn what_was_written_is_read(
            whole in 0u64..3, step in 1u64..400, far in prop::collection::btree_set(0..5 * CHUNK, 0..50),
        ) {
            let mut seen = SequenceSet::default();
            let numbers = (0..whole * CHUNK).chain((whole * CHUNK..5 * CHUNK).step_by(step as usize)).chain(far);
            numbers.for_each(|n| { seen.insert(n); });
            let text = serde_json::to_string(&seen).unwrap();
            let mut read: SequenceSet = serde_json::from_str(&text).unwrap();
            prop_assert!((0..6 * CHUNK).all(|n| read.contains(n) == seen.contains(n)));
            prop_assert_eq!((read.end(), read.count(0, 9 * CHUNK)), (seen.end(), seen.count(0, 9 * CHUNK)));
            let mut merged = SequenceSet::default();
            prop_assert_eq!(merged.merge(&read), 0);
            prop_assert_eq!(merged.merge(&read), read.count(0, 9 * CHUNK));
            prop_assert_eq!((merged.end(), serde_json::to_string(&read).unwrap()), (read.end(), text));
            // And it goes on.
            (0..6 * CHUNK).for_each(|n| assert_eq!(read.insert(n), seen.insert(n)));
            prop_assert_eq!(read.count(0, 9 * CHUNK), 6 * CHUNK);
        }
    }

    /// Members that have every other message are whole together, and one that is missing is.
    #[test]
    fn parts_become_a_whole_chunk() {
        let some = |numbers: &mut dyn Iterator<Item = u64>| {
            let mut set = SequenceSet::default();
            numbers.for_each(|n| {
                set.insert(n);
            });
            set
        };
        let mut even = some(&mut (0..CHUNK).step_by(2));
        assert_eq!(even.merge(&some(&mut (3..CHUNK).step_by(2))), 0);
        assert!(even.full == 0 && !even.contains(1) && even.count(0, CHUNK) == CHUNK - 1);
        assert_eq!(even.merge(&some(&mut (1..CHUNK).step_by(2))), CHUNK / 2 - 1);
        assert!(even.full == 1 && even.chunks.is_empty() && even.count(0, 2 * CHUNK) == CHUNK);
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for wrong in ["{\"words\":[1,2]}", "{\"numbers\":[4096]}", "{\"numbers\":[5,5]}", "{\"numbers\":[6,5]}"] {
            let text = format!("{{\"full\":0,\"chunks\":[{wrong}]}}");
            assert!(serde_json::from_str::<SequenceSet>(&text).is_err(), "{wrong}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Ranges that fill chunks, and holes in them.
        #[test]
        fn whole_chunks_agree_with_a_set(
            ranges in prop::collection::vec((0..6 * CHUNK, 0..3 * CHUNK), 0..4),
            others in prop::collection::vec((0..6 * CHUNK, 0..3 * CHUNK), 0..4),
            whole in 0u64..4, holes in prop::collection::btree_set(0..9 * CHUNK, 0..3),
            from in 0..9 * CHUNK, len in 0..9 * CHUNK,
        ) {
            let all = |ranges: &[(u64, u64)], whole: u64| -> (SequenceSet, BTreeSet<u64>) {
                let (mut seen, mut set) = (SequenceSet::default(), BTreeSet::new());
                for (from, len) in [(0, whole * CHUNK)].iter().chain(ranges) {
                    for n in (*from..from + len).filter(|n| !holes.contains(n)) {
                        assert_eq!(seen.insert(n), set.insert(n));
                    }
                }
                (seen, set)
            };
            let ((mut a, a_set), (b, b_set)) = (all(&ranges, whole), all(&others, 1));
            // What another process has told of a few.
            let few: BTreeSet<u64> = holes.iter().copied().chain([from]).collect();
            let text = format!("{{\"full\":0,\"chunks\":[{}]}}", (0..18).map(|chunk| {
                let here: Vec<u64> = few.range(chunk * CHUNK..(chunk + 1) * CHUNK).map(|n| n % CHUNK).collect();
                format!("{{\"numbers\":{here:?}}}")
            }).collect::<Vec<_>>().join(","));
            let mut told: SequenceSet = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(told.merge(&a), a_set.intersection(&few).count() as u64);
            prop_assert_eq!(told.count(0, 18 * CHUNK), a_set.union(&few).count() as u64);
            let within = |set: &BTreeSet<u64>| set.range(from..from + len).count() as u64;
            prop_assert_eq!((a.end(), a.count(from, from + len)), (a_set.last().map_or(0, |n| n + 1), within(&a_set)));
            let without = a_set.difference(&b_set).filter(|n| (from..from + len).contains(*n)).count() as u64;
            prop_assert_eq!(a.count_without(&b, from, from + len), without);
            prop_assert_eq!(a.merge(&b), a_set.intersection(&b_set).count() as u64);
            let union: BTreeSet<u64> = a_set.union(&b_set).copied().collect();
            prop_assert_eq!((a.count(from, from + len), a.end()), (within(&union), union.last().map_or(0, |n| n + 1)));
            prop_assert!(!matches!(a.chunks.front(), Some(Chunk::Full)));
        }
    }

    proptest! {
        #[test]
        fn lanes_agree_with_a_map(
            lanes in prop_oneof![1u64..20, 10_000u64..1_000_000], seen in prop::collection::vec((0u64..3, any::<u64>(), 0u64..50), 0..200),
        ) {
            let (mut order, mut latest) = (LaneOrder::new(3, lanes), std::collections::BTreeMap::new());
            for (producer, lane, sequence) in seen {
                let lane = lane % lanes;
                let before = latest.get(&(producer, lane)).copied();
                prop_assert_eq!(order.late(producer, lane, sequence), before.is_some_and(|before| sequence <= before));
                latest.insert((producer, lane), before.map_or(sequence, |before: u64| before.max(sequence)));
            }
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
        assert_eq!((seen.full, seen.chunks.len()), (5, 1));
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
