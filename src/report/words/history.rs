//! What a history says: one system over time, in sentences, the gravest first.

use crate::compare::history::{ChangeState, LevelChange, MetricSeries, is_latest, stands};
use crate::plan::metric::{Quantity, Unit};
use crate::units::{plural, three_digits, time_words};

/// One thing that a history says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryFinding {
    /// `REGRESSED`, `NOT JUDGED`, `SUSPECT`, `IMPROVED`, `NEW SERIES`, `TREND`, `STEADY`, or
    /// `earlier` and `note`.
    pub word: &'static str,
    /// A sentence without its end.
    pub text: String,
}

/// `+18.8 %`.
pub fn percent(share: f64) -> String {
    format!("{:+.1} %", share * 100.0)
}

/// The verdict in one sentence; `None` where there is no result.
pub fn headline(list: &[MetricSeries]) -> Option<HistoryFinding> {
    let all = findings(list);
    let first = all.first()?;
    let alike: Vec<&HistoryFinding> = all.iter().filter(|f| f.word == first.word).collect();
    let more = alike.len() as u64 - 1;
    let text = match first.word {
        "STEADY" if more > 0 => {
            let results = list.iter().map(|s| s.values.len()).max().unwrap_or(0);
            format!("all {} are steady over up to {results} results", plural(alike.len() as u64, "metric"))
        }
        _ if more > 0 => format!("{}; {} alike", first.text, plural(more, "more finding")),
        _ => first.text.clone(),
    };
    Some(HistoryFinding { word: first.word, text })
}

/// All sentences, the gravest first.
pub fn findings(list: &[MetricSeries]) -> Vec<HistoryFinding> {
    let mut found: Vec<(u8, HistoryFinding)> = Vec::new();
    let mut add = |rank: u8, word: &'static str, text: String| found.push((rank, HistoryFinding { word, text }));
    for text in unjudged(list) {
        add(1, "NOT JUDGED", text);
    }
    let mut opened: Vec<String> = Vec::new();
    for s in list {
        let name = name(list, s);
        let known = stands(list, s);
        for (i, c) in s.changes.iter().enumerate() {
            let text = format!("{name} {}", change(s, c));
            match c.state {
                _ if !known || i + 1 < s.changes.len() => add(7, "earlier", text),
                ChangeState::Suspect => {
                    add(2, "SUSPECT", format!("{text}; fewer than three results stand behind it"));
                }
                ChangeState::Confirmed if c.worse => add(0, "REGRESSED", text),
                ChangeState::Confirmed => add(3, "IMPROVED", text),
            }
        }
        if let Some(what) = s.opened.as_ref().filter(|_| s.unjudged.is_none()) {
            let begin = s.at.first().map_or_else(String::new, |at| format!(" on {}", day(at)));
            let text = format!("{}: a new series began{begin}, because {what}", s.case);
            if !opened.contains(&text) {
                add(4, "NEW SERIES", format!("{text}; results from before it are not compared"));
                opened.push(text);
            }
        }
        match s.trend {
            Some(t) => add(5, "TREND", format!("{name} drifts by {:+.1} % with each result", t * 100.0)),
            None if is_latest(list, s) && s.changes.is_empty() && s.unjudged.is_none() && s.note.is_none() => {
                add(6, "STEADY", format!("{name} is steady over {} ({})", results(s), last(s)));
            }
            None => {}
        }
        if let Some(note) = s.note.as_ref().filter(|_| s.values.len() > 9) {
            add(8, "note", format!("{name}: {note}"));
        }
    }
    found.sort_by_key(|f| f.0);
    found.into_iter().map(|f| f.1).collect()
}

fn results(s: &MetricSeries) -> String {
    plural(s.values.len() as u64, "result")
}

fn last(s: &MetricSeries) -> String {
    let at = s.values.last().map_or_else(|| "-".into(), |v| value(s, *v));
    match s.intervals.last() {
        Some(Some((low, high))) => format!("{at}, the searches from {} to {}", value(s, *low), value(s, *high)),
        _ => at,
    }
}

/// `nats e2e.p99`, with the scenario where there are several.
fn name(list: &[MetricSeries], s: &MetricSeries) -> String {
    let several = list.iter().any(|o| o.scenario != s.scenario);
    let scenario = if several { format!("{}: ", s.scenario) } else { String::new() };
    format!("{scenario}{} {}", s.case, s.metric)
}

/// What nothing judges: once for each reason, with the metrics that it holds for, and what the
/// first of them was before.
fn unjudged(list: &[MetricSeries]) -> Vec<String> {
    let mut silent: Vec<(String, Vec<&MetricSeries>)> = Vec::new();
    for s in list {
        let Some(why) = &s.unjudged else { continue };
        let key = format!("{} {}: {why}", s.scenario, s.case);
        match silent.iter_mut().find(|(k, _)| *k == key) {
            Some((_, of)) => of.push(s),
            None => silent.push((key, vec![s])),
        }
    }
    let words = |(why, of): (String, Vec<&MetricSeries>)| {
        let metrics: Vec<String> = of.iter().map(|s| s.metric.to_string()).collect();
        let before = of.iter().find_map(|s| Some(format!(". {}", beside(list, s)?))).unwrap_or_default();
        format!("{why} ({}){before}", metrics.join(", "))
    };
    silent.into_iter().map(words).collect()
}

/// `e2e.p99 was 1 ms before and is 1.5 ms since: nothing compares them`.
fn beside(list: &[MetricSeries], s: &MetricSeries) -> Option<String> {
    s.opened.as_ref()?;
    let same = |o: &&MetricSeries| {
        (&o.scenario, &o.case, &o.metric) == (&s.scenario, &s.case, &s.metric)
            && o.series != s.series
            && o.at.first() < s.at.first()
    };
    let before = list.iter().filter(same).max_by(|a, b| a.at.last().cmp(&b.at.last()))?;
    let middle = |s: &MetricSeries| crate::stats::median(&s.values).map(|v| value(s, v));
    let (was, is) = (middle(before)?, middle(s)?);
    Some(format!("{} was {was} before and is {is} since, and nothing compares them", s.metric))
}

/// `is 5.5 times slower (103 to 562 µs) since c16 (2026-11-13)`.
fn change(s: &MetricSeries, c: &LevelChange) -> String {
    let (more, less) = match s.metric.quantity {
        Quantity::Latency(..) => ("slower", "faster"),
        Quantity::Hiccup(_) => ("longer", "shorter"),
        _ => ("higher", "lower"),
    };
    let ratio = 1.0 + c.change;
    let word = if ratio >= 1.0 { more } else { less };
    let times = if ratio >= 1.0 { ratio } else { 1.0 / ratio };
    let size = match times {
        t if t >= 2.0 && t.is_finite() && word != "lower" => format!("{} times", three_digits(t)),
        _ => format!("{:.1} %", c.change.abs() * 100.0),
    };
    format!("is {size} {word} ({}) since {}", range(s, c.before, c.after), since(c))
}

/// `c16 (2026-11-13)`.
pub fn since(c: &LevelChange) -> String {
    c.commit.as_ref().map_or_else(|| day(&c.at), |commit| format!("{commit} ({})", day(&c.at)))
}

/// `103 to 562 µs`: the unit once where it is the same.
fn range(s: &MetricSeries, before: f64, after: f64) -> String {
    let (from, to) = (value(s, before), value(s, after));
    match (from.rsplit_once(' '), to.rsplit_once(' ')) {
        (Some((number, unit)), Some((_, same))) if unit == same => format!("{number} to {to}"),
        _ => format!("{from} to {to}"),
    }
}

/// A value of a metric in a sentence.
fn value(s: &MetricSeries, v: f64) -> String {
    match s.metric.quantity.unit() {
        Unit::Nanos if v.is_finite() => time_words(v.max(0.0).round() as u64),
        unit => unit.show(v),
    }
}

/// `2026-11-13`, and the time where it is not midnight.
pub fn day(at: &str) -> String {
    match at.split_once('T') {
        Some((day, time)) if !time.starts_with("00:00") => format!("{day} {}", time.get(..5).unwrap_or(time)),
        Some((day, _)) => day.to_owned(),
        None => at.to_owned(),
    }
}
