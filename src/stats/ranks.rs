//! Do two small samples differ? Exact tests by permutation, and the parametric ones beside them for
//! comparison. Values may be +infinity (lost messages): ranks do not mind.

use super::dist::{binomial_cdf, normal_two_sided, t_quantile, t_two_sided};
use super::{mean, sample_variance};

/// Samples up to this size each are tested exactly.
const EXACT_UP_TO: usize = 50;
/// Rounds up to this number are enumerated by [`sign_flip`].
const FLIP_UP_TO: usize = 20;

/// A test statistic and its two-sided p-value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TestResult {
    pub statistic: f64,
    /// Two-sided p-value.
    pub p: f64,
}

/// Twice the mid-rank of each value (so that it is an integer), in the order given, and the sizes
/// of ties.
fn double_ranks(values: &[f64]) -> (Vec<u64>, Vec<u64>) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let (mut ranks, mut ties, mut i) = (vec![0; values.len()], Vec::new(), 0);
    while i < order.len() {
        let same = order[i..].iter().take_while(|k| values[**k] == values[order[i]]).count().max(1);
        for k in &order[i..i + same] {
            // Ranks i+1 ..= i+same have the mean (2i + same + 1) / 2.
            ranks[*k] = (2 * i + same + 1) as u64;
        }
        ties.push(same as u64);
        i += same;
    }
    (ranks, ties)
}

/// Mann and Whitney's U of `a` against `b` (pairs in which a is larger, ties half) with a two-sided
/// p-value: exact up to 50 values a side, by the permutation distribution of mid-ranks where there
/// are ties, doubled smaller tail; beyond that the normal approximation with tie and continuity
/// correction.
///
/// Source: H. B. Mann and D. R. Whitney (1947); permutation of mid-ranks: E. L. Lehmann,
/// "Nonparametrics" (1975), 1.4. The smallest p attainable with n runs a side is 2 / C(2n, n).
/// `None` when a side is empty.
pub fn mann_whitney(a: &[f64], b: &[f64]) -> Option<TestResult> {
    let (n, m) = (a.len(), b.len());
    if n == 0 || m == 0 {
        return None;
    }
    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    let (ranks, ties) = double_ranks(&all);
    let sum: u64 = ranks[..n].iter().sum();
    let (nf, mf) = (n as f64, m as f64);
    let u = sum as f64 / 2.0 - nf * (nf + 1.0) / 2.0;
    let p = if n <= EXACT_UP_TO && m <= EXACT_UP_TO {
        let ways = rank_sums(&ranks, n);
        let total: f64 = ways.iter().sum();
        let lower: f64 = ways[..=sum as usize].iter().sum();
        let upper: f64 = ways[sum as usize..].iter().sum();
        (2.0 * lower.min(upper) / total).min(1.0)
    } else {
        let big = nf + mf;
        let tied: f64 = ties.iter().map(|t| (*t as f64).powi(3) - *t as f64).sum();
        let variance = nf * mf / 12.0 * (big + 1.0 - tied / (big * (big - 1.0)));
        let distance = ((u - nf * mf / 2.0).abs() - 0.5).max(0.0);
        if variance > 0.0 { normal_two_sided(distance / variance.sqrt()) } else { 1.0 }
    };
    Some(TestResult { statistic: u, p })
}

/// In how many ways `n` of the ranks make each sum.
fn rank_sums(ranks: &[u64], n: usize) -> Vec<f64> {
    let top = ranks.iter().sum::<u64>() as usize;
    let mut ways = vec![vec![0.0; top + 1]; n + 1];
    ways[0][0] = 1.0;
    let mut reached = 0;
    for (i, &r) in ranks.iter().enumerate() {
        reached += r as usize;
        for size in (1..=n.min(i + 1)).rev() {
            let (before, after) = ways.split_at_mut(size);
            for s in (r as usize..=reached).rev() {
                after[0][s] += before[size - 1][s - r as usize];
            }
        }
    }
    ways.swap_remove(n)
}

/// The smallest two-sided p that [`mann_whitney`] can reach with so many runs a side: 2 / C(n+m,
/// n).
pub fn smallest_p(n: usize, m: usize) -> f64 {
    let ways = (1..=n).fold(1.0, |c, i| c * (m + i) as f64 / i as f64);
    (2.0 / ways).min(1.0)
}

/// How many of the 2^n sign patterns give a sum at least as extreme as observed, and 2^n.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SignPatterns {
    /// Patterns at least as extreme.
    pub extreme: u64,
    /// All patterns; zero when n was too large to enumerate.
    pub total: u64,
    /// Two-sided p-value.
    pub p: f64,
}

/// Exact sign-flip permutation test of paired differences, for runs interleaved in rounds: under
/// the null hypothesis each round's difference is as likely to have either sign. Enumerated up to
/// 20 rounds, beyond that the normal approximation sum / sqrt(sum of squares). Source: R. A.
/// Fisher, "The Design of Experiments" (1935), 21. `None` without differences or when one is not
/// finite.
pub fn sign_flip(differences: &[f64]) -> Option<SignPatterns> {
    let n = differences.len();
    if n == 0 || differences.iter().any(|d| !d.is_finite()) {
        return None;
    }
    let observed = differences.iter().sum::<f64>().abs();
    if n > FLIP_UP_TO {
        let scale = differences.iter().map(|d| d * d).sum::<f64>().sqrt();
        let p = if scale > 0.0 { normal_two_sided(observed / scale) } else { 1.0 };
        return Some(SignPatterns { extreme: 0, total: 0, p });
    }
    // Sums of the same numbers in another order differ in their last bits.
    let slack = 1e-12 * differences.iter().map(|d| d.abs()).sum::<f64>();
    let total = 1u64 << n;
    let extreme = (0..total)
        .filter(|pattern| {
            let sum: f64 =
                differences.iter().enumerate().map(|(i, d)| if pattern >> i & 1 == 1 { -d } else { *d }).sum();
            sum.abs() >= observed - slack
        })
        .count() as u64;
    Some(SignPatterns { extreme, total, p: extreme as f64 / total as f64 })
}

/// The exact sign test: the two-sided p-value of so many of n values being on one side of a limit,
/// where each is as likely to be on the other. It is 1 where they are no more than half. Source: J.
/// Arbuthnot (1710); W. J. Conover, "Practical Nonparametric Statistics" (1999), 3.4. `None`
/// without values.
pub fn sign_test(on_one_side: usize, n: usize) -> Option<f64> {
    let others = n.checked_sub(on_one_side).filter(|_| n > 0)?;
    Some((2.0 * binomial_cdf(others as i64, n as u64, 0.5)).min(1.0))
}

/// Wilcoxon's signed-rank test, exact by permutation of mid-ranks: the smaller of the two rank
/// sums; zeros are dropped. Source: F. Wilcoxon, Biometrics Bulletin 1 (1945). `None` when nothing
/// is left or n exceeds 50.
pub fn signed_rank(differences: &[f64]) -> Option<TestResult> {
    let kept: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0 && !d.is_nan()).collect();
    if kept.is_empty() || kept.len() > EXACT_UP_TO {
        return None;
    }
    let (ranks, _) = double_ranks(&kept.iter().map(|d| d.abs()).collect::<Vec<_>>());
    let plus: u64 = kept.iter().zip(&ranks).filter(|(d, _)| **d > 0.0).map(|(_, r)| r).sum();
    let all: u64 = ranks.iter().sum();
    let w = plus.min(all - plus);
    let mut ways = vec![0.0; all as usize + 1];
    ways[0] = 1.0;
    for r in ranks {
        for s in (r as usize..ways.len()).rev() {
            ways[s] += ways[s - r as usize];
        }
    }
    let lower: f64 = ways[..=w as usize].iter().sum();
    let p = (2.0 * lower / 2f64.powi(kept.len() as i32)).min(1.0);
    Some(TestResult { statistic: w as f64 / 2.0, p })
}

/// Cliff's delta: P(b > a) - P(b < a) over all pairs, from -1 (every b is smaller) to 1.
/// Source: N. Cliff, Psychological Bulletin 114 (1993).
pub fn cliffs_delta(a: &[f64], b: &[f64]) -> f64 {
    let pairs = (a.len() * b.len()) as f64;
    let sign = |x: &f64, y: &f64| f64::from(i8::from(y > x) - i8::from(y < x));
    a.iter().map(|x| b.iter().map(|y| sign(x, y)).sum::<f64>()).sum::<f64>() / pairs
}

/// Student's t with separate or pooled variances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StudentT {
    /// The statistic, (mean a - mean b) / standard error.
    pub t: f64,
    /// Degrees of freedom.
    pub df: f64,
    /// Two-sided p-value.
    pub p: f64,
    /// Standard error of the difference.
    pub error: f64,
}

/// Welch's test of two means. Source: B. L. Welch, Biometrika 34 (1947). NaN below two values a
/// side.
pub fn welch(a: &[f64], b: &[f64]) -> StudentT {
    let (u, v) = (sample_variance(a) / a.len() as f64, sample_variance(b) / b.len() as f64);
    let df = (u + v).powi(2) / (u * u / (a.len() as f64 - 1.0) + v * v / (b.len() as f64 - 1.0));
    student(mean(a) - mean(b), (u + v).sqrt(), df)
}

/// Student's test with the pooled sample variance (n - 1 each). A side of one value counts only as
/// a value.
pub fn pooled(a: &[f64], b: &[f64]) -> StudentT {
    let squares = |x: &[f64]| if x.len() > 1 { sample_variance(x) * (x.len() as f64 - 1.0) } else { 0.0 };
    let (n, m) = (a.len() as f64, b.len() as f64);
    let df = n + m - 2.0;
    let variance = (squares(a) + squares(b)) / df;
    student(mean(a) - mean(b), (variance * (1.0 / n + 1.0 / m)).sqrt(), df)
}

fn student(difference: f64, error: f64, df: f64) -> StudentT {
    if error == 0.0 {
        let t = if difference == 0.0 { 0.0 } else { difference.signum() * f64::INFINITY };
        return StudentT { t, df, p: if difference == 0.0 { 1.0 } else { 0.0 }, error };
    }
    let t = difference / error;
    StudentT { t, df, p: t_two_sided(t, df), error }
}

/// Ratio of means b / a with Fieller's interval, for samples that are near normal. Source: E. C.
/// Fieller (1954); T. Kalibera and R. Jones (2013). `None` where the interval is unbounded.
pub fn fieller(a: &[f64], b: &[f64], confidence: f64) -> Option<(f64, f64, f64)> {
    let half = |x: &[f64]| {
        let n = x.len() as f64;
        t_quantile(0.5 + confidence / 2.0, n - 1.0) * (sample_variance(x) / n).sqrt()
    };
    let (x, y, hx, hy) = (mean(a), mean(b), half(a), half(b));
    let bottom = x * x - hx * hx;
    let root = (x * y).powi(2) - bottom * (y * y - hy * hy);
    (bottom > 0.0 && root >= 0.0).then(|| (y / x, (x * y - root.sqrt()) / bottom, (x * y + root.sqrt()) / bottom))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every way to divide the values, by enumeration.
    fn brute(a: &[f64], b: &[f64]) -> f64 {
        let all: Vec<f64> = a.iter().chain(b).copied().collect();
        let u = |chosen: &dyn Fn(usize) -> bool| {
            let mut sum = 0.0;
            for i in (0..all.len()).filter(|i| chosen(*i)) {
                for j in (0..all.len()).filter(|j| !chosen(*j)) {
                    sum += if all[i] > all[j] {
                        1.0
                    } else if all[i] == all[j] {
                        0.5
                    } else {
                        0.0
                    };
                }
            }
            sum
        };
        let observed = u(&|i| i < a.len());
        let (mut low, mut high, mut total) = (0.0, 0.0, 0.0);
        for pattern in 0u32..1 << all.len() {
            if pattern.count_ones() as usize == a.len() {
                let here = u(&|i| pattern >> i & 1 == 1);
                total += 1.0;
                low += f64::from(u8::from(here <= observed));
                high += f64::from(u8::from(here >= observed));
            }
        }
        (2.0 * f64::min(low, high) / total).min(1.0)
    }

    proptest! {
        #[test]
        fn exact_with_ties_is_the_enumeration(
            a in prop::collection::vec(0u8..6, 1..6), b in prop::collection::vec(0u8..6, 1..6)
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) =
                (a.into_iter().map(f64::from).collect(), b.into_iter().map(f64::from).collect());
            let test = mann_whitney(&a, &b).unwrap();
            prop_assert!((test.p - brute(&a, &b)).abs() < 1e-12);
            prop_assert_eq!(mann_whitney(&b, &a).unwrap().p, test.p);
        }
    }

    proptest! {
        /// The sign test is the enumeration of all patterns of signs.
        #[test]
        fn the_sign_test_is_the_enumeration(n in 1usize..16, most in 0usize..16) {
            let most = most.min(n);
            let as_many = (0u32..1 << n).filter(|pattern| pattern.count_ones() as usize >= most).count();
            let p = (2.0 * as_many as f64 / f64::from(1u32 << n)).min(1.0);
            prop_assert!((sign_test(most, n).unwrap() - p).abs() < 1e-12);
        }
    }

    /// Also beyond what can be enumerated: P(Bin(30, 1/2) <= 8) is 0.00806.
    #[test]
    fn the_sign_test_is_exact_for_many_rounds() {
        assert!((sign_test(22, 30).unwrap() - 0.016_124_9).abs() < 1e-6, "{:?}", sign_test(22, 30));
        assert!((sign_test(40, 40).unwrap() - 2f64.powi(-39)).abs() < 1e-18, "{:?}", sign_test(40, 40));
        assert_eq!((sign_test(5, 10), sign_test(3, 10), sign_test(0, 0)), (Some(1.0), Some(1.0), None));
    }

    #[test]
    fn infinities_are_ranked() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0], [f64::INFINITY; 4]);
        let test = mann_whitney(&a, &b).unwrap();
        assert!((test.p - 2.0 / 70.0).abs() < 1e-12, "{test:?}");
        assert_eq!(mann_whitney(&b, &b).unwrap().p, 1.0);
        assert_eq!(cliffs_delta(&a, &b), 1.0);
        assert!(mann_whitney(&a, &[]).is_none());
        assert!(sign_flip(&[f64::INFINITY]).is_none());
    }
}
