//! History as text, and as charts.

use super::page;
use super::text::render;
use crate::compare::history::MetricSeries;
use crate::report::charts::{figures, history::charts};
use crate::report::words::levels::{changes, percent};
use crate::report::words::view::{CellGrade, TextTable};

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
    let drawn = figures(&charts(list));
    if !drawn.is_empty() {
        page::section(&mut body, "Charts", &page::figures(&drawn));
    }
    page::shell("History", &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::history::{ChangeState, LevelChange};
    use crate::report::charts::{Foot, png, svg};

    fn series() -> MetricSeries {
        MetricSeries {
            scenario: "fanout".into(),
            case: "nats".into(),
            host: "Some CPU".into(),
            series: "0123456789abcdef".into(),
            metric: "e2e.p99".parse().unwrap(),
            at: (1..=24).map(|d| format!("2026-11-{d:02}")).collect(),
            commits: (1..=24).map(|d| (d == 19).then(|| "abc".to_string())).collect(),
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
        let charts = charts(&[series(), next]);
        assert_eq!(charts.len(), 1);
        let (svg, png) = (svg(&charts[0], &Foot::default()), png(&charts[0], &Foot::default()).unwrap());
        if let Some(dir) = std::env::var_os("MSGBENCH_SAMPLE_REPORT") {
            std::fs::write(std::path::Path::new(&dir).join("history.png"), png).unwrap();
        }
        assert!(svg.contains("1. +18.8 % worse (confirmed), 2026-11-19, abc</text>"), "{svg}");
        assert!(svg.contains(">2026-11-19</text>") && svg.contains(">abc</text>") && svg.contains("<desc"), "{svg}");
        assert_eq!(svg.matches("class=\"m f\"").count(), 28, "a point for each result");
    }
}
