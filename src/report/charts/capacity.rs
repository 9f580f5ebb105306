//! Latency over offered load, where a scenario sweeps the rate: the hockey stick. It shows how far
//! below its limit a system was measured, and where the limit is.

use super::axis::Axis;
use super::chart::{Chart, Plot, Shape, Weight, through};
use super::latency::log_axis;
use crate::plan::gate::Comparator;
use crate::plan::metric::{Quantity, Unit};
use crate::plan::{Case, Load};
use crate::record::{Headlines, RESPONSES, Record, Status, Trial};
use crate::report::words::view::{ShownLatency, quantile_name, trials, usable};
use crate::stats::median;
use crate::units::{Rate, latency};

/// Fewer rates make no line.
const FEWEST: usize = 3;
/// The percentiles that are drawn, where they are measured.
const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

/// One load point of a line.
#[derive(Debug, Clone, PartialEq)]
struct CapacityPoint {
    /// Messages a second that the schedule asks for.
    rate: f64,
    /// Nanoseconds of each run that counts; infinite where the percentile falls among lost
    /// messages.
    runs: Vec<f64>,
    /// Of each run that did not keep up (V3).
    overloaded: Vec<f64>,
}

#[derive(Debug, Clone, PartialEq)]
struct CapacityLine {
    label: String,
    series: usize,
    /// Whether what this line bears is said, and of whom.
    of: Option<String>,
    points: Vec<CapacityPoint>,
}

/// Cases that differ in the rate only: the rate of each.
struct Sweep<'a> {
    system: &'a str,
    workload: usize,
    /// The other settings of the load points.
    rest: String,
    cases: Vec<(f64, &'a Case)>,
}

fn sweeps(record: &Record) -> Vec<Sweep<'_>> {
    let mut list: Vec<Sweep<'_>> = Vec::new();
    for case in &record.plan.cases {
        let Some(system) = record.plan.systems.get(case.system) else { continue };
        let rest: Vec<String> = case
            .point
            .iter()
            .filter(|(path, _)| !path.ends_with("rate"))
            .map(|(path, v)| format!("{}={v}", path.rsplit('.').next().unwrap_or(path)))
            .collect();
        let rest = rest.join(" ");
        for (workload, w) in case.workloads.iter().enumerate() {
            let Load::Open { profile, .. } = &w.load else { continue };
            let rate = profile.peak().0;
            match list.iter_mut().find(|s| s.system == system.name && s.workload == workload && s.rest == rest) {
                Some(there) => there.cases.push((rate, case)),
                None => {
                    list.push(Sweep { system: &system.name, workload, rest: rest.clone(), cases: vec![(rate, case)] })
                }
            }
        }
    }
    for s in &mut list {
        s.cases.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    list.retain(|s| s.cases.windows(2).filter(|w| w[0].0 < w[1].0).count() + 1 >= FEWEST);
    list
}

fn overloaded(trial: &Trial) -> bool {
    trial.validity.iter().any(|c| c.id == "V3" && c.status == Status::Invalid)
}

fn points(record: &Record, sweep: &Sweep<'_>, quantile: f64) -> Vec<CapacityPoint> {
    let heads = Headlines::of([record]);
    let latency =
        |t: &Trial| Some(heads.latency(sweep.workload, t.workloads.get(sweep.workload)?)?.1.at(quantile).copied());
    let value = |t: &Trial| match ShownLatency::of(latency(t)?.as_ref()) {
        ShownLatency::Finite(ns) if ns > 0 => Some(ns as f64),
        ShownLatency::Infinite => Some(f64::INFINITY),
        _ => None,
    };
    let of = |rate: f64, case: &Case| CapacityPoint {
        rate,
        runs: trials(record, &case.id).filter(|t| usable(t)).filter_map(value).collect(),
        overloaded: trials(record, &case.id).filter(|t| overloaded(t)).filter_map(value).collect(),
    };
    let all = sweep.cases.iter().map(|(rate, case)| of(*rate, case));
    all.filter(|p| !p.runs.is_empty() || !p.overloaded.is_empty()).collect()
}

/// The limit of the scenario for a percentile of the response, in nanoseconds.
fn limit(record: &Record, quantile: f64) -> Option<f64> {
    let at_most = |c| matches!(c, Comparator::Less | Comparator::AtMost);
    let of = record.plan.expect.iter().filter(|e| at_most(e.comparator));
    let headline = |q: &Quantity| matches!(q, Quantity::Latency(kind, _) if RESPONSES.contains(&kind.as_str()));
    let same = |q: &Quantity| headline(q) && q.quantile().is_some_and(|x| (x - quantile).abs() < 1e-9);
    of.filter(|e| same(&e.metric.quantity)).map(|e| e.limit).min_by(f64::total_cmp)
}

/// The highest rate up to which every load point has runs, none of them overloaded, and all within
/// the limit.
fn sustained(line: &CapacityLine, limit: Option<f64>) -> Option<f64> {
    let good = |p: &&CapacityPoint| {
        p.overloaded.is_empty() && !p.runs.is_empty() && limit.is_none_or(|l| p.runs.iter().all(|v| *v <= l))
    };
    line.points.iter().take_while(good).last().map(|p| p.rate)
}

/// A chart for each percentile with a line for each system; with one system, one chart with a line
/// for each percentile.
pub fn charts(record: &Record) -> Vec<Chart> {
    let all = sweeps(record);
    let mut groups: Vec<(usize, &str)> = all.iter().map(|s| (s.workload, s.rest.as_str())).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut out = Vec::new();
    for (workload, rest) in groups {
        let of: Vec<&Sweep<'_>> = all.iter().filter(|s| s.workload == workload && s.rest == rest).collect();
        let measured = |q: &f64| record.plan.percentiles.iter().any(|p| (p - q).abs() < 1e-9);
        let line = |s: &Sweep<'_>, label: &str, series: usize, q: f64| CapacityLine {
            label: label.into(),
            series,
            of: (of.len() > 1 || (q - 0.99).abs() < 1e-9).then(|| s.system.to_string()),
            points: points(record, s, q),
        };
        let several = of[0].cases[0].1.workloads.len() > 1;
        let named = of[0].cases[0].1.workloads.get(workload).filter(|_| several);
        let named = named.map_or_else(String::new, |w| format!(" of {}", w.name));
        let more = if rest.is_empty() { String::new() } else { format!(" ({rest})") };
        let title = |what: &str| format!("{what}{named} by offered load{more}");
        let id = |what: &str| format!("capacity-{workload}-{rest}-{what}");
        if let [single] = of[..] {
            let shown = QUANTILES.iter().filter(|q| measured(q)).enumerate();
            let lines: Vec<CapacityLine> = shown.map(|(i, q)| line(single, &quantile_name(*q), i, *q)).collect();
            let title = title(&format!("{}: response latency", single.system));
            out.extend(chart(&id("all"), title, &lines, limit(record, 0.99)));
            continue;
        }
        for q in QUANTILES.iter().filter(|q| measured(q)) {
            let lines: Vec<CapacityLine> = of.iter().enumerate().map(|(i, s)| line(s, s.system, i, *q)).collect();
            let title = title(&format!("Response latency, {}", quantile_name(*q)));
            out.extend(chart(&id(&quantile_name(*q)), title, &lines, limit(record, *q)));
        }
    }
    out
}

/// What the chart shows, and up to which load each system kept up.
fn caption(lines: &[CapacityLine], limit: Option<f64>) -> String {
    let all = || lines.iter().flat_map(|l| &l.points);
    let kept = lines.iter().filter_map(|l| {
        let rate = sustained(l, limit).map_or_else(|| "at no load point".into(), |r| format!("up to {}", Rate(r)));
        Some(format!("{} {rate}", l.of.as_ref()?))
    });
    let kept: Vec<String> = kept.collect();
    let condition = match limit {
        _ if kept.is_empty() => String::new(),
        Some(l) => {
            let l = latency(l.round() as u64);
            format!(" Kept up, within {l} (the horizontal line) in every run: {}.", kept.join(", "))
        }
        None => format!(" Kept up in every run: {}.", kept.join(", ")),
    };
    let hollow = if all().any(|p| !p.overloaded.is_empty()) {
        " Hollow marks are runs that did not keep up (V3, OVERLOADED): their latencies grow with the length of the run and only say that the limit is passed."
    } else {
        ""
    };
    let infinite = if all().flat_map(|p| &p.runs).any(|v| v.is_infinite()) {
        " Marks on the upper edge are infinite: messages were lost."
    } else {
        ""
    };
    format!("A mark for each run, a line through the medians of the valid ones.{hollow}{infinite}{condition}")
}

fn chart(name: &str, title: String, lines: &[CapacityLine], limit: Option<f64>) -> Option<Chart> {
    let all = || lines.iter().flat_map(|l| &l.points);
    let values = || all().flat_map(|p| p.runs.iter().chain(&p.overloaded)).copied().filter(|v| v.is_finite());
    values().next()?;
    let x = Axis::of("offered load, messages/s", Unit::Rate, all().map(|p| p.rate).fold(0.0, f64::max));
    let y = log_axis(values().chain(limit));
    let mut shapes: Vec<Shape> =
        limit.iter().map(|l| Shape::Limit { at: *l, label: format!("limit {}", Unit::Nanos.show(*l)) }).collect();
    for l in lines {
        let series = l.series;
        let middles: Vec<(f64, f64)> = l.points.iter().filter_map(|p| Some((p.rate, median(&p.runs)?))).collect();
        shapes.push(through(series, Weight::Normal, vec![middles], &l.label));
        for p in &l.points {
            let marks = p.runs.iter().map(|v| (v, false)).chain(p.overloaded.iter().map(|v| (v, true)));
            shapes.extend(marks.map(|(v, hollow)| {
                let word = if hollow { ", overloaded" } else { "" };
                let says = format!("{}, {} offered: {}{word}", l.label, Rate(p.rate), Unit::Nanos.show(*v));
                Shape::Mark { series, at: (p.rate, *v), hollow, says }
            }));
        }
    }
    let chart = Chart::new(name, title, caption(lines, limit), Plot::single(x, y, 310.0, shapes));
    Some(chart.with_series(lines.iter().map(|l| (l.series, l.label.clone()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Arrivals, Profile};
    use crate::record::Check;
    use crate::record::sample;
    use crate::report::charts::chart::Body;

    /// The sample, with five rates for each system; the last one overloads `nats`.
    fn swept() -> Record {
        let mut record = sample::record();
        let (cases, trials) = (record.plan.cases.clone(), record.trials.clone());
        record.plan.cases.clear();
        record.trials.clear();
        for case in &cases[..2] {
            for k in 1..=5u32 {
                let rate = f64::from(k) * 1000.0;
                let mut next = case.clone();
                next.id = format!("{}-rate-{k}k", case.id);
                next.point = vec![("workload.load.rate".into(), format!("{k}k/s"))];
                next.workloads[0].load =
                    Load::Open { arrivals: Arrivals::Poisson, profile: Profile::constant(Rate(rate)) };
                for t in trials.iter().filter(|t| t.case == case.id) {
                    let mut t = t.clone();
                    t.case.clone_from(&next.id);
                    t.validity.clear();
                    if k == 5 && case.id == "nats" {
                        t.validity.push(Check {
                            id: "V3".into(),
                            name: "keeps up".into(),
                            status: Status::Invalid,
                            observed: String::new(),
                            threshold: String::new(),
                            message: "OVERLOADED".into(),
                        });
                    }
                    record.trials.push(t);
                }
                record.plan.cases.push(next);
            }
        }
        record
    }

    #[test]
    fn a_line_for_each_system_and_the_highest_load_that_it_bears() {
        let all = charts(&swept());
        assert_eq!(all.len(), 3, "p50, p99, p99.9");
        for chart in &all {
            assert!(
                chart.caption.contains("Kept up in every run: reference up to 5k/s, nats up to 4k/s."),
                "{chart:?}"
            );
            let Body::Plot(plot) = &chart.body else { panic!("a plot") };
            let hollow = plot.panels[0].shapes.iter().filter(|s| matches!(s, Shape::Mark { hollow: true, .. }));
            assert_eq!(hollow.count(), 2, "two overloaded runs");
        }
        assert_eq!(charts(&sample::record()), [], "nothing is swept");
    }

    #[test]
    fn one_system_has_a_line_for_each_percentile_and_a_limit_is_held_against_p99() {
        let mut record = swept();
        record.plan.cases.retain(|c| c.id.starts_with("reference"));
        let expect = crate::plan::gate::Expectation {
            that: "e2e.p99 < 1us".into(),
            metric: "e2e.p99".parse().unwrap(),
            comparator: Comparator::Less,
            limit: 1e3,
            system: None,
            on_inconclusive: crate::plan::gate::Policy::Warn,
        };
        record.plan.expect = vec![expect];
        let [chart] = &charts(&record)[..] else { panic!("one chart") };
        assert_eq!(chart.series.last().unwrap().1, "p99.9");
        let said = "within 1.00us (the horizontal line) in every run: reference at no load point.";
        assert!(chart.caption.contains(said), "{}", chart.caption);
    }
}
