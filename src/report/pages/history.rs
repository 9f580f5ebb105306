//! History as text, and as charts.

use super::page;
use super::text::render;
use crate::compare::history::{ChangeState, MetricSeries};
use crate::report::charts::axis::Axis;
use crate::report::charts::plot::{ChartLine, LineStyle, Plot};
use crate::report::words::view::{CellGrade, TextTable};

fn percent(share: f64) -> String {
    format!("{:+.1} %", share * 100.0)
}

/// One line for each metric of each series.
fn table(list: &[MetricSeries]) -> TextTable {
    let heads = ["case (series)", "metric", ">results", ">first", ">last", "level"];
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
        ]);
        table.grade(5, s.unjudged.as_ref().map(|_| CellGrade::NotJudged));
    }
    table
}

/// What changed, as (word, sentence).
fn changes(list: &[MetricSeries]) -> Vec<(&'static str, String)> {
    let mut words: Vec<(&'static str, String)> = Vec::new();
    // What nothing judges comes first: once for each reason, with the metrics that it holds for.
    let mut silent: Vec<(String, Vec<String>)> = Vec::new();
    for s in list {
        let Some(why) = &s.unjudged else { continue };
        let key = format!("{} {}: {why}", s.scenario, s.case);
        match silent.iter_mut().find(|(k, _)| *k == key) {
            Some((_, metrics)) => metrics.push(s.metric.to_string()),
            None => silent.push((key, vec![s.metric.to_string()])),
        }
    }
    words.extend(silent.into_iter().map(|(why, metrics)| ("NOT JUDGED", format!("{why} ({})", metrics.join(", ")))));
    for s in list {
        let unit = s.metric.quantity.unit();
        for c in &s.changes {
            let state = if c.state == ChangeState::Confirmed { "CONFIRMED" } else { "SUSPECT" };
            let commit = c.commit.as_ref().map_or_else(String::new, |k| format!(", {k}"));
            let text = format!(
                "{} {} is {} {} since {}{commit}: {} instead of {} (p {})",
                s.case,
                s.metric,
                percent(c.change),
                if c.worse { "worse" } else { "better" },
                c.at,
                unit.show(c.after),
                unit.show(c.before),
                // Its many digits say nothing more.
                if c.p < 1e-4 { "below 0.0001".to_string() } else { format!("{:.4}", c.p) }
            );
            words.push((state, text));
        }
        if let Some(t) = s.trend {
            words.push(("TREND", format!("{} {} drifts by {} with each result", s.case, s.metric, percent(t))));
        }
        if let Some(note) = s.note.as_ref().filter(|_| s.values.len() > 9) {
            words.push(("note", format!("{} {}: {note}", s.case, s.metric)));
        }
    }
    words
}

/// For the terminal: the table, and what changed in words.
pub fn page(list: &[MetricSeries]) -> String {
    let mut out = render(&table(list), false);
    let words = changes(list);
    if !words.is_empty() {
        out.push('\n');
    }
    words.iter().for_each(|(word, text)| out.push_str(&format!("{word:<10} {text}\n")));
    out.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// A page of its own: what changed, the table, and a chart of each metric.
pub fn html(list: &[MetricSeries]) -> String {
    let words = changes(list);
    let mut body = "<header>\n<h1>History</h1>\n</header>\n".to_string();
    let said = page::notes(words.iter().map(|(w, t)| (*w, t.as_str())));
    page::section(&mut body, "Levels", &format!("{said}{}", page::table(&table(list))));
    let charts: String = plots(list).iter().map(crate::report::charts::figure::figure).collect();
    if !charts.is_empty() {
        page::section(&mut body, "Charts", &page::figures(&charts));
    }
    page::shell("History", &body)
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
    let (mut values, mut levels, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    let mut start = 1usize;
    for s in of {
        let x = |i: usize| (start + i) as f64;
        let points = s.values.iter().enumerate().filter(|(_, v)| positive(v));
        values.push(points.map(|(i, v)| (x(i), v.log10())).collect::<Vec<_>>());
        let mut bounds = vec![0];
        bounds.extend(s.changes.iter().map(|c| c.index));
        bounds.push(s.values.len());
        for b in bounds.windows(2).filter(|b| b[0] < b[1]) {
            let logs: Vec<f64> = s.values[b[0]..b[1]].iter().map(|v| v.log10()).collect();
            let level = crate::stats::mean(&logs);
            if level.is_finite() {
                levels.push(vec![(x(b[0]), level), (x(b[1] - 1), level)]);
            }
        }
        for c in &s.changes {
            let state = if c.state == ChangeState::Confirmed { "confirmed" } else { "suspect" };
            let word = if c.worse { "worse" } else { "better" };
            let at = x(c.index) - 0.5;
            changes.push((
                format!("{} {word} ({state}) at {}", percent(c.change), start + c.index),
                vec![(at, y.min), (at, y.max)],
            ));
        }
        start += s.values.len();
    }
    let line = |label: Option<String>, colour, stroke, width, runs| ChartLine { label, colour, stroke, width, runs };
    let mut lines = vec![
        line(Some("level".into()), 1, LineStyle::Solid, 4, levels),
        line(Some("median of each result".into()), 0, LineStyle::Solid, 2, values),
    ];
    for (i, (label, run)) in changes.into_iter().enumerate() {
        lines.push(line(Some(label), 2 + i % 4, LineStyle::Dashed(5, 4), 2, vec![run]));
    }
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '_' { c } else { '-' };
    let mut x = Axis::linear("result, in order of time", total as f64);
    x.ticks.retain(|t| t.0.fract() == 0.0);
    Some(Plot {
        name: format!("history-{scenario}-{case}-{metric}").chars().map(fit).collect(),
        title: format!("{scenario}, {case}: {metric} over {total} results"),
        description: description(of),
        x,
        y,
        lines,
    })
}

/// What a chart shows, in words.
fn description(of: &[&MetricSeries]) -> String {
    let all: Vec<MetricSeries> = of.iter().map(|s| (*s).clone()).collect();
    let found: Vec<String> = changes(&all).into_iter().map(|(word, text)| format!("{word}: {text}.")).collect();
    let series =
        if of.len() > 1 { " A gap is a change of the machine or of what is driven: a new series." } else { "" };
    format!(
        "A point for each result, a thicker line for each level, an upright one where it changed.{series} {}",
        if found.is_empty() { "No change of level.".into() } else { found.join(" ") }
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
        }
    }

    #[test]
    fn it_reads_and_is_drawn() {
        let next = MetricSeries {
            series: "other".into(),
            values: vec![3e6; 4],
            changes: Vec::new(),
            note: Some("4 results".into()),
            ..series()
        };
        insta::assert_snapshot!("history", page(&[series(), next.clone()]));
        let plots = plots(&[series(), next]);
        assert_eq!((plots.len(), plots[0].lines.len(), plots[0].lines[1].runs.len()), (1, 3, 2));
        let svg = plots[0].svg().unwrap();
        if let Some(dir) = std::env::var_os("MSGBENCH_SAMPLE_REPORT") {
            std::fs::write(std::path::Path::new(&dir).join("history.png"), plots[0].png().unwrap()).unwrap();
        }
        assert!(svg.contains("+18.8 % worse (confirmed) at 19") && svg.contains("<desc>"));
    }
}
