//! The charts of a run: which lines, on which axes. [`super::plot`] draws them.

use super::axis::{Axis, AxisScale};
use super::plot::{COLOURS, ChartLine, LineStyle, Plot, stroke};
use crate::plan::metric::Unit;
use crate::plan::{Case, Workload};
use crate::record::{Interval, LatencySummary, Record};
use crate::report::words::view::{label, median_trial, response, trials, usable};
use crate::units::Nanos;

/// Fewer samples than this above a point of a curve, and it is not drawn.
pub(super) const ENOUGH: f64 = 10.0;

/// All charts of a run. One that would be empty is left out.
pub fn plots(record: &Record, intervals: &[Interval]) -> Vec<Plot> {
    let mut all = percentiles(record);
    for (case, workload, index) in series(record) {
        all.push(latency_timeline(record, intervals, case, workload, index));
        all.push(throughput_timeline(record, intervals, case, workload, index));
    }
    all.retain(|p| p.lines.iter().any(|l| l.runs.iter().any(|r| !r.is_empty())));
    all
}

/// Every case with its workloads and their index.
pub(in crate::report) fn series(record: &Record) -> impl Iterator<Item = (&Case, &Workload, usize)> {
    record.plan.cases.iter().flat_map(|c| c.workloads.iter().enumerate().map(move |(i, w)| (c, w, i)))
}

/// The logarithm of a latency, where it has one.
fn log(v: Nanos) -> Option<f64> {
    (v > 0).then(|| (v as f64).log10())
}

/// A logarithmic axis of latencies that holds all values.
fn log_axis(values: impl Iterator<Item = Nanos>) -> Axis {
    Axis::log_of("latency, logarithmic", Unit::Nanos, values.map(|v| v as f64))
}

/// The points of a curve that have enough samples above them, x as log10 of 1 / (1 - quantile).
pub(super) fn curve(summary: &LatencySummary) -> Vec<(f64, Nanos)> {
    // The quantiles are over all that were owed; the lost ones stand at the end.
    let n = (summary.count + summary.lost) as f64;
    let arrived = 1.0 - summary.lost as f64 / n.max(1.0);
    let shown = summary.curve.iter().filter(|(q, _)| n * (1.0 - q) >= ENOUGH && *q <= arrived);
    shown.map(|(q, v)| (-(1.0 - q).log10(), *v)).collect()
}

/// Latency by percentile, as HdrHistogram plots it; of more cases than there are colours, a chart
/// for each system, on the same axes.
fn percentiles(record: &Record) -> Vec<Plot> {
    let all: Vec<_> = series(record).collect();
    let few = all.len() <= COLOURS.len();
    let mut parts: Vec<(String, Vec<_>)> = Vec::new();
    for one in all {
        let system = record.plan.systems.get(one.0.system).map_or("", |s| s.name.as_str());
        let name = if few { String::new() } else { system.to_string() };
        match parts.iter_mut().find(|p| p.0 == name && p.1.len() < COLOURS.len()) {
            Some(there) => there.1.push(one),
            None => parts.push((name, vec![one])),
        }
    }
    let named = |name: &str, n: usize| match (name, n) {
        ("", _) => String::new(),
        (name, 0) => format!("-{}", file_name(name)),
        (name, n) => format!("-{}-{}", file_name(name), n + 1),
    };
    let mut plots: Vec<Plot> = Vec::new();
    for (i, (system, part)) in parts.iter().enumerate() {
        let before = parts[..i].iter().filter(|p| p.0 == *system).count();
        plots.push(curves(record, part, &named(system, before), system));
    }
    // The same axes, so that they can be compared; a part without a curve has none to give.
    let drawn = || plots.iter().filter(|p| p.lines.iter().any(|l| l.runs.iter().any(|r| !r.is_empty())));
    let right = drawn().map(|p| p.x.max).fold(1.02, f64::max);
    let ends = drawn().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| {
        let y = p.lines.iter().flat_map(|l| l.runs.iter().flatten()).map(|v| v.1);
        y.fold((l, h), |(l, h), v| (l.min(v), h.max(v)))
    });
    if ends.0 <= ends.1 && plots.len() > 1 {
        let y = log_axis([ends.0, ends.1].into_iter().map(|v| 10f64.powf(v).round() as Nanos));
        for plot in &mut plots {
            (plot.x, plot.y) = (Axis::nines(right / 1.02), y.clone());
        }
    }
    plots
}

fn curves(record: &Record, part: &[(&Case, &Workload, usize)], suffix: &str, system: &str) -> Plot {
    let mut thin = Vec::new();
    let mut bold = Vec::new();
    for (colour, (case, workload, index)) in part.iter().copied().enumerate() {
        let median = median_trial(record, &case.id, index);
        for trial in trials(record, &case.id).filter(|t| usable(t)) {
            let Some((_, summary)) = trial.workloads.get(index).and_then(response) else { continue };
            let points = curve(summary);
            if median.is_some_and(|m| std::ptr::eq(m, trial)) {
                bold.push((Some(label(case, workload)), colour, stroke(colour / COLOURS.len() + colour), 3, points));
            } else {
                thin.push((None, colour, LineStyle::Solid, 1, points));
            }
        }
    }
    thin.append(&mut bold);
    let points = || thin.iter().flat_map(|l| &l.4);
    let nines = points().map(|p| p.0).fold(1.0, f64::max);
    let kind = record.trials.iter().flat_map(|t| &t.workloads).find_map(response).map_or("response", |r| r.0);
    Plot {
        name: format!("percentiles{suffix}"),
        title: if system.is_empty() {
            format!("Response latency by percentile ({kind})")
        } else {
            format!("{system}: response latency by percentile ({kind})")
        },
        description: format!(
            "One bold line for each case at its median trial, thin lines for the other valid trials. Lines end where fewer than {ENOUGH} samples lie above, or where lost messages begin."
        ),
        x: Axis::nines(nines),
        y: log_axis(thin.iter().flat_map(|l| l.4.iter().map(|p| p.1))),
        lines: thin
            .into_iter()
            .map(|(label, colour, stroke, width, points)| ChartLine {
                label,
                colour,
                stroke,
                width,
                runs: vec![points.into_iter().filter_map(|(x, y)| Some((x, log(y)?))).collect()],
            })
            .collect(),
    }
}

/// The intervals of the median trial of a case; of its last trial where none is valid.
fn of<'a>(
    record: &Record,
    intervals: &'a [Interval],
    case: &'a Case,
    workload: &'a Workload,
    index: usize,
) -> Vec<&'a Interval> {
    let trial = median_trial(record, &case.id, index).or_else(|| trials(record, &case.id).last());
    let Some(round) = trial.map(|t| t.round) else { return Vec::new() };
    intervals.iter().filter(|i| i.case == case.id && i.workload == workload.name && i.round == round).collect()
}

/// A line through the middles of intervals; where a value is missing it has a gap.
fn through(intervals: &[&Interval], value: impl Fn(&Interval) -> Option<f64>) -> Vec<Vec<(f64, f64)>> {
    let mut runs = vec![Vec::new()];
    for i in intervals {
        match value(i) {
            Some(y) => {
                if let Some(run) = runs.last_mut() {
                    run.push((i.start_s + i.length_s / 2.0, y));
                }
            }
            None => runs.push(Vec::new()),
        }
    }
    runs.retain(|r| !r.is_empty());
    runs
}

fn seconds(intervals: &[&Interval]) -> Axis {
    let end = intervals.iter().map(|i| i.start_s + i.length_s).fold(1.0, f64::max);
    let start = intervals.iter().map(|i| i.start_s).fold(0.0, f64::min);
    let axis = Axis::linear("seconds since the measured phase began", end);
    Axis { min: start, max: end, reading: AxisScale::Seconds, ..axis }
}

/// Latency over time on a logarithmic axis that all cases share.
fn latency_timeline(record: &Record, intervals: &[Interval], case: &Case, workload: &Workload, index: usize) -> Plot {
    let values = |i: &Interval| [i.p50_ns, i.p99_ns, i.max_ns];
    let mine = of(record, intervals, case, workload, index);
    let line = |name: &str, colour, stroke, width, value: fn(&Interval) -> Option<Nanos>| ChartLine {
        label: Some(name.into()),
        colour,
        stroke,
        width,
        runs: through(&mine, |i| value(i).and_then(log)),
    };
    let name = label(case, workload);
    Plot {
        name: format!("latency-{}", file_name(&name)),
        title: format!("{name}: response latency over time"),
        description: "Median, 99th percentile and maximum of each interval, of the median trial. A gap means that messages were lost or none arrived.".into(),
        x: seconds(&mine),
        y: log_axis(intervals.iter().flat_map(values).flatten()),
        lines: vec![
            line("max", 1, LineStyle::Dashed(3, 3), 2, |i| i.max_ns),
            line("p99", 0, LineStyle::Dashed(9, 4), 2, |i| i.p99_ns),
            line("p50", 2, LineStyle::Solid, 2, |i| i.p50_ns),
        ],
    }
}

/// Deliveries due and made over time.
fn throughput_timeline(
    record: &Record,
    intervals: &[Interval],
    case: &Case,
    workload: &Workload,
    index: usize,
) -> Plot {
    let mine = of(record, intervals, case, workload, index);
    let groups = f64::from(workload.topology.groups.max(1));
    let rate = |n: u64, i: &Interval| (i.length_s > 0.0).then(|| n as f64 / i.length_s);
    let due = through(&mine, |i| rate(i.scheduled, i).map(|r| r * groups));
    let made = through(&mine, |i| rate(i.delivered, i));
    let top = due.iter().chain(&made).flatten().map(|p| p.1).fold(0.0, f64::max);
    let name = label(case, workload);
    let line =
        |name: &str, colour, stroke, runs| ChartLine { label: Some(name.into()), colour, stroke, width: 2, runs };
    Plot {
        name: format!("throughput-{}", file_name(&name)),
        title: format!("{name}: deliveries over time"),
        description: "Deliveries due by the schedule and deliveries made in each interval, of the median trial.".into(),
        x: seconds(&mine),
        y: Axis::linear("messages/s", top * 1.35),
        lines: vec![line("delivered", 0, LineStyle::Solid, made), line("offered", 1, LineStyle::Dashed(9, 12), due)],
    }
}

/// A name as it stands in a file name or an identifier.
pub(in crate::report) fn file_name(name: &str) -> String {
    name.replace(" / ", "-").chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

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
        let wanted = ["percentiles-reference", "percentiles-nats", "percentiles-other"];
        assert_eq!(names[..3], wanted);
        assert_eq!(names[3..], ["percentiles-reference-2", "percentiles-nats-2"]);
        let labelled = |p: &Plot| p.lines.iter().filter(|l| l.label.is_some()).count();
        assert_eq!(plots.iter().map(labelled).collect::<Vec<_>>(), [6, 6, 0, 2, 2], "`other` was skipped");
        assert!(plots[0].y == plots[1].y && plots[0].x == plots[4].x);
    }
}
