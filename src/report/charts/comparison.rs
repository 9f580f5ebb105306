//! The charts of a comparison: ratios with their intervals, one dot for each run, percentile curves
//! with a line for each run, and bars of what it cost.

use crate::compare::{Comparison, ComparisonRow, SideSample, Verdict};
use crate::plan::metric::{Quantity, Unit};
use crate::record::{Headlines, LatencySummary, Trial};
use crate::report::charts::axis::{Axis, AxisScale};
use crate::report::charts::bars::from_zero;
use crate::report::charts::chart::{
    Block, Body, Chart, Plot, Row, RowGrade, RowKind, Rows, Shape, Weight, hovers, line, named, through,
};
use crate::report::charts::latency::{ENOUGH, curve, log_axis};
use crate::report::words::groups::{ChartGroup, ChartSide};
use crate::stats::{median, shift};
use crate::units::three_digits;

/// Rows of a forest plot; more are left to the table, and that is said.
const FOREST: usize = 60;

/// Turns a text into an identifier.
pub(in crate::report) fn id(kind: &str, text: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    format!("{kind}-{}", text.chars().map(fit).collect::<String>())
}

/// The ratio as a change for people: `+4.9 %`, `x6.10`.
fn change(ratio: f64) -> String {
    match ratio {
        r if !r.is_finite() => "inf".into(),
        r if r >= 2.0 => format!("×{}", three_digits(r)),
        r if r > 0.0 && r <= 0.5 => format!("×{r:.3}"),
        r => format!("{:+.1} %", (r - 1.0) * 100.0).replace("-0.0", "+0.0"),
    }
}

/// The logarithmic axis of the ratios, symmetric enough to show 1 and the threshold.
fn ratio_axis(rows: &[&ComparisonRow]) -> Axis {
    let ends = |r: &&ComparisonRow| {
        let e = r.ratio?;
        let (low, high) = e.ci95.unwrap_or((e.value, e.value));
        Some([low, high, e.value])
    };
    let limit = rows.iter().map(|r| r.max_change).fold(0.01, f64::max);
    let far = |v: f64| if v.is_finite() && v > 0.0 { v.clamp(1e-4, 1e4) } else { 1.0 };
    let all = || rows.iter().filter_map(ends).flatten().map(far).chain([1.0 + limit, 1.0 / (1.0 + limit)]);
    let spare = 1.6 * limit;
    let low = all().fold(1.0, f64::min) / (1.0 + spare.min(0.3));
    let high = all().fold(1.0, f64::max) * (1.0 + spare.min(0.3));
    let steps: &[f64] = if high / low > 300.0 {
        &[0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]
    } else if high / low > 3.0 {
        &[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
    } else {
        &[0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0]
    };
    let name = |v: f64| match v {
        1.0 => "same".to_string(),
        v if v >= 2.0 || v <= 0.5 => format!("×{v}"),
        v => format!("{:+.0} %", (v - 1.0) * 100.0),
    };
    Axis {
        title: "candidate relative to baseline, logarithmic".into(),
        min: low,
        max: high,
        ticks: steps.iter().filter(|v| (low..=high).contains(*v)).map(|v| (*v, name(*v))).collect(),
        scale: AxisScale::LogOf(Unit::Count),
    }
}

/// Every metric that decides: its ratio, the 95 % interval, and the changes that do not matter as a
/// zone.
pub fn forest(c: &Comparison) -> Option<Chart> {
    let rows: Vec<&ComparisonRow> = c.rows.iter().filter(|r| r.primary && r.ratio.is_some()).collect();
    let without = c.rows.iter().filter(|r| r.primary && r.ratio.is_none()).count();
    let first = rows.first()?;
    let left_out = rows.len().saturating_sub(FOREST);
    let several = rows.iter().any(|r| r.scenario != first.scenario);
    let mut caption = format!(
        "A mark for the ratio of candidate to baseline at each metric that decides, a line for its 95 % interval. Left of the middle the candidate's value is lower, right of it higher (better for throughput, worse for latency and cost); the shaded zone holds changes up to {}, which do not matter here. The table below has the figures.",
        crate::compare::percent(first.max_change)
    );
    if left_out > 0 {
        caption.push_str(&format!(" {left_out} more are in the table only."));
    }
    if without > 0 {
        caption.push_str(&format!(" {without} without a ratio (a value is zero or missing) are in the table only."));
    }
    let rows = &rows[..rows.len() - left_out];
    let block = Block {
        heading: String::new(),
        axis: ratio_axis(rows),
        rows: rows.iter().filter_map(|r| ratio(r, several)).collect(),
    };
    let body = Body::Rows(Rows { kind: RowKind::Ratios, blocks: vec![block] });
    Some(Chart::new("ratios", "Ratios".into(), caption, body))
}

fn ratio(row: &ComparisonRow, several: bool) -> Option<Row> {
    let e = row.ratio?;
    let scenario = if several { format!("{}: ", row.scenario) } else { String::new() };
    let label = format!("{}: {scenario}{} against {}", row.metric, row.b.label, row.a.label);
    let word = row.word();
    let interval = e.ci95.map_or_else(
        || ", no interval: too few runs".to_string(),
        |(l, h)| format!(", 95 % CI {} to {}", change(l), change(h)),
    );
    Some(Row {
        series: 0,
        says: format!("{label}: {}{interval}, {word}", change(e.value)),
        label,
        value: e.value,
        interval: e.ci95,
        text: format!("{} {} {word}", change(e.value), row.verdict.sign()),
        grade: match row.verdict {
            Verdict::Regressed | Verdict::Invalid => Some(RowGrade::Bad),
            Verdict::Improved | Verdict::Equivalent | Verdict::Same => Some(RowGrade::Good),
            Verdict::Inconclusive | Verdict::NotDecided => Some(RowGrade::Open),
            _ => None,
        },
        zone: Some((1.0 / (1.0 + row.max_change), 1.0 + row.max_change)),
    })
}

/// The samples of the sides of a group at one metric, each once, with the colour of the side.
fn samples<'a>(group: &ChartGroup<'a>, rows: &[&'a ComparisonRow]) -> Vec<(usize, &'a SideSample)> {
    let mut list: Vec<(usize, &SideSample)> = Vec::new();
    for sample in rows.iter().flat_map(|r| [&r.a, &r.b]) {
        let Some(at) = group.sides.iter().position(|s| s.label == sample.label) else { continue };
        if list.iter().all(|(s, _)| *s != at) {
            list.push((at, sample));
        }
    }
    list.sort_by_key(|(at, _)| *at);
    list
}

/// One dot for each run of each metric that decides and that `keep` keeps, with the median of each
/// side and its interval.
pub fn dots(group: &ChartGroup<'_>, keep: &dyn Fn(&Quantity) -> bool) -> Vec<Chart> {
    let mut metrics: Vec<&ComparisonRow> = Vec::new();
    for row in group.rows.iter().copied().filter(|r| r.primary && keep(&r.metric.quantity)) {
        if metrics.iter().all(|m| m.metric != row.metric) {
            metrics.push(row);
        }
    }
    metrics.iter().filter_map(|row| dot_chart(group, row)).collect()
}

fn dot_chart(group: &ChartGroup<'_>, of: &ComparisonRow) -> Option<Chart> {
    let rows: Vec<&ComparisonRow> = group.rows.iter().copied().filter(|r| r.metric == of.metric).collect();
    let samples = samples(group, &rows);
    let unit = of.metric.quantity.unit();
    let values = || samples.iter().flat_map(|(_, s)| s.values.iter().copied());
    let most = samples.iter().map(|(_, s)| s.values.len()).max()?;
    values().find(|v| v.is_finite() && *v > 0.0)?;
    let mut caption = "One mark for each valid run, in the order of rounds; a line for the median of each side, a band for the 95 % interval of that median (from six runs on).".to_string();
    let infinite = values().filter(|v| v.is_infinite()).count();
    if infinite > 0 {
        caption.push_str(&format!(" {infinite} runs are infinite and stand at the upper edge."));
    }
    let name = of.metric.to_string();
    let y = if values().all(|v| v > 0.0) {
        Axis::log_of(&format!("{name}, logarithmic"), unit, values())
    } else {
        Axis::of(&name, unit, values().filter(|v| v.is_finite()).fold(0.0, f64::max))
    };
    let ticks = (1..=most).step_by(most.div_ceil(10).max(1)).map(|i| (i as f64, i.to_string()));
    let x = Axis {
        min: 0.3,
        max: most as f64 + 0.7,
        ticks: ticks.collect(),
        ..Axis::linear("run, in the order of rounds", 1.0)
    };
    let mut shapes = Vec::new();
    for (at, sample) in &samples {
        let across = |v: f64| vec![(x.min, v), (x.max, v)];
        if let Some((low, high)) = sample.median_ci95 {
            shapes.push(Shape::Band { series: *at, points: vec![(x.min, low, high), (x.max, low, high)] });
        }
        if let Some(m) = sample.median {
            shapes.push(through(*at, Weight::Normal, vec![across(m)], &sample.label));
        }
        // Sides stand beside each other, so that equal values do not hide each other.
        let offset = (*at as f64 - (samples.len() - 1) as f64 / 2.0) * 0.16;
        shapes.extend(sample.values.iter().enumerate().map(|(i, v)| Shape::Mark {
            series: *at,
            at: (i as f64 + 1.0 + offset, *v),
            hollow: false,
            says: format!("{}, run {}: {}", sample.label, i + 1, unit.show(*v)),
        }));
    }
    let title = format!("{}: {name} of each run", group.name);
    let chart =
        Chart::new(&id("runs", &format!("{} {name}", group.name)), title, caption, Plot::single(x, y, 180.0, shapes));
    Some(chart.with_series(samples.iter().map(|s| (s.0, group.sides[s.0].label.to_string()))))
}

struct SideCurves {
    at: usize,
    runs: Vec<Vec<(f64, f64)>>,
    /// (x, low, median, high), as long as half of the runs go on.
    middle: Vec<(f64, f64, f64, f64)>,
}

/// The median of the runs at each percentile, and its 95 % interval; below six runs, the lowest and
/// the highest.
fn middle(runs: &[Vec<(f64, f64)>]) -> Vec<(f64, f64, f64, f64)> {
    let longest = runs.iter().max_by_key(|r| r.len()).cloned().unwrap_or_default();
    let mut out = Vec::new();
    for (i, (x, _)) in longest.iter().enumerate() {
        // All runs have their points at the same percentiles.
        let here: Vec<f64> =
            runs.iter().filter_map(|r| r.get(i)).filter(|p| (p.0 - x).abs() < 1e-9).map(|p| p.1).collect();
        let Some(m) = median(&here).filter(|_| 2 * here.len() >= runs.len()) else { break };
        let range = || here.iter().fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(*v), h.max(*v)));
        let (low, high) = shift::median_interval(&here, 0.95).unwrap_or_else(range);
        out.push((*x, low, m, high));
    }
    out
}

/// The latency that heads a workload, as a chart of a group shows it.
fn headline<'t>(heads: &Headlines, trial: &'t Trial, workload: usize) -> Option<(&'static str, &'t LatencySummary)> {
    heads.latency(workload, trial.workloads.get(workload)?)
}

/// The percentile curves of a group, a chart for each workload.
pub fn percentiles(group: &ChartGroup<'_>) -> Vec<Chart> {
    let most = group.sides.iter().map(|s| s.case.workloads.len()).max().unwrap_or(0);
    (0..most).filter_map(|w| percentile_chart(group, w)).collect()
}

fn percentile_chart(group: &ChartGroup<'_>, workload: usize) -> Option<Chart> {
    let heads = Headlines::of(group.sides.iter().map(|s| s.record));
    let of = |(at, side): (usize, &ChartSide<'_>)| {
        let runs: Vec<_> = side.valid().filter_map(|t| headline(&heads, t, workload)).map(|(_, l)| curve(l)).collect();
        SideCurves { at, middle: middle(&runs), runs }
    };
    let curves: Vec<SideCurves> = group.sides.iter().enumerate().map(of).filter(|c| !c.middle.is_empty()).collect();
    let first = &group.sides[curves.first()?.at];
    let kind = first.valid().find_map(|t| headline(&heads, t, workload)).map_or("response", |h| h.0);
    let name = if first.case.workloads.len() > 1 { &first.case.workloads[workload].name } else { "" };
    let part = if name.is_empty() { String::new() } else { format!(" / {name}") };
    let title = format!("{}{part}: latency by percentile ({kind})", group.name);
    let caption = format!(
        "A thin line for each valid run; a bold one for the median of the runs at each percentile, with a band for its 95 % interval (below six runs, from the lowest to the highest). Lines end where fewer than {ENOUGH} samples lie above, or where lost messages begin."
    );
    let all = || curves.iter().flat_map(|c| &c.runs).flatten();
    let x = Axis::nines(all().map(|p| p.0).fold(1.0, f64::max));
    let on = |y: Axis| {
        let shapes = curves.iter().flat_map(|c| c.shapes(group.sides[c.at].label, &x)).collect();
        Plot::single(x.clone(), y, 340.0, shapes)
    };
    let linear = on(Axis::of("latency", Unit::Nanos, all().map(|p| p.1).fold(0.0, f64::max)));
    let name = id("percentiles", &format!("{} {name}", group.name));
    let chart = Chart::new(&name, title, caption, on(log_axis(all().map(|p| p.1))));
    let series = curves.iter().map(|c| (c.at, group.sides[c.at].label.to_string()));
    Some(Chart { linear: Some(linear), ..chart.with_series(series) })
}

impl SideCurves {
    fn shapes(&self, label: &str, x: &Axis) -> Vec<Shape> {
        let (series, middle) = (self.at, &self.middle);
        let mut shapes = vec![Shape::Band { series, points: middle.iter().map(|m| (m.0, m.1, m.3)).collect() }];
        shapes.extend(self.runs.iter().map(|run| line(series, Weight::Thin, run.clone())));
        let runs = vec![middle.iter().map(|m| (m.0, m.2)).collect()];
        shapes.push(named(series, Weight::Bold, runs, label));
        shapes.extend(hovers(series, middle, |m| {
            let [low, mid, high] = [m.1, m.2, m.3].map(|v| Unit::Nanos.show(v));
            Some(((m.0, m.2), format!("{label} {}: {mid} ({low} to {high})", x.show(m.0))))
        }));
        shapes
    }
}

/// What is shown as bars: its name, its unit, its value in a trial.
type CostMetric = (&'static str, &'static str, fn(&Trial) -> Option<f64>);

/// What a message cost: medians over the valid runs, as bars from zero.
pub const COSTS: [CostMetric; 4] = [
    ("CPU of the broker", "us per message", |t| t.broker.as_ref()?.cpu_us_per_msg),
    ("CPU of generator and client", "us per message", |t| t.generator.cpu_us_per_msg),
    ("Memory of the broker, peak", "MiB", |t| Some(t.broker.as_ref()?.rss_peak_bytes as f64 / 1_048_576.0)),
    ("Written to disk", "MiB", |t| Some(t.broker.as_ref()?.disk_written_bytes as f64 / 1_048_576.0)),
];

/// The median of a cost over the valid runs of a side.
pub fn cost(side: &ChartSide<'_>, of: fn(&Trial) -> Option<f64>) -> Option<f64> {
    median(&side.valid().filter_map(of).collect::<Vec<_>>())
}

/// The costs of a group as bars; `None` where nothing was measured.
pub fn costs(group: &ChartGroup<'_>) -> Option<Chart> {
    let block = |(name, unit, of): &CostMetric| {
        let row = |(series, side): (usize, &ChartSide<'_>)| {
            let value = cost(side, *of)?;
            let text = three_digits(value);
            let says = format!("{}: {name} {text} {unit}", side.label);
            let label = side.label.to_string();
            Some(Row { series, label, value, interval: None, text, grade: None, zone: None, says })
        };
        let rows: Vec<Row> = group.sides.iter().enumerate().filter_map(row).collect();
        let shown = rows.iter().any(|r| r.value > 0.0);
        shown.then(|| from_zero(format!("{name}, {unit}"), rows))
    };
    let blocks: Vec<Block> = COSTS.iter().filter_map(block).collect();
    let caption =
        "Medians over the valid runs; every block has its own scale, from zero. The table below has the figures.";
    let title = format!("{}: what it cost", group.name);
    let some = !blocks.is_empty();
    let body = Body::Rows(Rows { kind: RowKind::Bars, blocks });
    some.then(|| Chart::new(&id("costs", &group.name), title, caption.into(), body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_band_is_the_interval_of_the_median_and_ends_with_half_of_the_runs() {
        let run = |scale: f64, n: usize| (0..n).map(|i| (i as f64, scale * (i + 1) as f64)).collect::<Vec<_>>();
        let six: Vec<_> = (1..=6).map(|k| run(f64::from(k), if k > 3 { 4 } else { 9 })).collect();
        let found = middle(&six);
        assert_eq!(found[0], (0.0, 1.0, 3.5, 6.0));
        // Three of six go on; then the interval is their range.
        assert_eq!((found.len(), found[8]), (9, (8.0, 9.0, 18.0, 27.0)));
        assert_eq!(middle(&six[..3])[0], (0.0, 1.0, 2.0, 3.0));
        let short: Vec<_> = (1..=5).map(|k| run(1.0, if k == 1 { 9 } else { 2 })).collect();
        assert_eq!(middle(&short).len(), 2);
        assert!(middle(&[]).is_empty());
    }

    #[test]
    fn a_change_reads_as_people_say_it() {
        let said: Vec<String> = [1.049, 0.951, 6.1, 0.25, f64::INFINITY].map(change).to_vec();
        assert_eq!(said, ["+4.9 %", "-4.9 %", "×6.10", "×0.250", "inf"]);
    }
}
