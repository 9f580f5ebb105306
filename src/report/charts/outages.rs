//! What faults did: the latency around them by when messages were due, the outage of each fault
//! with the median and its interval, and the outage of each partition.

use super::axis::{Axis, AxisScale};
use super::bars::from_zero;
use super::chart::{Body, Chart, Plot, Row, RowKind, Rows, Shape, Weight, file_name, line, named, through};
use crate::plan::OutageField;
use crate::plan::metric::Unit;
use crate::record::{FaultEffect, OutageResult, Record};
use crate::report::words::answer::outages::{FaultGroup, FaultKind};
use crate::units::{SECOND, time_words};

/// Bars of partitions of one picture.
const BARS: usize = 24;

/// Which way of a message is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Writes,
    Deliveries,
}

impl Way {
    fn field(self) -> OutageField {
        match self {
            Self::Writes => OutageField::Write,
            Self::Deliveries => OutageField::Read,
        }
    }
    fn of(self, effect: &FaultEffect) -> Option<&OutageResult> {
        match self {
            Self::Writes => effect.write.as_ref(),
            Self::Deliveries => effect.read.as_ref(),
        }
    }
    fn name(self) -> &'static str {
        match self {
            Self::Writes => "writes",
            Self::Deliveries => "deliveries",
        }
    }
    /// How the time of a message is called.
    fn time(self) -> &'static str {
        match self {
            Self::Writes => "acknowledgement time",
            Self::Deliveries => "delivery time",
        }
    }
}

/// The charts of a result, for each kind of fault.
pub fn charts(record: &Record) -> Vec<Chart> {
    let groups = FaultGroup::all(record);
    let mut kinds: Vec<FaultKind> = Vec::new();
    for group in &groups {
        if !kinds.contains(&group.kind) {
            kinds.push(group.kind.clone());
        }
    }
    let mut all = Vec::new();
    for kind in &kinds {
        let of: Vec<&FaultGroup<'_>> = groups.iter().filter(|group| group.kind == *kind).collect();
        let way = if of.iter().any(|g| g.faults.iter().any(|(.., e)| e.write.is_some())) {
            Way::Writes
        } else {
            Way::Deliveries
        };
        all.extend(around(kind, way, &of));
        all.extend(each(kind, way, &of));
        all.extend(of.iter().filter_map(|group| lanes(way, group)));
    }
    all
}

fn slug(kind: &FaultKind) -> String {
    file_name(&kind.clause().replace(' ', "-"))
}

/// The fault whose outage is the median of its group.
fn median_fault(way: Way, group: &FaultGroup<'_>) -> Option<usize> {
    let length = |e: &FaultEffect| way.of(e).map(|r| r.longest_s.unwrap_or(f64::INFINITY));
    let mut all: Vec<(f64, usize)> =
        group.faults.iter().enumerate().filter_map(|(i, (.., effect))| Some((length(effect)?, i))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.get(all.len().checked_sub(1)? / 2).map(|(_, i)| *i)
}

/// The latency around the faults by when messages were due, one line for each fault.
fn around(kind: &FaultKind, way: Way, of: &[&FaultGroup<'_>]) -> Option<Chart> {
    let traces = |group: &FaultGroup<'_>| -> Vec<Vec<(f64, f64)>> {
        let points = |r: &OutageResult| {
            r.around.iter().map(|p| (p.s, p.p99_ns.map_or(f64::INFINITY, |ns| ns as f64))).collect::<Vec<_>>()
        };
        group.faults.iter().map(|(.., effect)| way.of(effect).map(points).unwrap_or_default()).collect()
    };
    let all: Vec<_> = of.iter().map(|group| (group.place, *group, traces(group))).collect();
    let points = || all.iter().flat_map(|(.., traces)| traces).flatten();
    let (start, end) = points().fold((0.0f64, 1.0f64), |(low, high), p| (low.min(p.0), high.max(p.0)));
    points().next()?;
    let y = Axis::log_of(&format!("p99 of {}, logarithmic", way.time()), Unit::Nanos, points().map(|p| p.1));
    let x = since(start, end);
    let mut shapes = Vec::new();
    for (series, group, traces) in &all {
        let median = median_fault(way, group);
        shapes.extend(traces.iter().filter(|t| !t.is_empty()).map(|t| line(*series, Weight::Thin, t.clone())));
        let bold = median.and_then(|i| traces.get(i)).filter(|t| !t.is_empty());
        shapes.extend(bold.map(|t| named(*series, Weight::Bold, vec![t.clone()], &group.label)));
    }
    shapes.push(Shape::Event { at: 0.0, label: "fault".into() });
    let caption = format!(
        "The p99 of the {} of messages by when they were due, seconds since {}. A thin line for each fault, a bold one for that with the median outage. At the upper edge: messages that never came.",
        way.time(),
        kind.clause()
    );
    let name = format!("outage-around-{}", slug(kind));
    let title = format!("Around the fault: {}", kind.clause());
    let chart = Chart::new(&name, title, caption, Plot::single(x, y, 330.0, shapes));
    Some(chart.with_series(all.iter().map(|(series, group, _)| (*series, group.label.clone()))))
}

/// Seconds since a fault.
fn since(start: f64, end: f64) -> Axis {
    let axis = Axis::linear("seconds since the fault, by when messages were due", end);
    let mut ticks = axis.ticks;
    let before = ticks.iter().skip(1).map(|(t, label)| (-t, format!("-{label}")));
    let before: Vec<(f64, String)> = before.take_while(|(t, _)| *t >= start).collect();
    ticks.splice(0..0, before.into_iter().rev());
    Axis { min: start, max: end, ticks, scale: AxisScale::Seconds, ..axis }
}

/// The outage of each fault in the order of time, with the median and its interval.
fn each(kind: &FaultKind, way: Way, of: &[&FaultGroup<'_>]) -> Option<Chart> {
    let all: Vec<(usize, &FaultGroup<'_>, Vec<f64>)> =
        of.iter().map(|group| (group.place, *group, group.values(way.field()))).collect();
    let most = all.iter().map(|(.., values)| values.len()).max().filter(|n| *n > 1)?;
    let highest = all.iter().flat_map(|(.., values)| values).filter(|v| v.is_finite()).fold(0.0, |a: f64, b| a.max(*b));
    let y =
        Axis::of(&format!("no {} for", way.name()), Unit::Nanos, if highest > 0.0 { highest } else { SECOND as f64 });
    let edges = (0.5, most as f64 + 0.5);
    let step = most.div_ceil(12);
    let ticks = (1..=most).step_by(step).map(|i| (i as f64, i.to_string())).collect();
    let x = Axis {
        title: "fault, in the order of time".into(),
        min: edges.0,
        max: edges.1,
        ticks,
        scale: AxisScale::Number,
    };
    let mut shapes = Vec::new();
    for (series, group, values) in &all {
        let Some(figure) = group.figure(way.field()) else { continue };
        if let Some((low, high)) = figure.range.filter(|_| figure.interval) {
            let points = vec![(edges.0, low, high), (edges.1, low, high)];
            shapes.push(Shape::Band { series: *series, points });
        }
        let label = format!("{} {}", group.label, figure.words());
        let median = vec![vec![(edges.0, figure.value), (edges.1, figure.value)]];
        shapes.push(through(*series, Weight::Normal, median, &label));
        shapes.extend(values.iter().enumerate().map(|(i, v)| Shape::Mark {
            series: *series,
            at: (i as f64 + 1.0, *v),
            hollow: v.is_infinite(),
            says: match v.is_finite() {
                true => format!("{}, fault {}: {}", group.label, i + 1, time_words(*v as u64)),
                false => format!("{}, fault {}: not over when the load ended", group.label, i + 1),
            },
        }));
    }
    let caption = format!(
        "How long there were no {} after {}: a mark for each fault, hollow where it was not over; a line at the median, and its 95 % interval from six faults on.",
        way.name(),
        kind.clause()
    );
    let name = format!("outage-each-{}", slug(kind));
    let title = format!("No {} after {}, fault by fault", way.name(), kind.clause());
    let chart = Chart::new(&name, title, caption, Plot::single(x, y, 260.0, shapes));
    Some(chart.with_series(all.iter().map(|(series, group, _)| (*series, group.label.clone()))))
}

/// The outage of each partition or subject at the fault that is the median.
fn lanes(way: Way, group: &FaultGroup<'_>) -> Option<Chart> {
    let i = median_fault(way, group)?;
    let result = way.of(group.faults[i].2)?;
    if result.lanes < 2 || result.by_lane.is_empty() {
        return None;
    }
    let value = |s: Option<f64>| s.map_or(f64::INFINITY, |s| s * SECOND as f64);
    let mut hit: Vec<_> = result.by_lane.iter().collect();
    hit.sort_by(|a, b| value(b.outage_s).total_cmp(&value(a.outage_s)).then((a.group, a.lane).cmp(&(b.group, b.lane))));
    let several = hit.iter().any(|lane| lane.group > 0);
    let rows = hit.iter().take(BARS).map(|lane| {
        let words = lane.outage_s.map_or("not over".into(), |s| time_words((s * SECOND as f64) as u64));
        let of_group = if several { format!("group {}, ", lane.group) } else { String::new() };
        let place = format!("{of_group}{} {}", if group.keyed { "key" } else { "channel" }, lane.lane);
        Row {
            series: group.place,
            label: place.clone(),
            value: value(lane.outage_s),
            interval: None,
            text: words.clone(),
            grade: None,
            zone: None,
            says: format!("{place}: {words}, from {:.3} s on", lane.from_s),
        }
    });
    let body = Body::Rows(Rows { kind: RowKind::Bars, blocks: vec![from_zero(String::new(), rows.collect())] });
    let more = if hit.len() > BARS { format!(" The {BARS} longest are shown.") } else { String::new() };
    let caption = format!(
        "How long each partition or subject had no {} after {} (fault {} of {}, the median one): {} of {} were hit.{more}",
        way.name(),
        group.kind.clause(),
        i + 1,
        group.faults.len(),
        result.hit,
        result.lanes
    );
    let name = format!("outage-lanes-{}-{}", group.label, slug(&group.kind));
    let title = format!("{}: no {} by partition or subject", group.label, way.name());
    Some(Chart::new(&name, title, caption, body))
}
