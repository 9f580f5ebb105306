//! The relation of two clocks over a long run: pieces in which the drift is taken to be constant.
//!
//! Crystals change their rate with temperature, and daemons that discipline a clock change it on
//! purpose, by parts in ten million within minutes. One line over an hour would then be refuted
//! though nothing stepped, and one that is not refuted would still be an assumption. So exchanges
//! are taken in windows, each begun in the middle of the one before. An instant is answered by the
//! window whose middle is nearest.
//!
//! What is left of the assumption: a drift that changes by c per second bends the offset by at most
//! c w^2 / 8 away from a line within a window of w seconds. While that is less than the delay in
//! each direction, the truth stays inside.

use super::exchange::{ClockLimits, Exchange};
use super::interval::OffsetInterval;
use super::relation::{ClockError, ClockRelation};
use crate::units::Nanos;

/// A window, and what its exchanges allow.
#[derive(Debug, Clone, PartialEq)]
struct ClockWindow {
    middle: Nanos,
    relation: ClockRelation,
}

/// What exchanges allow of the offset between two clocks, window by window.
#[derive(Debug, Clone, PartialEq)]
pub struct ClockTimeline {
    /// By their middles; never empty.
    windows: Vec<ClockWindow>,
}

impl ClockTimeline {
    /// Of exchanges in any order, in windows of this length or, where fewer than two exchanges were
    /// made in such a time, of the time to the next.
    ///
    /// # Errors
    /// Where there is no exchange, and where those of a window allow no line.
    pub fn of(exchanges: &[Exchange], limits: ClockLimits, window: Nanos) -> Result<Self, ClockError> {
        let mut sorted = exchanges.to_vec();
        sorted.sort_unstable_by_key(|e| (e.t1, e.t4));
        let mut windows = Vec::new();
        let mut first = 0;
        while let Some(begin) = sorted.get(first) {
            let within = |length: Nanos| sorted.partition_point(|e| e.t1 <= begin.t1.saturating_add(length));
            let end = within(window).max(first + 2).min(sorted.len());
            let relation = ClockRelation::of_sorted(&sorted[first..end], limits)?;
            let (from, to) = relation.span();
            windows.push(ClockWindow { middle: from + (to - from) / 2, relation });
            if end == sorted.len() {
                break;
            }
            // The next has the last exchange of this one, so that no time is between them.
            first = within(window / 2).clamp(first + 1, end - 1);
        }
        if windows.is_empty() { Err(ClockError::NoExchange) } else { Ok(Self { windows }) }
    }

    /// The window that answers for an instant here.
    pub fn relation_at(&self, here: Nanos) -> &ClockRelation {
        let after = self.windows.partition_point(|w| w.middle < here).min(self.windows.len() - 1);
        let before = after.saturating_sub(1);
        let distance = |i: usize| self.windows[i].middle.abs_diff(here);
        let nearest = if distance(before) <= distance(after) { before } else { after };
        &self.windows[nearest].relation
    }

    /// Where the offset, there less here, was at an instant here.
    pub fn offset_at(&self, here: Nanos) -> OffsetInterval {
        self.relation_at(here).offset_at(here)
    }

    /// Where the offset was between two instants here, at any time.
    pub fn offset_over(&self, from: Nanos, to: Nanos) -> OffsetInterval {
        let border = |pair: &[ClockWindow]| pair[0].middle + (pair[1].middle - pair[0].middle) / 2;
        let borders = self.windows.windows(2).map(border).filter(|at| *at > from && *at < to);
        // Each piece has its extremes at its ends; on a border both sides answer.
        let inner = borders.flat_map(|at| [at, at + 1]).map(|at| self.offset_at(at.min(to)));
        inner.fold(self.offset_at(from).hull(self.offset_at(to)), OffsetInterval::hull)
    }

    /// From the first question to the last answer, by the clock here.
    pub fn span(&self) -> (Nanos, Nanos) {
        let ends = self.windows.iter().map(|w| w.relation.span());
        ends.fold((Nanos::MAX, 0), |all, one| (all.0.min(one.0), all.1.max(one.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SECOND;

    /// An exchange every 100 ms, 1 ms there and 3 ms back, with an offset that is given.
    fn exchanges(seconds: u64, offset: impl Fn(Nanos) -> i64) -> Vec<Exchange> {
        let there = |at: Nanos| at.saturating_add_signed(offset(at));
        let one = |k: u64| {
            let t1 = 100 * SECOND + k * SECOND / 10;
            let (t2, t3, t4) = (there(t1 + 1_000_000), there(t1 + 1_010_000), t1 + 4_010_000);
            Exchange { t1, t2, t3, t4 }
        };
        (0..seconds * 10).map(one).collect()
    }

    /// A rate that changes by 1 ppm in each second: one line is refuted within two minutes,
    /// pieces of 20 s are not, and the truth is inside at every instant.
    #[test]
    fn a_slowly_changing_rate_is_followed() {
        let passed = |at: Nanos| (at as f64 - 100.0 * SECOND as f64) / SECOND as f64;
        let truth = |at: Nanos| -7 * SECOND as i64 + (0.5 * 1e-6 * passed(at).powi(2) * SECOND as f64) as i64;
        let all = exchanges(300, truth);
        assert!(matches!(ClockRelation::of(&all, ClockLimits::default()), Err(ClockError::Stepped(_))));
        let timeline = ClockTimeline::of(&all, ClockLimits::default(), 20 * SECOND).unwrap();
        for k in 0..3000 {
            let at = 100 * SECOND + k * SECOND / 10;
            let offset = timeline.offset_at(at);
            assert!(offset.contains(truth(at)), "{k}: {offset:?} has not {}", truth(at));
            assert!(offset.bound() < 2_100_000, "{k}: {offset:?}");
        }
        let over = timeline.offset_over(100 * SECOND, 400 * SECOND);
        assert!(over.contains(truth(100 * SECOND)) && over.contains(truth(400 * SECOND)), "{over:?}");
    }

    #[test]
    fn a_pause_in_the_exchanges_is_bridged() {
        let truth = |at: Nanos| 5_000 + at as i64 / 50_000;
        let mut all = exchanges(200, truth);
        all.retain(|e| !(120 * SECOND..260 * SECOND).contains(&e.t1));
        let timeline = ClockTimeline::of(&all, ClockLimits::default(), 10 * SECOND).unwrap();
        for at in (100 * SECOND..300 * SECOND).step_by(SECOND as usize) {
            let offset = timeline.offset_at(at);
            assert!(offset.contains(truth(at)), "{at}: {offset:?} has not {}", truth(at));
        }
        assert_eq!(timeline.span(), (100 * SECOND, all.last().unwrap().t4));
    }

    #[test]
    fn one_exchange_is_enough_and_none_is_not() {
        let one = exchanges(1, |_| 42);
        let limits = ClockLimits::default();
        let timeline = ClockTimeline::of(&one[..1], limits, SECOND).unwrap();
        assert!(timeline.offset_at(one[0].t1).contains(42));
        assert_eq!(ClockTimeline::of(&[], limits, SECOND), Err(ClockError::NoExchange));
    }
}
