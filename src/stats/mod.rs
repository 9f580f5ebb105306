//! Pure mathematics: numbers in, numbers out. Each function cites its source.
//!
//! Background: a run of a benchmark is one draw from the distribution of runs. Its messages are
//! neither independent of each other (queues, pauses) nor of the process they ran in (placement,
//! caches), so an interval computed from the messages of one run says how well that run's
//! percentile is known, and nothing about the next run. Scope: intervals within a run
//! ([`quantile`], [`limit`]); effects, tests and decisions between runs ([`ranks`], [`shift`],
//! [`multiple`], [`decide`], [`variance`]); series within a run and over history ([`series`],
//! [`change`]); arrivals ([`arrivals`]); closed forms of queues that calibration compares with
//! ([`queue`]). Design: exact where n is small (that is where decisions are made), classical
//! approximations with a named source elsewhere; no random numbers, so the same record always gives
//! the same verdict. Every function is held to `vectors.json`, computed with other software.
//! Rejected: bootstrap intervals (random, and no better here: 0.82 instead of 0.97 coverage for
//! p99.9 at rho 0.9); the augmented Dickey-Fuller test (calls a trend and a step stationary).

pub mod arrivals;
pub mod change;
pub mod decide;
pub mod dist;
pub mod limit;
pub mod multiple;
pub mod quantile;
pub mod queue;
pub mod ranks;
pub mod search;
pub mod series;
pub mod shift;
pub mod variance;

#[cfg(test)]
mod vectors;

/// Arithmetic mean; NaN of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample variance with n - 1 in the denominator; NaN below two values.
pub fn sample_variance(values: &[f64]) -> f64 {
    let m = mean(values);
    values.iter().map(|v| (v - m).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)
}

/// The median; of an even number the mean of the two in the middle; infinite when either of them
/// is. `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let n = sorted.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(sorted[n / 2]),
        _ => Some(midpoint(sorted[n / 2 - 1], sorted[n / 2])),
    }
}

/// The mean of two numbers that may both be infinite with the same sign.
fn midpoint(a: f64, b: f64) -> f64 {
    if a == b { a } else { a / 2.0 + b / 2.0 }
}

/// A sorted copy.
pub(crate) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut copy = values.to_vec();
    copy.sort_by(f64::total_cmp);
    copy
}
