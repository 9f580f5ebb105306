//! History as text, and as charts.

use super::page;
use super::text::{TextStyle, paint, render, stacked, word_code, wrapped};
use crate::compare::history::{ChangeState, MetricSeries};
use crate::report::charts::axis::Axis;
use crate::report::charts::plot::{ChartLine, LineStyle, Plot};
use crate::report::escape;
use crate::report::words::history::{self as words, HistoryFinding};
use crate::report::words::view::{CellGrade, TextTable};
use crate::units::plural;

fn percent(share: f64) -> String {
    format!("{:+.1} %", share * 100.0)
}

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
            show(s.values.last()),
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
    let mut body = format!("<header>\n<p class=\"question\">History of {}</p>\n</header>\n", escape(&title));
    let all = words::findings(list);
    match words::headline(list) {
        Some(f) => {
            let word = if f.word == "STEADY" { String::new() } else { format!("<b class=\"word\">{}</b> ", f.word) };
            let rest = &all[1..];
            let (open, folded) = rest.split_at(rest.len().min(OPEN));
            let notes = |of: &[HistoryFinding]| page::notes(of.iter().map(|f| (f.word, f.text.as_str())));
            let more = match folded.len() {
                0 => String::new(),
                n => page::details(&format!("{n} more"), &notes(folded)),
            };
            body.push_str(&format!(
                "<section aria-label=\"Verdict\" class=\"answer verdict {}\">\n<h1>{word}{}.</h1>\n{}{more}</section>\n",
                f.word.replace(' ', "-"),
                escape(&f.text),
                notes(open)
            ));
        }
        None => body.push_str("<h1>There is no result.</h1>\n"),
    }
    let charts: String = plots(list).iter().map(crate::report::charts::figure::figure).collect();
    if !charts.is_empty() {
        page::section(&mut body, "Over time", &page::figures(&charts));
    }
    page::section(&mut body, "Levels", &page::table(&table(list)));
    body.push_str(&page::words(&body.clone()));
    page::shell(&format!("History of {title}"), &body)
}

/// One chart for each scenario, case and metric; a gap where a new series starts, a bold line for
/// each level, a dashed one where the level changed.
pub fn plots(list: &[MetricSeries]) -> Vec<Plot> {
    let mut keys: Vec<(String, String, String)> = Vec::new();
    for s in list {
        let key = (s.scenario.clone(), s.case.clone(), s.metric.to_string());
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys.iter()
        .filter_map(|(scenario, case, metric)| {
            let of: Vec<&MetricSeries> = list
                .iter()
                .filter(|s| s.scenario == *scenario && s.case == *case && s.metric.to_string() == *metric)
                .collect();
            chart(scenario, case, metric, &of)
        })
        .collect()
}

fn chart(scenario: &str, case: &str, metric: &str, of: &[&MetricSeries]) -> Option<Plot> {
    let positive = |v: &f64| v.is_finite() && *v > 0.0;
    let all = || of.iter().flat_map(|s| &s.values).copied().filter(positive);
    let total: usize = of.iter().map(|s| s.values.len()).sum();
    if total < 2 || all().next().is_none() {
        return None;
    }
    // Logarithmic, because a change is a ratio. A change by 5 % is to be seen, and noise of 1 % is
    // not to fill the chart.
    let values = all().collect::<Vec<_>>();
    let middle = crate::stats::median(&values)?;
    let y = Axis::log_of(
        &format!("{metric}, logarithmic"),
        of[0].metric.quantity.unit(),
        values.into_iter().chain([0.9 * middle, 1.1 * middle]),
    );
    let (mut points, mut values, mut levels, mut upright) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut start = 1usize;
    for s in of {
        let x = |i: usize| (start + i) as f64;
        let known = || s.values.iter().enumerate().filter(|(_, v)| positive(v)).map(|(i, v)| (x(i), v.log10()));
        values.push(known().collect::<Vec<_>>());
        // As short as a line can be drawn: a point.
        points.extend(known().map(|(x, y)| vec![(x, y), (x + 0.02, y)]));
        levels.extend(level_runs(s, &x));
        if let Some(what) = s.opened.as_ref().filter(|_| start > 1) {
            let at = start as f64 - 0.5;
            upright.push((format!("new series: {}", shortened(what)), vec![(at, y.min), (at, y.max)]));
        }
        for c in &s.changes {
            let state = if c.state == ChangeState::Confirmed { "confirmed" } else { "suspect" };
            let word = if c.worse { "worse" } else { "better" };
            let at = x(c.index) - 0.5;
            let label = format!("{} {word} ({state}) since {}", percent(c.change), words::since(c));
            upright.push((label, vec![(at, y.min), (at, y.max)]));
        }
        start += s.values.len();
    }
    let line = |label: Option<String>, colour, stroke, width, runs| ChartLine { label, colour, stroke, width, runs };
    let mut lines = vec![
        line(Some("level".into()), 1, LineStyle::Solid, 4, levels),
        line(None, 0, LineStyle::Solid, 1, values),
        line(Some("median of each result".into()), 0, LineStyle::Solid, 6, points),
    ];
    for (i, (label, run)) in upright.into_iter().enumerate() {
        lines.push(line(Some(label), 2 + i % 4, LineStyle::Dashed(5, 4), 2, vec![run]));
    }
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '_' { c } else { '-' };
    Some(Plot {
        name: format!("history-{scenario}-{case}-{metric}").chars().map(fit).collect(),
        title: format!("{scenario}, {case}: {metric} over {total} results"),
        description: description(of),
        x: dates(of, total),
        y,
        lines,
    })
}

/// The mean of the logarithms of each level, from its first result to its last.
fn level_runs(s: &MetricSeries, x: &dyn Fn(usize) -> f64) -> Vec<Vec<(f64, f64)>> {
    let mut bounds = vec![0];
    bounds.extend(s.changes.iter().map(|c| c.index));
    bounds.push(s.values.len());
    let run = |b: &[usize]| {
        let logs: Vec<f64> = s.values[b[0]..b[1]].iter().map(|v| v.log10()).collect();
        let level = crate::stats::mean(&logs);
        level.is_finite().then(|| vec![(x(b[0]), level), (x(b[1] - 1), level)])
    };
    bounds.windows(2).filter(|b| b[0] < b[1]).filter_map(run).collect()
}

/// The most ticks of the axis of time: more labels would touch on a telephone.
const TICKS: usize = 5;

/// The axis of results in order of time, with the day and the commit of some of them.
fn dates(of: &[&MetricSeries], total: usize) -> Axis {
    let label = |at: &str, commit: Option<&String>| {
        let day = at.get(5..10).unwrap_or(at);
        let commit: String = commit.map_or_else(String::new, |c| c.chars().take(7).collect());
        if commit.is_empty() { day.to_owned() } else { format!("{day} {commit}") }
    };
    let all: Vec<String> = of
        .iter()
        .flat_map(|s| s.at.iter().enumerate().map(move |(i, at)| (at, s.commits.get(i).and_then(Option::as_ref))))
        .map(|(at, commit)| label(at, commit))
        .collect();
    let mut x = Axis::linear("day and commit of each result", total as f64);
    let step = total.div_ceil(TICKS).max(1);
    x.ticks = all.into_iter().enumerate().step_by(step).map(|(i, label)| ((i + 1) as f64, label)).collect();
    x
}

/// At most so many characters, for a legend.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST).collect::<String>() + "…"
}

/// What a chart shows, in words.
fn description(of: &[&MetricSeries]) -> String {
    let all: Vec<MetricSeries> = of.iter().map(|s| (*s).clone()).collect();
    let found: Vec<String> = words::findings(&all).iter().map(|f| format!("{}: {}.", f.word, f.text)).collect();
    let series =
        if of.len() > 1 { " A gap is a change of the machine or of what is driven: a new series." } else { "" };
    format!(
        "A point for each result, a thicker line for each level, an upright one where it changed.{series} {}",
        found.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::history::LevelChange;

    fn series() -> MetricSeries {
        MetricSeries {
            scenario: "fanout".into(),
            case: "nats".into(),
            host: "Some CPU".into(),
            series: "0123456789abcdef".into(),
            metric: "e2e.p99".parse().unwrap(),
            at: (1..=24).map(|d| format!("2026-11-{d:02}")).collect(),
            commits: (1..=24).map(|d| Some(format!("c{d}"))).collect(),
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
            let html = html(&list);
            let headline = words::headline(&list).unwrap();
            assert!(html.find(&escape(&headline.text)).unwrap() < html.find("<h2").unwrap(), "{name}");
        }
        for width in [40, 60, 80] {
            let text = page(&[series(), unjudged.clone()], TextStyle { width, ..TextStyle::default() });
            for line in text.lines() {
                assert!(line.chars().count() <= width || !line.trim().contains(' '), "{width}: {line}");
            }
        }
        let plots = plots(&[series(), unjudged]);
        assert_eq!((plots.len(), plots[0].lines.len()), (1, 5));
        // A gap between the series, a point for each result, and the day with the commit below.
        assert_eq!((plots[0].lines[1].runs.len(), plots[0].lines[2].runs.len()), (2, 28));
        assert_eq!(plots[0].x.ticks[1].1, "11-07 c7");
        let svg = plots[0].svg().unwrap();
        if let Some(dir) = std::env::var_os("MSGBENCH_SAMPLE_REPORT") {
            std::fs::write(std::path::Path::new(&dir).join("history.png"), plots[0].png().unwrap()).unwrap();
        }
        assert!(svg.contains("+18.8 % worse (confirmed) since abc (2026-11-19)") && svg.contains("<desc>"));
        assert!(svg.contains("new series: workloads.0.topology.producers is 9 instead of 1"));
    }
}
