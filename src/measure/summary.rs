//! From a histogram to the figures of the record.

use hdrhistogram::Histogram;

use crate::record::{LatencySummary, Percentile};

/// A percentile is shown only where at least so many samples are expected above it (stats.md A2).
pub const PRINTABLE: f64 = 10.0;

/// Summarises a distribution in which `lost` further samples are +infinity.
pub fn summarise(h: &Histogram<u64>, lost: u64, clipped: u64, negative: u64, quantiles: &[f64]) -> LatencySummary {
    let (count, n) = (h.len(), h.len() + lost);
    let percentiles = quantiles
        .iter()
        .map(|&quantile| {
            let exceedances = n as f64 * (1.0 - quantile);
            // Nearest rank among all n, the lost ones last.
            let rank = ((quantile * n as f64).ceil() as u64).clamp(1, n.max(1));
            let value_ns = (count > 0 && rank <= count).then(|| at_rank(h, rank));
            Percentile {
                quantile,
                value_ns,
                exceedances,
                printable: n > 0 && exceedances >= PRINTABLE - 1e-9,
                ..Percentile::default()
            }
        })
        .collect();
    LatencySummary {
        count,
        lost,
        clipped,
        negative,
        min_ns: if count > 0 { h.min() } else { 0 },
        max_ns: (lost == 0 && count > 0).then(|| h.max()),
        mean_ns: if count > 0 { h.mean() } else { 0.0 },
        percentiles,
        curve: curve(h, n),
        clocks: None,
    }
}

fn at_rank(h: &Histogram<u64>, rank: u64) -> u64 {
    // Half a sample below the rank keeps the rounding inside hdrhistogram from stepping over it.
    h.value_at_quantile(((rank as f64 - 0.5) / h.len() as f64).clamp(0.0, 1.0)).min(h.max())
}

/// Eight points for each halving of what is left above, up to the last sample that arrived.
fn curve(h: &Histogram<u64>, n: u64) -> Vec<(f64, u64)> {
    let mut points = Vec::new();
    for step in 0..8 * 64 {
        let quantile = 1.0 - 0.5f64.powf(f64::from(step) / 8.0);
        let rank = ((quantile * n as f64).ceil() as u64).max(1);
        if rank > h.len() {
            break;
        }
        points.push((quantile, at_rank(h, rank)));
        if rank >= n {
            break;
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::recorder::histogram;
    use proptest::prelude::*;

    #[test]
    fn lost_messages_are_infinite_not_absent() {
        let mut h = histogram();
        h.record_n(1_000, 997).unwrap();
        let s = summarise(&h, 3, 0, 0, &[0.5, 0.99, 0.997, 0.999]);
        let values: Vec<_> = s.percentiles.iter().map(|p| p.value_ns.map(|v| v / 100)).collect();
        assert_eq!(values, [Some(10), Some(10), Some(10), None]);
        assert_eq!(s.max_ns, None);
        assert_eq!(s.percentiles.iter().map(|p| p.printable).collect::<Vec<_>>(), [true, true, false, false]);
    }

    #[test]
    fn an_empty_distribution_has_no_values() {
        let s = summarise(&histogram(), 0, 0, 0, &[0.5]);
        assert_eq!((s.percentiles[0].value_ns, s.percentiles[0].printable, s.curve.len()), (None, false, 0));
    }

    proptest! {
        #[test]
        fn quantiles_agree_with_sorting(mut values in prop::collection::vec(1u64..10_000_000, 1..400), q in 0.01f64..0.999) {
            let mut h = histogram();
            values.iter().for_each(|v| h.record(*v).unwrap());
            values.sort_unstable();
            let truth = values[((q * values.len() as f64).ceil() as usize - 1).min(values.len() - 1)];
            let got = summarise(&h, 0, 0, 0, &[q]).percentiles[0].value_ns.unwrap();
            prop_assert!(h.equivalent(got, truth), "{} {}", got, truth);
        }
    }
}
