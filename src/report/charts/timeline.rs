//! Deliveries over time, and below them on the same time axis what was due and had not arrived: a
//! system that falls behind is seen in the second before it is in the first.

use super::axis::Axis;
use super::chart::{Body, Chart, Panel, Plot, Shape, Weight, hovers, line, named};
use crate::plan::{Load, Workload};
use crate::record::{Interval, Trial};
use crate::units::count;

/// Points of a line at most; intervals beyond are taken together.
const POINTS: usize = 240;

/// One line: deliveries of one trial.
#[derive(Debug)]
pub struct TrialTrack<'a> {
    /// Its name in the legend.
    pub label: &'a str,
    /// Its series; the offered load has the first one that is free.
    pub series: usize,
    points: Vec<BacklogPoint>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct BacklogPoint {
    /// Middle and end of the interval, seconds.
    at: (f64, f64),
    /// Deliveries due a second; absent where nothing is due by a schedule.
    due: Option<f64>,
    /// Deliveries made a second.
    made: f64,
    /// Deliveries due or sent and not made, at the end of the interval; absent where a backlog is
    /// replayed, which is no debt.
    behind: Option<f64>,
}

impl<'a> TrialTrack<'a> {
    /// The line of a trial; `None` where its result has no intervals of it.
    pub fn of(label: &'a str, series: usize, trial: &Trial, workload: &Workload, of: &[&Interval]) -> Option<Self> {
        let of: Vec<_> = of.iter().filter(|i| i.length_s > 0.0 && i.start_s > -1e-9).collect();
        let copies = f64::from(workload.topology.groups.max(1));
        let open = matches!(workload.load, Load::Open { .. });
        let replayed = trial.workloads.iter().any(|w| w.name == workload.name && w.replay.is_some());
        let mut behind = 0.0;
        let points: Vec<BacklogPoint> = of
            .chunks(of.len().div_ceil(POINTS).max(1))
            .map(|chunk| {
                let sum = |f: fn(&Interval) -> u64| chunk.iter().map(|i| f(i)).sum::<u64>() as f64;
                let length: f64 = chunk.iter().map(|i| i.length_s).sum();
                let due = copies * if open { sum(|i| i.scheduled) } else { sum(|i| i.sent) };
                let made = sum(|i| i.delivered);
                behind += due - made;
                let start = chunk[0].start_s;
                BacklogPoint {
                    at: (start + length / 2.0, start + length),
                    due: open.then_some(due / length),
                    made: made / length,
                    // A duplicate is no credit.
                    behind: (!replayed).then_some(behind.max(0.0)),
                }
            })
            .collect();
        (!points.is_empty()).then_some(Self { label, series, points })
    }
}

/// The chart; the first track's schedule is the offered load, as all that are compared have the
/// same. `None` without a point.
pub fn chart(name: &str, title: String, tracks: &[TrialTrack<'_>]) -> Option<Chart> {
    let all = || tracks.iter().flat_map(|t| &t.points);
    all().next()?;
    let free = tracks.iter().map(|t| t.series + 1).max().unwrap_or(0);
    let offered = tracks.first().filter(|t| t.points.iter().any(|p| p.due.is_some()));
    let behind = all().any(|p| p.behind.is_some());
    let x = Axis::seconds(0.0, all().map(|p| p.at.1).fold(1.0, f64::max));
    let top = all().flat_map(|p| [p.made, p.due.unwrap_or(0.0)]).fold(0.0, f64::max);
    let mut panels = vec![Panel { y: Axis::linear("deliveries/s", top * 1.15), height: 240.0, shapes: Vec::new() }];
    if behind {
        let most = all().filter_map(|p| p.behind).fold(5.0, f64::max);
        let y = Axis::linear("backlog, deliveries", most * 1.1);
        panels.push(Panel { y, height: 110.0, shapes: Vec::new() });
    }
    if let Some(t) = offered {
        let runs = vec![t.points.iter().filter_map(|p| Some((p.at.0, p.due?))).collect()];
        panels[0].shapes.push(named(free, Weight::Normal, runs, "due"));
    }
    for t in tracks {
        panels[0].shapes.extend(t.deliveries());
        if behind {
            panels[1].shapes.extend(t.backlog());
        }
    }
    let mut series: Vec<(usize, String)> = tracks.iter().map(|t| (t.series, t.label.to_string())).collect();
    series.extend(offered.map(|_| (free, "due by the schedule".to_string())));
    let of = if tracks.len() > 1 { "the median trial of each" } else { "the median trial" };
    let which = if offered.is_some() { "that were due and" } else { "of messages sent that" };
    let debt = format!(
        " Below: deliveries {which} had not been made at the end of each interval; a lost message stays in it."
    );
    let debt = if behind { debt.as_str() } else { "" };
    let caption = format!("Deliveries a second in each interval, {of}.{debt}");
    let most = tracks.iter().flat_map(|t| t.points.iter().filter_map(move |p| p.behind.map(|b| (t, p, b))));
    // The first of several.
    let most = most.reduce(|a, b| if b.2 > a.2 { b } else { a });
    let worst = most.map_or_else(String::new, |(t, p, b)| {
        format!(" The largest backlog is {} ({}, at {:.1} s).", count(b), t.label, p.at.1)
    });
    let summary = format!("{caption}{worst}");
    let chart = Chart::new(name, title, caption, Body::Plot(Plot { x, panels })).with_series(series);
    Some(Chart { summary, ..chart })
}

impl TrialTrack<'_> {
    fn deliveries(&self) -> Vec<Shape> {
        let series = self.series;
        let runs = vec![self.points.iter().map(|p| (p.at.0, p.made)).collect()];
        let mut shapes = vec![named(series, Weight::Normal, runs, self.label)];
        shapes.extend(hovers(series, &self.points, |p| {
            let due = p.due.map_or_else(String::new, |d| format!(" of {} due", count(d)));
            Some(((p.at.0, p.made), format!("{}, {:.1} s: {}/s{due}", self.label, p.at.0, count(p.made))))
        }));
        shapes
    }

    fn backlog(&self) -> Vec<Shape> {
        let series = self.series;
        let points: Vec<(f64, f64)> = self.points.iter().filter_map(|p| Some((p.at.1, p.behind?))).collect();
        let mut shapes = vec![Shape::Band { series, points: points.iter().map(|p| (p.0, 0.0, p.1)).collect() }];
        shapes.extend(hovers(series, &points, |p| {
            Some((*p, format!("{}, {:.1} s: backlog {}", self.label, p.0, count(p.1))))
        }));
        shapes.insert(1, line(series, Weight::Normal, points));
        shapes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    #[test]
    fn what_is_due_and_not_made_is_the_backlog() {
        let (record, intervals) = (sample::record(), sample::intervals());
        let (trial, workload) = (&record.trials[0], &record.plan.cases[1].workloads[0]);
        let mine: Vec<&Interval> = intervals.iter().filter(|i| i.case == "nats" && i.round == 1).collect();
        let track = TrialTrack::of("nats", 0, trial, workload, &mine).unwrap();
        assert_eq!(track.points.len(), 20, "warm-up is not shown");
        let behind: Vec<f64> = track.points.iter().filter_map(|p| p.behind).collect();
        assert_eq!((behind[8], behind[9], behind[19]), (0.0, 300.0, 300.0), "300 are missing from 9 s on");
        assert_eq!((track.points[0].due, track.points[9].made), (Some(1000.0), 700.0));
        let chart = chart("t", "nats: deliveries over time".into(), &[track]).unwrap();
        assert!(chart.summary.ends_with("The largest backlog is 300 (nats, at 10.0 s)."));
        assert_eq!(chart.series[1].1, "due by the schedule");
        assert!(TrialTrack::of("nats", 0, trial, workload, &[]).is_none());
        assert_eq!(super::chart("t", "none".into(), &[]), None);
    }

    #[test]
    fn a_replay_is_no_debt_and_an_hour_no_longer_line() {
        let mut record = sample::record();
        record.trials[0].workloads[0].replay = Some(crate::record::Replay {
            backlog: 10,
            delivered: 10,
            begun_s: 0.0,
            first_s: None,
            catch_up_s: None,
            rate: None,
        });
        let template = sample::intervals().swap_remove(5);
        let list: Vec<Interval> = (0..3600).map(|i| Interval { start_s: f64::from(i), ..template.clone() }).collect();
        let of: Vec<&Interval> = list.iter().collect();
        let track = TrialTrack::of("a", 0, &record.trials[0], &record.plan.cases[1].workloads[0], &of).unwrap();
        assert!(track.points.len() <= POINTS && track.points.iter().all(|p| p.behind.is_none()));
        assert!(!chart("t", "a".into(), &[track]).unwrap().summary.contains("backlog"));
    }
}
