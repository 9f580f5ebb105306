//! All straight lines, offset and drift, that a set of exchanges allows between two clocks.
//!
//! A line theta(x) = a + d x over the time x here is allowed when it passes below every point (t1,
//! t2 - t1) and above every point (t4, t3 - t4): Duda, Harrus, Haddad and Bernard (ICDCS 1987). For
//! a fixed drift d the offsets allowed at the origin are from g(d), the highest line through a
//! point of the lower cloud, to f(d), the lowest through one of the upper; both are read off convex
//! hulls. f is concave and g convex, both made of straight pieces, so the drifts with g <= f are
//! one interval, and a + d t has its extremes over the set at corners of f and g: a linear
//! programme with two unknowns, solved once for all instants.

use std::fmt;

use super::exchange::{ClockLimits, Exchange, difference};
use super::hull::{HullPoint, HullSide};
use super::interval::{DriftInterval, OffsetInterval};
use crate::units::{Nanos, Span};

/// Why there is no relation between two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// Nothing was exchanged.
    #[error("no exchange with the other clock")]
    NoExchange,
    /// No line is allowed by all exchanges.
    #[error("{0}")]
    Stepped(ClockStep),
}

/// Proof that one of two clocks did not run on evenly: it stepped, or its rate changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStep {
    /// Not before this instant of the clock here, if it was one step.
    pub after: Nanos,
    /// Not after this instant of the clock here.
    pub before: Nanos,
    /// By at least so much, ns, if it was one step.
    pub at_least: Nanos,
}

impl fmt::Display for ClockStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = Span(self.before.saturating_sub(self.after));
        let by = Span(self.at_least);
        write!(f, "a clock stepped by {by} or more, or changed its rate, within {within} up to {} ns", self.before)
    }
}

/// A corner of the set: a drift, and the offset at the origin.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Corner {
    drift: f64,
    offset: f64,
}

/// What all exchanges allow of the offset of one clock from another: a convex set of lines.
#[derive(Debug, Clone, PartialEq)]
pub struct ClockRelation {
    /// The origin of the lines: an instant here, and an offset near the truth.
    at: Nanos,
    base: i64,
    /// The highest and lowest lines of each drift, by drift.
    highest: Vec<Corner>,
    lowest: Vec<Corner>,
    /// The first question and the last answer, by the clock here.
    span: (Nanos, Nanos),
}

impl ClockRelation {
    /// Of exchanges in any order.
    ///
    /// # Errors
    /// Where there is none, and where no line is allowed by all of them.
    pub fn of(exchanges: &[Exchange], limits: ClockLimits) -> Result<Self, ClockError> {
        let mut sorted = exchanges.to_vec();
        sorted.sort_unstable_by_key(|e| (e.t1, e.t4));
        Self::of_sorted(&sorted, limits)
    }

    /// Of exchanges in the order in which they were begun.
    pub(super) fn of_sorted(sorted: &[Exchange], limits: ClockLimits) -> Result<Self, ClockError> {
        if sorted.is_empty() {
            return Err(ClockError::NoExchange);
        }
        Self::fit(sorted, limits).map_err(|gap| ClockError::Stepped(step(sorted, limits, gap)))
    }

    /// The set, or by how much the clouds of points overlap at least, ns.
    fn fit(sorted: &[Exchange], limits: ClockLimits) -> Result<Self, f64> {
        let best = sorted.iter().min_by_key(|e| e.round_trip()).copied().unwrap_or(sorted[0]);
        let (at, base) = (best.t1, best.offset());
        let grain = i64::try_from(limits.grain).unwrap_or(i64::MAX);
        let point = |x: Nanos, y: i64| HullPoint { x: difference(x, at), y: y.saturating_sub(base) };
        let above = HullSide::lower(sorted.iter().map(|e| point(e.t1, e.most().saturating_add(grain))));
        let below = HullSide::upper(sorted.iter().map(|e| point(e.t4, e.least().saturating_sub(grain))));
        let mut drifts: Vec<f64> = above.slopes().chain(below.slopes()).filter(|d| d.abs() < limits.drift).collect();
        drifts.extend([-limits.drift, limits.drift]);
        drifts.sort_unstable_by(f64::total_cmp);
        drifts.dedup();
        let room = |drift: f64| above.touch(drift) - below.touch(drift);
        let rooms: Vec<f64> = drifts.iter().map(|d| room(*d)).collect();
        let widest = rooms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if widest < 0.0 {
            return Err(-widest);
        }
        // The room is concave in the drift and straight between neighbours: those with room are
        // neighbours of each other, and it ends where the straight line to the next is zero.
        let first = rooms.iter().position(|r| *r >= 0.0).unwrap_or(0);
        let last = rooms.iter().rposition(|r| *r >= 0.0).unwrap_or(0);
        let end = |inside: usize, outside: Option<usize>| {
            let outside = outside.filter(|i| *i < drifts.len())?;
            let share = rooms[inside] / (rooms[inside] - rooms[outside]);
            Some(drifts[inside] + share * (drifts[outside] - drifts[inside]))
        };
        let ends = (end(first, first.checked_sub(1)), end(last, Some(last + 1)));
        let drifts: Vec<f64> = ends.0.into_iter().chain(drifts[first..=last].iter().copied()).chain(ends.1).collect();
        let corners =
            |side: &HullSide| drifts.iter().map(|d| Corner { drift: *d, offset: side.touch(*d) }).collect::<Vec<_>>();
        let end = sorted.iter().map(|e| e.t4).max().unwrap_or(at);
        Ok(Self { at, base, highest: corners(&above), lowest: corners(&below), span: (sorted[0].t1, end) })
    }

    /// From the first question to the last answer, by the clock here. Outside of it, answers are
    /// wider by what the drift leaves open.
    pub fn span(&self) -> (Nanos, Nanos) {
        self.span
    }

    /// Where the offset, there less here, was at an instant here.
    pub fn offset_at(&self, here: Nanos) -> OffsetInterval {
        let x = difference(here, self.at) as f64;
        let value = |c: &Corner| c.offset + c.drift * x;
        let high = self.highest.iter().map(value).fold(f64::NEG_INFINITY, f64::max);
        let low = self.lowest.iter().map(value).fold(f64::INFINITY, f64::min);
        // The corners of both chains meet at their ends; rounding may cross them there.
        let (low, high) = (low.min(high), high.max(low));
        OffsetInterval {
            low: self.base.saturating_add(low.floor() as i64),
            high: self.base.saturating_add(high.ceil() as i64),
        }
    }

    /// Where the offset was between two instants here, at any time.
    ///
    /// The highest allowed offset is convex over time, and the lowest concave: the extremes of both
    /// are at the ends.
    pub fn offset_over(&self, from: Nanos, to: Nanos) -> OffsetInterval {
        self.offset_at(from).hull(self.offset_at(to))
    }

    /// By how much the clock there runs faster.
    pub fn drift(&self) -> DriftInterval {
        let all = || self.highest.iter().map(|c| c.drift);
        DriftInterval { low: all().fold(f64::INFINITY, f64::min), high: all().fold(f64::NEG_INFINITY, f64::max) }
    }

    /// What the clock there showed at an instant here: the earliest and the latest.
    pub fn there_at(&self, here: Nanos) -> (Nanos, Nanos) {
        let offset = self.offset_at(here);
        (here.saturating_add_signed(offset.low), here.saturating_add_signed(offset.high))
    }

    /// What the clock here showed when the clock there showed `there`: the earliest and the latest.
    ///
    /// With there = at + x + base + a + d x on a line, x = (there - at - base - a) / (1 + d): its
    /// extremes over the set are at corners, because it is a quotient of linear forms.
    pub fn here_at(&self, there: Nanos) -> (Nanos, Nanos) {
        let passed = difference(there, self.at).saturating_sub(self.base);
        let x = |c: &Corner| (passed as f64 - c.offset) / (1.0 + c.drift);
        let all = || self.highest.iter().chain(&self.lowest).map(x);
        let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
        (self.at.saturating_add_signed(low.floor() as i64), self.at.saturating_add_signed(high.ceil() as i64))
    }
}

/// Where the clocks parted. The shortest beginning of the exchanges that allows no line has one
/// from after the step in it, and the shortest end of that beginning has one from before it.
fn step(sorted: &[Exchange], limits: ClockLimits, gap: f64) -> ClockStep {
    let allowed = |part: &[Exchange]| ClockRelation::fit(part, limits).is_ok();
    // Each longer part of one that allows nothing allows nothing: so halving finds the border.
    let border = |mut good: usize, mut bad: usize, test: &dyn Fn(usize) -> bool| {
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if test(middle) { good = middle } else { bad = middle }
        }
        bad
    };
    let beginning = &sorted[..border(0, sorted.len(), &|n| allowed(&sorted[..n]))];
    let n = border(0, beginning.len(), &|n| allowed(&beginning[beginning.len() - n..]));
    let part = &beginning[beginning.len() - n..];
    let before = beginning.last().map_or(0, |e| e.t4);
    ClockStep { after: part.first().map_or(0, |e| e.t1), before, at_least: gap.floor() as Nanos }
}

#[cfg(test)]
mod tests;
