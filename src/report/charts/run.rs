//! All charts of a result: those of its page are those of its folder `charts/`.

use super::chart::{Chart, file_name};
use super::heat::{HeatMap, HeatScale};
use super::heat_chart::{self, EventMark};
use super::latency::{lines_over_time, percentiles, series as cases};
use super::series::RunSeries;
use super::timeline::{self, TrialTrack};
use super::{bars, capacity, demand, outages, search};
use crate::plan::{Case, Workload};
use crate::record::{Headlines, Record, Trial};
use crate::report::words::view::{label, median_trial, trials};

/// Heat maps of a page; further cases have lines. It bounds the page, and nobody compares more.
pub const MAPS: usize = 12;

/// The charts of a result by what they answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunCharts {
    /// What is typical, and one in a hundred.
    pub bars: Vec<Chart>,
    /// Latency over offered load.
    pub load: Vec<Chart>,
    pub percentiles: Vec<Chart>,
    /// What faults did.
    pub outages: Vec<Chart>,
    /// For each case, where there are intervals.
    pub over_time: Vec<TimeCharts>,
}

/// What a case did over time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TimeCharts {
    /// A heat map, or lines where its interval log is not there.
    pub latency: Option<Chart>,
    /// Deliveries and the backlog.
    pub deliveries: Option<Chart>,
}

impl TimeCharts {
    pub fn all(&self) -> impl Iterator<Item = &Chart> {
        self.latency.iter().chain(&self.deliveries)
    }
}

impl RunCharts {
    pub fn of(record: &Record, series: &RunSeries<'_>) -> Self {
        let over_time = over_time(record, series);
        Self {
            bars: bars::pictures(record),
            load: match record.plan.search {
                Some(_) => demand::charts(record).into_iter().chain(search::charts(record)).collect(),
                None => capacity::charts(record),
            },
            percentiles: percentiles(record),
            outages: outages::charts(record),
            over_time,
        }
    }

    /// In the order of the page.
    pub fn all(&self) -> impl Iterator<Item = &Chart> {
        let timed = self.over_time.iter().flat_map(TimeCharts::all);
        self.bars.iter().chain(&self.outages).chain(&self.load).chain(&self.percentiles).chain(timed)
    }
}

/// The trial that stands for a case: the median one, or the last where none is valid.
pub fn shown<'a>(record: &'a Record, case: &'a Case, workload: usize) -> Option<&'a Trial> {
    median_trial(record, &case.id, workload).or_else(|| trials(record, &case.id).last())
}

/// The heat map of a trial, and how many of its messages are in no cell.
pub fn heat(
    series: &RunSeries<'_>,
    heads: &Headlines,
    trial: &Trial,
    (case, workload): (&Case, usize),
) -> Option<(HeatMap, u64)> {
    let plan = case.workloads.get(workload)?;
    let (kind, summary) = heads.latency(workload, trial.workloads.get(workload)?)?;
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
struct CaseRow<'a> {
    name: String,
    trial: Option<&'a Trial>,
    workload: &'a Workload,
    heat: Option<(HeatMap, u64)>,
}

fn over_time(record: &Record, series: &RunSeries<'_>) -> Vec<TimeCharts> {
    let (mut maps, heads) = (0, Headlines::of([record]));
    let row = |(case, workload, index)| {
        let trial = shown(record, case, index);
        let heat = trial.filter(|_| maps < MAPS).and_then(|t| heat(series, &heads, t, (case, index)));
        maps += usize::from(heat.is_some());
        CaseRow { name: label(case, workload), trial, workload, heat }
    };
    let rows: Vec<CaseRow<'_>> = cases(record).map(row).collect();
    let scale = HeatScale::of(rows.iter().filter_map(|r| r.heat.as_ref()).map(|h| &h.0));
    let why = if maps < MAPS {
        " No heat map: its interval log is not beside run.json."
    } else {
        " No heat map: the page has enough of them; `msgbench compare` draws those of a comparison."
    };
    let charts = |row: &CaseRow<'_>| {
        let trial = row.trial?;
        let mine = series.of(trial, &row.workload.name);
        let latency = match &row.heat {
            Some((heat, lost)) => {
                let title = format!("{}: response latency over time (round {})", row.name, trial.round);
                let name = format!("latency-{}", file_name(&row.name));
                Some(heat_chart::chart(&name, title, heat, &scale, &marks(trial), *lost))
            }
            None => lines_over_time(&row.name, &mine, series.intervals)
                .map(|c| Chart { caption: c.caption.clone() + why, ..c }),
        };
        let title = format!("{}: deliveries over time", row.name);
        let track = TrialTrack::of("delivered", 0, trial, row.workload, &mine);
        let deliveries = timeline::chart(&format!("throughput-{}", row.name), title, track.as_slice());
        Some(TimeCharts { latency, deliveries })
    };
    rows.iter().filter_map(charts).filter(|c| c.all().next().is_some()).collect()
}
