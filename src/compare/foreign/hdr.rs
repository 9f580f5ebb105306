//! HdrHistogram interval logs of other tools. The format does not say what its values count; whoever wrote it knows.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::{ForeignError, Found, Stream};
use crate::measure::summary::summarise;
use crate::record::{Ledger, Throughput, hlog};
use crate::scenario::plan::Topology;

const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

/// What the values of a log count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogUnit {
    /// Nanoseconds.
    #[default]
    #[value(name = "ns")]
    Nanos,
    /// Microseconds.
    #[value(name = "us")]
    Micros,
    /// Milliseconds.
    #[value(name = "ms")]
    Millis,
}

impl LogUnit {
    fn nanos(self) -> (u64, &'static str) {
        match self {
            Self::Nanos => (1, "nanoseconds"),
            Self::Micros => (1_000, "microseconds"),
            Self::Millis => (1_000_000, "milliseconds"),
        }
    }
}

pub(super) fn read(bytes: &[u8], unit: LogUnit) -> Result<Found, ForeignError> {
    let what = "an HdrHistogram interval log";
    let log = hlog::read(bytes).map_err(|e| match bytes.contains(&b',') {
        true => ForeignError::Format { what, problem: e.to_string() },
        // A text that has nothing of a log is none, rather than a damaged one.
        false => ForeignError::Unknown,
    })?;
    if log.is_empty() {
        return Err(ForeignError::Unknown);
    }
    let (factor, word) = unit.nanos();
    let first = log.iter().map(|i| i.start_s).fold(f64::INFINITY, f64::min);
    let last = log.iter().map(|i| i.start_s + i.length_s).fold(0.0, f64::max);
    let seconds = (last - first).max(f64::MIN_POSITIVE);
    let tags: std::collections::BTreeSet<&str> = log.iter().map(|i| i.tag.as_str()).collect();
    let mut streams = Vec::new();
    for tag in tags {
        let Some(merged) = hlog::merged(&log, tag) else { continue };
        let problem = |e: String| ForeignError::Format { what, problem: e };
        let mut h = Histogram::<u64>::new(3).map_err(|e| problem(e.to_string()))?;
        for v in merged.iter_recorded() {
            let value = v.value_iterated_to().saturating_mul(factor);
            h.record_n(value, v.count_at_value()).map_err(|e| problem(e.to_string()))?;
        }
        streams.push(Stream {
            name: if tag.is_empty() { "all".into() } else { tag.into() },
            latency: BTreeMap::from([("e2e.service".to_string(), summarise(&h, 0, 0, 0, &QUANTILES))]),
            throughput: Throughput { delivered: h.len() as f64 / seconds, ..Throughput::default() },
            ledger: Ledger { delivered: h.len(), ..Ledger::default() },
        });
    }
    Ok(Found {
        tool: "HdrHistogram log",
        system: "log".into(),
        question: "Foreign interval log".into(),
        client: super::UNKNOWN.into(),
        quantiles: QUANTILES.to_vec(),
        seconds: seconds.round(),
        payload: 0,
        topology: Topology { producers: 1, channels: 1, groups: 1, members: 1, reply: false },
        streams,
        doubts: vec![
            format!("values are {word}, as was said; the log does not say"),
            "what they measure is not known: taken for service latency".into(),
        ],
    })
}
