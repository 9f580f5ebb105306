//! The answer at a glance: what is typical, and what one message in a hundred exceeds, as a bar for
//! each system with its interval and its value in words.

use super::axis::Axis;
use super::chart::{Block, Body, Chart, Row, RowKind, Rows};
use crate::plan::metric::Unit;
use crate::plan::{Case, Workload};
use crate::record::{Record, Trial};
use crate::report::words::view::{ShownLatency, label, response, trials, usable};
use crate::stats::{median, shift};

/// Rows of a picture at most; of a sweep, only the first load point is shown.
const ROWS: usize = 8;

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Its colour.
    pub series: usize,
    pub label: String,
    /// Values of the runs, in the unit of the picture. Infinite where the message never arrived.
    pub runs: Vec<f64>,
    /// The interval within the run, where there is only one.
    pub within: Option<(f64, f64)>,
}

impl Bar {
    /// Of the median: from six runs on with 95 % confidence, below that from the lowest to the
    /// highest run, of one run its own.
    fn interval(&self) -> Option<(f64, f64)> {
        let ends = || self.runs.iter().fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(*v), h.max(*v)));
        match self.runs.len() {
            0 | 1 => self.within,
            _ => Some(shift::median_interval(&self.runs, 0.95).unwrap_or_else(ends)),
        }
    }
}

/// A block of bars whose axis begins at zero and holds all values and intervals.
pub fn from_zero(heading: String, rows: Vec<Row>) -> Block {
    let ends = rows.iter().flat_map(|r| [Some(r.value), r.interval.map(|i| i.1)]).flatten();
    let most = ends.filter(|v| v.is_finite()).fold(0.0, f64::max);
    Block { heading, axis: Axis::linear("", most), rows }
}

/// A picture of bars, in their order; `None` where nothing was measured. A bar without a value has
/// no row.
pub fn picture(name: &str, title: String, caption: String, unit: Unit, bars: &[Bar]) -> Option<Chart> {
    let row = |b: &Bar| {
        let value = median(&b.runs)?;
        let interval = b.interval();
        let show = |v: f64| if v.is_finite() { unit.show(v) } else { "lost".into() };
        let range = interval.map_or_else(String::new, |(l, h)| format!(" ({} to {})", show(l), show(h)));
        let text = show(value);
        let says = format!("{}: {text}{range}", b.label);
        let label = b.label.clone();
        Some(Row { series: b.series, label, value, interval, text, grade: None, zone: None, says })
    };
    let rows: Vec<Row> = bars.iter().filter_map(row).collect();
    let some = rows.iter().any(|r| r.value > 0.0);
    let body = Body::Rows(Rows { kind: RowKind::Bars, blocks: vec![from_zero(String::new(), rows)] });
    some.then(|| Chart::new(name, title, caption, body))
}

/// The bars of a result at one quantile, a bar for each case of the first load point.
pub fn bars(record: &Record, quantile: f64) -> Vec<Bar> {
    let all = || record.plan.cases.iter().flat_map(|c| c.workloads.iter().enumerate().map(move |w| (c, w)));
    let point = record.plan.cases.first().map(|c| &c.point);
    let few = all().count() <= ROWS;
    let shown = all().filter(|(c, _)| few || Some(&c.point) == point).take(ROWS);
    let bar = |(row, (case, (index, workload))): (usize, (&Case, (usize, &Workload)))| {
        let at = |t: &Trial| {
            let percentile = t.workloads.get(index).and_then(response)?.1.at(quantile);
            let value = match ShownLatency::of(percentile) {
                ShownLatency::Finite(ns) => ns as f64,
                ShownLatency::Infinite => f64::INFINITY,
                _ => return None,
            };
            let within =
                percentile.and_then(|p| p.ci95_ns).map(|(l, h)| (l as f64, h.map_or(f64::INFINITY, |h| h as f64)));
            Some((value, within))
        };
        let found: Vec<_> = trials(record, &case.id).filter(|t| usable(t)).filter_map(at).collect();
        let within = found.first().and_then(|f| f.1);
        // A system has one colour at all load points.
        let series = if case.workloads.len() > 1 { row } else { case.system };
        Bar { series, label: label(case, workload), runs: found.into_iter().map(|f| f.0).collect(), within }
    };
    shown.enumerate().map(bar).collect()
}

/// The two pictures of a result: typical, and one in a hundred.
pub fn pictures(record: &Record) -> Vec<Chart> {
    let kind = record.trials.iter().flat_map(|t| &t.workloads).find_map(response).map_or("", |r| r.0);
    let noun = match kind {
        "rtt" => "reply",
        "ack" => "acknowledgement",
        _ => "message",
    };
    let runs = record.plan.trials;
    let caption = match runs {
        1 => "The value of the one run, and its 95 % interval.".to_string(),
        2..=5 => format!("The median of the valid ones of {runs} runs; the line goes from the lowest to the highest."),
        _ => format!("The median of the valid ones of {runs} runs, and its 95 % interval."),
    };
    let pictures = [
        ("bars-typical", format!("A typical {noun} takes"), 0.5),
        ("bars-tail", format!("1 {noun} in 100 takes longer than"), 0.99),
    ];
    let of = |(name, title, quantile): (&str, String, f64)| {
        picture(name, title, caption.clone(), Unit::Nanos, &bars(record, quantile))
    };
    pictures.into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    #[test]
    fn a_bar_has_the_median_and_an_interval_of_its_runs() {
        let bar = |runs: &[f64]| Bar { series: 0, label: "a".into(), runs: runs.to_vec(), within: Some((1.0, 9.0)) };
        assert_eq!(bar(&[5.0]).interval(), Some((1.0, 9.0)));
        assert_eq!(bar(&[5.0, 7.0, 6.0]).interval(), Some((5.0, 7.0)));
        assert_eq!(bar(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 70.0]).interval(), Some((1.0, 70.0)));
        let lost = [bar(&[f64::INFINITY]), bar(&[2e6])];
        let chart = picture("x", "t".into(), String::new(), Unit::Nanos, &lost).unwrap();
        let Body::Rows(rows) = &chart.body else { panic!("bars") };
        let texts: Vec<&str> = rows.blocks[0].rows.iter().map(|r| r.text.as_str()).collect();
        assert_eq!(texts, ["lost", "2.00ms"]);
        assert_eq!(picture("x", "t".into(), String::new(), Unit::Nanos, &[bar(&[])]), None);
    }

    #[test]
    fn a_result_has_two_pictures_with_a_bar_for_each_system_that_ran() {
        let record = sample::record();
        let all = pictures(&record);
        assert_eq!(all.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["bars-typical", "bars-tail"]);
        assert_eq!(all[1].title, "1 message in 100 takes longer than");
    }
}
