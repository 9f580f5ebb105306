//! From estimates to decisions: equivalence, power, the number of runs, and how often one may look.

use super::dist::{normal_quantile, normal_upper};

/// Whether a 90 % interval of a ratio lies within 1/(1+delta) and 1+delta: two one-sided tests at 5
/// %. Source: D. J. Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15 (1987).
pub fn equivalent(interval90: (f64, f64), delta: f64) -> bool {
    interval90.0 > 1.0 / (1.0 + delta) && interval90.1 < 1.0 + delta
}

/// The efficiency of the Mann-Whitney test relative to the t test for normal data, 3/pi.
/// Source: J. L. Hodges and E. L. Lehmann (1956).
pub const EFFICIENCY: f64 = 3.0 / std::f64::consts::PI;

/// Probability that a true change by the factor 1 + change is found significant at `alpha` with n
/// runs a side whose logarithms have the standard deviation `cv`: Phi(ln(1+change)/cv sqrt(n 0.955
/// / 2) - z_{1-alpha/2}). Source: the normal approximation of stats.md A6 solved for the power.
pub fn power(change: f64, cv: f64, n: f64, alpha: f64) -> f64 {
    if cv <= 0.0 {
        return if change == 0.0 { alpha } else { 1.0 };
    }
    let effect = (1.0 + change).ln().abs() / cv * (n * EFFICIENCY / 2.0).sqrt();
    let z = normal_quantile(1.0 - alpha / 2.0);
    normal_upper(z - effect) + normal_upper(z + effect)
}

/// Runs a side for which a change by 1 + change is found with probability `power` at `alpha`: 2
/// (z_{1-alpha/2} + z_power)^2 (cv / ln(1+change))^2 / 0.955, at least the number with which
/// `alpha` can be reached. Source: stats.md A6, planning formula. `None` when no change is asked
/// for.
pub fn runs_needed(change: f64, cv: f64, alpha: f64, power: f64) -> Option<u64> {
    let effect = (1.0 + change).ln().abs();
    if !(effect > 0.0 && cv.is_finite() && alpha > 0.0) {
        return None;
    }
    let z = normal_quantile(1.0 - alpha / 2.0) + normal_quantile(power);
    let n = (2.0 * z * z * (cv / effect).powi(2) / EFFICIENCY).ceil().min(1e6) as u64;
    let floor = (2..200).find(|n| super::ranks::smallest_p(*n, *n) < alpha).unwrap_or(200);
    Some(n.max(floor as u64))
}

/// The level at which each of two looks, the second after twice as many runs, may reject so that
/// both together err with probability `alpha`. Source: S. J. Pocock, Biometrika 64 (1977): 0.0294
/// for 0.05.
pub fn two_looks(alpha: f64) -> f64 {
    if !(alpha > 0.0 && alpha < 1.0) {
        return alpha;
    }
    // P(|Z1| <= c, |Z2| <= c) with Z2 = (Z1 + W) / sqrt 2, by Simpson's rule over Z1.
    let inside = |c: f64| {
        const STEPS: u32 = 400;
        let h = 2.0 * c / f64::from(STEPS);
        let at = |z: f64| {
            let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let root = std::f64::consts::SQRT_2;
            density * (normal_upper(-c * root - z) - normal_upper(c * root - z))
        };
        let sum: f64 = (0..=STEPS)
            .map(|i| {
                let weight = if i == 0 || i == STEPS {
                    1.0
                } else if i % 2 == 1 {
                    4.0
                } else {
                    2.0
                };
                weight * at(-c + f64::from(i) * h)
            })
            .sum();
        sum * h / 3.0
    };
    let (mut low, mut high) = (0.0, 10.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if 1.0 - inside(middle) > alpha { low = middle } else { high = middle }
    }
    2.0 * normal_upper(0.5 * (low + high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_looks_share_the_level() {
        assert!((two_looks(0.05) - 0.0294).abs() < 5e-5, "{}", two_looks(0.05));
        // Pocock's critical value for two looks at 1 % is 2.772.
        assert!((two_looks(0.01) - 2.0 * normal_upper(2.772)).abs() < 5e-5, "{}", two_looks(0.01));
    }

    /// The simulated table of stats.md A6 (4000 repetitions: an error of about 0.02), where it is
    /// neither 0 nor 1.
    #[test]
    fn power_agrees_with_the_simulations() {
        for (cv, n, change, simulated) in [
            (0.03, 10.0, 0.05, 0.90),
            (0.05, 10.0, 0.05, 0.49),
            (0.10, 20.0, 0.10, 0.82),
            (0.05, 20.0, 0.05, 0.83),
            (0.10, 10.0, 0.10, 0.48),
        ] {
            let found = power(change, cv, n, 0.05);
            assert!((found - simulated).abs() < 0.08, "cv {cv}, n {n}: {found} for {simulated}");
        }
        let n = runs_needed(0.05, 0.05, 0.05, 0.8).unwrap();
        assert!(power(0.05, 0.05, n as f64, 0.05) >= 0.8 && power(0.05, 0.05, n as f64 - 1.0, 0.05) < 0.8);
        assert_eq!(runs_needed(0.05, 0.0, 0.01, 0.8), Some(5), "4 + 4 runs cannot reach 0.01");
        assert_eq!(runs_needed(0.0, 0.05, 0.01, 0.8), None);
    }

    #[test]
    fn equivalence_is_symmetric_in_the_logarithm() {
        assert!(equivalent((0.99, 1.0125), 0.03) && !equivalent((0.99, 1.031), 0.03) && !equivalent((0.97, 1.0), 0.03));
    }
}
