//! What the sides of a comparison did over time: heat maps of their median runs on one scale, and
//! deliveries with the backlog.

use super::chart::Chart;
use super::comparison::id;
use super::heat::{HeatMap, HeatScale};
use super::heat_chart::{self, EventMark};
use super::run::{MAPS, heat, marks, shown};
use super::series::RunSeries;
use super::timeline::{self, TrialTrack};
use crate::compare::foreign::is_foreign;
use crate::record::Headlines;
use crate::report::words::groups::{ChartGroup, ChartSide};

/// The series of the result that a side is from.
pub type SeriesOf<'a> = &'a dyn Fn(&ChartSide<'_>) -> Option<RunSeries<'a>>;

/// The name of a figure: the load point, the side, and the workload where there are several.
fn name(group: &ChartGroup<'_>, side: &ChartSide<'_>, workload: usize) -> String {
    let several = side.case.workloads.len() > 1;
    let workload = side.case.workloads.get(workload).filter(|_| several);
    format!("{}: {}{}", group.name, side.label, workload.map_or_else(String::new, |w| format!(" / {}", w.name)))
}

/// The maps, and the sides that have none because their log is not there.
pub fn maps(groups: &[ChartGroup<'_>], series_of: SeriesOf<'_>) -> (Vec<Chart>, Vec<String>) {
    let mut found: Vec<(String, HeatMap, u64, Vec<EventMark>)> = Vec::new();
    let mut without = Vec::new();
    for group in groups {
        for side in group.sides.iter().filter(|s| !is_foreign(s.record)) {
            for index in 0..side.case.workloads.len() {
                let Some(series) = series_of(side).filter(|_| found.len() < MAPS) else { continue };
                let Some(trial) = shown(side.record, side.case, index) else { continue };
                let name = name(group, side, index);
                match heat(&series, &Headlines::of([side.record]), trial, (side.case, index)) {
                    Some((map, lost)) => {
                        found.push((format!("{name} (round {})", trial.round), map, lost, marks(trial)))
                    }
                    None => without.push(name),
                }
            }
        }
    }
    let scale = HeatScale::of(found.iter().map(|f| &f.1));
    let charts = found.iter().map(|(name, map, lost, marks)| {
        let title = format!("{name}, latency over time");
        heat_chart::chart(&id("heat", name), title, map, &scale, marks, *lost)
    });
    (charts.collect(), without)
}

/// A chart for each workload with a line for each side.
pub fn deliveries(group: &ChartGroup<'_>, series_of: SeriesOf<'_>) -> Vec<Chart> {
    let most = group.sides.iter().map(|s| s.case.workloads.len()).max().unwrap_or(0);
    let mut out = Vec::new();
    for index in 0..most {
        let mut tracks = Vec::new();
        let mut workload = String::new();
        for (at, side) in group.sides.iter().enumerate() {
            let plan = side.case.workloads.get(index);
            let (Some(plan), Some(trial), Some(series)) = (plan, shown(side.record, side.case, index), series_of(side))
            else {
                continue;
            };
            if most > 1 {
                workload = format!(" / {}", plan.name);
            }
            tracks.extend(TrialTrack::of(side.label, at, trial, plan, &series.of(trial, &plan.name)));
        }
        let title = format!("{}{workload}: deliveries over time", group.name);
        out.extend(timeline::chart(&id("over-time", &title), title, &tracks));
    }
    out
}
