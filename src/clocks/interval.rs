//! Intervals in which the truth lies.

use serde::{Deserialize, Serialize};

use crate::units::Nanos;

/// Where the offset, there less here, lies; ns, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetInterval {
    pub low: i64,
    pub high: i64,
}

impl OffsetInterval {
    /// What is known to be so.
    pub fn exactly(offset: i64) -> Self {
        Self { low: offset, high: offset }
    }

    /// The offset to reckon with: no other has a smaller greatest error.
    pub fn middle(&self) -> i64 {
        ((i128::from(self.low) + i128::from(self.high)).div_euclid(2)) as i64
    }

    /// The greatest error of the middle.
    pub fn bound(&self) -> Nanos {
        self.farthest(self.middle())
    }

    /// The greatest error of an offset that was reckoned with.
    pub fn farthest(&self, applied: i64) -> Nanos {
        applied.abs_diff(self.low).max(applied.abs_diff(self.high))
    }

    pub fn contains(&self, offset: i64) -> bool {
        (self.low..=self.high).contains(&offset)
    }

    /// The smallest interval with both in it.
    pub fn hull(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// Where the sum of two offsets lies.
    pub fn plus(self, other: Self) -> Self {
        Self { low: self.low.saturating_add(other.low), high: self.high.saturating_add(other.high) }
    }

    /// The same offset seen from the other side.
    pub fn reversed(self) -> Self {
        Self { low: self.high.saturating_neg(), high: self.low.saturating_neg() }
    }
}

/// Where the drift lies: by how much the clock there runs faster than the clock here; 1e-6 is a
/// microsecond in a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DriftInterval {
    pub low: f64,
    pub high: f64,
}

impl DriftInterval {
    pub fn contains(&self, drift: f64) -> bool {
        (self.low..=self.high).contains(&drift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_has_the_least_greatest_error() {
        let interval = OffsetInterval { low: -3, high: 4 };
        assert_eq!((interval.middle(), interval.bound()), (0, 4));
        assert_eq!((interval.farthest(4), interval.farthest(-10)), (7, 14));
        assert!(interval.contains(-3) && interval.contains(4) && !interval.contains(5));
        let wide = OffsetInterval { low: i64::MIN, high: i64::MAX };
        assert_eq!(wide.bound(), 1 << 63);
    }

    #[test]
    fn intervals_are_added_and_turned_round() {
        let (a, b) = (OffsetInterval { low: 1, high: 3 }, OffsetInterval { low: -5, high: -4 });
        assert_eq!(a.plus(b), OffsetInterval { low: -4, high: -1 });
        assert_eq!(a.reversed(), OffsetInterval { low: -3, high: -1 });
        assert_eq!(a.hull(b), OffsetInterval { low: -5, high: 3 });
        assert_eq!(OffsetInterval::exactly(7).bound(), 0);
    }
}
