//! When the latency was again as it was before.

use crate::units::{Nanos, SECOND};

use super::ladder::{CLASSES, LatencyLadder, upper};
use super::slots::{DoneLog, OutageLog, SlotGrid};

/// The band is that of windows of this length; the latency must be in it at least so long.
pub(super) const BAND: Nanos = SECOND;
/// It must be in the band for so long, or until the next fault.
const STEADY: Nanos = 5 * SECOND;
/// The band ends so many classes above the highest p99 of before: at half as much again. From one
/// second to the next a p99 changes by as much where all is well.
const SLACK: usize = 5;
/// Between two points of a trace; and points of it at most.
const STEP: Nanos = SECOND / 50;
const POINTS: usize = 300;
/// The share of messages that may be slower than a p99.
const BEYOND: f64 = 0.01;
/// A share of slow messages between what a p99 allows and that of one partition of many.
const CHANGE: f64 = 0.03;

/// The latency of what was due from an instant on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TracePoint {
    pub at: Nanos,
    /// `None` where more than 1 % of it was never done.
    pub p99: Option<Nanos>,
}

/// Counts by class of all messages due in each window, and those that were never done: they are
/// slower than all others.
pub(super) struct LatencyWindows<'a> {
    origin: Nanos,
    /// Length of a window.
    length: Nanos,
    ladder: &'a LatencyLadder,
    /// Never done, by window.
    never: Vec<u32>,
}

impl<'a> LatencyWindows<'a> {
    pub(super) fn new(log: &OutageLog, done: &'a DoneLog) -> Self {
        let grid: &SlotGrid = log.grid();
        let lanes = done.cells.len() / grid.slots;
        let mut never = vec![0u32; grid.windows()];
        for lane in 0..lanes {
            let cells = &done.cells[lane * grid.slots..(lane + 1) * grid.slots];
            for (slot, (due, done)) in log.due_of(lane).iter().zip(cells).enumerate() {
                never[slot / grid.window()] += due.due.saturating_sub(done.done);
            }
        }
        Self { origin: grid.origin, length: grid.width * grid.window() as Nanos, ladder: &done.ladder, never }
    }

    fn count(&self) -> usize {
        self.never.len()
    }

    /// Adds the messages of a window to counts by class, or takes them off.
    fn add(&self, window: usize, sum: &mut [u64; CLASSES], step: impl Fn(u64, u64) -> u64) {
        let counts = self.ladder.window(window).iter();
        sum.iter_mut().zip(counts).for_each(|(sum, n)| *sum = step(*sum, u64::from(*n)));
        sum[CLASSES - 1] = step(sum[CLASSES - 1], u64::from(self.never[window]));
    }

    /// The first window that begins at or after an instant.
    fn after(&self, at: Nanos) -> usize {
        (at.saturating_sub(self.origin).div_ceil(self.length) as usize).min(self.count())
    }

    /// The class of the p99 of windows of [`BAND`] that lie between two instants: the highest of
    /// all of them; `None` where there is none.
    pub(super) fn band(&self, from: Nanos, to: Nanos) -> Option<usize> {
        let size = (BAND / self.length).max(1) as usize;
        let end = (to.saturating_sub(self.origin) / self.length) as usize;
        let mut sum = [0u64; CLASSES];
        let mut band = None;
        for (i, window) in (self.after(from)..end.min(self.count())).enumerate() {
            self.add(window, &mut sum, |sum, n| sum + n);
            if i >= size {
                self.add(window - size, &mut sum, |sum, n| sum - n);
            }
            if i + 1 >= size {
                band = band.max(p99(&sum));
            }
        }
        band
    }

    /// How long a message takes at most where all is well, but for a few, as it was between two
    /// instants; 0 where that is not known.
    pub(super) fn usual(&self, from: Nanos, to: Nanos) -> Nanos {
        self.band(from, to).map_or(0, |band| upper((band + SLACK).min(CLASSES - 2)))
    }

    /// The p99 of what was due between two instants in steps of [`STEP`], or longer ones where
    /// there would be too many: from when, and what; `None` where more than 1 % was never done.
    pub(super) fn trace(&self, from: Nanos, to: Nanos) -> Vec<TracePoint> {
        let range = self.after(from)..self.after(to);
        let step = (STEP.div_ceil(self.length) as usize).max(range.len().div_ceil(POINTS)).max(1);
        let mut all = Vec::new();
        for start in range.clone().step_by(step) {
            let mut sum = [0u64; CLASSES];
            (start..(start + step).min(range.end)).for_each(|window| self.add(window, &mut sum, |sum, n| sum + n));
            let at = self.origin + start as Nanos * self.length;
            all.extend(p99(&sum).map(|class| TracePoint { at, p99: (class + 1 < CLASSES).then(|| upper(class)) }));
        }
        all
    }

    /// Messages of a window, and of these slower than a class.
    fn slow(&self, window: usize, band: usize) -> (u64, u64) {
        let (counts, never) = (self.ladder.window(window), u64::from(self.never[window]));
        let sum = |counts: &[u16]| counts.iter().map(|n| u64::from(*n)).sum::<u64>() + never;
        (sum(counts), sum(&counts[band + 1..]))
    }

    /// The first instant from `at` on from which the p99 of what was due is in the band that it had
    /// from `before` until `until`, for [`STEADY`] or until `end`. `None` where there is no such
    /// instant, or no band.
    pub(super) fn back(&self, (before, until): (Nanos, Nanos), at: Nanos, end: Nanos) -> Option<Nanos> {
        let band = (self.band(before, until)? + SLACK).min(CLASSES - 2);
        let first = self.after(at);
        let last = ((end.saturating_sub(self.origin) / self.length) as usize).min(self.count());
        let (steady, least) = ((STEADY / self.length) as usize, (BAND / self.length).max(1) as usize);
        let slow: Vec<(u64, u64)> = (first..last).map(|window| self.slow(window, band)).collect();
        let (mut all, mut beyond, mut reach) = (0u64, 0u64, 0usize);
        for start in 0..slow.len() {
            while reach < slow.len().min(start + steady) {
                (all, beyond) = (all + slow[reach].0, beyond + slow[reach].1);
                reach += 1;
            }
            if reach - start < least {
                return None;
            }
            if all > 0 && beyond as f64 <= BEYOND * all as f64 {
                let rest = slow_head(&slow[start..reach]);
                return Some((self.origin + (first + start + rest) as Nanos * self.length).max(at));
            }
            (all, beyond) = (all - slow[start].0, beyond - slow[start].1);
        }
        None
    }
}

/// How many of these windows are still of the slow part at their head: the change point between
/// more slow messages than [`CHANGE`] and fewer. What may be beyond a p99 is not of the new state
/// for that.
fn slow_head(windows: &[(u64, u64)]) -> usize {
    let (mut sum, mut best) = (0.0, (0.0, 0));
    for (i, (all, slow)) in windows.iter().enumerate() {
        sum += *slow as f64 - CHANGE * *all as f64;
        if sum > best.0 {
            best = (sum, i + 1);
        }
    }
    best.1
}

/// The class that the p99 of these counts falls into.
fn p99(counts: &[u64; CLASSES]) -> Option<usize> {
    let all: u64 = counts.iter().sum();
    let beyond = (all as f64 * BEYOND) as u64;
    let mut above = 0;
    counts.iter().rposition(|n| {
        above += n;
        above > beyond
    })
}
