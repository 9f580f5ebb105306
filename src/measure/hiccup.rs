//! How long the machine itself stalled: a thread that has nothing to do but wake up on time, and
//! notes when it did not.
//!
//! The method is jHiccup's (Gil Tene, <https://github.com/giltene/jHiccup>): sleep a fixed time,
//! take the shortest elapsed time ever seen as what a sleep costs on an untroubled machine, and
//! record what a sleep took beyond it. A stall longer than the sleep hides the samples that would
//! have been taken during it, so those are filled in at the expected interval (`record_correct`, as
//! in HdrHistogram). A stall is booked in the interval in which it ended.
//!
//! What is seen here befalls generator and broker alike; a latency below it says nothing about the
//! broker.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use hdrhistogram::Histogram;

use crate::record::{HistogramStore, Packed};
use crate::units::{Nanos, SECOND, now};

/// Length of one sleep in nanoseconds.
pub const RESOLUTION: Nanos = 1_000_000;

/// Longest hiccup told apart, in nanoseconds: one hour.
const LONGEST: Nanos = 3_600 * SECOND;

/// Hiccups of one interval: its index, `(time - origin) / interval`, and their lengths in
/// nanoseconds.
pub type HiccupInterval = (u64, Packed);

/// A running meter. Dropping it stops it.
#[derive(Debug)]
pub struct HiccupMeter {
    stop: Arc<AtomicBool>,
    origin: Arc<AtomicU64>,
    thread: Option<JoinHandle<Vec<HiccupInterval>>>,
}

impl HiccupMeter {
    /// Starts the thread `hiccup`. It warms up at once and records from the origin on, once that is
    /// set, in intervals of `interval` nanoseconds.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(interval: Nanos) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let origin = Arc::new(AtomicU64::new(Nanos::MAX));
        let from = Arc::clone(&origin);
        let mut book = HiccupLog {
            origin: Nanos::MAX,
            interval: interval.max(1),
            shortest: Nanos::MAX,
            intervals: HistogramStore::default(),
            open: None,
        };
        let thread = std::thread::Builder::new().name("hiccup".to_owned()).spawn(move || {
            // SAFETY: prctl with these arguments touches no memory. The default slack of 50 us
            // would be measured too.
            unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
            while !flag.load(Ordering::Relaxed) {
                let before = now();
                sleep_until(before + RESOLUTION);
                let after = now();
                book.origin = from.load(Ordering::Relaxed);
                book.note(after, after - before);
            }
            book.turn();
            book.intervals.into_all().into_iter().collect()
        })?;
        Ok(Self { stop, origin, thread: Some(thread) })
    }

    /// Records what is to come from this instant on.
    pub fn record_from(&self, origin: Nanos) {
        self.origin.store(origin, Ordering::Relaxed);
    }

    /// Stops the meter and returns the intervals it saw, ascending. Waits for the end of one sleep.
    pub fn stop(mut self) -> Vec<HiccupInterval> {
        self.finish()
    }

    fn finish(&mut self) -> Vec<HiccupInterval> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for HiccupMeter {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Sleeps until `deadline` on the monotonic clock, also when signals arrive.
fn sleep_until(deadline: Nanos) {
    let time =
        libc::timespec { tv_sec: (deadline / SECOND) as libc::time_t, tv_nsec: (deadline % SECOND) as libc::c_long };
    // SAFETY: `time` is valid for the call; with an absolute time no remainder is written.
    while unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &time, std::ptr::null_mut()) }
        == libc::EINTR
    {}
}

/// What has been seen so far.
struct HiccupLog {
    origin: Nanos,
    interval: Nanos,
    shortest: Nanos,
    intervals: HistogramStore<u64>,
    /// The interval that is going on.
    open: Option<(u64, Histogram<u64>)>,
}

impl HiccupLog {
    /// Books a sleep that took `elapsed` and ended at `time`.
    fn note(&mut self, time: Nanos, elapsed: Nanos) {
        self.shortest = self.shortest.min(elapsed);
        let Some(since) = time.checked_sub(self.origin) else { return };
        let index = since / self.interval;
        if self.open.as_ref().is_none_or(|(last, _)| *last != index) {
            self.turn();
            let empty = Histogram::new_with_bounds(1, LONGEST, 3).expect("1 ns to 1 h at 3 digits are valid bounds");
            self.open = Some((index, empty));
        }
        if let Some((_, histogram)) = &mut self.open {
            let hiccup = (elapsed - self.shortest).min(LONGEST);
            histogram.record_correct(hiccup, RESOLUTION).expect("the value was cut to the upper bound");
        }
    }

    /// Puts the interval that was going on away.
    fn turn(&mut self) {
        if let Some((index, histogram)) = self.open.take() {
            self.intervals.add(index, histogram);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn book(origin: Nanos) -> HiccupLog {
        HiccupLog {
            origin,
            interval: 100 * RESOLUTION,
            shortest: Nanos::MAX,
            intervals: HistogramStore::default(),
            open: None,
        }
    }

    /// The intervals so far, open.
    fn seen(mut book: HiccupLog) -> Vec<(u64, Histogram<u64>)> {
        book.turn();
        book.intervals.iter().map(|(index, packed)| (*index, packed.open())).collect()
    }

    #[test]
    fn a_hiccup_is_what_exceeds_the_shortest_sleep() {
        let mut book = book(1_000);
        book.note(999, 1_100_000);
        assert!(book.open.is_none(), "before the origin nothing is recorded, but the shortest sleep is learnt");
        book.note(1_000, 1_500_000);
        book.note(1_001, 1_100_000);
        let (index, histogram) = &seen(book)[0];
        assert_eq!((*index, histogram.len()), (0, 2));
        assert!(histogram.equivalent(histogram.max(), 400_000));
        assert_eq!(histogram.min(), 0);
    }

    #[test]
    fn a_stall_fills_in_the_samples_it_hid() {
        let mut book = book(0);
        book.note(10, RESOLUTION);
        book.note(250 * RESOLUTION, 11 * RESOLUTION);
        let (index, histogram) = &seen(book)[1];
        assert_eq!(*index, 2);
        // 10 ms over a clean sleep: itself and 9, 8, ... 1 ms.
        assert_eq!(histogram.len(), 10);
        assert!(histogram.equivalent(histogram.max(), 10 * RESOLUTION));
    }

    #[test]
    fn beyond_an_hour_is_cut() {
        let mut book = book(0);
        book.note(1, 0);
        book.note(2, LONGEST + SECOND);
        let histogram = &seen(book)[0].1;
        assert!(histogram.equivalent(histogram.max(), LONGEST));
    }

    #[test]
    fn the_meter_returns_ascending_intervals_with_samples() {
        let interval = 20 * RESOLUTION;
        let meter = HiccupMeter::start(interval).unwrap();
        meter.record_from(now());
        // Long enough for one sample of the meter on a busy machine.
        std::thread::sleep(Duration::from_millis(500));
        let intervals = meter.stop();
        assert!(!intervals.is_empty());
        assert!(intervals.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(intervals.iter().all(|(_, packed)| !packed.open().is_empty()));
    }

    #[test]
    fn an_origin_never_reached_yields_nothing() {
        let meter = HiccupMeter::start(SECOND).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        assert!(meter.stop().is_empty());
    }
}
