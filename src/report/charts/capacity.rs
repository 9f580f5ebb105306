//! Latency over offered load, where a scenario sweeps the rate: the hockey stick. It shows how far
//! below its limit a system was measured, and where the limit is.

use super::axis::{Axis, AxisScale};
use super::svg::{PlotFrame, Svg, dash, widest};
use crate::plan::gate::Comparator;
use crate::plan::metric::{Quantity, Unit};
use crate::plan::{Case, Load};
use crate::record::{RESPONSES, Record, Status, Trial};
use crate::report::charts::figure::Figure;
use crate::report::words::view::{ShownLatency, quantile_name, response, trials, usable};
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
    let value = |t: &Trial| match ShownLatency::of(t.workloads.get(sweep.workload).and_then(response)?.1.at(quantile)) {
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

/// A figure for each percentile with a line for each system; with one system, one figure with a
/// line for each percentile.
pub fn figures(record: &Record) -> String {
    let all = sweeps(record);
    let mut groups: Vec<(usize, &str)> = all.iter().map(|s| (s.workload, s.rest.as_str())).collect();
    groups.dedup();
    groups.sort_unstable();
    groups.dedup();
    let mut out = String::new();
    for (workload, rest) in groups {
        let of: Vec<&Sweep<'_>> = all.iter().filter(|s| s.workload == workload && s.rest == rest).collect();
        let measured = |q: &f64| record.plan.percentiles.iter().any(|p| (p - q).abs() < 1e-9);
        let line = |s: &Sweep<'_>, label: &str, series: usize, q: f64| CapacityLine {
            label: label.into(),
            series,
            of: (of.len() > 1 || (q - 0.99).abs() < 1e-9).then(|| s.system.to_string()),
            points: points(record, s, q),
        };
        let name = |what: &str| {
            let workload = of[0].cases[0].1.workloads.get(workload).filter(|_| of[0].cases[0].1.workloads.len() > 1);
            let workload = workload.map_or_else(String::new, |w| format!(" of {}", w.name));
            let rest = if rest.is_empty() { String::new() } else { format!(" ({rest})") };
            format!("{what}{workload} by offered load{rest}")
        };
        let id = |what: &str| format!("capacity-{}", super::chart::file_name(&format!("{workload}-{rest}-{what}")));
        if let [single] = of[..] {
            let lines: Vec<CapacityLine> = QUANTILES
                .iter()
                .filter(|q| measured(q))
                .enumerate()
                .map(|(i, q)| line(single, &quantile_name(*q), i, *q))
                .collect();
            out.push_str(&figure(
                &id("all"),
                &name(&format!("{}: response latency", single.system)),
                &lines,
                limit(record, 0.99),
            ));
            continue;
        }
        for q in QUANTILES.iter().filter(|q| measured(q)) {
            let lines: Vec<CapacityLine> = of.iter().enumerate().map(|(i, s)| line(s, s.system, i, *q)).collect();
            let what = format!("Response latency, {}", quantile_name(*q));
            out.push_str(&figure(&id(&quantile_name(*q)), &name(&what), &lines, limit(record, *q)));
        }
    }
    out
}

fn figure(id: &str, title: &str, lines: &[CapacityLine], limit: Option<f64>) -> String {
    let all = || lines.iter().flat_map(|l| &l.points);
    let values = || all().flat_map(|p| p.runs.iter().chain(&p.overloaded)).copied().filter(|v| v.is_finite());
    if values().next().is_none() {
        return String::new();
    }
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
    let caption =
        format!("A mark for each run, a line through the medians of the valid ones.{hollow}{infinite}{condition}");
    let title = format!("{title}.");
    let x = Axis {
        reading: AxisScale::Of(Unit::Rate),
        ..Axis::of("offered load, messages/s", Unit::Rate, all().map(|p| p.rate).fold(0.0, f64::max))
    };
    let y = Axis::log_of("latency, logarithmic", Unit::Nanos, values().chain(limit));
    let place = |v: f64| if v.is_finite() { v.log10() } else { y.max };
    let draw = |id: &str, width: f64| {
        let height = if width < 500.0 { 300.0 } else { 380.0 };
        let mut svg = Svg::new(&title, &caption, width, height);
        let frame = PlotFrame { x: &x, y: &y, across: (widest(&y) + 14.0, width - 20.0), down: (30.0, height - 48.0) };
        frame.axes(&mut svg);
        if let Some(l) = limit {
            let y = frame.at_y(l.log10());
            svg.line((frame.across.0, y), (frame.across.1, y), "one");
        }
        for l in lines {
            svg.open(l.series);
            let middles = l.points.iter().filter_map(|p| Some((p.rate, place(median(&p.runs)?))));
            svg.polyline(middles.map(|p| frame.at(p)), "curve", dash(l.series));
            for p in &l.points {
                let said = |v: &f64| format!("{}, {} offered: {}", l.label, Rate(p.rate), Unit::Nanos.show(*v));
                for v in &p.runs {
                    svg.mark(l.series, frame.at((p.rate, place(*v))), 4.0, &said(v));
                }
                for v in &p.overloaded {
                    svg.hollow(l.series, frame.at((p.rate, place(*v))), 4.0, &format!("{}, overloaded", said(v)));
                }
            }
            svg.close();
        }
        svg.finish(id)
    };
    let legend = lines.iter().map(|l| (l.series, l.label.clone())).collect();
    Figure { id, title: &title, caption: &caption, legend, draw: &draw, linear: None, below: "" }.html()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Arrivals, Profile};
    use crate::record::Check;
    use crate::record::sample;

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
        let html = figures(&swept());
        assert_eq!(html.matches("<figure").count(), 3, "p50, p99, p99.9");
        assert!(html.contains("Kept up in every run: reference up to 5k/s, nats up to 4k/s."), "{html}");
        // Two widths, three percentiles, two overloaded runs.
        assert_eq!(html.matches("m hollow").count(), 12);
        assert_eq!(figures(&sample::record()), "", "nothing is swept");
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
        let html = figures(&record);
        assert_eq!(html.matches("<figure").count(), 1);
        assert!(
            html.contains("p99.9")
                && html.contains("within 1.00us (the horizontal line) in every run: reference at no load point."),
            "{html}"
        );
    }
}
