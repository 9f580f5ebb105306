//! The distributions that the tests refer to. Special functions come from `statrs` and `libm`
//! (whose error function has all digits, where that of `statrs` has ten); only the binomial sum is
//! our own, because continued fractions lose digits at ten million messages.

use statrs::distribution::{ChiSquared, ContinuousCDF, StudentsT};
use statrs::function::erf::erfc_inv;
use statrs::function::gamma::ln_gamma;

/// Upper tail of the standard normal distribution, P(Z > z).
pub fn normal_upper(z: f64) -> f64 {
    0.5 * libm::erfc(z / std::f64::consts::SQRT_2)
}

/// Quantile of the standard normal distribution; one step of Newton's method mends the last digits.
pub fn normal_quantile(p: f64) -> f64 {
    let tail = p.min(1.0 - p);
    let z = std::f64::consts::SQRT_2 * erfc_inv(2.0 * tail);
    let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let step = (normal_upper(z) - tail) / density;
    let z = if step.is_finite() { z + step } else { z };
    if p > 0.5 { z } else { -z }
}

/// Two-sided p-value of a standard normal statistic.
pub fn normal_two_sided(z: f64) -> f64 {
    (2.0 * normal_upper(z.abs())).min(1.0)
}

/// Two-sided p-value of Student's t with `df` degrees of freedom, through the incomplete beta
/// function (Abramowitz and Stegun 26.7.1): I_{df/(df+t^2)}(df/2, 1/2), which is 1 -
/// I_{t^2/(df+t^2)}(1/2, df/2).
pub fn t_two_sided(t: f64, df: f64) -> f64 {
    if t.is_nan() || df.is_nan() || df <= 0.0 {
        return f64::NAN;
    }
    if t.is_infinite() {
        return 0.0;
    }
    // Each from the side on which its argument is small: 1 - x would lose the digits of a small t.
    match t * t < 1.0 {
        true => 1.0 - statrs::function::beta::beta_reg(0.5, 0.5 * df, t * t / (df + t * t)),
        false => statrs::function::beta::beta_reg(0.5 * df, 0.5, df / (df + t * t)),
    }
}

/// Quantile of Student's t: the inverse of the distribution function, refined by Newton's method to
/// machine precision. NaN without degrees of freedom.
pub fn t_quantile(p: f64, df: f64) -> f64 {
    let Ok(t) = StudentsT::new(0.0, 1.0, df) else { return f64::NAN };
    if !(p > 0.0 && p < 1.0) {
        return if p <= 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    if p == 0.5 {
        return 0.0;
    }
    // From the side on which the tail is small, so that no digit is lost in 1 - p.
    let tail = p.min(1.0 - p);
    let mut x = -t.inverse_cdf(tail);
    let density = |x: f64| {
        let ln = ln_gamma(0.5 * (df + 1.0)) - ln_gamma(0.5 * df) - 0.5 * (df * std::f64::consts::PI).ln();
        (ln - 0.5 * (df + 1.0) * (x * x / df).ln_1p()).exp()
    };
    for _ in 0..4 {
        let step = (0.5 * t_two_sided(x, df) - tail) / density(x);
        if step.is_finite() {
            x += step;
        }
    }
    if p > 0.5 { x } else { -x }
}

/// Quantile of the chi-squared distribution with `df` degrees of freedom; NaN without any.
pub fn chi_squared_quantile(p: f64, df: f64) -> f64 {
    ChiSquared::new(df).map_or(f64::NAN, |d| d.inverse_cdf(p))
}

/// ln Gamma(x + 1) - [x ln x - x + ln(2 pi x) / 2]: what Stirling's formula leaves out (Loader
/// 2000, `stirlerr`).
fn stirling_rest(x: f64) -> f64 {
    if x < 16.0 {
        return ln_gamma(x + 1.0) - (x * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI * x).ln());
    }
    let y = x * x;
    (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - (1.0 / 1680.0 - 1.0 / (1188.0 * y)) / y) / y) / y) / x
}

/// x ln(x / m) + m - x without cancellation (Loader 2000, `bd0`).
fn deviance(x: f64, m: f64) -> f64 {
    if (x - m).abs() < 0.1 * (x + m) {
        let v = (x - m) / (x + m);
        let mut s = (x - m) * v;
        let mut term = 2.0 * x * v;
        for j in 1..1000 {
            term *= v * v;
            let next = s + term / f64::from(2 * j + 1);
            if next == s {
                return s;
            }
            s = next;
        }
        return s;
    }
    x * (x / m).ln() + m - x
}

/// P(X = k) of a binomial distribution, by the saddle-point expansion of C. Loader, "Fast and
/// Accurate Computation of Binomial Probabilities" (2000): full precision at any n.
fn binomial_at(k: u64, n: u64, p: f64) -> f64 {
    let (x, m) = (k as f64, n as f64);
    if p <= 0.0 {
        return f64::from(u8::from(k == 0));
    }
    if p >= 1.0 {
        return f64::from(u8::from(k == n));
    }
    if k == 0 {
        return (m * (-p).ln_1p()).exp();
    }
    if k == n {
        return (m * p.ln()).exp();
    }
    let ln = stirling_rest(m)
        - stirling_rest(x)
        - stirling_rest(m - x)
        - deviance(x, m * p)
        - deviance(m - x, m * (1.0 - p));
    ln.exp() * (m / (2.0 * std::f64::consts::PI * x * (m - x))).sqrt()
}

/// P(X <= k) for X ~ Bin(n, p): the sum from the term nearest to the mode outwards, on whichever
/// side is the tail.
pub fn binomial_cdf(k: i64, n: u64, p: f64) -> f64 {
    if k < 0 {
        return 0.0;
    }
    let k = k as u64;
    if k >= n || p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    let odds = p / (1.0 - p);
    if (k as f64) < n as f64 * p {
        let (mut term, mut sum) = (binomial_at(k, n, p), 0.0);
        let mut i = k;
        loop {
            sum += term;
            if i == 0 || term < sum * 1e-17 {
                return sum.min(1.0);
            }
            term *= i as f64 / ((n - i + 1) as f64 * odds);
            i -= 1;
        }
    }
    let mut i = k + 1;
    let (mut term, mut sum) = (binomial_at(i, n, p), 0.0);
    loop {
        sum += term;
        if i == n || term < sum * 1e-17 {
            return (1.0 - sum).max(0.0);
        }
        term *= (n - i) as f64 * odds / (i + 1) as f64;
        i += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        assert!((normal_quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-12);
        assert!((t_quantile(0.975, 9.0) - 2.262_157_162_798_205).abs() < 1e-13);
        // Two degrees of freedom have a closed form: (2p - 1) / sqrt(2 p (1 - p)).
        assert!((t_quantile(0.025, 2.0) + 0.95 / (2.0f64 * 0.975 * 0.025).sqrt()).abs() < 1e-13);
        assert!((chi_squared_quantile(0.975, 99.0) - 128.422).abs() < 1e-3);
        assert!((binomial_cdf(3, 10, 0.5) - 0.171_875).abs() < 1e-14);
        assert_eq!(binomial_cdf(-1, 10, 0.5), 0.0);
        assert_eq!(binomial_cdf(10, 10, 0.5), 1.0);
    }

    proptest! {
        #[test]
        fn the_binomial_sums_agree_with_the_plain_sum(n in 1u64..60, k in 0i64..60, p in 0.01f64..0.99) {
            let mut term = (1.0 - p).powi(n as i32);
            let mut sum = 0.0;
            for i in 0..=(k as u64).min(n) {
                sum += term;
                term *= (n - i) as f64 / (i + 1) as f64 * p / (1.0 - p);
            }
            prop_assert!((binomial_cdf(k, n, p) - sum).abs() < 1e-12);
        }
        #[test]
        fn quantiles_invert(p in 0.001f64..0.999, df in 1.0f64..300.0) {
            let t = t_quantile(p, df);
            let upper = 0.5 * t_two_sided(t, df);
            let back = if t > 0.0 { 1.0 - upper } else { upper };
            prop_assert!((back - p).abs() < 1e-11, "{} {}", back, p);
        }
    }
}
