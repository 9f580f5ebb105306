//! The stamps of messages that were sent and are neither confirmed nor refused.
//!
//! # Design
//! A ring with the latest messages, found by their number with a mask. News come nearly always in
//! the order of sending: then nothing but the ring is touched. A message that still waits when a
//! later one needs its place, because one partition lags while others go on, moves to a map. So
//! what is kept is bounded by what is open, and not by how far the numbers of open messages lie
//! apart.

use std::collections::HashMap;

use crate::units::Nanos;

/// Places of a ring at first. A producer of a thousand must not hold megabytes that it does not
/// need.
const FIRST: usize = 1 << 10;
/// Open messages at most: as many as a closed loop may have in flight, and more. A place takes 24
/// bytes.
pub const MOST: usize = 1 << 20;

/// A message that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Its number.
    pub sequence: u64,
    /// When it was due.
    pub intended: Nanos,
    /// When it was handed over.
    pub sent: Nanos,
}

/// A place that is free.
const FREE: Stamp = Stamp { sequence: u64::MAX, intended: 0, sent: 0 };

#[derive(Debug)]
pub struct OpenStamps {
    ring: Vec<Stamp>,
    /// Open messages whose places were needed.
    older: HashMap<u64, Stamp>,
    /// The number that comes next.
    next: u64,
    /// Open messages, those that were given up included.
    open: u64,
    /// Messages below this number are not waited for any more, and how many of them are open.
    given_up: (u64, u64),
    /// No open message that was not given up has a number below this one.
    current: u64,
}

impl Default for OpenStamps {
    fn default() -> Self {
        Self { ring: vec![FREE; FIRST], older: HashMap::new(), next: 0, open: 0, given_up: (0, 0), current: 0 }
    }
}

impl OpenStamps {
    /// Keeps the stamps of a message until it is confirmed or refused. Numbers ascend.
    #[inline]
    pub fn put(&mut self, stamp: Stamp) {
        let mut place = self.place(stamp.sequence);
        if self.ring[place].sequence != FREE.sequence {
            place = self.make_room(stamp.sequence);
        }
        self.ring[place] = stamp;
        self.next = stamp.sequence + 1;
        self.open += 1;
    }

    /// The stamps of an open message, which is open no more; `None` where it was not open.
    #[inline]
    pub fn take(&mut self, sequence: u64) -> Option<Stamp> {
        if sequence >= self.next {
            return None;
        }
        let place = self.place(sequence);
        let stamp = self.ring[place];
        let stamp = if stamp.sequence == sequence {
            self.ring[place].sequence = FREE.sequence;
            stamp
        } else {
            self.take_older(sequence)?
        };
        self.open -= 1;
        if sequence < self.given_up.0 {
            self.given_up.1 -= 1;
        }
        Some(stamp)
    }

    /// The stamps of an open message, which stays open.
    pub fn get(&self, sequence: u64) -> Option<Stamp> {
        let here = self.ring[self.place(sequence)];
        if sequence < self.next && here.sequence == sequence { Some(here) } else { self.older.get(&sequence).copied() }
    }

    /// Whether a message of this number was sent.
    pub fn sent(&self, sequence: u64) -> bool {
        sequence < self.next
    }

    /// Messages that are waited for.
    #[inline]
    pub fn outstanding(&self) -> u64 {
        self.open - self.given_up.1
    }

    /// Messages that were confirmed or refused, or that were forgotten.
    pub fn settled(&self) -> u64 {
        self.next - self.open
    }

    /// Whether no further message can be kept.
    #[inline]
    pub fn full(&self) -> bool {
        self.open >= MOST as u64
    }

    /// The oldest message that is waited for. All looks together walk the numbers once.
    pub fn oldest(&mut self) -> Option<Stamp> {
        while self.current < self.next {
            let found = self.get(self.current);
            if found.is_some() {
                return found;
            }
            self.current += 1;
        }
        None
    }

    /// Stops waiting for messages that were handed over before this instant. Their stamps are kept,
    /// so that a late confirmation is told apart from one that is waited for.
    pub fn give_up(&mut self, before: Nanos) {
        while let Some(stamp) = self.oldest().filter(|s| s.sent < before) {
            self.current = stamp.sequence + 1;
            self.given_up = (self.current, self.given_up.1 + 1);
        }
    }

    /// Forgets what was given up; the oldest half of what is waited for, where that is not enough
    /// to have room.
    #[cold]
    pub fn forget(&mut self) {
        let mut kept = self.all();
        let given_up = self.given_up.0;
        kept.retain(|s| s.sequence >= given_up);
        if kept.len() >= MOST {
            kept.drain(..MOST / 2);
        }
        self.open = kept.len() as u64;
        self.given_up.1 = 0;
        self.settle_in(kept, self.ring.len());
    }

    #[inline]
    fn place(&self, sequence: u64) -> usize {
        // The size is a power of two, and this no division.
        sequence as usize & (self.ring.len() - 1)
    }

    #[cold]
    fn take_older(&mut self, sequence: u64) -> Option<Stamp> {
        self.older.remove(&sequence)
    }

    /// Frees the place of a message that comes: its holder moves to the map, or the ring grows.
    #[cold]
    fn make_room(&mut self, sequence: u64) -> usize {
        let size = self.ring.len();
        if size < MOST && (self.open >= size as u64 || self.older.len() >= size / 4) {
            let all = self.all();
            self.settle_in(all, 2 * size);
        }
        let place = self.place(sequence);
        let holder = self.ring[place];
        if holder.sequence != FREE.sequence {
            self.older.insert(holder.sequence, holder);
        }
        place
    }

    /// Takes all open messages out, by number.
    fn all(&mut self) -> Vec<Stamp> {
        let mut all: Vec<Stamp> = self.older.drain().map(|(_, stamp)| stamp).collect();
        all.extend(self.ring.iter().filter(|s| s.sequence != FREE.sequence));
        all.sort_unstable_by_key(|s| s.sequence);
        all
    }

    /// Puts messages, by number, into a new ring; of two for one place the later one.
    fn settle_in(&mut self, all: Vec<Stamp>, size: usize) {
        self.ring = vec![FREE; size];
        for stamp in all {
            let place = self.place(stamp.sequence);
            let before = std::mem::replace(&mut self.ring[place], stamp);
            if before.sequence != FREE.sequence {
                self.older.insert(before.sequence, before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// What is done to the stamps.
    #[derive(Debug, Clone)]
    enum StampOp {
        /// So many messages are sent.
        Put(u16),
        /// News of a message that is open, counted from the oldest.
        Take(u16),
        /// News of messages in the order of sending.
        TakeFirst(u16),
        /// News of the latest messages.
        TakeLast(u16),
        /// News of any number, sent or not, open or not.
        TakeAny(u64),
        /// What was sent before the middle of what is open is given up.
        GiveUp,
        Forget,
    }

    fn acts() -> impl Strategy<Value = Vec<StampOp>> {
        let act = prop_oneof![
            4 => (1u16..3000).prop_map(StampOp::Put),
            4 => any::<u16>().prop_map(StampOp::Take),
            3 => (1u16..3000).prop_map(StampOp::TakeFirst),
            2 => (1u16..1500).prop_map(StampOp::TakeLast),
            2 => prop_oneof![0u64..40_000, Just(u64::MAX), any::<u64>()].prop_map(StampOp::TakeAny),
            1 => Just(StampOp::GiveUp),
            1 => Just(StampOp::Forget),
        ];
        prop::collection::vec(act, 1..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn what_is_open_is_kept_whatever_came_before_it(acts in acts()) {
            let mut stamps = OpenStamps::default();
            let mut model: BTreeMap<u64, Stamp> = BTreeMap::new();
            let (mut next, mut given_up) = (0u64, 0u64);
            let mut most = 0;
            for act in acts {
                let mut taken: Vec<u64> = Vec::new();
                match act {
                    StampOp::Put(n) => for _ in 0..n {
                        let stamp = Stamp { sequence: next, intended: 10 * next + 1, sent: 10 * next + 7 };
                        stamps.put(stamp);
                        model.insert(next, stamp);
                        next += 1;
                    },
                    StampOp::Take(k) if !model.is_empty() => {
                        taken.extend(model.keys().nth(usize::from(k) % model.len()));
                    }
                    StampOp::Take(_) => {}
                    StampOp::TakeFirst(n) => taken.extend(model.keys().take(n.into())),
                    StampOp::TakeLast(n) => taken.extend(model.keys().rev().take(n.into())),
                    StampOp::TakeAny(sequence) => taken.push(sequence),
                    StampOp::GiveUp => {
                        let middle = model.range(given_up..).map(|(k, _)| *k).nth(model.len() / 2).unwrap_or(next);
                        stamps.give_up(10 * middle + 7);
                        given_up = model.range(given_up..middle).last().map_or(given_up, |(k, _)| k + 1);
                    }
                    StampOp::Forget => {
                        stamps.forget();
                        model.retain(|k, _| *k >= given_up);
                    }
                }
                most = most.max(model.len());
                for sequence in taken {
                    let expected = model.remove(&sequence);
                    prop_assert_eq!(stamps.get(sequence), expected);
                    prop_assert_eq!(stamps.take(sequence), expected);
                    prop_assert_eq!(stamps.take(sequence), None, "twice");
                    prop_assert_eq!(stamps.sent(sequence), sequence < next);
                }
                let waited = model.range(given_up..);
                prop_assert_eq!(stamps.outstanding(), waited.clone().count() as u64);
                prop_assert_eq!(stamps.oldest(), waited.map(|(_, s)| *s).next());
                // The ring and the map are of the size of what was open at most.
                prop_assert!(stamps.ring.len() <= (8 * most).max(FIRST), "{} for {most}", stamps.ring.len());
                prop_assert!(stamps.older.len() <= model.len());
            }
            for (sequence, stamp) in model {
                prop_assert_eq!(stamps.take(sequence), Some(stamp));
            }
            prop_assert_eq!((stamps.open, stamps.outstanding(), stamps.older.len()), (0, 0, 0));
        }
    }

    #[test]
    fn one_that_waits_for_ever_costs_one_place() {
        let mut stamps = OpenStamps::default();
        for sequence in 0..10 * MOST as u64 {
            stamps.put(Stamp { sequence, intended: sequence, sent: sequence });
            if sequence % 100_000 != 0 {
                stamps.take(sequence).unwrap();
            }
        }
        assert_eq!((stamps.outstanding(), stamps.ring.len()), (105, FIRST));
        assert!(stamps.take(100_000).is_some());
    }

    #[test]
    fn when_no_more_can_be_kept_the_oldest_are_forgotten() {
        let mut stamps = OpenStamps::default();
        for sequence in 0..MOST as u64 {
            assert!(!stamps.full());
            stamps.put(Stamp { sequence, intended: 0, sent: sequence });
        }
        assert!(stamps.full() && stamps.ring.len() == MOST);
        stamps.give_up(10);
        stamps.forget();
        assert_eq!((stamps.outstanding(), stamps.take(9), stamps.take(10).is_some()), (MOST as u64 - 10, None, true));
        for sequence in MOST as u64..MOST as u64 + 11 {
            stamps.put(Stamp { sequence, intended: 0, sent: sequence });
        }
        stamps.forget();
        assert_eq!(stamps.outstanding(), MOST as u64 / 2);
    }
}
