//! An exchange of four readings of two clocks, and what each of them is trusted for.

use serde::{Deserialize, Serialize};

use crate::units::Nanos;

/// A question and its answer, each end stamped by the clock of the host it is on. "Here" is who
/// asks, "there" who answers.
///
/// With the offset theta = there - here: the question arrived after it was sent, so theta <= t2 -
/// t1; the answer arrived after it was sent, so theta >= t3 - t4 (RFC 5905, section 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The question was sent, by the clock here.
    pub t1: Nanos,
    /// The question was received, by the clock there.
    pub t2: Nanos,
    /// The answer was sent, by the clock there.
    pub t3: Nanos,
    /// The answer was received, by the clock here.
    pub t4: Nanos,
}

impl Exchange {
    /// The time that both ways took together: (t4 - t1) - (t3 - t2). Negative where a clock stepped
    /// in between.
    pub fn round_trip(&self) -> i64 {
        difference(self.t4, self.t1).saturating_sub(difference(self.t3, self.t2))
    }

    /// The offset that is wrong by at most half of the round trip: ((t2 - t1) + (t3 - t4)) / 2.
    pub fn offset(&self) -> i64 {
        ((i128::from(self.most()) + i128::from(self.least())) / 2) as i64
    }

    /// The offset was at most this when the question was sent.
    pub(super) fn most(&self) -> i64 {
        difference(self.t2, self.t1)
    }

    /// The offset was at least this when the answer was received.
    pub(super) fn least(&self) -> i64 {
        difference(self.t3, self.t4)
    }
}

/// One reading less another, which may be of another clock.
pub(super) fn difference(a: Nanos, b: Nanos) -> i64 {
    let difference = i128::from(a) - i128::from(b);
    difference.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// What two clocks are trusted for, before anything is measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClockLimits {
    /// The most by which their rates differ: 1e-6 is a microsecond in a second.
    pub drift: f64,
    /// A reading may be behind the true instant by this much, ns: clocks count in steps.
    pub grain: Nanos,
}

impl Default for ClockLimits {
    /// 1,000 ppm: the kernel lets the rate of one clock be changed by at most 500 ppm
    /// (adjtimex(2), `freq`). Clocks are read in whole nanoseconds.
    fn default() -> Self {
        Self { drift: 1e-3, grain: 1 }
    }
}
