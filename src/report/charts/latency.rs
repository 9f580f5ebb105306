//! Latency of a run: by percentile, and, where there is no interval log, as lines over time.

use super::axis::Axis;
use super::canvas::SERIES;
use super::chart::{Chart, Plot, Shape, Weight, hovers, line, named};
use crate::plan::metric::Unit;
use crate::plan::{Case, Workload};
use crate::record::{Headlines, Interval, LatencySummary, Record, Trial};
use crate::report::words::view::{label, median_trial, trials, usable};
use crate::units::Nanos;

/// Fewer samples than this above a point of a curve, and it is not drawn.
pub(super) const ENOUGH: f64 = 10.0;

/// Every case with its workloads and their index.
pub(in crate::report) fn series(record: &Record) -> impl Iterator<Item = (&Case, &Workload, usize)> {
    record.plan.cases.iter().flat_map(|c| c.workloads.iter().enumerate().map(move |(i, w)| (c, w, i)))
}

/// A logarithmic axis of latencies that holds all values.
pub(super) fn log_axis(values: impl Iterator<Item = f64>) -> Axis {
    Axis::log_of("latency, logarithmic", Unit::Nanos, values)
}

/// The points of a curve that have enough samples above them, x as log10 of 1 / (1 - quantile), in
/// nanoseconds.
pub(super) fn curve(summary: &LatencySummary) -> Vec<(f64, f64)> {
    // The quantiles are over all that were owed; the lost ones stand at the end.
    let n = (summary.count + summary.lost) as f64;
    let arrived = 1.0 - summary.lost as f64 / n.max(1.0);
    let shown = summary.curve.iter().filter(|(q, v)| n * (1.0 - q) >= ENOUGH && *q <= arrived && *v > 0);
    shown.map(|(q, v)| (-(1.0 - q).log10(), *v as f64)).collect()
}

/// Latency by percentile, as HdrHistogram plots it; of more cases than there are colours, a chart
/// for each system, on the same axes.
pub fn percentiles(record: &Record) -> Vec<Chart> {
    let all: Vec<_> = series(record).collect();
    let few = all.len() <= SERIES;
    let mut parts: Vec<(String, Vec<_>)> = Vec::new();
    for one in all {
        let system = record.plan.systems.get(one.0.system).map_or("", |s| s.name.as_str());
        let name = if few { String::new() } else { system.to_string() };
        match parts.iter_mut().find(|p| p.0 == name && p.1.len() < SERIES) {
            Some(there) => there.1.push(one),
            None => parts.push((name, vec![one])),
        }
    }
    let named = |name: &str, n: usize| match (name, n) {
        ("", _) => "percentiles".to_string(),
        (name, 0) => format!("percentiles-{name}"),
        (name, n) => format!("percentiles-{name}-{}", n + 1),
    };
    let lines: Vec<Vec<CaseCurves>> = parts.iter().map(|p| curves(record, &p.1)).collect();
    // The same axes, so that they can be compared.
    let points = || lines.iter().flatten().flat_map(|c| &c.runs).flatten();
    let x = Axis::nines(points().map(|p| p.0).fold(1.0, f64::max));
    let y = log_axis(points().map(|p| p.1));
    let heads = Headlines::of([record]);
    let mut all = record.trials.iter().flat_map(|t| t.workloads.iter().enumerate());
    let kind = all.find_map(|(i, w)| heads.latency(i, w)).map_or("response", |r| r.0);
    let caption = format!(
        "One bold line for each case at its median trial, thin lines for the other valid trials. Lines end where fewer than {ENOUGH} samples lie above, or where lost messages begin."
    );
    let mut charts = Vec::new();
    for (i, ((system, _), of)) in parts.iter().zip(&lines).enumerate() {
        let before = parts[..i].iter().filter(|p| p.0 == *system).count();
        let subject = if system.is_empty() { "Response".to_string() } else { format!("{system}: response") };
        let shapes = of.iter().enumerate().flat_map(|(n, c)| c.shapes(n, &x, &y)).collect();
        let body = Plot::single(x.clone(), y.clone(), 330.0, shapes);
        let title = format!("{subject} latency by percentile ({kind})");
        let chart = Chart::new(&named(system, before), title, caption.clone(), body);
        let drawn = of.iter().enumerate().filter(|(_, c)| c.runs.iter().any(|r| !r.is_empty()));
        let chart = chart.with_series(drawn.map(|(n, c)| (n, c.label.clone())));
        if !chart.series.is_empty() {
            charts.push(chart);
        }
    }
    charts
}

/// The curves of a case; the last one is that of the median trial.
struct CaseCurves {
    label: String,
    runs: Vec<Vec<(f64, f64)>>,
}

impl CaseCurves {
    fn shapes(&self, series: usize, x: &Axis, y: &Axis) -> Vec<Shape> {
        let Some((bold, thin)) = self.runs.split_last() else { return Vec::new() };
        let mut shapes: Vec<Shape> = thin.iter().map(|r| line(series, Weight::Thin, r.clone())).collect();
        shapes.push(named(series, Weight::Bold, vec![bold.clone()], &self.label));
        shapes.extend(hovers(series, bold, |p| {
            Some((*p, format!("{}: {} at {}", self.label, y.show(p.1), x.show(p.0))))
        }));
        shapes
    }
}

fn curves(record: &Record, part: &[(&Case, &Workload, usize)]) -> Vec<CaseCurves> {
    let heads = Headlines::of([record]);
    let of = |(case, workload, index): &(&Case, &Workload, usize)| {
        let median = median_trial(record, &case.id, *index);
        let mut all: Vec<_> = trials(record, &case.id).filter(|t| usable(t)).collect();
        all.sort_by_key(|t| median.is_some_and(|m| std::ptr::eq(m, *t)));
        let latency = |t: &&Trial| Some(curve(heads.latency(*index, t.workloads.get(*index)?)?.1));
        let runs = all.iter().filter_map(latency).collect();
        CaseCurves { label: label(case, workload), runs }
    };
    part.iter().map(of).collect()
}

/// A line through the middles of intervals; where a value is missing it has a gap.
fn through(intervals: &[&Interval], value: impl Fn(&Interval) -> Option<Nanos>) -> Vec<Vec<(f64, f64)>> {
    let at = |i: &&Interval| Some((i.start_s + i.length_s / 2.0, value(i).filter(|v| *v > 0)? as f64));
    let points: Vec<Option<(f64, f64)>> = intervals.iter().map(at).collect();
    points.split(Option::is_none).filter(|r| !r.is_empty()).map(|r| r.iter().flatten().copied().collect()).collect()
}

/// Percentiles of the intervals over time, on an axis that holds `all`; `None` where nothing
/// arrived.
pub fn lines_over_time(name: &str, mine: &[&Interval], all: &[Interval]) -> Option<Chart> {
    type IntervalValue = fn(&Interval) -> Option<Nanos>;
    let values: [(usize, &str, IntervalValue); 3] =
        [(1, "max", |i| i.max_ns), (3, "p99", |i| i.p99_ns), (2, "p50", |i| i.p50_ns)];
    let end = mine.iter().map(|i| i.start_s + i.length_s).fold(1.0, f64::max);
    let x = Axis::seconds(mine.iter().map(|i| i.start_s).fold(0.0, f64::min), end);
    let y = log_axis(all.iter().flat_map(|i| [i.p50_ns, i.p99_ns, i.max_ns]).flatten().map(|v| v as f64));
    let mut shapes = Vec::new();
    if values.iter().all(|v| through(mine, v.2).is_empty()) {
        return None;
    }
    for (series, label, value) in values {
        let runs = through(mine, value);
        let points: Vec<(f64, f64)> = runs.concat();
        shapes.push(named(series, Weight::Normal, runs, label));
        shapes.extend(hovers(series, &points, |p| Some((*p, format!("{label}: {} at {}", y.show(p.1), x.show(p.0))))));
    }
    let body = Plot::single(x, y, 330.0, shapes);
    let caption = "Median, 99th percentile and maximum of each interval, of the median trial. A gap means that messages were lost or none arrived.";
    let chart =
        Chart::new(&format!("latency-{name}"), format!("{name}: response latency over time"), caption.into(), body);
    Some(chart.with_series(values.map(|(n, label, _)| (n, label.into()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;
    use crate::report::charts::chart::Body;

    #[test]
    fn more_cases_than_colours_have_a_chart_for_each_system_on_the_same_axes() {
        let mut record = sample::record();
        let (cases, trials) = (record.plan.cases.clone(), record.trials.clone());
        for k in 0..7 {
            for case in &cases[..2] {
                let id = format!("{}-{k}", case.id);
                record.plan.cases.push(Case { id: id.clone(), ..case.clone() });
                let of = trials.iter().filter(|t| t.case == case.id);
                record.trials.extend(of.map(|t| crate::record::Trial { case: id.clone(), ..t.clone() }));
            }
        }
        let plots = percentiles(&record);
        let names: Vec<&str> = plots.iter().map(|p| p.name.as_str()).collect();
        let wanted = ["percentiles-reference", "percentiles-nats", "percentiles-reference-2", "percentiles-nats-2"];
        assert_eq!(names, wanted);
        assert_eq!(plots.iter().map(|p| p.series.len()).collect::<Vec<_>>(), [6, 6, 2, 2], "`other` was skipped");
        let axes = |k: usize| match &plots[k].body {
            Body::Plot(p) => (p.x.clone(), p.panels[0].y.clone()),
            Body::Rows(_) => panic!("no axes"),
        };
        assert!(axes(0) == axes(1) && axes(0) == axes(3));
    }
}
