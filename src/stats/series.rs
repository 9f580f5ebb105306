//! Is a run steady? Tests on a series of block values: where warm-up ends, whether there is a trend
//! or a wandering level.

use super::dist::normal_two_sided;
use super::{mean, median};

/// Where a series should be cut for its mean to be known best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truncation {
    /// Values to drop at the start.
    pub drop: usize,
    /// The criterion at that cut.
    pub statistic: f64,
    /// Whether the cut is as late as it may be, half-way: then the run has no steady state.
    pub unsteady: bool,
}

/// Marginal standard error rule: d minimises sum_{i>d} (z_i - mean_d)^2 / (m - d)^2 over 0 <= d <=
/// m/2, on means of `batch` values. Source: K. P. White, "An effective truncation heuristic"
/// (Simulation 69, 1997); batches of 5: K. P. White, M. J. Cobb and S. C. Spratt (2000). `None`
/// below four batches.
pub fn mser(values: &[f64], batch: usize) -> Option<Truncation> {
    let z: Vec<f64> = values.chunks_exact(batch.max(1)).map(mean).collect();
    let m = z.len();
    if m < 4 {
        return None;
    }
    let criterion = |d: usize| {
        let rest = &z[d..];
        let centre = mean(rest);
        rest.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / (rest.len() as f64).powi(2)
    };
    let (drop, statistic) = (0..=m / 2).map(|d| (d, criterion(d))).min_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(Truncation { drop: drop * batch.max(1), statistic, unsteady: drop == m / 2 })
}

/// A monotone trend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// Rising pairs less falling pairs.
    pub s: i64,
    /// Its variance without a trend, corrected for ties.
    pub variance: f64,
    /// Standardised with continuity correction.
    pub z: f64,
    /// Two-sided p-value.
    pub p: f64,
    /// Theil and Sen's slope for each step: the median of all pairwise slopes.
    pub slope: f64,
}

/// From so many values on a trend is told from chance well enough to judge a trial by it.
pub const FEWEST: usize = 10;

/// Mann and Kendall's test for a trend with Theil and Sen's slope. Sources: H. B. Mann (1945), M.
/// G. Kendall (1975), P. K. Sen, JASA 63 (1968). `None` below three values.
pub fn trend(values: &[f64]) -> Option<Trend> {
    let n = values.len();
    if n < 3 {
        return None;
    }
    let mut s = 0i64;
    let mut slopes = Vec::with_capacity(n * (n - 1) / 2);
    for i in 0..n {
        for j in i + 1..n {
            s += i64::from(values[j] > values[i]) - i64::from(values[j] < values[i]);
            slopes.push((values[j] - values[i]) / (j - i) as f64);
        }
    }
    let sorted = super::sorted(values);
    let ties: f64 =
        sorted.chunk_by(|a, b| a == b).map(|same| same.len() as f64).map(|t| t * (t - 1.0) * (2.0 * t + 5.0)).sum();
    let nf = n as f64;
    let variance = (nf * (nf - 1.0) * (2.0 * nf + 5.0) - ties) / 18.0;
    let z = if variance > 0.0 { (s - s.signum()) as f64 / variance.sqrt() } else { 0.0 };
    Some(Trend { s, variance, z, p: normal_two_sided(z), slope: median(&slopes)? })
}

/// Upper points of [`kpss`] for a level, as (level of significance, value). Source: Kwiatkowski et
/// al. (1992), table 1.
pub const KPSS_CRITICAL: [(f64, f64); 4] = [(0.10, 0.347), (0.05, 0.463), (0.025, 0.574), (0.01, 0.739)];

/// Kwiatkowski, Phillips, Schmidt and Shin's statistic for stationarity about a level, with
/// Bartlett weights up to `lag`: n^-2 sum S_t^2 / (g_0 + 2 sum_s (1 - s/(l+1)) g_s). Source: J.
/// Econometrics 54 (1992). Large values mean that the level wanders. Zero for a constant series.
pub fn kpss(values: &[f64], lag: usize) -> f64 {
    let n = values.len();
    let m = mean(values);
    let e: Vec<f64> = values.iter().map(|v| v - m).collect();
    let mut sum = 0.0;
    let partial: f64 = e
        .iter()
        .map(|v| {
            sum += v;
            sum * sum
        })
        .sum();
    let gamma = |s: usize| e.iter().skip(s).zip(&e).map(|(a, b)| a * b).sum::<f64>() / n as f64;
    let long_run: f64 = gamma(0)
        + 2.0 * (1..=lag.min(n.saturating_sub(1))).map(|s| (1.0 - s as f64 / (lag + 1) as f64) * gamma(s)).sum::<f64>();
    if long_run > 0.0 { partial / (n as f64).powi(2) / long_run } else { 0.0 }
}

/// The usual lag of [`kpss`]: 4 (n / 100)^(1/4), rounded down.
pub fn kpss_lag(n: usize) -> usize {
    (4.0 * (n as f64 / 100.0).powf(0.25)).floor() as usize
}

/// Autocorrelation at a lag; 0 where it is not defined.
pub fn autocorrelation(values: &[f64], lag: usize) -> f64 {
    let m = mean(values);
    let all: f64 = values.iter().map(|v| (v - m).powi(2)).sum();
    let lagged: f64 = values.iter().skip(lag).zip(values).map(|(a, b)| (a - m) * (b - m)).sum();
    if all > 0.0 { lagged / all } else { 0.0 }
}

/// Spearman's rank correlation of each value with the next. Source: C. Spearman (1904). 0 where it
/// is not defined.
pub fn spearman_lag1(values: &[f64]) -> f64 {
    if values.len() < 3 {
        return 0.0;
    }
    let (a, b) = (mid_ranks(&values[..values.len() - 1]), mid_ranks(&values[1..]));
    let (ma, mb) = (mean(&a), mean(&b));
    let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(&b).map(|(x, y)| f(x - ma, y - mb)).sum::<f64>();
    let bottom = (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt();
    if bottom > 0.0 { sum(&|x, y| x * y) / bottom } else { 0.0 }
}

fn mid_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut i = 0;
    for same in order.chunk_by(|a, b| values[*a] == values[*b]) {
        same.iter().for_each(|k| ranks[*k] = i as f64 + (same.len() as f64 + 1.0) / 2.0);
        i += same.len();
    }
    ranks
}
