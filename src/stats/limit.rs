//! "p99.9 is at most 5 ms" with a stated confidence: the early-stopping test of MLPerf.

use super::dist::binomial_cdf;

/// P(at most `over` of `over + under` messages are over the limit) if the share under it were
/// exactly `p`.
fn odds(under: u64, over: u64, p: f64) -> f64 {
    binomial_cdf(over as i64, under + over, 1.0 - p)
}

/// The fewest messages within the limit that prove "at least the share p is within it" at
/// `confidence`, when `over` messages were beyond it: min h with I_p(h, over + 1) <= 1 - c.
///
/// Source: MLPerf Inference rules, appendix "Early stopping", tolerance d = 0; the incomplete beta
/// function is the binomial sum P(Bin(h + t, 1 - p) <= t).
pub fn messages_within(over: u64, p: f64, confidence: f64) -> u64 {
    let enough = |h: u64| odds(h, over, p) <= 1.0 - confidence;
    let mut high = 1u64;
    while !enough(high) {
        high *= 2;
    }
    let mut low = 1;
    while low < high {
        let middle = low + (high - low) / 2;
        if enough(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// The most messages that may exceed the limit among `total` for the claim still to be proved;
/// `None` when `total` is too small to prove it even with none.
pub fn most_over(total: u64, p: f64, confidence: f64) -> Option<u64> {
    let proved = |t: u64| t <= total && odds(total - t, t, p) <= 1.0 - confidence;
    if !proved(0) {
        return None;
    }
    let (mut low, mut high) = (0, total);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if proved(middle) { low = middle } else { high = middle - 1 }
    }
    Some(low)
}

/// Whether `over` of `total` messages beyond the limit prove that the share p keeps it. Both are
/// divided by the over-dispersion phi (total rounded down, over rounded up), because correlated
/// messages prove less (stats.md A3).
pub fn proves(total: u64, over: u64, p: f64, confidence: f64, phi: f64) -> bool {
    let phi = phi.max(1.0);
    let (total, over) = ((total as f64 / phi).floor() as u64, (over as f64 / phi).ceil() as u64);
    // What `most_over` seeks, asked of this number alone.
    over <= total && odds(total - over, over, p) <= 1.0 - confidence
}

/// Whether the same messages prove the contrary: that more than the share 1 - p exceeds the limit.
pub fn refutes(total: u64, over: u64, p: f64, confidence: f64, phi: f64) -> bool {
    let phi = phi.max(1.0);
    let (total, over) = ((total as f64 / phi).ceil() as u64, (over as f64 / phi).floor() as u64);
    // P(at least `over` exceed, if the share 1 - p were exact) is small.
    over > 0 && 1.0 - binomial_cdf(over.min(total) as i64 - 1, total, 1.0 - p) <= 1.0 - confidence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proof_and_refutation_leave_room_between() {
        assert!(proves(10_000, 77, 0.99, 0.99, 1.0) && !proves(10_000, 78, 0.99, 0.99, 1.0));
        assert!(!proves(10_000, 77, 0.99, 0.99, 4.0), "correlated messages prove less");
        assert!(refutes(10_000, 130, 0.99, 0.99, 1.0) && !refutes(10_000, 130, 0.99, 0.99, 10.0));
        assert!(!refutes(10_000, 100, 0.99, 0.99, 1.0) && !proves(10_000, 100, 0.99, 0.99, 1.0));
        assert!(!proves(100, 0, 0.99, 0.99, 1.0) && !refutes(100, 0, 0.99, 0.99, 1.0));
        assert_eq!(most_over(458, 0.99, 0.99), None);
        assert_eq!(most_over(459, 0.99, 0.99), Some(0));
    }
}
