//! Deliveries over time, and below them on the same time axis what was due and had not arrived: a
//! system that falls behind is seen in the second before it is in the first.

use super::axis::{Axis, AxisScale};
use super::svg::{PlotFrame, Svg, dash, widest};
use crate::plan::{Load, Workload};
use crate::record::{Interval, Trial};
use crate::report::charts::figure::Figure;
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

/// The figure; the first track's schedule is the offered load, as all that are compared have the
/// same.
pub fn figure(id: &str, title: &str, tracks: &[TrialTrack<'_>]) -> String {
    let all = || tracks.iter().flat_map(|t| &t.points);
    if all().next().is_none() {
        return String::new();
    }
    let free = tracks.iter().map(|t| t.series + 1).max().unwrap_or(0);
    let offered = tracks.first().filter(|t| t.points.iter().any(|p| p.due.is_some()));
    let behind = all().any(|p| p.behind.is_some());
    let mut legend: Vec<(usize, String)> = tracks.iter().map(|t| (t.series, t.label.to_string())).collect();
    legend.extend(offered.map(|_| (free, "due by the schedule".to_string())));
    let of = if tracks.len() > 1 { "the median trial of each" } else { "the median trial" };
    let debt = match (behind, offered.is_some()) {
        (false, _) => "",
        (true, true) => {
            " Below: deliveries that were due and had not been made at the end of each interval; a lost message stays in it."
        }
        (true, false) => {
            " Below: deliveries of messages sent that had not been made at the end of each interval; a lost message stays in it."
        }
    };
    let caption = format!("Deliveries a second in each interval, {of}.{debt}");
    let title = format!("{title}.");
    let most = tracks.iter().flat_map(|t| t.points.iter().filter_map(move |p| p.behind.map(|b| (t, p, b))));
    // The first of several.
    let most = most.reduce(|a, b| if b.2 > a.2 { b } else { a });
    let worst = most.map_or_else(String::new, |(t, p, b)| {
        format!(" The largest backlog is {} ({}, at {:.1} s).", count(b), t.label, p.at.1)
    });
    let summary = format!("{caption}{worst}");
    let end = all().map(|p| p.at.1).fold(1.0, f64::max);
    let x =
        Axis { max: end, reading: AxisScale::Seconds, ..Axis::linear("seconds since the measured phase began", end) };
    let top = all().flat_map(|p| [p.made, p.due.unwrap_or(0.0)]).fold(0.0, f64::max);
    let rate = Axis::linear("deliveries/s", top * 1.15);
    let debt = Axis::linear("backlog, deliveries", all().filter_map(|p| p.behind).fold(1.0, f64::max) * 1.1);
    let draw = |id: &str, width: f64| {
        let (upper, lower) = if width < 500.0 { (200.0, 96.0) } else { (240.0, 110.0) };
        let height = 30.0 + upper + if behind { 34.0 + lower } else { 0.0 } + 48.0;
        let mut svg = Svg::new(&title, &summary, width, height);
        let across = (widest(&rate).max(widest(&debt)) + 14.0, width - 14.0);
        let bare =
            Axis { title: String::new(), ticks: x.ticks.iter().map(|t| (t.0, String::new())).collect(), ..x.clone() };
        let first = PlotFrame { x: if behind { &bare } else { &x }, y: &rate, across, down: (30.0, 30.0 + upper) };
        let second = PlotFrame { x: &x, y: &debt, across, down: (64.0 + upper, 64.0 + upper + lower) };
        first.axes(&mut svg);
        if behind {
            second.axes(&mut svg);
        }
        if let Some(t) = offered {
            svg.open(free);
            let due = t.points.iter().filter_map(|p| Some(first.at((p.at.0, p.due?))));
            svg.polyline(due, "curve", dash(free));
            svg.close();
        }
        for t in tracks {
            svg.open(t.series);
            svg.polyline(t.points.iter().map(|p| first.at((p.at.0, p.made))), "curve", dash(t.series));
            for p in t.points.iter().step_by(t.points.len().div_ceil(48)) {
                let due = p.due.map_or_else(String::new, |d| format!(" of {} due", count(d)));
                svg.target(
                    first.at((p.at.0, p.made)),
                    &format!("{}, {:.1} s: {}/s{due}", t.label, p.at.0, count(p.made)),
                );
            }
            if let Some(p) = t.points.last() {
                svg.mark(t.series, first.at((p.at.0, p.made)), 4.0, &format!("{}: {}/s", t.label, count(p.made)));
            }
            let line: Vec<(f64, f64)> = t.points.iter().filter_map(|p| Some(second.at((p.at.1, p.behind?)))).collect();
            if let (Some(from), Some(to)) = (line.first(), line.last()) {
                let floor = [(to.0, second.down.1), (from.0, second.down.1)];
                svg.area(line.iter().copied().chain(floor), "band");
                svg.polyline(line.iter().copied(), "curve", dash(t.series));
                for p in t.points.iter().step_by(t.points.len().div_ceil(48)) {
                    let Some(b) = p.behind else { continue };
                    let said = format!("{}, {:.1} s: backlog {}", t.label, p.at.1, count(b));
                    svg.target(second.at((p.at.1, b)), &said);
                }
            }
            svg.close();
        }
        svg.finish(id)
    };
    Figure { id, title: &title, caption: &caption, legend, draw: &draw, linear: None, below: "" }.html()
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
        let html = figure("t", "nats: deliveries over time", &[track]);
        assert!(html.contains("The largest backlog is 300 (nats, at 10.0 s).") && html.contains("due by the schedule"));
        assert!(TrialTrack::of("nats", 0, trial, workload, &[]).is_none());
        assert_eq!(figure("t", "none", &[]), "");
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
        assert!(!figure("t", "a", &[track]).contains("backlog"));
    }
}
