//! Runs of due messages that were not done in time.

use crate::units::Nanos;

use super::slots::{DoneCell, DueCell, SlotGrid};

/// A run of messages, by due time, of which none was done in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutageRun {
    /// When the first of them was due.
    pub from: Nanos,
    /// When the first one after them that was in time was done, or the last of them, where nothing
    /// was due until then; `None` where there was none before the load ended.
    pub to: Option<Nanos>,
}

impl OutageRun {
    /// How long it lasted; `None` where that is not known.
    pub fn length(&self) -> Option<Nanos> {
        self.to.map(|to| to.saturating_sub(self.from))
    }
}

/// What a fault did to one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneOutage {
    /// The group of consumers, for deliveries, and the partition or subject.
    pub group: u32,
    pub lane: u32,
    /// The longest run that began in the window of the fault; none where all were in time.
    pub run: Option<OutageRun>,
    /// Whether a message was due after the fault, and when the first one was done.
    pub awaited: bool,
    pub first: Option<Nanos>,
    /// Messages due in the window of the fault, and of these not done in time.
    pub due: u64,
    pub late: u64,
}

/// A run at the end of the load that is not over and is shorter than this, by when its messages
/// were due, says nothing: the last message may be one of a few that were lost.
const LEAST_OPEN: Nanos = 10_000_000;

/// All runs of a lane by time. What was due after `known` and is not done may still come in time.
pub(super) fn runs(grid: &SlotGrid, due: &[DueCell], done: &[DoneCell], known: Nanos) -> Vec<OutageRun> {
    let mut all = Vec::new();
    let mut open: Option<Nanos> = None;
    let mut last = LastSlots::default();
    for (slot, (due, done)) in due.iter().zip(done).enumerate().filter(|(_, (due, _))| due.due > 0) {
        let start = grid.start(slot);
        // Nothing was due between the last of a run and this: a pause of the load is no outage.
        if let Some(from) = open
            && let Some(end) = last.end().filter(|end| *end < start + Nanos::from(due.first))
        {
            all.push(OutageRun { from, to: Some(end) });
            open = None;
        }
        if open.is_none() {
            last = LastSlots::default();
        }
        if done.timely == 0 {
            if start + Nanos::from(due.last) <= known {
                open.get_or_insert(start + Nanos::from(due.first));
                last.note(start, due, done);
            }
            continue;
        }
        let first = start + Nanos::from(done.first);
        // Late ones at the head of the slot.
        let from = open.take().or((due.first < done.first).then(|| start + Nanos::from(due.first)));
        all.extend(from.map(|from| OutageRun { from, to: Some(first + 1000 * Nanos::from(done.first_took)) }));
        // Late ones at its end.
        if due.last > done.last && start + Nanos::from(due.last) <= known {
            let gap = (due.last - due.first) / (due.due - 1).max(1);
            last = LastSlots::default();
            last.note(start, due, done);
            open = Some(start + Nanos::from(due.last.min(done.last + gap)));
        }
    }
    all.extend(open.and_then(|from| last.run(from)));
    all
}

/// What was due in the slots of a run so far.
#[derive(Default)]
struct LastSlots {
    due: Nanos,
    undone: u64,
    done: Nanos,
}

impl LastSlots {
    fn note(&mut self, start: Nanos, due: &DueCell, done: &DoneCell) {
        self.due = start + Nanos::from(due.last);
        self.undone += u64::from(due.due.saturating_sub(done.done));
        self.done = self.done.max(start + 1000 * Nanos::from(done.latest));
    }

    /// When all of it was done; `None` where some never was.
    fn end(&self) -> Option<Nanos> {
        (self.undone == 0).then_some(self.done.max(self.due))
    }

    /// The run from `from` on that the load ended in. It is over where all its messages were done,
    /// though late: nothing was due after them that could have been in time.
    fn run(&self, from: Nanos) -> Option<OutageRun> {
        let to = self.end();
        (to.is_some() || self.due >= from + LEAST_OPEN).then_some(OutageRun { from, to })
    }
}

/// Whether messages of a slot were late between others that were in time: they are in no run.
pub(super) fn hides(due: &DueCell, done: &DoneCell) -> bool {
    done.timely > 0 && due.due > done.timely && due.first >= done.first && due.last <= done.last
}

/// The cells of the slots that begin from `from` on and before `to`, with when they begin.
pub(super) fn whole_slots<'a, Cell>(
    grid: &'a SlotGrid,
    cells: &'a [Cell],
    from: Nanos,
    to: Nanos,
) -> impl Iterator<Item = (Nanos, &'a Cell)> {
    let first = from.saturating_sub(grid.origin).div_ceil(grid.width) as usize;
    let all = cells.iter().enumerate().skip(first).map(|(slot, cell)| (grid.start(slot), cell));
    all.take_while(move |(start, _)| *start < to)
}

/// When the first message was done that was due from `from` on and before `to`: of the slots that
/// lie between them as a whole.
pub(super) fn first_done(grid: &SlotGrid, done: &[DoneCell], from: Nanos, to: Nanos) -> Option<Nanos> {
    let mut first: Option<Nanos> = None;
    for (start, cell) in whole_slots(grid, done, from, to) {
        // Nothing is done before it is due.
        if first.is_some_and(|first| first < start) {
            break;
        }
        if cell.done > 0 {
            let at = start + 1000 * Nanos::from(cell.earliest);
            first = Some(first.map_or(at, |first| first.min(at)));
        }
    }
    first
}
