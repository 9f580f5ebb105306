//! Usage of the processes over the measured phase, and of the broker by interval.
//!
//! # Design
//! A sample at the boundary of each interval reads CPU time and memory alone, which takes
//! microseconds; all counters are read at both ends and once a second. A sample is late by what the
//! timer of the control thread is late, and intervals may be shorter than the samples are apart:
//! CPU time is therefore taken as rising evenly between two samples, and read off at the
//! boundaries. The kernel adds up a running thread at its tick (4 ms at 250 Hz): a short interval
//! is as wrong as that, the sum is not.

use crate::measure::process::{Meter, ProcessUsage, Usage};
use crate::units::{Nanos, SECOND, now};

use super::raw::RawTrial;

/// Least distance of two samples.
const GRAIN: Nanos = 5_000_000;

/// Between two readings of the clock a counter is read within this time, or read again.
const CLOSE: Nanos = 200_000;

/// CPU time and memory of the broker at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct UsageSample {
    at: Nanos,
    /// CPU time of the broker so far.
    cpu: Nanos,
    /// Its resident memory, bytes.
    rss: u64,
}

pub struct BrokerWatch {
    broker: ProcessUsage,
    own: Meter,
    origin: Nanos,
    interval: Nanos,
    /// When the next sample is due, and the next of all counters.
    next: (Nanos, Nanos),
    samples: Vec<UsageSample>,
    application: Option<Meter>,
    /// First and latest.
    all: [Option<UsageOfAll>; 2],
    /// Bytes that the broker has written to disks, once a second.
    written: Vec<(Nanos, u64)>,
}

/// All counters of the broker, of the application beside it, and of msgbench.
#[derive(Debug, Clone, Copy)]
struct UsageOfAll {
    broker: Option<Usage>,
    application: Option<Usage>,
    own: Usage,
}

impl BrokerWatch {
    /// Samples from `origin` on, where the measured phase begins. `application` is the process of a
    /// stream processor, where there is one.
    pub fn new(origin: Nanos, interval: Nanos, application: Option<u32>) -> Self {
        Self {
            broker: ProcessUsage::default(),
            own: Meter::own(),
            origin,
            interval: interval.max(1),
            next: (origin, origin),
            samples: Vec::new(),
            application: application.map(|pid| Meter::new(&[pid])),
            all: [None; 2],
            written: Vec::new(),
        }
    }

    /// When the next sample is due.
    pub fn next(&self) -> Nanos {
        self.next.0
    }

    /// Takes a sample when one is due.
    pub fn tick(&mut self, pids: &[u32]) {
        let at = now();
        if at < self.next.0 {
            return;
        }
        // The boundary after this one, or one that is far enough away.
        let soonest = at + GRAIN.min(self.interval / 2);
        let boundary = (soonest - self.origin).div_ceil(self.interval) * self.interval + self.origin;
        self.next.0 = boundary.max(at + GRAIN);
        if at >= self.next.1 {
            self.next.1 = at + SECOND;
            self.sample_all(pids);
        } else {
            self.sample_cpu_and_memory(pids);
        }
    }

    /// Samples all counters.
    pub fn sample_all(&mut self, pids: &[u32]) {
        // All counters take milliseconds: too long for the one whose instant matters.
        self.sample_cpu_and_memory(pids);
        let broker = (!pids.is_empty()).then(|| self.broker.sample(pids));
        self.written.extend(broker.as_ref().map(|usage| (now(), usage.written_bytes)));
        let application = self.application.as_ref().map(Meter::sample);
        let all = UsageOfAll { broker, application, own: self.own.sample() };
        self.all[0].get_or_insert(all);
        self.all[1] = Some(all);
    }

    /// Samples CPU time and memory alone.
    fn sample_cpu_and_memory(&mut self, pids: &[u32]) {
        if !pids.is_empty() {
            self.samples.push(closest(now, || self.broker.sample_cpu_and_memory(pids)));
        }
    }

    /// Puts what was seen into `raw`, whose measured phase is over.
    pub fn fold(&self, raw: &mut RawTrial) {
        let [Some(first), Some(last)] = self.all else { return };
        let between = |last: Option<Usage>, first: Option<Usage>| Some(last?.since(&first?));
        raw.generator = last.own.since(&first.own);
        raw.broker = between(last.broker, first.broker);
        raw.application = between(last.application, first.application);
        raw.broker_written.clone_from(&self.written);
        raw.broker_intervals = by_interval(&self.samples, self.origin, self.interval, raw.measured);
    }
}

/// Reads until the counters and the clock belong together, three times at most: were this thread
/// paused between them, what a process used before the pause would count as used after it.
fn closest(mut clock: impl FnMut() -> Nanos, mut read: impl FnMut() -> (Nanos, u64)) -> UsageSample {
    let mut one = || {
        let before = clock();
        let (cpu, rss) = read();
        let took = clock().saturating_sub(before);
        (took, UsageSample { at: before + took / 2, cpu, rss })
    };
    let mut best = one();
    for _ in 0..2 {
        if best.0 <= CLOSE {
            break;
        }
        let next = one();
        if next.0 < best.0 {
            best = next;
        }
    }
    best.1
}

/// CPU time in each interval of the measured phase, the last one as far as it was measured, and
/// memory at its end.
fn by_interval(samples: &[UsageSample], origin: Nanos, interval: Nanos, measured: Nanos) -> Vec<(Nanos, u64)> {
    if samples.len() < 2 {
        return Vec::new();
    }
    let mut after = 1;
    let mut read_off = |at: Nanos| {
        while after + 1 < samples.len() && samples[after].at < at {
            after += 1;
        }
        let (a, b) = (samples[after - 1], samples[after]);
        let share = (at.saturating_sub(a.at) as f64 / b.at.saturating_sub(a.at).max(1) as f64).min(1.0);
        let rss = if at.abs_diff(a.at) < at.abs_diff(b.at) { a.rss } else { b.rss };
        (a.cpu + (b.cpu.saturating_sub(a.cpu) as f64 * share) as Nanos, rss)
    };
    let (mut before, _) = read_off(origin);
    (0..measured.div_ceil(interval))
        .map(|k| {
            let (cpu, rss) = read_off(origin + ((k + 1) * interval).min(measured));
            (cpu.saturating_sub(std::mem::replace(&mut before, cpu)), rss)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Of a broker with one thread, which cannot use more than all of the time, however late
        /// the looks are.
        #[test]
        fn what_is_used_is_spread_over_the_time_in_which_it_was(
            gaps in prop::collection::vec((1u64..80, 0u64..=100), 1..60), interval in 1u64..200
        ) {
            let (mut at, mut cpu) = (1_000u64, 0u64);
            let mut samples = vec![UsageSample { at, cpu, rss: 0 }];
            for (gap, percent) in &gaps {
                at += gap * 1000;
                cpu += gap * 10 * percent;
                samples.push(UsageSample { at, cpu, rss: at });
            }
            let (measured, interval) = (at - 1_000, interval * 1000);
            let intervals = by_interval(&samples, 1_000, interval, measured);
            prop_assert_eq!(intervals.len() as u64, measured.div_ceil(interval));
            let sum: u64 = intervals.iter().map(|(cpu, _)| cpu).sum();
            prop_assert!(sum.abs_diff(cpu) <= 1, "{} {}", sum, cpu);
            prop_assert!(intervals.iter().all(|(cpu, _)| *cpu <= interval + 1), "{intervals:?}");
        }
    }

    proptest! {
        /// Of a process that always runs, whose use is the time itself: pauses before and after the
        /// counter is read.
        #[test]
        fn a_pause_beside_the_counter_is_not_in_the_look(pauses in prop::collection::vec((0u64..20_000_000, 0u64..20_000_000), 3)) {
            let time = std::cell::Cell::new(1_000_000_000u64);
            let mut pause = pauses.iter();
            let look = closest(|| time.get(), || {
                let (before, after) = pause.next().unwrap();
                time.set(time.get() + before);
                let cpu = time.get();
                time.set(time.get() + after);
                (cpu, 0)
            });
            let shortest = pauses.iter().map(|(a, b)| a + b).min().unwrap();
            prop_assert!(look.at.abs_diff(look.cpu) <= shortest.max(CLOSE) / 2 + 1, "{look:?} of {pauses:?}");
        }
    }

    #[test]
    fn a_look_is_due_at_each_boundary_but_not_too_often() {
        let origin = now();
        let mut watch = BrokerWatch::new(origin, 1_000_000, None);
        watch.tick(&[]);
        assert!(watch.next() >= origin + GRAIN);
        let mut watch = BrokerWatch::new(origin, 50_000_000, None);
        let before = now();
        watch.tick(&[]);
        // The thread may rest here for longer than the interval: what is due is later than the
        // look, not than this line.
        assert!(watch.next() > before && (watch.next() - origin).is_multiple_of(50_000_000));
    }
}
