//! What a member says of the messages it was given: acknowledgements by partition, as runs of
//! offsets.

use std::collections::BTreeMap;

/// What is said of one message, in the protocol's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub(super) enum ShareAck {
    /// There is no message at this offset.
    Gap = 0,
    Accept = 1,
    /// It comes again.
    Release = 2,
    /// It never comes again.
    Reject = 3,
}

/// Offsets without a hole, and what is said of each; one word where it is the same of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AckRun {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) types: Vec<i8>,
}

/// Acknowledgements that are still to be sent.
#[derive(Debug, Default)]
pub(super) struct ShareAcks(BTreeMap<i32, Vec<(i64, ShareAck)>>);

impl ShareAcks {
    pub(super) fn say(&mut self, partition: i32, offset: i64, ack: ShareAck) {
        self.0.entry(partition).or_default().push((offset, ack));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Takes everything, by partition.
    pub(super) fn take(&mut self) -> BTreeMap<i32, Vec<AckRun>> {
        std::mem::take(&mut self.0).into_iter().map(|(partition, all)| (partition, runs(all))).collect()
    }
}

fn runs(mut all: Vec<(i64, ShareAck)>) -> Vec<AckRun> {
    // Held messages are accepted after later ones.
    all.sort_unstable_by_key(|(offset, _)| *offset);
    let mut runs: Vec<AckRun> = Vec::new();
    for (offset, ack) in all {
        match runs.last_mut() {
            Some(run) if run.last == offset => {}
            Some(run) if run.last + 1 == offset => {
                run.last = offset;
                run.types.push(ack as i8);
            }
            _ => runs.push(AckRun { first: offset, last: offset, types: vec![ack as i8] }),
        }
    }
    for run in &mut runs {
        if run.types.iter().all(|t| *t == run.types[0]) {
            run.types.truncate(1);
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is said in whichever order is said once of each offset, in runs as long as can
        /// be.
        #[test]
        fn runs_say_the_same_of_every_offset(said in prop::collection::btree_map(0i64..60, 0i8..4, 0..40), turn in 0usize..40) {
            let ack = |t: i8| [ShareAck::Gap, ShareAck::Accept, ShareAck::Release, ShareAck::Reject][t as usize];
            let mut order: Vec<(i64, i8)> = said.iter().map(|(o, t)| (*o, *t)).collect();
            let n = order.len().max(1);
            order.rotate_left(turn % n);
            let mut acks = ShareAcks::default();
            order.iter().for_each(|(offset, t)| acks.say(7, *offset, ack(*t)));
            prop_assert_eq!(acks.count(), said.len());
            let taken = acks.take();
            prop_assert!(acks.is_empty());
            let runs = taken.get(&7).cloned().unwrap_or_default();
            let mut again = std::collections::BTreeMap::new();
            for run in &runs {
                let length = (run.last - run.first + 1) as usize;
                prop_assert!(run.types.len() == 1 || run.types.len() == length, "{run:?}");
                for (i, offset) in (run.first..=run.last).enumerate() {
                    again.insert(offset, run.types[i % run.types.len()]);
                }
            }
            prop_assert_eq!(again, said);
            prop_assert!(runs.windows(2).all(|w| w[0].last + 1 < w[1].first), "{runs:?}");
        }
    }
}
