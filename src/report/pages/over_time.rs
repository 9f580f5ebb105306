//! The charts of a run over time: for each case a heat map of latency, or lines, and deliveries
//! with the backlog.

use crate::report::charts::figures as drawn;
use crate::report::charts::heat_chart::READING;
use crate::report::charts::run::{MAPS, RunCharts};
use crate::report::pages::page::{details, figures as beside};

/// All charts over time. A sweep has dozens of them: the first ones are enough to read, the others
/// are there when asked for.
pub fn figures(charts: &RunCharts) -> String {
    let mut all: Vec<String> = charts.over_time.iter().map(|c| beside(&drawn(c.all()))).collect();
    let maps = charts.over_time.iter().flat_map(|c| &c.latency).any(|c| !c.ramp.is_empty());
    let rest = all.split_off(all.len().min(MAPS));
    let reading = if maps { format!("<p>{READING}</p>\n") } else { String::new() };
    let open = reading + &all.concat();
    match rest.len() {
        0 => open,
        n => open + &details(&format!("{n} further cases over time"), &rest.concat()),
    }
}
