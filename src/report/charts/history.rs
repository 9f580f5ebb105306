//! A metric over the results of a history: a point for each, a line for each level.

use super::axis::{Axis, AxisScale};
use super::chart::{Chart, Plot, Shape, Weight, line, through};
use crate::compare::history::{ChangeState, MetricSeries};
use crate::report::words::history::{findings, percent};
use crate::stats::{mean, median};

/// One chart for each scenario, case and metric.
pub fn charts(list: &[MetricSeries]) -> Vec<Chart> {
    let key = |s: &MetricSeries| (s.scenario.clone(), s.case.clone(), s.metric.to_string());
    let mut groups: Vec<(_, Vec<&MetricSeries>)> = Vec::new();
    for s in list {
        match groups.iter_mut().find(|g| g.0 == key(s)) {
            Some(there) => there.1.push(s),
            None => groups.push((key(s), vec![s])),
        }
    }
    groups.iter().filter_map(|(_, of)| chart(of)).collect()
}

/// The day, and below it what was measured.
fn tick(series: &MetricSeries, i: usize) -> String {
    let day = series.at.get(i).map_or("", |at| at.split('T').next().unwrap_or_default());
    let commit = series.commits.get(i).and_then(Option::as_deref).unwrap_or_default();
    format!("{day}\n{}", commit.chars().take(10).collect::<String>())
}

fn chart(of: &[&MetricSeries]) -> Option<Chart> {
    let first = of.first()?;
    let (metric, unit) = (first.metric.to_string(), first.metric.quantity.unit());
    let positive = |v: &f64| v.is_finite() && *v > 0.0;
    let values: Vec<f64> = of.iter().flat_map(|s| &s.values).copied().filter(positive).collect();
    let ends = of.iter().flat_map(|s| &s.intervals).flatten().flat_map(|(low, high)| [*low, *high]);
    let ends: Vec<f64> = ends.filter(positive).collect();
    let total: usize = of.iter().map(|s| s.values.len()).sum();
    let middle = median(&values).filter(|_| total > 1)?;
    // Logarithmic, because a change is a ratio. A change by 5 % is to be seen, and noise of 1 % is
    // not to fill the chart.
    let range = values.iter().copied().chain(ends).chain([0.9 * middle, 1.1 * middle]);
    let y = Axis::log_of(&format!("{metric}, logarithmic"), unit, range);
    let (mut shapes, mut levels, mut events, mut ticks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut start = 0usize;
    for s in of {
        let x = |i: usize| (start + i + 1) as f64;
        let points: Vec<(f64, f64)> =
            s.values.iter().enumerate().filter(|p| positive(p.1)).map(|(i, v)| (x(i), *v)).collect();
        ticks.extend((0..s.values.len()).map(|i| (x(i), tick(s, i))));
        shapes.push(line(0, Weight::Thin, points));
        let known = s.intervals.iter().enumerate().filter_map(|(i, ends)| Some((x(i), (*ends)?)));
        shapes.extend(known.map(|(x, (low, high))| line(0, Weight::Normal, vec![(x, low), (x, high)])));
        shapes.extend(s.values.iter().enumerate().filter(|p| positive(p.1)).map(|(i, v)| {
            let says = format!("{}: {}", tick(s, i).trim_end().replace('\n', " "), unit.show(*v));
            Shape::Mark { series: 0, at: (x(i), *v), hollow: false, says }
        }));
        let mut bounds = vec![0];
        bounds.extend(s.changes.iter().map(|c| c.index));
        bounds.push(s.values.len());
        for b in bounds.windows(2).filter(|b| b[0] < b[1]) {
            let level = mean(&s.values[b[0]..b[1]].iter().map(|v| v.ln()).collect::<Vec<_>>()).exp();
            if positive(&level) {
                levels.push(vec![(x(b[0]) - 0.4, level), (x(b[1] - 1) + 0.4, level)]);
            }
        }
        if let Some(what) = s.opened.as_ref().filter(|_| start > 0) {
            events.push((x(0) - 0.5, format!("new series: {what}")));
        }
        for c in &s.changes {
            let state = if c.state == ChangeState::Confirmed { "confirmed" } else { "suspect" };
            let word = if c.worse { "worse" } else { "better" };
            let place = tick(s, c.index).trim_end().replace('\n', ", ");
            events.push((x(c.index) - 0.5, format!("{} {word} ({state}), {place}", percent(c.change))));
        }
        start += s.values.len();
    }
    // Below the points. Where the level changed, the day is to be seen whatever else is.
    shapes.insert(0, through(1, Weight::Bold, levels, "level"));
    ticks.sort_by_key(|t: &(f64, String)| !events.iter().any(|e| (t.0 - e.0 - 0.5).abs() < 1e-9));
    shapes.extend(events.iter().enumerate().map(|(i, e)| Shape::Event { at: e.0, label: (i + 1).to_string() }));
    let title = "result, in order of time";
    let x = Axis { title: title.into(), min: 0.3, max: total as f64 + 0.7, ticks, scale: AxisScale::Number };
    let name: String = format!("history-{}-{}-{metric}", first.scenario, first.case);
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '_' { c } else { '-' };
    let title = format!("{}, {}: {metric} over {total} results", first.scenario, first.case);
    let body = Plot::single(x, y, 300.0, shapes);
    let chart = Chart::new(&name.chars().map(fit).collect::<String>(), title, description(of), body);
    let series = [(0, "median of each result".to_string()), (1, "level".to_string())];
    Some(Chart { events: events.into_iter().map(|e| e.1).collect(), ..chart.with_series(series) })
}

/// What a chart shows, in words.
fn description(of: &[&MetricSeries]) -> String {
    let all: Vec<MetricSeries> = of.iter().map(|s| (*s).clone()).collect();
    let found: Vec<String> = findings(&all).into_iter().map(|f| format!("{}: {}.", f.word, f.text)).collect();
    let series =
        if of.len() > 1 { " A gap is a change of the machine or of what is driven: a new series." } else { "" };
    format!(
        "A point for each result, a thicker line for each level, an upright one where it changed.{series} {}",
        if found.is_empty() { "No change of level.".into() } else { found.join(" ") }
    )
}
