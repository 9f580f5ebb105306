//! Experiment 11: the recorder against sorting, on a scripted trace.

use std::sync::mpsc::channel;

use hdrhistogram::Histogram;

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::certificate::{ClaimLine, Experiment};
use crate::calibrate::context::ExperimentContext;
use crate::calibrate::truth::rank;
use crate::measure::recorder::{LatencyKind, Recorder, histogram};
use crate::measure::summary::summarise;
use crate::units::{Nanos, SECOND};

const QUANTILES: [f64; 6] = [0.01, 0.5, 0.9, 0.99, 0.999, 0.9999];

/// A trace of (intended, received): the minimal standard generator (Park and Miller 1988), so that
/// it is the same everywhere; latencies spread over six orders of magnitude.
fn trace(n: u64) -> Vec<(Nanos, Nanos)> {
    let mut x = 1u64;
    let mut unit = || {
        x = x * 48_271 % 2_147_483_647;
        x as f64 / 2_147_483_647.0
    };
    (0..n)
        .map(|k| {
            let intended = SECOND + k * 10_000;
            (intended, intended + (10f64.powf(3.0 + 6.0 * unit())) as Nanos)
        })
        .collect()
}

fn record(trace: &[(Nanos, Nanos)]) -> Histogram<u64> {
    let (tx, rx) = channel();
    let mut recorder = Recorder::new(0, SECOND, SECOND / 10, tx);
    for (intended, received) in trace {
        recorder.record(LatencyKind::Response, *intended, *intended, *received);
    }
    recorder.finish();
    let mut all = histogram();
    for (_, part) in rx.into_iter().flat_map(|batch| batch.samples.by_interval()) {
        // Equal bounds always add.
        let _ = all.add(&part);
    }
    all
}

/// Quantiles of a trace against sorting, and the same bytes every time.
pub fn recorder(context: &ExperimentContext<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    let trace = trace(context.pick(200_000, 1_000_000));
    let all = record(&trace);
    let summary = summarise(&all, 0, 0, 0, &QUANTILES);
    let mut sorted: Vec<Nanos> = trace.iter().map(|(intended, received)| received - intended).collect();
    sorted.sort_unstable();
    let mut lines = vec![ClaimLine::exact("samples", trace.len() as u64, summary.count)];
    let wrong = QUANTILES.iter().filter(|p| {
        let measured = summary.at(**p).and_then(|p| p.value_ns);
        !measured.zip(rank(&sorted, **p)).is_some_and(|(m, truth)| all.equivalent(m, truth))
    });
    let what = format!("of {} quantiles, outside the bucket of the sorted oracle", QUANTILES.len());
    lines.push(ClaimLine::exact(what, 0, wrong.count() as u64));
    // In which order threads hand over their histograms must not matter.
    let mut shuffled = trace.clone();
    shuffled.reverse();
    let bytes = |h: &Histogram<u64>| serde_json::to_vec(&summarise(h, 0, 0, 0, &QUANTILES)).unwrap_or_default();
    let same = |other: &[(Nanos, Nanos)]| u64::from(bytes(&record(other)) == bytes(&all));
    lines.push(ClaimLine::exact("the same trace again: the same bytes", 1, same(&trace)));
    lines.push(ClaimLine::exact("the trace backwards: the same bytes", 1, same(&shuffled)));
    let claim = "A scripted trace through the recorder has the quantiles of the sorted trace, to one bucket of the histogram (0.1 %), and the same bytes each time.";
    Ok(vec![experiment(11, "recorder", claim, lines, None)])
}
