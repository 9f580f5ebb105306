//! How large is the difference: Hodges and Lehmann's estimate with its exact interval, as a ratio
//! or as a difference.

use super::dist::normal_quantile;
use super::{median, sorted};

/// Samples up to this size each get the exact interval.
const EXACT_UP_TO: usize = 50;

/// An estimate with an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// The interval; `None` where the samples are too small for the confidence asked for.
    pub interval: Option<(f64, f64)>,
}

/// Cumulative distribution of Mann and Whitney's U under the null hypothesis, without ties: index u
/// gives P(U <= u).
fn u_cdf(n: usize, m: usize) -> Vec<f64> {
    // f(i, j, u) = f(i, j-1, u) + f(i-1, j, u-j), kept for the current i only.
    let top = n * m;
    let mut previous: Vec<Vec<f64>> = (0..=m).map(|_| [vec![1.0], vec![0.0; top]].concat()).collect();
    for _ in 1..=n {
        let mut row: Vec<Vec<f64>> = Vec::with_capacity(m + 1);
        row.push([vec![1.0], vec![0.0; top]].concat());
        for j in 1..=m {
            let mut here = row[j - 1].clone();
            for u in j..=top {
                here[u] += previous[j][u - j];
            }
            row.push(here);
        }
        previous = row;
    }
    let counts = previous.swap_remove(m);
    let total: f64 = counts.iter().sum();
    let mut sum = 0.0;
    counts
        .iter()
        .map(|c| {
            sum += c;
            sum / total
        })
        .collect()
}

/// The index c (from 1) of the interval d_(c) .. d_(nm+1-c) of sorted pairwise differences, and the
/// confidence it achieves: the largest c with P(U <= c-1) <= (1 - confidence) / 2. `None` where no
/// c reaches the confidence. Beyond 50 values a side c comes from the normal approximation.
pub fn interval_index(n: usize, m: usize, confidence: f64) -> Option<(usize, f64)> {
    let tail = (1.0 - confidence) / 2.0;
    if n > EXACT_UP_TO || m > EXACT_UP_TO {
        let (n, m) = (n as f64, m as f64);
        let c = (n * m / 2.0 + normal_quantile(tail) * (n * m * (n + m + 1.0) / 12.0).sqrt()).floor();
        return (c >= 1.0).then_some((c as usize, confidence));
    }
    let cdf = u_cdf(n, m);
    // A tail met exactly counts as met, whatever the last bit says.
    let c = cdf.iter().take_while(|p| **p <= tail * (1.0 + 1e-12)).count();
    (c >= 1).then(|| (c, 1.0 - 2.0 * cdf[c - 1]))
}

/// b - a where both may be infinite.
fn difference(b: f64, a: f64) -> f64 {
    if a == b { 0.0 } else { b - a }
}

/// Hodges and Lehmann's shift from a to b: the median of all pairwise differences, with the exact
/// interval that inverts the Mann-Whitney test. Source: J. L. Hodges and E. L. Lehmann (1963);
/// interval: Lehmann, "Nonparametrics" (1975), 2.6. Values may be +infinity. `None` when a side is
/// empty.
pub fn shift(a: &[f64], b: &[f64], confidence: f64) -> Option<Estimate> {
    let differences: Vec<f64> = a.iter().flat_map(|x| b.iter().map(move |y| difference(*y, *x))).collect();
    let all = sorted(&differences);
    let value = median(&all)?;
    let interval = interval_index(a.len(), b.len(), confidence).map(|(c, _)| (all[c - 1], all[all.len() - c]));
    Some(Estimate { value, interval })
}

/// The ratio b / a: [`shift`] of logarithms. `None` when a side is empty or has a value that is not
/// positive.
pub fn ratio(a: &[f64], b: &[f64], confidence: f64) -> Option<Estimate> {
    if a.iter().chain(b).any(|v| v.is_nan() || *v <= 0.0) {
        return None;
    }
    let ln = |v: &[f64]| v.iter().map(|x| x.ln()).collect::<Vec<_>>();
    let found = shift(&ln(a), &ln(b), confidence)?;
    Some(Estimate { value: found.value.exp(), interval: found.interval.map(|(l, h)| (l.exp(), h.exp())) })
}

/// The interval of a median from order statistics, with at least the confidence asked for; `None`
/// where n is too small (6 runs for 95 %). Source: as [`super::quantile::order_statistics`].
pub fn median_interval(values: &[f64], confidence: f64) -> Option<(f64, f64)> {
    let ranks = super::quantile::order_statistics(values.len() as u64, 0.5, 1.0 - confidence);
    let all = sorted(values);
    Some((all[ranks.low? as usize - 1], all[ranks.high? as usize - 1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn infinities_make_an_infinite_ratio() {
        let found = ratio(&[1.0, 2.0, 3.0, 4.0, 5.0], &[f64::INFINITY; 5], 0.95).unwrap();
        assert_eq!((found.value, found.interval), (f64::INFINITY, Some((f64::INFINITY, f64::INFINITY))));
        let both = ratio(&[f64::INFINITY; 5], &[f64::INFINITY; 5], 0.95).unwrap();
        assert_eq!(both.value, 1.0);
        assert!(ratio(&[0.0], &[1.0], 0.95).is_none());
        assert!(ratio(&[1.0], &[2.0], 0.95).unwrap().interval.is_none());
        assert!(shift(&[], &[1.0], 0.95).is_none());
        assert_eq!(median_interval(&[6.0, 1.0, 2.0, 3.0, 4.0, 5.0], 0.95), Some((1.0, 6.0)));
        assert_eq!(median_interval(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95), None);
    }

    proptest! {
        #[test]
        fn swapping_the_sides_inverts_the_ratio(
            a in prop::collection::vec(1.0f64..100.0, 5..12), b in prop::collection::vec(1.0f64..100.0, 5..12)
        ) {
            let (there, back) = (ratio(&a, &b, 0.95).unwrap(), ratio(&b, &a, 0.95).unwrap());
            prop_assert!((there.value * back.value - 1.0).abs() < 1e-9);
            let ((l, h), (bl, bh)) = (there.interval.unwrap(), back.interval.unwrap());
            prop_assert!((l * bh - 1.0).abs() < 1e-9 && (h * bl - 1.0).abs() < 1e-9 && l <= h);
            prop_assert!(l <= there.value && there.value <= h);
        }
    }
}
