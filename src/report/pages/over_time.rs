//! The charts of a run over time: for each case a heat map of latency, or lines, and deliveries
//! with the backlog.

use maud::{Markup, html};

use crate::report::charts::figures as drawn;
use crate::report::charts::heat_chart::READING;
use crate::report::charts::run::{MAPS, RunCharts};
use crate::report::pages::page::{details, figures as beside};

/// All charts over time. A sweep has dozens of them: the first ones are enough to read, the others
/// are there when asked for.
pub fn figures(charts: &RunCharts) -> Markup {
    let all: Vec<Markup> = charts.over_time.iter().map(|c| beside(&drawn(c.all()))).collect();
    let maps = charts.over_time.iter().flat_map(|c| &c.latency).any(|c| !c.ramp.is_empty());
    let (open, rest) = all.split_at(all.len().min(MAPS));
    html! {
        @if maps { p { (READING) } }
        @for case in open { (case) }
        @if !rest.is_empty() {
            (details(&format!("{} further cases over time", rest.len()), &html! { @for case in rest { (case) } }))
        }
    }
}
