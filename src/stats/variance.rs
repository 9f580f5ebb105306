//! Where the variance of repeated measurements comes from, and which runs stand apart.

use super::dist::{normal_quantile, t_quantile};
use super::{mean, median, sample_variance, sorted};

/// The variance of a two-level experiment: iterations within runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VarianceLevels {
    pub mean: f64,
    /// Biased estimate at the level of iterations.
    pub s1: f64,
    /// Biased estimate at the level of runs.
    pub s2: f64,
    /// Variance that arises within runs.
    pub t1: f64,
    /// Variance that arises between runs.
    pub t2: f64,
    /// Half-width of the 95 % interval of the mean.
    pub half_width: f64,
}

/// Splits the variance of `runs` of equally many iterations.
/// Source: T. Kalibera and R. Jones, "Rigorous Benchmarking in Reasonable Time" (ISMM 2013).
/// `None` below two runs of two iterations, or when their lengths differ.
pub fn levels(runs: &[Vec<f64>]) -> Option<VarianceLevels> {
    let r = runs.first()?.len();
    if runs.len() < 2 || r < 2 || runs.iter().any(|y| y.len() != r) {
        return None;
    }
    let means: Vec<f64> = runs.iter().map(|y| mean(y)).collect();
    let s1 = mean(&runs.iter().map(|y| sample_variance(y)).collect::<Vec<_>>());
    let s2 = sample_variance(&means);
    let n = runs.len() as f64;
    Some(VarianceLevels {
        mean: mean(&means),
        s1,
        s2,
        t1: s1,
        t2: s2 - s1 / r as f64,
        half_width: t_quantile(0.975, n - 1.0) * (s2 / n).sqrt(),
    })
}

impl VarianceLevels {
    /// Iterations for each run that are worth their time, when starting a run costs as much as
    /// `cost` iterations: ceil(sqrt(cost T1 / T2)). `None` where no variance arises between runs:
    /// then iterations are all that counts.
    pub fn iterations(&self, cost: f64) -> Option<u64> {
        (self.t2 > 0.0).then(|| (cost * self.t1 / self.t2).sqrt().ceil() as u64)
    }
}

/// Tukey's fences around a sample: beyond the inner ones mild, beyond the outer ones severe
/// outliers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TukeyFences {
    /// 1.5 interquartile ranges beyond the quartiles.
    pub mild: (f64, f64),
    /// 3 interquartile ranges beyond them.
    pub severe: (f64, f64),
}

/// Tukey's fences with quartiles by linear interpolation (Hyndman and Fan type 7).
/// Source: J. W. Tukey, "Exploratory Data Analysis" (1977). Outliers are flagged, never dropped.
pub fn fences(values: &[f64]) -> Option<TukeyFences> {
    if values.len() < 4 {
        return None;
    }
    let sorted = sorted(values);
    let quartile = |p: f64| {
        let at = p * (sorted.len() - 1) as f64;
        let (low, share) = (at.floor() as usize, at.fract());
        sorted[low] + share * (sorted[(low + 1).min(sorted.len() - 1)] - sorted[low])
    };
    let (q1, q3) = (quartile(0.25), quartile(0.75));
    let iqr = q3 - q1;
    let around = |k: f64| (q1 - k * iqr, q3 + k * iqr);
    Some(TukeyFences { mild: around(1.5), severe: around(3.0) })
}

/// Indices of values whose distance from the median exceeds 14.826 median absolute deviations.
/// Source: B. Iglewicz and D. Hoaglin (1993), with hyperfine's threshold 1.4826 x 10.
pub fn far_from_median(values: &[f64]) -> Vec<usize> {
    let Some(middle) = median(values) else { return Vec::new() };
    let distances: Vec<f64> = values.iter().map(|v| (v - middle).abs()).collect();
    let mad = median(&distances).unwrap_or(0.0);
    (0..values.len()).filter(|i| mad > 0.0 && distances[*i] > 14.826 * mad).collect()
}

/// The bounds mean -+ z sd that a new value stays within with probability 2 p - 1, for known mean
/// and deviation.
pub fn normal_bounds(mean: f64, sd: f64, p: f64) -> (f64, f64) {
    let h = normal_quantile(p) * sd;
    (mean - h, mean + h)
}

/// The same when both were estimated from n values: Student's t and the uncertainty of the mean,
/// mean -+ t sd sqrt(1 + 1/n). Source: G. J. Hahn and W. Q. Meeker, "Statistical Intervals".
pub fn prediction_bounds(mean: f64, sd: f64, n: u32, p: f64) -> (f64, f64) {
    let n = f64::from(n);
    let h = t_quantile(p, n - 1.0) * sd * (1.0 + 1.0 / n).sqrt();
    (mean - h, mean + h)
}
