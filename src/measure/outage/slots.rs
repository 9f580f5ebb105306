//! Slots of a few milliseconds of due time, for each partition or subject ("lane").
//!
//! A slot holds how many messages were due in it and how many were done (acknowledged, or
//! delivered), how many of them in time, and where in the slot the first and the last of those were
//! due. So a run of messages that were not done in time is known to the message, unless it begins
//! and ends within one slot. A long phase with many lanes has long slots: there it is said that an
//! outage may be hidden.

use serde::{Deserialize, Serialize};

use crate::units::{Nanos, SECOND};

use super::ladder::LatencyLadder;

const MS: Nanos = SECOND / 1000;
/// Widths of a slot: the first that keeps the slots of a thread and workload below [`MOST`]. An
/// offset within one has 32 bits: 4.29 s.
const WIDTHS: [Nanos; 11] =
    [2 * MS, 5 * MS, 10 * MS, 20 * MS, 50 * MS, 100 * MS, 200 * MS, 500 * MS, SECOND, 2 * SECOND, 4 * SECOND];
const WIDEST: Nanos = WIDTHS[WIDTHS.len() - 1];
/// A run within a slot that is no longer is shorter than what outages are found to.
const FINE: Nanos = 10 * MS;
/// Slots of one thread and workload; each takes 28 bytes.
const MOST: u64 = 1 << 20;
/// Lanes that are told apart; more are counted together.
pub const LANES: u64 = 256;
/// Windows of latency are at least so long, and not more than these.
const WINDOW: Nanos = 10_000_000;
const WINDOWS: usize = 60_000;

/// Where the slots of a workload lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotGrid {
    /// Start of the measured phase.
    pub origin: Nanos,
    /// Length of a slot.
    pub width: Nanos,
    /// Slots of the measured phase.
    pub slots: usize,
    /// Lanes of the producers, and groups of consumers that each get every message.
    pub lanes: usize,
    pub groups: usize,
    /// A message that is done so long after it was due is in time.
    pub deadline: Nanos,
}

impl SlotGrid {
    /// For a measured phase of this length; more than [`LANES`] lanes share slots, and fewer where
    /// the phase takes hours.
    pub fn new(origin: Nanos, measure: Nanos, lanes: u64, groups: u64, deadline: Nanos) -> Self {
        let fits = |width: Nanos, lanes: u64, groups: u64| measure.div_ceil(width) * lanes * (groups + 1) <= MOST;
        let mut groups = groups.clamp(1, LANES);
        let mut lanes = lanes.clamp(1, (LANES / groups).max(1));
        while !fits(WIDEST, lanes, groups) && lanes.max(groups) > 1 {
            let most = if lanes > 1 { &mut lanes } else { &mut groups };
            *most = most.div_ceil(2);
        }
        let width = WIDTHS.into_iter().find(|width| fits(*width, lanes, groups)).unwrap_or(WIDEST);
        let slots = measure.div_ceil(width).max(1) as usize;
        Self { origin, width, slots, lanes: lanes as usize, groups: groups as usize, deadline }
    }

    /// Whether a slot is no longer than what outages are found to.
    pub(super) fn fine(&self) -> bool {
        self.width <= FINE
    }

    /// When a slot begins.
    pub fn start(&self, slot: usize) -> Nanos {
        self.origin + slot as Nanos * self.width
    }

    /// The slot of an instant; the last one where it is later.
    pub fn slot(&self, at: Nanos) -> usize {
        ((at.saturating_sub(self.origin) / self.width) as usize).min(self.slots - 1)
    }

    /// Slots of a window of latencies.
    pub(super) fn window(&self) -> usize {
        (WINDOW.div_ceil(self.width) as usize).max(self.slots.div_ceil(WINDOWS))
    }

    /// Windows of the measured phase.
    pub(super) fn windows(&self) -> usize {
        self.slots.div_ceil(self.window())
    }

    /// Slot and offset within it of a message that was due in the measured phase.
    #[inline]
    fn place(&self, lane: usize, due: Nanos) -> Option<(usize, u32)> {
        let offset = due.checked_sub(self.origin)?;
        let slot = (offset / self.width) as usize;
        (slot < self.slots).then(|| (lane * self.slots + slot, (offset % self.width) as u32))
    }
}

/// Messages due in one slot.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(from = "[u32; 3]", into = "[u32; 3]")]
pub(super) struct DueCell {
    pub(super) due: u32,
    /// When the first and the last of them were, since the slot began.
    pub(super) first: u32,
    pub(super) last: u32,
}

/// Messages due in one slot that were done.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(from = "[u32; 7]", into = "[u32; 7]")]
pub(super) struct DoneCell {
    pub(super) done: u32,
    /// Of these in time; when the first and the last of those were due, since the slot began.
    pub(super) timely: u32,
    pub(super) first: u32,
    pub(super) last: u32,
    /// Microseconds from when the first of those was due until it was done.
    pub(super) first_took: u32,
    /// When the earliest and the latest of all were done, microseconds since the slot began.
    pub(super) earliest: u32,
    pub(super) latest: u32,
}

// There are many of them: names would be most of what is written.
impl From<[u32; 3]> for DueCell {
    fn from([due, first, last]: [u32; 3]) -> Self {
        Self { due, first, last }
    }
}

impl From<DueCell> for [u32; 3] {
    fn from(DueCell { due, first, last }: DueCell) -> Self {
        [due, first, last]
    }
}

impl From<[u32; 7]> for DoneCell {
    fn from([done, timely, first, last, first_took, earliest, latest]: [u32; 7]) -> Self {
        Self { done, timely, first, last, first_took, earliest, latest }
    }
}

impl From<DoneCell> for [u32; 7] {
    fn from(DoneCell { done, timely, first, last, first_took, earliest, latest }: DoneCell) -> Self {
        [done, timely, first, last, first_took, earliest, latest]
    }
}

fn micros(nanos: Nanos) -> u32 {
    u32::try_from(nanos / 1000).unwrap_or(u32::MAX)
}

impl DoneCell {
    #[inline]
    fn note(&mut self, offset: u32, took: Nanos, deadline: Nanos) {
        let done = micros(Nanos::from(offset) + took);
        self.earliest = if self.done == 0 { done } else { self.earliest.min(done) };
        self.latest = self.latest.max(done);
        self.done += 1;
        if took > deadline {
            return;
        }
        // Of two that were due at once the quicker one, so that the order of notes is no matter.
        let this = (offset, micros(took));
        if self.timely == 0 || this < (self.first, self.first_took) {
            (self.first, self.first_took) = this;
        }
        self.last = self.last.max(offset);
        self.timely += 1;
    }

    fn merge(&mut self, other: &Self) {
        if other.done == 0 {
            return;
        }
        self.earliest = if self.done == 0 { other.earliest } else { self.earliest.min(other.earliest) };
        self.latest = self.latest.max(other.latest);
        self.done += other.done;
        if other.timely == 0 {
            return;
        }
        if self.timely == 0 || (other.first, other.first_took) < (self.first, self.first_took) {
            (self.first, self.first_took) = (other.first, other.first_took);
        }
        self.last = self.last.max(other.last);
        self.timely += other.timely;
    }
}

/// What was done of the messages of a workload: acknowledged, or delivered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DoneLog {
    /// By lane and slot of due time.
    pub(super) cells: Vec<DoneCell>,
    /// By slot of the instant at which it was done; the last one is what came afterwards.
    pub(super) by_arrival: Vec<u32>,
    pub(super) ladder: LatencyLadder,
}

impl DoneLog {
    fn new(grid: &SlotGrid, lanes: usize) -> Self {
        Self {
            cells: vec![DoneCell::default(); lanes * grid.slots],
            by_arrival: vec![0; grid.slots + 1],
            ladder: LatencyLadder::new(grid.windows()),
        }
    }

    #[inline]
    fn note(&mut self, grid: &SlotGrid, lane: usize, due: Nanos, at: Nanos) {
        let Some((place, offset)) = grid.place(lane, due) else { return };
        let took = at.saturating_sub(due);
        self.cells[place].note(offset, took, grid.deadline);
        let arrived = (at.saturating_sub(grid.origin) / grid.width) as usize;
        self.by_arrival[arrived.min(grid.slots)] += 1;
        self.ladder.note((place % grid.slots) / grid.window(), took);
    }

    fn sound(&self, grid: &SlotGrid, rows: usize) -> bool {
        rows.checked_mul(grid.slots) == Some(self.cells.len())
            && self.by_arrival.len() == grid.slots + 1
            && self.ladder.sound(grid.windows())
    }

    fn merge(&mut self, other: &Self) {
        self.cells.iter_mut().zip(&other.cells).for_each(|(a, b)| a.merge(b));
        self.by_arrival.iter_mut().zip(&other.by_arrival).for_each(|(a, b)| *a += b);
        self.ladder.merge(&other.ladder);
    }
}

/// Which way of a message is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutageSide {
    /// From when it was due until it was acknowledged.
    Write,
    /// From when it was due until it was delivered, or answered.
    Read,
}

/// What else can happen to a message, counted by the instant at which it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    Duplicated,
    Reordered,
    /// The client or the broker gave an error for it.
    Refused,
}

/// What one thread has noted of one workload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutageLog {
    grid: SlotGrid,
    due: Vec<DueCell>,
    write: Option<Box<DoneLog>>,
    read: Option<Box<DoneLog>>,
    /// By slot of the instant: see [`Mishap`].
    mishaps: Vec<[u32; 3]>,
}

impl OutageLog {
    /// An empty one. What a thread does not note takes no memory.
    pub fn new(grid: SlotGrid) -> Self {
        Self { grid, due: Vec::new(), write: None, read: None, mishaps: Vec::new() }
    }

    pub fn grid(&self) -> &SlotGrid {
        &self.grid
    }

    /// A message of this lane was due.
    #[inline]
    pub fn due(&mut self, lane: u64, due: Nanos) {
        if self.due.is_empty() {
            self.due = vec![DueCell::default(); self.grid.lanes * self.grid.slots];
        }
        let Some((place, offset)) = self.grid.place(lane as usize % self.grid.lanes, due) else { return };
        let cell = &mut self.due[place];
        cell.first = if cell.due == 0 { offset } else { cell.first.min(offset) };
        cell.last = cell.last.max(offset);
        cell.due += 1;
    }

    /// A message that was due at `due` was acknowledged for the first time.
    #[inline]
    pub fn acked(&mut self, lane: u64, due: Nanos, at: Nanos) {
        let grid = &self.grid;
        let log = self.write.get_or_insert_with(|| Box::new(DoneLog::new(grid, grid.lanes)));
        log.note(grid, lane as usize % grid.lanes, due, at);
    }

    /// A message that was due at `due` reached a group of consumers for the first time, or was
    /// answered.
    #[inline]
    pub fn delivered(&mut self, group: u32, lane: u64, due: Nanos, at: Nanos) {
        let grid = &self.grid;
        let log = self.read.get_or_insert_with(|| Box::new(DoneLog::new(grid, grid.lanes * grid.groups)));
        let lane = group as usize % grid.groups * grid.lanes + lane as usize % grid.lanes;
        log.note(grid, lane, due, at);
    }

    /// Something else happened at this instant.
    #[cold]
    pub fn note(&mut self, mishap: Mishap, at: Nanos) {
        if at < self.grid.origin {
            return;
        }
        if self.mishaps.is_empty() {
            self.mishaps = vec![[0; 3]; self.grid.slots];
        }
        let slot = self.grid.slot(at);
        self.mishaps[slot][mishap as usize] += 1;
    }

    /// Whether its parts are of its grid: what comes from another process is not trusted.
    pub fn sound(&self) -> bool {
        let SlotGrid { width, slots, lanes, groups, .. } = self.grid;
        if width == 0 || slots == 0 || lanes == 0 || groups == 0 {
            return false;
        }
        let whole = lanes.saturating_mul(slots);
        let of = |log: &Option<Box<DoneLog>>, rows: usize| log.as_ref().is_none_or(|log| log.sound(&self.grid, rows));
        [0, whole].contains(&self.due.len())
            && of(&self.write, lanes)
            && of(&self.read, lanes.saturating_mul(groups))
            && [0, slots].contains(&self.mishaps.len())
    }

    /// The same, where the measured phase began at this instant of another clock.
    pub fn begins_at(mut self, origin: Nanos) -> Self {
        self.grid.origin = origin;
        self
    }

    /// Adds what another thread has noted of the same workload.
    pub fn merge(&mut self, other: Self) {
        if self.due.is_empty() {
            self.due = other.due;
        } else {
            for (a, b) in self.due.iter_mut().zip(&other.due).filter(|(_, b)| b.due > 0) {
                a.first = if a.due == 0 { b.first } else { a.first.min(b.first) };
                a.last = a.last.max(b.last);
                a.due += b.due;
            }
        }
        for (mine, theirs) in [(&mut self.write, other.write), (&mut self.read, other.read)] {
            match (mine.as_mut(), theirs) {
                (Some(mine), Some(theirs)) => mine.merge(&theirs),
                (None, theirs) => *mine = theirs,
                (Some(_), None) => {}
            }
        }
        if self.mishaps.is_empty() {
            self.mishaps = other.mishaps;
        } else {
            for (a, b) in self.mishaps.iter_mut().zip(&other.mishaps) {
                (0..3).for_each(|i| a[i] += b[i]);
            }
        }
    }

    /// How often it happened from one instant until before another.
    pub fn count(&self, mishap: Mishap, from: Nanos, to: Nanos) -> u64 {
        let end = if to < self.grid.start(self.grid.slots) { self.grid.slot(to) } else { self.grid.slots };
        let slots = self.grid.slot(from)..end.max(self.grid.slot(from));
        let of = self.mishaps.get(slots.start..slots.end.min(self.mishaps.len())).unwrap_or_default();
        of.iter().map(|counts| u64::from(counts[mishap as usize])).sum()
    }

    pub(super) fn done(&self, side: OutageSide) -> Option<&DoneLog> {
        match side {
            OutageSide::Write => self.write.as_deref(),
            OutageSide::Read => self.read.as_deref(),
        }
    }

    /// What was due of a lane of a side, slot by slot; nothing where no producer has noted it.
    pub(super) fn due_of(&self, lane: usize) -> &[DueCell] {
        let lane = lane % self.grid.lanes;
        self.due.get(lane * self.grid.slots..(lane + 1) * self.grid.slots).unwrap_or_default()
    }
}
