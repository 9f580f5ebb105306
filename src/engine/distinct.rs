//! How many different messages the members of a group have between them, for the end of the drain.
//!
//! While messages come, each member counts what is new to itself. After a member has left or died,
//! others get again what it had and did not commit: then the sum of these counts is reached before
//! everything is here. So the members put together what they have when the sum is reached, and
//! again whenever nothing comes: not while messages are still coming.

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
}

impl Distinct {
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

    /// Each message once for each group that has it.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_members_have_counts_once_and_once_for_each_group() {
        let set = |numbers: std::ops::Range<u64>| {
            let mut set = SequenceSet::default();
            numbers.for_each(|n| assert!(set.insert(n)));
            set
        };
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
