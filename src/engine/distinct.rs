//! Which messages the members of a group have between them, and which were acknowledged, for the
//! end of the drain.
//!
//! While messages come, each member counts what is new to itself. After a member has left or died,
//! others get again what it had and did not commit: then the sum of these counts is reached before
//! everything is here. So the members put together what they have when the sum is reached, and
//! again whenever nothing comes: not while messages are still coming. Where the system was
//! disturbed, each producer adds what was acknowledged to it: messages that came without an
//! acknowledgement do not stand for others that are still to come.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::measure::ledger::SequenceSet;

/// Of one workload.
#[derive(Debug, Default)]
pub struct Distinct {
    /// By group: a set for each producer.
    groups: Mutex<BTreeMap<u32, Vec<SequenceSet>>>,
    count: AtomicU64,
    /// By producer: what was acknowledged.
    acked: Mutex<BTreeMap<u32, SequenceSet>>,
    owed: AtomicU64,
}

impl Distinct {
    /// Adds what was acknowledged to a producer.
    pub fn owe(&self, producer: u32, acked: &SequenceSet) {
        let mut all = self.acked.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(producer).or_default().merge(acked);
        let count = all.values().map(|set| set.count(0, set.end())).sum();
        self.owed.store(count, Ordering::Relaxed);
    }

    /// Whether each of the first `groups` groups has every message that was acknowledged, as far as
    /// members and producers have told.
    pub fn owed_is_here(&self, groups: u32) -> bool {
        let here = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let acked = self.acked.lock().unwrap_or_else(PoisonError::into_inner);
        let none = SequenceSet::default();
        (0..groups).all(|group| {
            acked.iter().all(|(producer, owed)| {
                let seen = here.get(&group).and_then(|sets| sets.get(*producer as usize)).unwrap_or(&none);
                owed.count_without(seen, 0, owed.end()) == 0
            })
        })
    }

    /// Adds what a member has of each producer.
    pub fn add<'a>(&self, group: u32, sets: impl Iterator<Item = &'a SequenceSet>) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let all = groups.entry(group).or_default();
        for (at, set) in sets.enumerate() {
            if at == all.len() {
                all.push(SequenceSet::default());
            }
            all[at].merge(set);
        }
        let count = groups.values().flatten().map(|set| set.count(0, set.end())).sum();
        self.count.store(count, Ordering::Relaxed);
    }

    /// What there is, by group.
    pub fn all(&self) -> BTreeMap<u32, Vec<SequenceSet>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was acknowledged, by producer.
    pub fn acked(&self) -> BTreeMap<u32, SequenceSet> {
        self.acked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many messages were acknowledged, as far as producers have told.
    pub fn owed(&self) -> u64 {
        self.owed.load(Ordering::Relaxed)
    }

    /// Each message once for each group that has it.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(numbers: std::ops::Range<u64>) -> SequenceSet {
        let mut set = SequenceSet::default();
        numbers.for_each(|n| assert!(set.insert(n)));
        set
    }

    #[test]
    fn what_came_unacknowledged_does_not_stand_for_what_was_acknowledged() {
        let distinct = Distinct::default();
        distinct.owe(1, &set(10..20));
        assert!(!distinct.owed_is_here(1), "nobody has told");
        distinct.add(0, [set(0..0), set(0..19)].iter());
        assert!(!distinct.owed_is_here(1), "19 are here, ten are owed, and one of these is not");
        distinct.add(0, [set(0..0), set(19..20)].iter());
        assert!(distinct.owed_is_here(1));
        assert!(!distinct.owed_is_here(2), "the other group has nothing");
        distinct.add(1, [set(0..5), set(10..20)].iter());
        assert!(distinct.owed_is_here(2));
        distinct.owe(1, &set(20..21));
        assert!(!distinct.owed_is_here(2));
    }

    #[test]
    fn what_two_members_have_counts_once_and_once_for_each_group() {
        let distinct = Distinct::default();
        distinct.add(0, [set(0..10), set(5..9)].iter());
        assert_eq!(distinct.count(), 14);
        distinct.add(0, [set(5..20_000), set(0..0)].iter());
        assert_eq!(distinct.count(), 20_004);
        distinct.add(0, [set(5..20_000), set(0..1)].iter());
        assert_eq!(distinct.count(), 20_005, "added again, and one new");
        distinct.add(1, [set(0..10)].iter());
        assert_eq!(distinct.count(), 20_015);
    }
}
