//! What the figures of a row say: the verdict of a gate, and that of two systems side by side.

use super::model::{ComparisonRow, Verdict};
use super::sentence;
use crate::plan::gate::Gate;
use crate::stats::{decide, ranks};

/// Systems are compared by their 95 % intervals.
pub(super) const SIDE_BY_SIDE: f64 = 0.05;

/// An interval in the direction in which more is worse.
fn worse(row: &ComparisonRow, interval: (f64, f64)) -> (f64, f64) {
    if row.lower_is_better { interval } else { (1.0 / interval.1, 1.0 / interval.0) }
}

/// What the interval says of two systems, whatever a gate would ask for.
pub(super) fn side_by_side(row: &ComparisonRow) -> (Verdict, String) {
    if row.a.values.iter().chain(&row.b.values).all(|v| *v == 0.0) {
        return (Verdict::Same, "0 in every run".into());
    }
    let Some(ratio) = row.ratio else {
        let (verdict, reason) = by_difference(row, row.p_raw.is_some_and(|p| p < SIDE_BY_SIDE));
        let verdict = match verdict {
            Verdict::Regressed => Verdict::Slower,
            Verdict::Improved => Verdict::Faster,
            Verdict::Equivalent => Verdict::Same,
            _ => Verdict::NotDecided,
        };
        return (verdict, reason);
    };
    let (Some(ci95), Some(ci90)) = (ratio.ci95, ratio.ci90) else {
        return (Verdict::NotDecided, format!("{} + {} {} are too few for an interval", row.a.n, row.b.n, row.many()));
    };
    match worse(row, ci95) {
        // A difference that is certain and too small to matter is none.
        _ if decide::equivalent(ci90, row.max_change) => {
            (Verdict::Same, format!("the 90 % interval lies within {}", sentence::percent(row.max_change)))
        }
        (low, _) if low > 1.0 => (Verdict::Slower, "the interval leaves no other answer".into()),
        (_, high) if high < 1.0 => (Verdict::Faster, "the interval leaves no other answer".into()),
        _ => (Verdict::NotDecided, "the interval holds both answers".into()),
    }
}

/// What a gate says of a row.
pub(super) fn by_figures(
    row: &ComparisonRow,
    gate: &Gate,
    alpha: f64,
    family: usize,
    undecidable: Option<String>,
) -> (Verdict, String) {
    let (n, m) = (row.a.n, row.b.n);
    if row.a.values.iter().chain(&row.b.values).all(|v| *v == 0.0) {
        return (Verdict::Equivalent, "0 in every run".into());
    }
    if let Some(reason) = undecidable {
        return (Verdict::Inconclusive, reason);
    }
    if n.min(m) < gate.min_runs as usize {
        return (
            Verdict::Inconclusive,
            format!("{n} + {m} {} are fewer than the {} that a verdict needs", row.many(), gate.min_runs),
        );
    }
    let significant = row.p_adjusted.is_some_and(|p| p < alpha);
    let Some(ratio) = row.ratio else { return by_difference(row, significant) };
    let (Some(ci95), Some(ci90)) = (ratio.ci95, ratio.ci90) else {
        return (Verdict::Inconclusive, format!("{n} + {m} {} are too few for an interval", row.many()));
    };
    let limit = 1.0 + row.max_change;
    let (low, high) = worse(row, ci95);
    let estimate = worse(row, (ratio.value, ratio.value)).0;
    let threshold = sentence::percent(row.max_change);
    if significant && low > 1.0 && estimate > limit && (!gate.strict || low > limit) {
        return (Verdict::Regressed, format!("the change exceeds {threshold} and is certain"));
    }
    if significant && high < 1.0 && estimate < 1.0 / limit && (!gate.strict || high < 1.0 / limit) {
        return (Verdict::Improved, format!("the change exceeds {threshold} and is certain"));
    }
    if decide::equivalent(ci90, row.max_change) {
        return (Verdict::Equivalent, format!("the 90 % interval lies within {threshold}"));
    }
    if significant && (low > 1.0 || high < 1.0) {
        return (Verdict::Changed, format!("a change is certain, but not that it exceeds {threshold}"));
    }
    if significant {
        let reason = "the test finds a change, and the 95 % interval of the ratio does not exclude that there is none";
        return (Verdict::Inconclusive, reason.into());
    }
    let tests = if row.primary { family } else { 1 };
    if ranks::smallest_p(n, m) * tests as f64 >= alpha {
        let reason = format!(
            "with {n} + {m} {} no difference, however large, could be certain at alpha {alpha:.3} over {tests} tests",
            row.many()
        );
        return (Verdict::Inconclusive, reason);
    }
    if low > 1.0 || high < 1.0 {
        let p = row.p_adjusted.map_or_else(String::new, |p| format!(" ({})", sentence::p_value(p)));
        return (
            Verdict::Inconclusive,
            format!("corrected for {tests} tests it is not certain at alpha {alpha:.3}{p}"),
        );
    }
    (Verdict::Inconclusive, format!("neither a change nor its absence within {threshold} is certain"))
}

/// Where a value is zero there is no ratio: only whether the counts differ.
fn by_difference(row: &ComparisonRow, significant: bool) -> (Verdict, String) {
    let same = row.a.values.iter().chain(&row.b.values).all(|v| *v == row.a.values[0]);
    if same {
        return (Verdict::Equivalent, "the same in every run".into());
    }
    let sign = row.shift.map_or(0.0, |s| s.value);
    // Counts that are mostly zero have a median difference of zero: then the ranks say which way.
    let direction = if sign != 0.0 { sign } else { row.cliffs_delta.unwrap_or(0.0) };
    // An interval that holds both signs, or nothing but zero, does not say which way.
    let open = row
        .shift
        .and_then(|s| s.ci95)
        .is_some_and(|(low, high)| (low < 0.0 && high > 0.0) || low == 0.0 && high == 0.0);
    match (significant && !open, (direction > 0.0) == row.lower_is_better) {
        (false, _) => (Verdict::Inconclusive, "the counts differ, but not beyond chance".into()),
        (true, true) => (Verdict::Regressed, "the counts differ beyond chance".into()),
        (true, false) => (Verdict::Improved, "the counts differ beyond chance".into()),
    }
}
