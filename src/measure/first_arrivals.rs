//! Which delivery of a message was the first one of its group, where several members share a stream
//! and two of them may get the same message: each member notes when it saw which numbers, and at
//! the end the earliest delivery counts.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// When a delivery came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ArrivalPhase {
    /// Before the measured phase.
    Before,
    /// In this block of it.
    Block(u32),
    After,
}

/// First deliveries of one producer's messages to one member, by block: a bit for each message, in
/// words of 64 numbers. It takes two bits a message where one member gets everything, and more
/// where messages are dealt out in turn.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FirstArrivals {
    entries: Vec<(ArrivalPhase, u64, u64)>,
}

impl FirstArrivals {
    /// Notes the first delivery of a number to this member.
    #[inline]
    pub fn note(&mut self, when: ArrivalPhase, sequence: u64) {
        let (word, bit) = (sequence / 64, 1u64 << (sequence % 64));
        match self.entries.last_mut() {
            Some(last) if last.0 == when && last.1 == word => last.2 |= bit,
            _ => self.entries.push((when, word, bit)),
        }
    }
}

/// Calls `found` for each delivery whose number another member of the group had before (in the same
/// block: the one listed before), with the index of the member, the time and the number.
pub fn repeated(members: &[&FirstArrivals], mut found: impl FnMut(usize, ArrivalPhase, u64)) {
    if members.len() < 2 {
        return;
    }
    let mut all: Vec<(ArrivalPhase, usize, u64, u64)> = Vec::new();
    for (member, first_arrivals) in members.iter().enumerate() {
        all.extend(first_arrivals.entries.iter().map(|(when, word, bits)| (*when, member, *word, *bits)));
    }
    all.sort_unstable();
    let mut seen: HashMap<u64, u64> = HashMap::new();
    for (when, member, word, bits) in all {
        let before = seen.entry(word).or_default();
        let mut again = *before & bits;
        *before |= bits;
        while again != 0 {
            found(member, when, word * 64 + u64::from(again.trailing_zeros()));
            again &= again - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    proptest! {
        #[test]
        fn each_message_counts_where_it_came_first(
            deliveries in prop::collection::vec((0usize..3, 0u64..200), 0..400),
        ) {
            // Time runs on: five deliveries to a block, the first ten before and the last ones
            // after the measured phase.
            let when = |i: usize| match i {
                0..10 => ArrivalPhase::Before,
                10..300 => ArrivalPhase::Block((i / 5) as u32),
                _ => ArrivalPhase::After,
            };
            let (mut first_arrivals, mut had) = (vec![FirstArrivals::default(); 3], vec![BTreeSet::new(); 3]);
            let (mut counted, mut naive) = (BTreeMap::<ArrivalPhase, i64>::new(), BTreeMap::<ArrivalPhase, i64>::new());
            let mut group = BTreeSet::new();
            for (i, (member, number)) in deliveries.iter().enumerate() {
                if had[*member].insert(*number) {
                    first_arrivals[*member].note(when(i), *number);
                    *counted.entry(when(i)).or_default() += 1;
                }
                *naive.entry(when(i)).or_default() += i64::from(group.insert(*number));
            }
            repeated(&first_arrivals.iter().collect::<Vec<_>>(), |_, when, _| *counted.get_mut(&when).unwrap() -= 1);
            counted.retain(|_, n| *n != 0);
            naive.retain(|_, n| *n != 0);
            prop_assert_eq!(counted, naive);
        }
    }
}
