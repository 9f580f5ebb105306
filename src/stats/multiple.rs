//! Many tests at once: without a correction 72 tests at 5 % raise a false alarm with probability
//! 0.975.

fn order(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    order
}

/// Holm's step-down adjustment: controls the probability of any false alarm, under any dependence.
/// Source: S. Holm, Scandinavian Journal of Statistics 6 (1979). adj_(i) = max_{k<=i} min(1,
/// (m-k+1) p_(k)).
pub fn holm(p: &[f64]) -> Vec<f64> {
    let m = p.len();
    let mut adjusted = vec![0.0; m];
    let mut highest = 0.0f64;
    for (rank, i) in order(p).into_iter().enumerate() {
        highest = highest.max(((m - rank) as f64 * p[i]).min(1.0));
        adjusted[i] = highest;
    }
    adjusted
}

/// Benjamini and Hochberg's step-up adjustment: controls the expected share of false alarms among
/// the alarms. Source: J. R. Statist. Soc. B 57 (1995). adj_(i) = min_{k>=i} min(1, m p_(k) / k).
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    step_up(p, 1.0)
}

/// Benjamini and Yekutieli's adjustment, which holds under any dependence: as above times sum 1/k.
/// Source: Annals of Statistics 29 (2001).
pub fn benjamini_yekutieli(p: &[f64]) -> Vec<f64> {
    step_up(p, (1..=p.len()).map(|k| 1.0 / k as f64).sum())
}

fn step_up(p: &[f64], factor: f64) -> Vec<f64> {
    let m = p.len();
    let mut adjusted = vec![0.0; m];
    let mut lowest = 1.0f64;
    for (rank, i) in order(p).into_iter().enumerate().rev() {
        lowest = lowest.min(factor * m as f64 * p[i] / (rank + 1) as f64);
        adjusted[i] = lowest;
    }
    adjusted
}

/// Bonferroni's adjustment, for comparison: min(1, m p).
pub fn bonferroni(p: &[f64]) -> Vec<f64> {
    p.iter().map(|v| (v * p.len() as f64).min(1.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn corrections_are_ordered(p in prop::collection::vec(0.0f64..1.0, 1..30)) {
            let (h, b, f) = (holm(&p), benjamini_hochberg(&p), bonferroni(&p));
            for i in 0..p.len() {
                prop_assert!(p[i] <= b[i] + 1e-15 && b[i] <= h[i] + 1e-15 && h[i] <= f[i] + 1e-15);
            }
        }
    }
}
