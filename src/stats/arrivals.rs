//! Whether messages were sent as the schedule's arrival process promises.

use super::dist::chi_squared_quantile;
use super::{mean, sample_variance, sorted};

/// Upper points of [`anderson_darling_exponential`] with the mean estimated, for large n, as
/// (level, value). Source: M. A. Stephens (1974), JASA 69.
pub const CRITICAL: [(f64, f64); 5] = [(0.15, 0.915), (0.10, 1.061), (0.05, 1.320), (0.025, 1.590), (0.01, 1.958)];

/// Anderson and Darling's A^2 of gaps against an exponential distribution with their mean:
/// A^2 = -n - sum (2i-1)/n (ln z_i - w_(n+1-i)), w = x / mean, z = 1 - exp(-w).
/// Source: Stephens (1974). Infinite when a gap is zero or negative, NaN of nothing.
pub fn anderson_darling_exponential(gaps: &[f64]) -> f64 {
    let n = gaps.len();
    let m = mean(gaps);
    let w: Vec<f64> = sorted(gaps).iter().map(|x| x / m).collect();
    let sum: f64 = (0..n).map(|i| (2 * i + 1) as f64 / n as f64 * ((-(-w[i]).exp_m1()).ln() - w[n - 1 - i])).sum();
    -(n as f64) - sum
}

/// Variance over mean of the counts in windows of equal length: 1 for a Poisson process, 0 for a
/// constant one.
pub fn index_of_dispersion(counts: &[f64]) -> f64 {
    sample_variance(counts) / mean(counts)
}

/// The index is within these bounds in 95 % of Poisson processes observed over so many windows:
/// chi^2_{m-1} / (m-1). Source: R. A. Fisher (1950); D. R. Cox and P. A. W. Lewis (1966), ch. 6.
pub fn dispersion_bounds(windows: usize) -> (f64, f64) {
    let df = windows as f64 - 1.0;
    (chi_squared_quantile(0.025, df) / df, chi_squared_quantile(0.975, df) / df)
}

/// The largest distance of a gap from `expected`, for constant arrivals.
pub fn largest_deviation(gaps: &[f64], expected: f64) -> f64 {
    gaps.iter().map(|g| (g - expected).abs()).fold(0.0, f64::max)
}
