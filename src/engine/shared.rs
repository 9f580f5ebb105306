//! What all threads of a trial share: the instants of its phases, the sign to stop, and counters
//! for the progress display and the end of the drain. Threads count for themselves and add here
//! once for a batch.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::plan::Workload;
use crate::units::Nanos;

use super::distinct::Distinct;

/// Written by the control thread, read by the generator's threads.
#[derive(Debug, Default)]
pub struct Shared {
    start: AtomicU64,
    origin: AtomicU64,
    end: AtomicU64,
    shift: AtomicI64,
    asked: AtomicBool,
    stopped: AtomicBool,
    /// Wakes who waits for the stop.
    stop: Notify,
    /// Whether the scenario disturbs the system ([`crate::plan::disturb`]).
    pub disturbed: bool,
    /// One for each workload.
    pub counters: Vec<WorkloadCounters>,
}

/// Counters of one workload, warm-up included, on a cache line of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkloadCounters {
    /// Messages handed over.
    pub sent: AtomicU64,
    /// Messages that the broker acknowledged.
    pub acked: AtomicU64,
    /// Messages that arrived, each once for each consumer or requester; dead letters included.
    pub arrived: AtomicU64,
    /// Messages stored as a backlog.
    pub stored: AtomicU64,
    /// Messages that arrived in the end, where members of a group share them.
    pub distinct: Distinct,
}

impl WorkloadCounters {
    fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
    /// Adds a batch.
    pub fn add(counter: &AtomicU64, batch: &mut u64) {
        if *batch > 0 {
            counter.fetch_add(std::mem::take(batch), Ordering::Relaxed);
        }
    }
}

impl Shared {
    /// For so many workloads.
    pub fn new(workloads: usize) -> Self {
        let mut counters = Vec::new();
        counters.resize_with(workloads, WorkloadCounters::default);
        Self { counters, ..Self::default() }
    }
    /// Releases the threads: load begins at `start`, measurement is from `origin` to `end`.
    pub fn go(&self, start: Nanos, origin: Nanos, end: Nanos) {
        self.origin.store(origin, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        self.start.store(start, Ordering::Release);
    }
    /// Instants in messages are those of another clock: so much is added to one of them to have
    /// that of this clock. To be said before [`Shared::go`].
    pub fn shift_stamps(&self, shift: i64) {
        self.shift.store(shift, Ordering::Relaxed);
    }
    /// See [`Shared::shift_stamps`].
    pub fn shift(&self) -> i64 {
        self.shift.load(Ordering::Relaxed)
    }
    /// Waits for [`Shared::go`]; `None` when the trial was given up before.
    pub async fn started(&self) -> Option<(Nanos, Nanos)> {
        loop {
            let start = self.start.load(Ordering::Acquire);
            if self.stopped() {
                return None;
            }
            if start != 0 {
                return Some((start, self.origin.load(Ordering::Relaxed)));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    /// Whether the threads were released.
    pub fn going(&self) -> bool {
        self.start.load(Ordering::Acquire) != 0
    }
    /// When the measured phase begins; 0 before that is known.
    pub fn origin(&self) -> Nanos {
        self.origin.load(Ordering::Relaxed)
    }
    /// When the measured phase ends.
    #[inline]
    pub fn end(&self) -> Nanos {
        self.end.load(Ordering::Relaxed)
    }
    /// Ends the measured phase earlier.
    pub fn cut(&self, at: Nanos) {
        self.end.fetch_min(at, Ordering::Relaxed);
    }
    /// Tells every thread to finish.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.stop.notify_waiters();
    }
    /// Ends with the stop, if it is polled or enabled before that.
    pub fn stopping(&self) -> Notified<'_> {
        self.stop.notified()
    }
    /// Whether to finish.
    #[inline]
    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
    /// Messages handed over by all workloads.
    pub fn sent(&self) -> u64 {
        self.counters.iter().map(|c| WorkloadCounters::get(&c.sent)).sum()
    }
    /// Messages that arrived, of all workloads.
    pub fn arrived(&self) -> u64 {
        self.counters.iter().map(|c| WorkloadCounters::get(&c.arrived)).sum()
    }
    /// Deliveries of a workload that are still to come, each message `copies` times.
    pub fn on_the_way(&self, workload: usize, copies: u64) -> u64 {
        let c = &self.counters[workload];
        (WorkloadCounters::get(&c.sent) * copies).saturating_sub(WorkloadCounters::get(&c.arrived))
    }
    /// Messages that were acknowledged, of all workloads.
    pub fn acked(&self) -> u64 {
        self.counters.iter().map(|c| WorkloadCounters::get(&c.acked)).sum()
    }
    /// Whether every message that was acknowledged has arrived: of the others, nobody knows whether
    /// they come. True only a moment after it has been asked first.
    pub fn owed_is_here(&self, expected: &[Expected]) -> bool {
        self.ask();
        let owed = |(c, e): (&WorkloadCounters, &Expected)| c.distinct.owed_is_here(e.groups);
        self.is_here(expected, |c| &c.acked) && self.counters.iter().zip(expected).all(owed)
    }
    /// Whether everything that was sent and stored has arrived.
    pub fn complete(&self, expected: &[Expected]) -> bool {
        self.is_here(expected, |c| &c.sent)
    }
    fn is_here(&self, expected: &[Expected], messages: impl Fn(&WorkloadCounters) -> &AtomicU64) -> bool {
        self.counters.iter().zip(expected).all(|(c, e)| {
            let needed = WorkloadCounters::get(messages(c)) * e.copies + WorkloadCounters::get(&c.stored);
            if WorkloadCounters::get(&c.arrived) < needed {
                return false;
            }
            if e.divided {
                self.ask();
            }
            !e.divided || c.distinct.count() >= needed
        })
    }
    /// Lets members of groups tell what they have, and producers what was acknowledged.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }
    /// Whether members of groups are to tell what they have, and producers what was acknowledged:
    /// as many have arrived as are expected, and perhaps not the same.
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}

/// What is to arrive of a workload.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// How often each message arrives.
    pub copies: u64,
    /// Groups that each message is delivered to.
    pub groups: u32,
    /// Whether members of a group share messages, and two may have the same one.
    pub divided: bool,
}

/// How often each message of a workload arrives.
pub fn copies(w: &Workload, delivers: bool) -> u64 {
    match (delivers, w.topology.reply) {
        (false, _) => 0,
        (true, true) => 1,
        (true, false) => u64::from(w.topology.groups),
    }
}

/// The fewest blocks that a measured phase is counted in.
const BLOCKS: u64 = 20;

/// In how many blocks of equal length an interval is divided for counting, so that a trial of few
/// intervals has enough of them to say whether the system kept up; 1 where its nanoseconds have no
/// fitting divisor.
pub fn parts(measure: Nanos, interval: Nanos) -> u64 {
    let wanted = (BLOCKS * interval).div_ceil(measure.max(1)).clamp(1, interval.max(1));
    (wanted..=2 * wanted + 8).find(|n| interval.is_multiple_of(*n)).unwrap_or(1)
}

/// How often a connection looks whether all is well while nothing happens on it, where a thread has
/// so many: the more there are the less often, so that looking costs a thread the same.
pub fn look_every(connections: usize) -> Duration {
    Duration::from_millis(50) * connections.div_ceil(16).clamp(1, 20) as u32
}

/// Lets timers of the calling thread fire when they are due: the kernel may otherwise delay them by
/// 50 us.
pub fn exact_timers() {
    // SAFETY: PR_SET_TIMERSLACK takes one integer and concerns the calling thread only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_measured_phase_has_enough_blocks(measure_ms in 1u64..600_000, interval_ms in 1u64..20_000) {
            let (measure, interval) = (measure_ms * 1_000_000, interval_ms * 1_000_000);
            let parts = parts(measure, interval);
            prop_assert!(interval % parts == 0);
            prop_assert!(measure.div_ceil(interval / parts) >= BLOCKS, "{} blocks", measure / (interval / parts));
        }
    }
}
