//! Does the system keep up, and do its latencies stay the same over the trial? V3, V7 and V8 of stats.md A5.

use super::validity::check;
use crate::record::{Check, Status};
use crate::stats::change::{self, Settings};
use crate::stats::{mean, series};

/// The fewest blocks from which these checks are made.
pub const FEWEST_BLOCKS: usize = 10;
/// A change of latency that is of no practical importance.
const DELTA: f64 = 0.05;

/// Latencies of the blocks of a trial, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocks {
    /// Median of each block, ns.
    pub p50: Vec<f64>,
    /// p99 of each block, ns.
    pub p99: Vec<f64>,
    /// Length of a block.
    pub seconds: f64,
}

/// V3, divergence: a backlog (scheduled less completed, at the end of each block) that grows without end. Mann-Kendall at
/// 1 %, and Theil-Sen's slope times the length above 5 % of a second's messages. Then percentiles measure the length of
/// the trial, not the system. `None` below [`FEWEST_BLOCKS`].
pub fn divergence(backlog: &[f64], rate: f64) -> Option<Check> {
    if backlog.len() < FEWEST_BLOCKS {
        return None;
    }
    let trend = series::trend(backlog)?;
    let growth = trend.slope * (backlog.len() - 1) as f64;
    let grows = trend.p < 0.01 && growth > 0.05 * rate;
    Some(check(
        "V3",
        "keeps up",
        if grows { Status::Invalid } else { Status::Ok },
        format!("the backlog grew by {growth:.0} messages (p {:.2})", trend.p),
        "INVALID when it grows (p < 0.01) by more than 5 % of a second's messages",
        "OVERLOADED: latencies grow as long as the trial lasts and say nothing but its length; lower the rate",
    ))
}

/// V7, stationarity: a trend of block medians (Mann-Kendall at 1 % and more than half of 5 % over the trial), a level that
/// wanders (KPSS above its 1 % point), or a warm-up that was too short (MSER drops blocks that differ by more than 5 %).
pub fn stationary(blocks: &Blocks) -> Option<Check> {
    let logs: Vec<f64> = blocks.p50.iter().map(|v| v.ln()).collect();
    if logs.len() < FEWEST_BLOCKS {
        return None;
    }
    let trend = series::trend(&logs)?;
    let drift = (trend.slope * (logs.len() - 1) as f64).exp() - 1.0;
    let kpss = series::kpss(&logs, series::kpss_lag(logs.len()));
    let late = [&blocks.p50, &blocks.p99].into_iter().filter_map(|v| warm_up(v)).max();
    let drifts = trend.p < 0.01 && drift.abs() > DELTA / 2.0;
    // A level that wanders by less than matters is steady enough.
    let spread =
        logs.iter().copied().fold(f64::NEG_INFINITY, f64::max) - logs.iter().copied().fold(f64::INFINITY, f64::min);
    let wanders = kpss > 0.739 && spread > DELTA;
    let message = match late {
        Some(n) => format!(
            "WARMUP_TOO_SHORT: the first {:.1} s differ from the rest; lengthen the warm-up by that",
            n as f64 * blocks.seconds
        ),
        None => "the latency drifts during the trial: it depends on when one measures; see the timeline".into(),
    };
    Some(check(
        "V7",
        "stationary",
        if drifts || wanders || late.is_some() { Status::Warn } else { Status::Ok },
        format!("median drifts by {:+.1} % over the trial (p {:.3}), KPSS {kpss:.2}", drift * 100.0, trend.p),
        "WARN when it drifts by more than 2.5 % (p < 0.01), KPSS above 0.739, or the first blocks differ",
        &message,
    ))
}

/// Blocks at the start that differ from the rest by more than matters.
fn warm_up(values: &[f64]) -> Option<usize> {
    let logs: Vec<f64> = values.iter().map(|v| v.ln()).collect();
    let cut = series::mser(&logs, 1)?;
    let differs = cut.drop > 0 && (mean(&logs[..cut.drop]) - mean(&logs[cut.drop..])) > (1.0 + DELTA).ln();
    // Half-way is no warm-up but no steady state: the trend says so.
    (differs && !cut.unsteady).then_some(cut.drop)
}

/// V8, a step within the trial: change points of block medians at 1e-4, larger than 5 %.
pub fn steps(blocks: &Blocks) -> Option<Check> {
    let logs: Vec<f64> = blocks.p50.iter().map(|v| v.ln()).collect();
    if logs.len() < FEWEST_BLOCKS {
        return None;
    }
    let found = change::change_points(&logs, Settings { max_p: 1e-4, min_change: (1.0 + DELTA).ln() });
    let where_: Vec<String> = found
        .iter()
        .map(|c| {
            format!("{:+.0} % at {:.0} s", ((c.after - c.before).exp() - 1.0) * 100.0, c.index as f64 * blocks.seconds)
        })
        .collect();
    Some(check(
        "V8",
        "no step within the trial",
        if found.is_empty() { Status::Ok } else { Status::Warn },
        if found.is_empty() { "no step of the median".into() } else { format!("median {}", where_.join(", ")) },
        "WARN at a step above 5 % (p < 1e-4)",
        "something changed while measuring: the percentiles mix two states; see the timeline and the events",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: [f64; 20] = [
        102., 98., 101., 99., 100., 103., 97., 100., 101., 99., 98., 102., 100., 101., 99., 100., 98., 103., 100., 99.,
    ];

    fn blocks(p50: Vec<f64>) -> Blocks {
        Blocks { p99: p50.iter().map(|v| v * 4.0).collect(), p50, seconds: 2.0 }
    }

    #[test]
    fn a_backlog_that_grows_is_overload() {
        let bounded = divergence(&NOISE, 10_000.0).unwrap();
        assert_eq!(bounded.status, Status::Ok);
        let growing: Vec<f64> = (0..20).map(|i| f64::from(i) * 50.0).collect();
        let found = divergence(&growing, 10_000.0).unwrap();
        assert!(found.status == Status::Invalid && found.message.starts_with("OVERLOADED"));
        assert_eq!(divergence(&growing, 100_000.0).unwrap().status, Status::Ok, "little for the rate");
        assert!(divergence(&growing[..5], 1.0).is_none());
    }

    #[test]
    fn warm_up_drift_and_step_are_told_apart() {
        let flat = blocks(NOISE.to_vec());
        assert_eq!((stationary(&flat).unwrap().status, steps(&flat).unwrap().status), (Status::Ok, Status::Ok));
        let extra = [40., 25., 15., 9., 5., 3.];
        let warm = blocks(NOISE.iter().enumerate().map(|(i, v)| v + extra.get(i).unwrap_or(&0.0)).collect());
        let found = stationary(&warm).unwrap();
        assert!(found.status == Status::Warn && found.message.starts_with("WARMUP_TOO_SHORT: the first"), "{found:?}");
        let drift = blocks(NOISE.iter().enumerate().map(|(i, v)| v + 0.8 * i as f64).collect());
        assert_eq!(stationary(&drift).unwrap().status, Status::Warn);
        let step = blocks(NOISE.iter().enumerate().map(|(i, v)| v * if i < 12 { 1.0 } else { 1.3 }).collect());
        let found = steps(&step).unwrap();
        assert!(found.status == Status::Warn && found.observed.contains("+30 % at 24 s"), "{found:?}");
    }
}
