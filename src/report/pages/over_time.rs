//! The charts of a run over time: for each case a heat map of latency, or, where its interval log
//! is not there, the lines of the intervals; and deliveries with the backlog.

use crate::plan::{Case, Workload};
use crate::record::{Record, Trial};
use crate::report::charts::chart::{file_name, series as cases};
use crate::report::charts::figure::figure;
use crate::report::charts::heat::{EventMark, HeatMap, HeatScale, READING, figure as heat_map};
use crate::report::charts::plot::Plot;
use crate::report::charts::series::RunSeries;
use crate::report::charts::timeline;
use crate::report::charts::timeline::TrialTrack;
use crate::report::pages::page::{details, figures as beside};
use crate::report::words::view::{label, median_trial, response, trials};

/// Heat maps of a page; further cases have lines. It bounds the page, and nobody compares more.
pub const MAPS: usize = 12;

/// The trial that stands for a case: the median one, or the last where none is valid.
pub fn shown<'a>(record: &'a Record, case: &'a Case, workload: usize) -> Option<&'a Trial> {
    median_trial(record, &case.id, workload).or_else(|| trials(record, &case.id).last())
}

/// The heat map of a trial, and how many of its messages are in no cell.
pub fn heat(series: &RunSeries<'_>, trial: &Trial, case: &Case, workload: usize) -> Option<(HeatMap, u64)> {
    let plan = case.workloads.get(workload)?;
    let (kind, summary) = trial.workloads.get(workload).and_then(response)?;
    let log = (series.read)(trial.hlog.as_deref()?)?;
    let tag = if case.workloads.len() > 1 { format!("{}/{kind}", plan.name) } else { kind.to_string() };
    Some((HeatMap::read(&log, &tag, &series.of(trial, &plan.name))?, summary.lost))
}

/// The events of a trial in the order of time.
pub fn marks(trial: &Trial) -> Vec<EventMark> {
    let mut list: Vec<EventMark> =
        trial.events.iter().map(|e| EventMark { at_s: e.at_s, text: e.text.clone() }).collect();
    list.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    list
}

/// What there is to draw of one case and workload.
struct HeatRow<'a> {
    name: String,
    trial: Option<&'a Trial>,
    workload: &'a Workload,
    heat: Option<(HeatMap, u64)>,
}

/// All charts over time. `plots` are those that the files under `charts/` hold: the lines stand in
/// where there is no log.
pub fn figures(record: &Record, plots: &[&Plot], series: &RunSeries<'_>) -> String {
    let mut maps = 0;
    let rows: Vec<HeatRow<'_>> = cases(record)
        .map(|(case, workload, index)| {
            let trial = shown(record, case, index);
            let heat = trial.filter(|_| maps < MAPS).and_then(|t| heat(series, t, case, index));
            maps += usize::from(heat.is_some());
            HeatRow { name: label(case, workload), trial, workload, heat }
        })
        .collect();
    let scale = HeatScale::of(rows.iter().filter_map(|r| r.heat.as_ref()).map(|h| &h.0));
    let mut all: Vec<String> = Vec::new();
    for row in &rows {
        let file = file_name(&row.name);
        let plot = |kind: &str| plots.iter().find(|p| p.name == format!("{kind}-{file}"));
        let latency = match (&row.heat, row.trial) {
            (Some((heat, lost)), Some(trial)) => {
                let title = format!("{}: response latency over time (round {})", row.name, trial.round);
                heat_map(&format!("latency-{file}"), &title, heat, &scale, &marks(trial), *lost)
            }
            _ => plot("latency").map_or_else(String::new, |p| {
                let mut p = (*p).clone();
                p.description.push_str(if maps < MAPS {
                    " No heat map: its interval log is not beside run.json."
                } else {
                    " No heat map: the page has enough of them; `msgbench compare` draws those of a comparison."
                });
                figure(&p)
            }),
        };
        let track =
            row.trial.and_then(|t| TrialTrack::of("delivered", 0, t, row.workload, &series.of(t, &row.workload.name)));
        let title = format!("{}: deliveries over time", row.name);
        let deliveries =
            track.map_or_else(String::new, |t| timeline::figure(&format!("throughput-{file}"), &title, &[t]));
        if !(latency.is_empty() && deliveries.is_empty()) {
            all.push(beside(&(latency + &deliveries)));
        }
    }
    // A sweep has dozens of them: the first ones are enough to read, the others are there when
    // asked for.
    let rest = all.split_off(all.len().min(MAPS));
    let open: String = all.concat();
    let open = if maps > 0 { format!("<p>{READING}</p>\n{open}") } else { open };
    match rest.len() {
        0 => open,
        n => open + &details(&format!("{n} further cases over time"), &rest.concat()),
    }
}
