//! When a group is whole, so that load may start.

/// The members of a group that are there before load starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExpectedMembers {
    /// In this process, and in all.
    pub(super) here: usize,
    pub(super) all: usize,
}

impl ExpectedMembers {
    /// Whether ours, with so many partitions each, have what they will have.
    pub(super) fn settled(self, dealt: &[usize], partitions: usize) -> bool {
        let (sum, busy) = (dealt.iter().sum::<usize>(), dealt.iter().filter(|n| **n > 0).count());
        if self.here == self.all {
            return sum == partitions && busy == self.all.min(partitions);
        }
        let (least, most) = (partitions / self.all.max(1), partitions.div_ceil(self.all.max(1)));
        dealt.iter().all(|n| (least..=most).contains(n))
    }

    /// Whether a member that has none may wait for its first: others elsewhere may have all.
    pub(super) fn may_be_early(self, partitions: usize) -> bool {
        self.here < self.all && partitions < self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_whole_when_each_has_what_it_will_have() {
        let of = |here, all| ExpectedMembers { here, all };
        // All are here: all is dealt out, and to as many as there can be.
        for (dealt, partitions, whole) in
            [(&[2, 2, 2][..], 6, true), (&[6, 0, 0], 6, false), (&[3, 3, 0], 6, false), (&[1, 1, 0], 2, true)]
        {
            assert_eq!(of(3, 3).settled(dealt, partitions), whole, "{dealt:?}");
            assert!(!of(3, 3).may_be_early(partitions));
        }
        // Others are elsewhere: ours have their share, none more.
        for (dealt, partitions, whole) in [(&[2][..], 6, true), (&[6], 6, false), (&[0], 6, false), (&[3], 7, true)] {
            assert_eq!(of(1, 3).settled(dealt, partitions), whole, "{dealt:?}");
            assert!(!of(1, 3).may_be_early(partitions));
        }
        // Of more members than partitions one may end with none, or have none yet.
        assert!(of(1, 3).settled(&[0], 2) && of(1, 3).settled(&[1], 2) && !of(1, 3).settled(&[2], 2));
        assert!(of(1, 3).may_be_early(2));
    }
}
