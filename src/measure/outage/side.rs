//! What each fault did to a workload, on one side: to its writes, or to its deliveries.

use crate::record::SAME_MOMENT;
use crate::units::{Nanos, SECOND};

use super::backlog::{backlog, peak};
use super::recovery::{BAND, LatencyWindows, TracePoint};
use super::runs::{LaneOutage, OutageRun, first_done, hides, runs, whole_slots};
use super::slots::{DoneCell, DueCell, OutageLog, OutageSide, SlotGrid};

/// So long before a fault the latency around it begins.
const BEFORE: Nanos = 2 * SECOND;

/// A fault and the time until the next one, or until the load ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultWindow {
    pub at: Nanos,
    pub until: Nanos,
}

impl FaultWindow {
    /// The windows of faults, by time, in a load that ended at `end`.
    pub fn of(faults: &[Nanos], end: Nanos) -> Vec<Self> {
        let moments = moments(faults);
        let window = |(i, at): (usize, &Nanos)| {
            let next = (i..faults.len()).find(|k| moments[*k] != moments[i]);
            Self { at: *at, until: next.map_or(end, |k| faults[k]).min(end).max(*at) }
        };
        faults.iter().enumerate().map(window).collect()
    }
}

/// The first fault of the moment that each fault is of, of faults by time. What follows a moment is
/// the doing of each of its faults.
fn moments(faults: &[Nanos]) -> Vec<usize> {
    let mut all: Vec<usize> = Vec::new();
    for (i, at) in faults.iter().enumerate() {
        let joins = i > 0 && *at <= faults[i - 1] + SAME_MOMENT;
        all.push(if joins { all[i - 1] } else { i });
    }
    all
}

/// What one fault did to one side of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SideOutage {
    /// Each lane in which something was due, or on its way.
    pub lanes: Vec<LaneOutage>,
    /// Slots are long, and in one of them messages were late between others that were not: an
    /// outage up to so long is not seen.
    pub hidden: Option<Nanos>,
    /// Whether an outage of before was still going on in a lane when the fault came: then what is
    /// found is not the fault's alone.
    pub unsettled: bool,
    /// When the p99 of what was due was again as before the fault; `None` where it was not.
    pub back: Option<Nanos>,
    /// Whether enough was due before to know what it was.
    pub judged: bool,
    /// The most messages that were due and not done, and how long until they were gone; see
    /// `backlog.rs`.
    pub backlog: u64,
    pub drained: Option<Nanos>,
    /// The latency of what was due around the fault.
    pub trace: Vec<TracePoint>,
}

impl SideOutage {
    /// The longest outage of a lane: `Some(None)` where one was not over, `None` where there was
    /// none.
    pub fn worst(&self) -> Option<Option<Nanos>> {
        let lengths = || self.lanes.iter().filter_map(|lane| lane.run).map(|run| run.length());
        if lengths().any(|length| length.is_none()) { Some(None) } else { lengths().max() }
    }
}

/// A lane with its runs, each with the first fault of the moment that it belongs to.
struct LaneRuns<'a> {
    lane: usize,
    due: &'a [DueCell],
    done: &'a [DoneCell],
    runs: Vec<(Option<usize>, OutageRun)>,
}

/// What each fault did to one side; nothing where nothing was noted of it. What was due after
/// `known` and is not done may still come in time.
pub fn side_outages(log: &OutageLog, side: OutageSide, faults: &[FaultWindow], known: Nanos) -> Vec<SideOutage> {
    let Some(done) = log.done(side) else { return Vec::new() };
    let grid = log.grid();
    let windows = LatencyWindows::new(log, done);
    let moments = moments(&faults.iter().map(|f| f.at).collect::<Vec<_>>());
    let usual = faults.first().map_or(0, |first| windows.usual(grid.origin, first.at));
    let backlog = backlog(grid, done);
    let lane = |(lane, done)| {
        let due = log.due_of(lane);
        let runs = runs(grid, due, done, known).into_iter();
        let of = |run: &OutageRun| fault_of(run, faults, grid.deadline, usual).map(|k| moments[k]);
        LaneRuns { lane, due, done, runs: runs.map(|run| (of(&run), run)).collect() }
    };
    let lanes: Vec<LaneRuns<'_>> = done.cells.chunks(grid.slots).enumerate().map(lane).collect();
    // When all was well, the last time before a fault.
    let mut calm = (grid.origin, grid.origin);
    let mut settled = Some(grid.origin);
    let mut all = Vec::new();
    for (i, fault) in faults.iter().enumerate() {
        if let Some(since) = settled {
            // What was on its way when the fault came belongs to the fault.
            let until = fault.at.saturating_sub(grid.deadline.min(fault.at.saturating_sub(since) / 4));
            if until >= since + BAND || calm.1 == calm.0 {
                calm = (since, until.max(since));
            }
        }
        let peak = peak(grid, &backlog, calm, (fault.at, fault.until));
        // What was due in an outage is no new state, however wide the band is by then.
        let ends = lanes.iter().flat_map(|lane| lane.of(moments[i])).map(|run| run.to);
        let over = ends.into_iter().try_fold(fault.at, |last, end| end.map(|end| last.max(end)));
        settled = over.and_then(|over| windows.back(calm, over, fault.until));
        all.push(SideOutage {
            lanes: lanes.iter().filter_map(|lane| lane.effect(grid, moments[i], fault)).collect(),
            hidden: lanes.iter().any(|lane| lane.hides(grid, fault)).then_some(grid.width + grid.deadline),
            unsettled: lanes.iter().any(|lane| lane.unsettled(moments[i], fault)),
            back: settled,
            judged: windows.band(calm.0, calm.1).is_some(),
            backlog: peak.peak,
            drained: peak.drained,
            trace: windows.trace(fault.at.saturating_sub(BEFORE).max(grid.origin), after(fault, settled)),
        });
    }
    all
}

/// Until when the latency around a fault is of interest.
fn after(fault: &FaultWindow, settled: Option<Nanos>) -> Nanos {
    let back = settled.unwrap_or(fault.until);
    (back + (back - fault.at) / 4 + BEFORE).min(fault.until)
}

/// The fault that a run belongs to: the first one that met its first messages on their way, or else
/// the last one before it began. Where there was a fault within the deadline before the run, those
/// messages must not have been on their way for longer than is `usual`: then it is of that one.
fn fault_of(run: &OutageRun, faults: &[FaultWindow], deadline: Nanos, usual: Nanos) -> Option<usize> {
    let goes_beyond = |at: Nanos| run.to.is_none_or(|to| to > at);
    let before = faults.iter().rposition(|f| f.at <= run.from);
    let near = before.is_some_and(|k| run.from <= faults[k].at + deadline);
    let patience = if near { usual.min(deadline) } else { deadline };
    let meets = |f: &FaultWindow| f.at > run.from && f.at <= run.from + patience && goes_beyond(f.at);
    faults.iter().position(meets).or(before)
}

/// The slots of the window of a fault.
fn slots_of(grid: &SlotGrid, fault: &FaultWindow) -> std::ops::Range<usize> {
    grid.slot(fault.at)..grid.slot(fault.until.max(fault.at + 1) - 1) + 1
}

impl LaneRuns<'_> {
    /// What a fault of a moment did to the lane; `None` where nothing was due, or on its way.
    fn effect(&self, grid: &SlotGrid, moment: usize, fault: &FaultWindow) -> Option<LaneOutage> {
        let slots = slots_of(grid, fault);
        let due = self.due.get(slots.clone())?;
        let late = due.iter().zip(&self.done[slots]).map(|(due, done)| u64::from(due.due.saturating_sub(done.timely)));
        let effect = LaneOutage {
            group: (self.lane / grid.lanes) as u32,
            lane: (self.lane % grid.lanes) as u32,
            run: self.of(moment).max_by_key(|run| run.length().unwrap_or(Nanos::MAX)),
            awaited: whole_slots(grid, self.due, fault.at, fault.until).any(|(_, cell)| cell.due > 0),
            first: first_done(grid, self.done, fault.at, fault.until),
            due: due.iter().map(|cell| u64::from(cell.due)).sum(),
            late: late.sum(),
        };
        (effect.due > 0 || effect.run.is_some()).then_some(effect)
    }

    /// Whether a run may have been in the window of the fault that is not seen.
    fn hides(&self, grid: &SlotGrid, fault: &FaultWindow) -> bool {
        let slots = slots_of(grid, fault);
        let due = self.due.get(slots.clone()).unwrap_or_default();
        !grid.fine() && due.iter().zip(&self.done[slots]).any(|(due, done)| hides(due, done))
    }

    /// The runs of a moment.
    fn of(&self, moment: usize) -> impl Iterator<Item = OutageRun> {
        self.runs.iter().filter(move |(of, _)| *of == Some(moment)).map(|(_, run)| *run)
    }

    /// Whether a run of before was still going on when the fault came.
    fn unsettled(&self, moment: usize, fault: &FaultWindow) -> bool {
        let before = self.runs.iter().filter(|(of, _)| of.is_none_or(|of| of < moment));
        before.into_iter().any(|(_, run)| run.from < fault.at && run.to.is_none_or(|to| to > fault.at))
    }
}
