//! What readers may see of a partition, and what waits to be synced.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::checkpoint::Checkpoint;
use super::super::position::End;
use super::super::segment::Segment;
use super::super::transactions::Transactions;
use super::super::wake::WakeSignals;

/// Starts of batches remembered, so that who reads at the end needs no search.
const RECENT: usize = 16;

pub(in super::super) struct Inner {
    pub(in super::super) segments: VecDeque<Arc<Segment>>,
    /// First offset kept.
    pub(in super::super) start: u64,
    pub(super) written: End,
    /// How far readers may see.
    pub(in super::super) visible: End,
    /// Segments with bytes not synced.
    pub(super) dirty: Vec<Arc<Segment>>,
    /// Whether a sync waits in the queue or is under way: of a partition there is one at a time,
    /// since what is synced must grow from the start of the log.
    pub(super) queued: bool,
    /// Whether another is to follow it.
    pub(super) again: bool,
    pub(super) new_segment: bool,
    pub(super) syncs: u32,
    pub(super) readers: WakeSignals,
    pub(super) waiters: WakeSignals,
    /// A note to be written once it is synced.
    pub(super) note: Option<Checkpoint>,
    pub(in super::super) transactions: Transactions,
    recent: VecDeque<End>,
}

impl Inner {
    /// What is known of a partition whose log ends at `end`, all of it synced.
    pub(super) fn new(
        segments: VecDeque<Arc<Segment>>,
        start: u64,
        end: End,
        new_segment: bool,
        transactions: Transactions,
    ) -> Self {
        Self {
            segments,
            start,
            written: end,
            visible: end,
            dirty: Vec::new(),
            queued: false,
            again: false,
            new_segment,
            syncs: 0,
            readers: WakeSignals::default(),
            waiters: WakeSignals::default(),
            note: None,
            transactions,
            recent: VecDeque::with_capacity(RECENT),
        }
    }

    /// How far everything is decided.
    pub(in super::super) fn stable(&self) -> End {
        self.transactions.stable(self.visible)
    }

    /// Notes the start of a batch.
    pub(super) fn remember(&mut self, start: End) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(start);
    }

    /// Notes that a sync is wanted; `true` when it is to be put in the queue.
    pub(super) fn enqueue(&mut self) -> bool {
        self.again |= self.queued;
        !std::mem::replace(&mut self.queued, true)
    }

    /// Forgets the starts of batches.
    pub(super) fn forget_all(&mut self) {
        self.recent.clear();
    }

    /// Forgets positions in a segment that has been written anew.
    pub(in super::super) fn forget_recent(&mut self, base: u64) {
        self.recent.retain(|end| end.base != base);
    }

    /// The start of the batch that begins with `offset`, if it is one of the newest.
    pub(in super::super) fn recent(&self, offset: u64) -> Option<End> {
        self.recent.iter().rev().find(|end| end.offset == offset).copied()
    }
}
