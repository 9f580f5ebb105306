//! Messages that were due and not done yet, by time.

use crate::units::Nanos;

use super::slots::{DoneLog, SlotGrid};

/// The backlog after a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BacklogPeak {
    /// The most messages that were due and not done; those that were never done are in none.
    pub peak: u64,
    /// From when there were so many until there were no more than before the fault; `None` where
    /// that was not before the next fault, or the end.
    pub drained: Option<Nanos>,
}

/// The backlog at the end of each slot.
pub(super) fn backlog(grid: &SlotGrid, log: &DoneLog) -> Vec<u64> {
    let mut due = vec![0u64; grid.slots];
    for lane in log.cells.chunks(grid.slots) {
        due.iter_mut().zip(lane).for_each(|(sum, cell)| *sum += u64::from(cell.done));
    }
    let mut open = 0u64;
    let step = |(due, done): (u64, &u32)| {
        open = (open + due).saturating_sub(u64::from(*done));
        open
    };
    due.into_iter().zip(&log.by_arrival).map(step).collect()
}

/// Its peak in the window of a fault, held against its largest value while all was well, between
/// the instants of `calm`.
pub(super) fn peak(grid: &SlotGrid, backlog: &[u64], calm: (Nanos, Nanos), fault: (Nanos, Nanos)) -> BacklogPeak {
    let slots = |(from, to): (Nanos, Nanos)| grid.slot(from)..grid.slot(to.max(from + 1) - 1) + 1;
    // One is on its way now and then, whether the end of a slot has seen it before or not.
    let usual = backlog[slots(calm)].iter().max().copied().unwrap_or(0).max(1);
    let window = &backlog[slots(fault)];
    let Some((at, peak)) = window.iter().copied().enumerate().rev().max_by_key(|(_, n)| *n) else {
        return BacklogPeak::default();
    };
    let gone = window[at..].iter().position(|n| *n <= usual);
    BacklogPeak { peak, drained: gone.map(|slots| slots as Nanos * grid.width) }
}
