//! What clocks leave open: a time from one agent to another has the error of two clocks, which is
//! the same in all messages of a trial, and of unknown sign. No number of runs makes it smaller, so
//! it is added to intervals, and a difference below it is not decided.

use super::model::{ComparisonRow, Effect, SideSample, Verdict};
use crate::units::time_words;

/// Ratio and difference with the clocks of both sides in their intervals: `a` and `b` are true up
/// to their bounds.
pub(super) fn blurred(
    (ratio, shift): (Option<Effect>, Option<Effect>),
    a: &SideSample,
    b: &SideSample,
) -> (Option<Effect>, Option<Effect>) {
    if a.clocks_ns.is_none() && b.clocks_ns.is_none() {
        return (ratio, shift);
    }
    let share = |side: &SideSample| {
        let (bound, median) = (side.clocks_ns.unwrap_or(0.0), side.median.unwrap_or(f64::INFINITY));
        if median.is_infinite() && bound.is_finite() { 0.0 } else { bound / median.max(1.0) }
    };
    let (of_a, of_b) = (share(a), share(b));
    let both = a.clocks_ns.unwrap_or(0.0) + b.clocks_ns.unwrap_or(0.0);
    let times = |(low, high): (f64, f64)| {
        let least = low * (1.0 - of_b).max(0.0) / (1.0 + of_a);
        let most = if of_a < 1.0 { high * (1.0 + of_b) / (1.0 - of_a) } else { f64::INFINITY };
        (if least.is_nan() { 0.0 } else { least }, most)
    };
    let plus = |(low, high): (f64, f64)| (low - both, high + both);
    let each = |e: Effect, of: &dyn Fn((f64, f64)) -> (f64, f64)| Effect {
        value: e.value,
        ci95: e.ci95.map(of),
        ci90: e.ci90.map(of),
    };
    (ratio.map(|e| each(e, &times)), shift.map(|e| each(e, &plus)))
}

/// Why a row is open that would be decided if clocks were known, or whose difference they hide.
pub(super) struct ClockBlur {
    pub words: String,
    /// Whether more runs are no help.
    pub for_good: bool,
}

/// What of a row that decides nothing is the clocks' doing; `sharp` are its ratio and difference if
/// they were known, and `judged` gives its verdict.
pub(super) fn blur(
    row: &ComparisonRow,
    sharp: (Option<Effect>, Option<Effect>),
    judged: &dyn Fn(&ComparisonRow) -> (Verdict, String),
) -> Option<ClockBlur> {
    let bounds = [&row.a, &row.b].map(|side| side.clocks_ns);
    bounds.iter().flatten().next()?;
    let both = bounds.iter().flatten().sum::<f64>();
    let below = sharp.1.is_none_or(|shift| shift.value.abs() <= both);
    let known = ComparisonRow { ratio: sharp.0, shift: sharp.1, ..row.clone() };
    let decided = !judged(&known).0.open();
    if !below && !decided {
        return None;
    }
    let shown = |bound: Option<f64>| match bound {
        None => "none".to_owned(),
        Some(bound) if bound.is_finite() => format!("+/- {}", time_words(bound as u64)),
        Some(_) => "unknown".to_owned(),
    };
    let of =
        format!("the clocks' bound ({} of {}, {} of {})", shown(bounds[0]), row.a.label, shown(bounds[1]), row.b.label);
    let words = match below {
        true => format!("{of} is not below the difference, and more runs do not make it smaller"),
        false => format!("{of} leaves it open"),
    };
    Some(ClockBlur { words, for_good: below })
}
