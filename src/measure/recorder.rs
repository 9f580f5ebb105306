//! Fills histograms: one for each kind of latency and interval, owned by the thread that records,
//! handed to the collector whole when the interval is over. No lock and no allocation on the way of
//! a sample.
//!
//! Samples belong to the interval of their *intended* time: what a stall delays is shown where it
//! was due. Two intervals are open at a time. A sample of an older one is handed over as it is,
//! with others of its kind: one partition that lags while others go on must not open and close a
//! histogram for each message. The collector adds what belongs together.

use std::sync::mpsc::Sender;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::outage::{OutageLog, SlotGrid};
use crate::units::{Nanos, SECOND};

/// Latencies above this are clipped to it, counted, and make the trial invalid where they bear on a
/// percentile.
pub const LIMIT: Nanos = 3600 * SECOND;

/// An empty histogram of the house: 1 ns to 1 h, 3 significant digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LIMIT, 3).expect("1 ns to 1 h at 3 digits are valid bounds")
}

/// The kinds of latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LatencyKind {
    /// received - intended, ack - intended or answered - intended: the headline.
    Response,
    /// The same from `sent`: what a closed loop would have reported.
    Service,
    /// sent - intended: how late the generator was.
    Lag,
    /// acknowledged - intended.
    Ack,
    /// acknowledged - sent.
    AckService,
    /// received - intended at consumers that take their time.
    Slow,
    /// received - intended of messages whose sender and receiver are one agent.
    SameAgent,
}

/// All kinds, in the order of their discriminants.
pub const KINDS: [LatencyKind; 7] = [
    LatencyKind::Response,
    LatencyKind::Service,
    LatencyKind::Lag,
    LatencyKind::Ack,
    LatencyKind::AckService,
    LatencyKind::Slow,
    LatencyKind::SameAgent,
];

/// Samples of one kind on their way to the collector.
#[derive(Debug)]
pub struct SampleBatch {
    /// Index of the workload in the case.
    pub workload: usize,
    /// What was measured.
    pub kind: LatencyKind,
    pub samples: Samples,
}

/// See [`SampleBatch`]. Intervals count since the start of the measured phase.
#[derive(Debug)]
pub enum Samples {
    /// Of an interval that is over.
    Interval(u64, Histogram<u64>),
    /// Of intervals that were over long before: interval and value of each.
    Late(Vec<(u64, u64)>),
}

impl Samples {
    /// The samples as one histogram for each interval.
    pub fn by_interval(self) -> Vec<(u64, Histogram<u64>)> {
        match self {
            Self::Interval(interval, histogram) => vec![(interval, histogram)],
            Self::Late(mut samples) => {
                samples.sort_unstable_by_key(|(interval, _)| *interval);
                let of = |same: &[(u64, u64)]| {
                    let mut all = histogram();
                    same.iter().for_each(|(_, value)| all.saturating_record(*value));
                    (same[0].0, all)
                };
                samples.chunk_by(|a, b| a.0 == b.0).map(of).collect()
            }
        }
    }
    /// How many there are.
    #[allow(clippy::len_without_is_empty, reason = "nothing is handed over empty")]
    pub fn len(&self) -> u64 {
        match self {
            Self::Interval(_, histogram) => histogram.len(),
            Self::Late(samples) => samples.len() as u64,
        }
    }
}

/// Late samples are handed over when there are so many.
const LATE: usize = 4096;

/// One thread's recorder of one workload.
#[derive(Debug)]
pub struct Recorder {
    workload: usize,
    origin: Nanos,
    length: Nanos,
    /// Two open intervals for each kind, by parity.
    open: [[Option<OpenHistogram>; 2]; KINDS.len()],
    latest: [usize; KINDS.len()],
    /// Samples of intervals before the open ones: interval and value.
    late: [Vec<(u64, u64)>; KINDS.len()],
    clipped: u64,
    negative: u64,
    outages: Option<Box<OutageLog>>,
    out: Sender<SampleBatch>,
}

#[derive(Debug)]
struct OpenHistogram {
    interval: u64,
    end: Nanos,
    histogram: Histogram<u64>,
}

impl Recorder {
    /// A recorder whose first interval begins at `origin`.
    pub fn new(workload: usize, origin: Nanos, length: Nanos, out: Sender<SampleBatch>) -> Self {
        Self {
            workload,
            origin,
            length,
            open: Default::default(),
            latest: Default::default(),
            late: Default::default(),
            clipped: 0,
            negative: 0,
            outages: None,
            out,
        }
    }

    /// Lets it note outages in these slots, too.
    pub fn watch_outages(&mut self, grid: SlotGrid) {
        self.outages = Some(Box::new(OutageLog::new(grid)));
    }

    /// Where outages are noted, if they are.
    #[inline]
    pub fn outages(&mut self) -> Option<&mut OutageLog> {
        self.outages.as_deref_mut()
    }

    /// What was noted of outages.
    pub fn take_outages(&mut self) -> Option<Box<OutageLog>> {
        self.outages.take()
    }

    /// Records the span from `from` to `to` of a message intended at `intended`, which is not
    /// before the origin.
    #[inline]
    pub fn record(&mut self, kind: LatencyKind, intended: Nanos, from: Nanos, to: Nanos) {
        let k = kind as usize;
        let value = match to.checked_sub(from) {
            Some(value) if value <= LIMIT => value,
            Some(_) => {
                self.clipped += 1;
                LIMIT
            }
            None => {
                self.negative += 1;
                0
            }
        };
        // The interval of the latest sample first: most samples fall into it.
        let latest = self.latest[k];
        for parity in [latest, 1 - latest] {
            if let Some(open) = &mut self.open[k][parity]
                && open.end.wrapping_sub(intended).wrapping_sub(1) < self.length
            {
                self.latest[k] = parity;
                open.histogram.saturating_record(value);
                return;
            }
        }
        self.turn(k, kind, intended, value);
    }

    #[cold]
    fn turn(&mut self, k: usize, kind: LatencyKind, intended: Nanos, value: u64) {
        let interval = intended.saturating_sub(self.origin) / self.length;
        if self.open[k].iter().flatten().any(|open| open.interval > interval + 1) {
            return self.late(k, kind, interval, value);
        }
        let end = self.origin + (interval + 1) * self.length;
        let fresh = OpenHistogram { interval, end, histogram: histogram() };
        let slot = &mut self.open[k][(interval % 2) as usize];
        if let Some(full) = slot.take() {
            ship(&self.out, self.workload, kind, Samples::Interval(full.interval, full.histogram));
        }
        slot.insert(fresh).histogram.saturating_record(value);
    }

    fn late(&mut self, k: usize, kind: LatencyKind, interval: u64, value: u64) {
        let late = &mut self.late[k];
        if late.capacity() == 0 {
            late.reserve_exact(LATE);
        }
        late.push((interval, value));
        if late.len() == LATE {
            ship(&self.out, self.workload, kind, Samples::Late(std::mem::take(late)));
        }
    }

    /// Hands over what is open. Returns the numbers of clipped and of negative samples.
    pub fn finish(mut self) -> (u64, u64) {
        for (kind, slots) in KINDS.into_iter().zip(&mut self.open) {
            for full in slots.iter_mut().filter_map(Option::take) {
                ship(&self.out, self.workload, kind, Samples::Interval(full.interval, full.histogram));
            }
        }
        for (kind, late) in KINDS.into_iter().zip(self.late).filter(|(_, late)| !late.is_empty()) {
            ship(&self.out, self.workload, kind, Samples::Late(late));
        }
        (self.clipped, self.negative)
    }
}

fn ship(out: &Sender<SampleBatch>, workload: usize, kind: LatencyKind, samples: Samples) {
    // The collector outlives every recorder; without one nobody wants the samples.
    let _ = out.send(SampleBatch { workload, kind, samples });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::mpsc::channel;

    proptest! {
        // Each case makes dozens of histograms of 270 KB.
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn every_sample_lands_in_the_interval_it_was_due(
            samples in prop::collection::vec((0u64..20_000, 0u64..10_000_000_000), 1..500)
        ) {
            let (tx, rx) = channel();
            let mut recorder = Recorder::new(0, 5_000, 1_000, tx);
            let mut expected: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            for (offset, latency) in &samples {
                let intended = 5_000 + offset;
                recorder.record(LatencyKind::Response, intended, intended, intended + latency);
                expected.entry(offset / 1_000).or_default().push(*latency);
            }
            recorder.finish();
            let mut got: BTreeMap<u64, Histogram<u64>> = BTreeMap::new();
            for (interval, part) in rx.into_iter().flat_map(|s| s.samples.by_interval()) {
                got.entry(interval).or_insert_with(histogram).add(&part).unwrap();
            }
            prop_assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
            for (interval, mut values) in expected {
                values.sort_unstable();
                let h = &got[&interval];
                prop_assert_eq!(h.len(), values.len() as u64);
                let (max, bucket) = (values[values.len() - 1], h.max());
                prop_assert!(h.equivalent(max, bucket));
            }
        }
    }

    #[test]
    fn counts_what_does_not_fit() {
        let (tx, rx) = channel();
        let mut recorder = Recorder::new(0, 0, SECOND, tx);
        recorder.record(LatencyKind::Lag, 10, 10, 5);
        recorder.record(LatencyKind::Lag, 10, 10, 10 + 2 * LIMIT);
        assert_eq!(recorder.finish(), (1, 1));
        assert_eq!(rx.into_iter().map(|s| s.samples.len()).sum::<u64>(), 2);
    }

    /// One partition lags by four intervals, another by 50, while the third goes on: each sample of
    /// theirs would hand over a histogram of 270 KB.
    #[test]
    fn partitions_that_lag_do_not_make_a_histogram_of_each_sample() {
        let (tx, rx) = channel();
        let mut recorder = Recorder::new(0, 0, 1_000, tx);
        for n in 0..600u64 {
            let due = 60_000 + 10 * n;
            for behind in [0, 4_000, 50_000] {
                recorder.record(LatencyKind::Ack, due - behind, due - behind, due);
            }
        }
        recorder.finish();
        let mut by_lag: BTreeMap<u64, u64> = BTreeMap::new();
        let mut shipments = 0;
        for s in rx {
            shipments += 1;
            for (interval, h) in s.samples.by_interval() {
                assert!(interval < 66);
                h.iter_recorded().for_each(|v| *by_lag.entry(v.value_iterated_to()).or_default() += v.count_at_value());
            }
        }
        assert!(shipments <= 8, "{shipments} for 6 intervals");
        assert_eq!(by_lag.values().copied().collect::<Vec<_>>(), [600, 600, 600], "{by_lag:?}");
    }
}
