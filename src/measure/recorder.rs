//! Fills histograms: one for each kind of latency and interval, owned by the thread that records, handed to the
//! collector whole when the interval is over. No lock and no allocation on the way of a sample.
//!
//! Samples belong to the interval of their *intended* time: what a stall delays is shown where it was due. A late
//! message of an interval that was handed over already opens it again; the collector adds both parts.

use std::sync::mpsc::Sender;

use hdrhistogram::Histogram;

use crate::units::{Nanos, SECOND};

/// Latencies above this are clipped to it, counted, and make the trial invalid where they bear on a percentile.
pub const LIMIT: Nanos = 3600 * SECOND;

/// An empty histogram of the house: 1 ns to 1 h, 3 significant digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LIMIT, 3).expect("1 ns to 1 h at 3 digits are valid bounds")
}

/// The kinds of latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
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
}

/// All kinds, in the order of their discriminants.
pub const KINDS: [Kind; 6] = [Kind::Response, Kind::Service, Kind::Lag, Kind::Ack, Kind::AckService, Kind::Slow];

/// A full histogram on its way to the collector.
#[derive(Debug)]
pub struct Shipment {
    /// Index of the workload in the case.
    pub workload: usize,
    /// What was measured.
    pub kind: Kind,
    /// Interval since the start of the measured phase.
    pub interval: u64,
    /// The samples.
    pub histogram: Histogram<u64>,
}

/// One thread's recorder of one workload.
#[derive(Debug)]
pub struct Recorder {
    workload: usize,
    origin: Nanos,
    length: Nanos,
    /// Two open intervals for each kind, by parity.
    open: [[Option<Open>; 2]; KINDS.len()],
    latest: [usize; KINDS.len()],
    clipped: u64,
    negative: u64,
    out: Sender<Shipment>,
}

#[derive(Debug)]
struct Open {
    interval: u64,
    end: Nanos,
    histogram: Histogram<u64>,
}

impl Recorder {
    /// A recorder whose first interval begins at `origin`.
    pub fn new(workload: usize, origin: Nanos, length: Nanos, out: Sender<Shipment>) -> Self {
        Self {
            workload,
            origin,
            length,
            open: Default::default(),
            latest: Default::default(),
            clipped: 0,
            negative: 0,
            out,
        }
    }

    /// Records the span from `from` to `to` of a message intended at `intended`, which is not before the origin.
    #[inline]
    pub fn record(&mut self, kind: Kind, intended: Nanos, from: Nanos, to: Nanos) {
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
        self.turn(k, kind, intended).saturating_record(value);
    }

    #[cold]
    fn turn(&mut self, k: usize, kind: Kind, intended: Nanos) -> &mut Histogram<u64> {
        let interval = intended.saturating_sub(self.origin) / self.length;
        let end = self.origin + (interval + 1) * self.length;
        let fresh = Open { interval, end, histogram: histogram() };
        let slot = &mut self.open[k][(interval % 2) as usize];
        if let Some(full) = slot.take() {
            ship(&self.out, self.workload, kind, full);
        }
        &mut slot.insert(fresh).histogram
    }

    /// Hands over what is open. Returns the numbers of clipped and of negative samples.
    pub fn finish(mut self) -> (u64, u64) {
        for (kind, slots) in KINDS.into_iter().zip(&mut self.open) {
            for full in slots.iter_mut().filter_map(Option::take) {
                ship(&self.out, self.workload, kind, full);
            }
        }
        (self.clipped, self.negative)
    }
}

fn ship(out: &Sender<Shipment>, workload: usize, kind: Kind, full: Open) {
    // The collector outlives every recorder; without one nobody wants the samples.
    let _ = out.send(Shipment { workload, kind, interval: full.interval, histogram: full.histogram });
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
                recorder.record(Kind::Response, intended, intended, intended + latency);
                expected.entry(offset / 1_000).or_default().push(*latency);
            }
            recorder.finish();
            let mut got: BTreeMap<u64, Histogram<u64>> = BTreeMap::new();
            for s in rx {
                got.entry(s.interval).or_insert_with(histogram).add(&s.histogram).unwrap();
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
        recorder.record(Kind::Lag, 10, 10, 5);
        recorder.record(Kind::Lag, 10, 10, 10 + 2 * LIMIT);
        assert_eq!(recorder.finish(), (1, 1));
        assert_eq!(rx.into_iter().map(|s| s.histogram.len()).sum::<u64>(), 2);
    }
}
