//! A row in one sentence: who, how much, at what, how certain.

use super::model::{ComparisonRow, Effect, Question, Verdict};
use crate::plan::metric::{Metric, Quantity, Unit};
use crate::units::three_digits;

/// A share for people: `5 %`, `12.5 %`.
pub fn percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
}

/// A p-value for people: `p < 0.001`, `p = 0.021`.
pub fn p_value(p: f64) -> String {
    match p {
        p if p < 0.001 => "p < 0.001".into(),
        p if p < 0.1 => format!("p = {p:.3}"),
        p => format!("p = {p:.2}"),
    }
}

fn unit(row: &ComparisonRow) -> Unit {
    row.metric.quantity.unit()
}

/// The words for (worse, better).
fn words(row: &ComparisonRow) -> (&'static str, &'static str) {
    match (&row.metric.quantity, row.lower_is_better) {
        (Quantity::Latency(..) | Quantity::Hiccup(_), _) => ("slower", "faster"),
        (_, true) => ("higher", "lower"),
        (_, false) => ("lower", "higher"),
    }
}

/// A ratio that is at least 1, with its interval: `6.1 times slower`, `4.9 % slower`.
fn size(value: f64, interval: Option<(f64, f64)>, word: &str) -> (String, String) {
    if value >= 2.0 {
        let show = |v: f64| {
            if v.is_infinite() {
                "inf".into()
            } else {
                three_digits(v).trim_end_matches('0').trim_end_matches('.').to_string()
            }
        };
        let text =
            if value.is_infinite() { format!("infinitely {word}") } else { format!("{} times {word}", brief(value)) };
        return (text, interval.map_or_else(String::new, |(l, h)| format!("95 % CI {} to {}", show(l), show(h))));
    }
    let show = |v: f64| format!("{:.1}", (v - 1.0) * 100.0);
    let text = format!("{} % {word}", show(value));
    (text, interval.map_or_else(String::new, |(l, h)| format!("95 % CI {} to {} %", show(l), show(h))))
}

/// Two significant digits from 2 on.
fn brief(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn runs(row: &ComparisonRow, interleaved: bool) -> String {
    format!("{} + {} {}{}", row.a.n, row.b.n, if interleaved { "interleaved " } else { "" }, row.many())
}

/// The change that was seen, as a share of the smaller side.
fn seen(row: &ComparisonRow) -> f64 {
    row.ratio.map_or(0.0, |r| r.value.max(1.0 / r.value) - 1.0)
}

/// How many runs of each side would decide, and what they would find: `about 185 runs each would
/// find a change by 5 %, about 12 one by the 26 % seen`. `None` where more runs are no help.
pub fn needed(row: &ComparisonRow) -> Option<String> {
    if row.verdict == Verdict::NotDecided {
        return more_runs(row);
    }
    let threshold = row
        .runs_needed
        .map(|n| format!("about {n} {} each would find a change by {}", row.many(), percent(row.max_change)));
    let larger = row.runs_needed_seen.map(|n| match threshold {
        Some(_) => format!("about {n} one by the {} seen", percent(seen(row))),
        None => format!("about {n} {} each would find a change by the {} seen", row.many(), percent(seen(row))),
    });
    match (threshold, larger) {
        (Some(x), Some(y)) => Some(format!("{x}, {y}")),
        (x, y) => x.or(y),
    }
}

/// What would decide between two systems: `2 more runs of each would decide, if the difference is
/// the one seen`.
fn more_runs(row: &ComparisonRow) -> Option<String> {
    let have = row.a.n.min(row.b.n) as u64;
    let runs = |n: u64| match n.saturating_sub(have) {
        1 => format!("1 more {}", row.one()),
        more => format!("{more} more {}", row.many()),
    };
    match (row.runs_needed_seen, row.runs_needed) {
        (Some(n), _) => Some(format!("{} of each would decide, if the difference is the one seen", runs(n))),
        (None, Some(n)) => {
            Some(format!("about {} of each would show a difference of {}", runs(n), percent(row.max_change)))
        }
        (None, None) => None,
    }
}

/// The same for a cell: `needs about 185 runs for 5 %, 12 for the 26 % seen`; of systems `2 more
/// runs`.
pub fn needed_brief(row: &ComparisonRow) -> Option<String> {
    if row.verdict == Verdict::NotDecided {
        let needed = row.runs_needed_seen.or(row.runs_needed)?;
        return Some(format!("{} more {}", needed.saturating_sub(row.a.n.min(row.b.n) as u64), row.many()));
    }
    let first = row.runs_needed?;
    let larger =
        row.runs_needed_seen.map_or_else(String::new, |n| format!(", {n} for the {} seen", percent(seen(row))));
    Some(format!("needs about {first} {} for {}{larger}", row.many(), percent(row.max_change)))
}

/// The kind of a latency for people: `e2e` is `delivery time`.
pub fn latency_words(kind: &str) -> String {
    let (base, service) = match kind.strip_suffix(".service") {
        Some(base) => (base, true),
        None => (kind, false),
    };
    let words = match base {
        "e2e" => "delivery time",
        "e2e.same-agent" => "delivery time within an agent",
        "rtt" => "round trip",
        "ack" => "acknowledgement time",
        other => return other.to_owned(),
    };
    if service { format!("{words} from sending") } else { words.to_owned() }
}

/// A metric as the end of a sentence about systems: `the median`, `the 99th percentile`; of another
/// latency than the delivery time with its name.
fn place(metric: &Metric) -> String {
    let Quantity::Latency(kind, _) = &metric.quantity else { return metric.to_string() };
    let point = match metric.quantity.quantile() {
        Some(q) if (q - 0.5).abs() < 1e-9 => "the median".to_string(),
        Some(q) if (q - 0.99).abs() < 1e-9 => "the 99th percentile".to_string(),
        _ => return metric.to_string(),
    };
    let of = if kind == "e2e" { String::new() } else { format!(" of the {}", latency_words(kind)) };
    let workload = metric.workload.as_ref().map_or_else(String::new, |w| format!(" of {w}"));
    format!("{point}{of}{workload}")
}

/// The sentence of a decided row.
pub(super) fn sentence(row: &ComparisonRow, interleaved: bool, question: Question) -> String {
    let (a, b) = (&row.a.label, &row.b.label);
    let at = if question == Question::Systems { place(&row.metric) } else { row.metric.to_string() };
    let context = |interval: String| {
        let p = row.p_adjusted.filter(|_| question == Question::Change).map(p_value);
        [interval, runs(row, interleaved), p.unwrap_or_default()]
            .into_iter()
            .filter(|s| !s.is_empty())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let needed = needed(row).map_or_else(String::new, |text| format!("; {text}"));
    // Clocks are not the systems' doing, nor chance.
    let needed = if row.blurred { format!("; undecided: {}{needed}", row.reason) } else { needed };
    match (row.verdict, row.ratio) {
        (Verdict::Invalid, _) => format!("{a} and {b} cannot be compared at {at}: {}", row.reason),
        // The gate holds a verdict back; what the interval says is said all the same.
        (Verdict::Inconclusive, Some(r)) if r.ci95.is_some_and(|(low, high)| low > 1.0 || high < 1.0) => {
            let (text, interval) = sized(row, r);
            format!(
                "{b} is {text} than {a} at {at} ({}), but the gate decides nothing: {}{needed}",
                context(interval),
                row.reason
            )
        }
        (Verdict::Inconclusive, Some(r)) => format!(
            "Between {a} and {b} neither a difference nor its absence is certain at {at}: {} ({}){needed}",
            tendency(r),
            context(String::new())
        ),
        (Verdict::NotDecided, Some(r)) => format!(
            "Which of {a} and {b} is {} at {at} is not decided: {} ({}){needed}",
            words(row).1,
            tendency(r),
            context(String::new())
        ),
        (Verdict::Inconclusive | Verdict::NotDecided, None) => {
            format!(
                "Whether {a} and {b} differ at {at} is not certain: {} ({}){needed}",
                row.reason,
                context(String::new())
            )
        }
        (Verdict::Equivalent | Verdict::Same, Some(r)) => {
            let interval =
                r.ci90.map_or_else(String::new, |(l, h)| format!("ratio {:.3}, 90 % CI {l:.3} to {h:.3}", r.value));
            let word = if row.verdict == Verdict::Same { "the same" } else { "equivalent" };
            format!("{a} and {b} are {word} at {at}, within {} ({})", percent(row.max_change), context(interval))
        }
        (Verdict::Equivalent | Verdict::Same, None) => {
            let value = row.a.median.map_or_else(|| "-".into(), |v| unit(row).show(v));
            format!("{a} and {b} are the same at {at}: {value} in every run ({})", runs(row, interleaved))
        }
        (_, Some(r)) => {
            let (text, interval) = sized(row, r);
            let beyond = if row.verdict == Verdict::Changed {
                format!(", which is not certainly beyond {}", percent(row.max_change))
            } else {
                String::new()
            };
            format!("{b} is {text} than {a} at {at} ({}){beyond}", context(interval))
        }
        (verdict, None) => {
            let (worse, better) = words(row);
            let word = if matches!(verdict, Verdict::Regressed | Verdict::Slower) { worse } else { better };
            let show = |v: Option<f64>| v.map_or_else(|| "-".into(), |v| unit(row).show(v));
            format!(
                "{b} is {word} than {a} at {at}: median {} against {} ({})",
                show(row.b.median),
                show(row.a.median),
                context(String::new())
            )
        }
    }
}

/// The ratio turned so that it is at least 1, and the word that then fits.
fn sized(row: &ComparisonRow, r: Effect) -> (String, String) {
    let (worse, better) = words(row);
    let above = r.value >= 1.0;
    let word = if above == row.lower_is_better { worse } else { better };
    let latency = matches!(row.metric.quantity, Quantity::Latency(..) | Quantity::Hiccup(_));
    // "9 % lower" is 0.91 of it; "1.1 times faster" is its inverse.
    if !above && !latency {
        let show = |v: f64| format!("{:.1}", (1.0 - v) * 100.0);
        let interval = r.ci95.map_or_else(String::new, |(l, h)| format!("95 % CI {} to {} %", show(h), show(l)));
        return (format!("{} % {word}", show(r.value)), interval);
    }
    let turn = |v: f64| if above { v } else { 1.0 / v };
    let interval = r.ci95.map(|(l, h)| if above { (l, h) } else { (turn(h), turn(l)) });
    size(turn(r.value), interval, word)
}

fn tendency(r: Effect) -> String {
    let interval = r.ci95.map_or_else(String::new, |(l, h)| format!(", 95 % CI {l:.2} to {h:.2}"));
    format!("ratio {:.2}{interval}", r.value)
}
