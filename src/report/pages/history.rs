//! History as text, and as charts.

use maud::{Markup, html};

use super::page;
use super::text::{TextStyle, paint, render, stacked, word_code, wrapped};
use crate::compare::history::MetricSeries;
use crate::report::charts::{figures, history::charts};
use crate::report::words::history::{self as words, HistoryFinding, percent};
use crate::report::words::view::{CellGrade, TextTable};
use crate::units::plural;

/// One line for each metric of each series.
fn table(list: &[MetricSeries]) -> TextTable {
    let heads = ["case (series)", "metric", ">results", ">first", ">last", "level", "since", ">p"];
    let mut table = TextTable::new("History", &heads);
    for s in list {
        let unit = s.metric.quantity.unit();
        let show = |v: Option<&f64>| v.map_or_else(|| "-".into(), |v| unit.show(*v));
        let level = match (s.changes.last(), s.trend) {
            _ if s.unjudged.is_some() => "NOT JUDGED".into(),
            (Some(c), _) => format!("{} {}", if c.worse { "▲" } else { "▼" }, percent(c.change)),
            (None, Some(t)) => format!("drifts {} a result", percent(t)),
            (None, None) if s.note.is_some() => "not judged".into(),
            (None, None) => "steady".into(),
        };
        table.rows.push(vec![
            format!("{} {} ({})", s.scenario, s.case, s.series.get(..6).unwrap_or(&s.series)),
            s.metric.to_string(),
            s.values.len().to_string(),
            show(s.values.first()),
            match s.intervals.last() {
                Some(Some((low, high))) => {
                    format!("{} ({} to {})", show(s.values.last()), unit.show(*low), unit.show(*high))
                }
                _ => show(s.values.last()),
            },
            level,
            s.changes.last().map_or_else(String::new, words::since),
            // Its many digits say nothing more.
            s.changes
                .last()
                .map_or_else(String::new, |c| if c.p < 1e-4 { "below 0.0001".into() } else { format!("{:.4}", c.p) }),
        ]);
        table.grade(5, s.unjudged.as_ref().map(|_| CellGrade::NotJudged));
    }
    table
}

/// For the terminal: the table, what else is to be said, and last the verdict in a sentence.
pub fn page(list: &[MetricSeries], style: TextStyle) -> String {
    let table = table(list);
    let fits = render(&table, false).lines().all(|l| l.chars().count() <= style.width);
    let mut out = if fits { render(&table, style.color) } else { stacked(&table, style) };
    let line = |word: &str, text: &str, code: &str| {
        let line = wrapped(&format!("{word} {text}."), "  ", style.width);
        line.replacen(word, &paint(word, code, style.color), 1)
    };
    let all = words::findings(list);
    out.push('\n');
    // The gravest stands last, where the eye is.
    for f in all.iter().skip(1).rev() {
        out.push_str(&line(f.word, &f.text, word_code(f.word)));
    }
    match words::headline(list) {
        Some(f) => {
            out.push_str(&wrapped(&title(list), "  ", style.width));
            out.push_str(&line(f.word, &f.text, word_code(f.word)));
        }
        None => out.push_str("There is no result.\n"),
    }
    out.chars().map(|c| if c.is_control() && c != '\n' && c != '\x1b' { ' ' } else { c }).collect()
}

/// `fanout: nats, reference over 24 results`.
fn title(list: &[MetricSeries]) -> String {
    let mut names: Vec<(&str, Vec<&str>)> = Vec::new();
    for s in list {
        match names.iter_mut().find(|(scenario, _)| *scenario == s.scenario) {
            Some((_, cases)) if cases.contains(&s.case.as_str()) => {}
            Some((_, cases)) => cases.push(&s.case),
            None => names.push((&s.scenario, vec![&s.case])),
        }
    }
    let shown = |cases: &[&str]| match cases {
        [a, b, c, rest @ ..] if !rest.is_empty() => format!("{a}, {b}, {c} and {} more", rest.len()),
        all => all.join(", "),
    };
    let each: Vec<String> = names.iter().map(|(scenario, cases)| format!("{scenario}: {}", shown(cases))).collect();
    let mut at: Vec<&String> = list.iter().flat_map(|s| &s.at).collect();
    at.sort_unstable();
    at.dedup();
    let span = match (at.first(), at.last()) {
        (Some(first), Some(last)) if first != last => format!(", {} to {}", words::day(first), words::day(last)),
        _ => String::new(),
    };
    format!("{} over {}{span}", each.join("; "), plural(at.len() as u64, "result"))
}

/// Findings that stand open below the verdict.
const OPEN: usize = 3;

/// A page of its own: the verdict, what else is to be said, a chart of each metric, the table.
pub fn html(list: &[MetricSeries]) -> String {
    let title = title(list);
    let drawn = figures(&charts(list));
    let body = html! {
        header { p.question { "History of " (title) } }
        @match words::headline(list) {
            Some(f) => (verdict(&f, &words::findings(list))),
            None => h1 { "There is no result." },
        }
        @if !drawn.0.is_empty() { (page::section("Over time", &page::figures(&drawn))) }
        (page::section("Levels", &page::table(&table(list))))
    };
    page::shell(&format!("History of {title}"), &body)
}

/// The headline, and what else was found, of which the first is the headline.
fn verdict(headline: &HistoryFinding, all: &[HistoryFinding]) -> Markup {
    let rest = all.get(1..).unwrap_or_default();
    let (open, folded) = rest.split_at(rest.len().min(OPEN));
    let notes = |of: &[HistoryFinding]| page::notes(of.iter().map(|f| (f.word, f.text.as_str())));
    html! {
        section aria-label="Verdict" class={ "answer verdict " (headline.word.replace(' ', "-")) } {
            h1 {
                @if headline.word != "STEADY" { b.word { (headline.word) } " " }
                (headline.text) "."
            }
            (notes(open))
            @if !folded.is_empty() { (page::details(&format!("{} more", folded.len()), &notes(folded))) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::history::{ChangeState, LevelChange};

    fn series() -> MetricSeries {
        MetricSeries {
            scenario: "fanout".into(),
            case: "nats".into(),
            host: "Some CPU".into(),
            series: "0123456789abcdef".into(),
            metric: "e2e.p99".parse().unwrap(),
            at: (1..=24).map(|d| format!("2026-11-{d:02}")).collect(),
            commits: (1..=24).map(|d| Some(format!("c{d}"))).collect(),
            intervals: vec![None; 24],
            values: (0..24).map(|i| if i < 18 { 1e6 + f64::from(i % 3) * 1e4 } else { 1.2e6 }).collect(),
            changes: vec![LevelChange {
                index: 18,
                at: "2026-11-19".into(),
                commit: Some("abc".into()),
                before: 1.01e6,
                after: 1.2e6,
                change: 0.188,
                worse: true,
                p: 1e-9,
                state: ChangeState::Confirmed,
            }],
            trend: None,
            note: None,
            unjudged: None,
            opened: None,
        }
    }

    /// A series that follows the first, because a setting changed.
    fn next() -> MetricSeries {
        MetricSeries {
            series: "other".into(),
            at: (1..=4).map(|d| format!("2026-12-{d:02}T09:30:00Z")).collect(),
            commits: vec![None; 4],
            values: vec![3e6; 4],
            intervals: vec![None; 4],
            changes: Vec::new(),
            note: Some("4 results".into()),
            opened: Some("workloads.0.topology.producers is 9 instead of 1".into()),
            ..series()
        }
    }

    #[test]
    fn it_reads_and_is_drawn() {
        let why = "a new series began at 2026-12-01T09:30:00Z, because workloads.0.topology.producers is 9 instead of 1: 4 of the 10 results that a level needs";
        let unjudged = MetricSeries { unjudged: Some(why.into()), ..next() };
        for (name, list) in [
            ("history", vec![series()]),
            ("history_new_series", vec![series(), unjudged.clone()]),
            ("history_judged_again", vec![series(), next()]),
            ("history_steady", vec![MetricSeries { changes: Vec::new(), ..series() }]),
        ] {
            insta::assert_snapshot!(name, page(&list, TextStyle::default()));
            let word = words::headline(&list).unwrap().word;
            // A regression ends when the series that follows is judged, not before.
            let wanted = match name {
                "history_steady" => "STEADY",
                "history_judged_again" => "NEW SERIES",
                _ => "REGRESSED",
            };
            assert_eq!(word, wanted, "{name}");
            let page = super::html(&list);
            let headline = words::headline(&list).unwrap();
            let text = html! { (headline.text) }.into_string();
            assert!(page.find(&text).unwrap() < page.find("<h2").unwrap(), "{name}");
        }
        for width in [40, 60, 80] {
            let text = page(&[series(), unjudged.clone()], TextStyle { width, ..TextStyle::default() });
            for line in text.lines() {
                assert!(line.chars().count() <= width || !line.trim().contains(' '), "{width}: {line}");
            }
        }
        let drawn = charts(&[series(), unjudged]);
        assert_eq!(drawn.len(), 1);
        let svg = figures(&drawn).into_string();
        assert!(svg.contains("+18.8 % worse (confirmed)") && svg.contains("<desc"), "{svg}");
        assert!(svg.contains("new series: workloads.0.topology.producers is 9 instead of 1"));
    }
}
