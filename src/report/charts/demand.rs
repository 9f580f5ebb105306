//! The demand curve: the highest rate that keeps the limits, over a setting that is swept around
//! the search.

use super::axis::{Axis, AxisScale};
use super::chart::{Chart, Plot, Shape, Weight, through};
use crate::plan::metric::Unit;
use crate::record::Record;
use crate::report::words::capacity;
use crate::report::words::demand::{self, DemandCurve, DemandPoint};

/// Above this ratio of the largest value to the smallest the values stand at equal distances.
const WIDE: f64 = 20.0;

/// A chart for each setting, with a line for each system.
pub fn charts(record: &Record) -> Vec<Chart> {
    let all = demand::curves(record);
    let mut groups: Vec<(&str, &str)> = Vec::new();
    for curve in &all {
        if !groups.contains(&(curve.path, curve.rest.as_str())) {
            groups.push((curve.path, &curve.rest));
        }
    }
    let of = |(path, rest): (&str, &str)| all.iter().filter(move |c| c.path == path && c.rest == rest).collect();
    let charts = groups.iter().map(|g| (g.1, of(*g)));
    charts.filter_map(|(rest, curves): (&str, Vec<&DemandCurve<'_>>)| chart(record, rest, &curves)).collect()
}

/// Where each value lies: by its number where that can be seen, else one after the other.
fn across(curves: &[&DemandCurve<'_>]) -> (Axis, Vec<(String, f64)>) {
    let mut values: Vec<String> = Vec::new();
    for point in curves.iter().flat_map(|c| &c.points) {
        if !values.iter().any(|v| v == point.value) {
            values.push(point.value.to_owned());
        }
    }
    let numbers: Option<Vec<f64>> = values.iter().map(|v| v.parse().ok().filter(|n: &f64| *n > 0.0)).collect();
    let (least, most) = numbers.iter().flatten().fold((f64::INFINITY, 0.0f64), |(l, h), n| (l.min(*n), h.max(*n)));
    let places = match numbers.filter(|_| most <= WIDE * least) {
        Some(numbers) => numbers,
        None => (1..=values.len()).map(|i| i as f64).collect(),
    };
    let end = places.iter().copied().fold(0.0, f64::max) * 1.06;
    let at: Vec<(String, f64)> = values.into_iter().zip(places).collect();
    let ticks = at.iter().map(|(v, x)| (*x, v.clone())).collect();
    let title = curves.first().map_or("", |c| c.path).to_owned();
    (Axis { title, min: 0.0, max: end, ticks, scale: AxisScale::Number }, at)
}

/// Whether the capacity there may be another one.
fn is_open(point: &DemandPoint<'_>) -> bool {
    point.upper.is_none() || !point.ended
}

fn chart(record: &Record, rest: &str, curves: &[&DemandCurve<'_>]) -> Option<Chart> {
    let search = record.plan.search.as_ref()?;
    let first = curves.first()?;
    let (x, places) = across(curves);
    let place = |value: &str| places.iter().find(|p| p.0 == value).map_or(0.0, |p| p.1);
    let rates = || curves.iter().flat_map(|c| &c.points).flat_map(|p| [p.lower, p.upper]).flatten();
    rates().next()?;
    let most = rates().chain(search.need.map(|n| n.0)).fold(0.0, f64::max);
    let y = Axis::of("messages/s that keep the limits", Unit::Rate, most);
    let mut shapes: Vec<Shape> =
        search.need.iter().map(|n| Shape::Limit { at: n.0, label: format!("needed {n}") }).collect();
    for curve in curves {
        let series = curve.series;
        // Of one that breaks a limit at the least that was tried: from nothing.
        let both = |p: &DemandPoint<'_>| Some((place(p.value), p.lower.unwrap_or(0.0), p.upper.or(p.lower)?));
        shapes.push(Shape::Band { series, points: curve.points.iter().filter_map(both).collect() });
        let line = curve.points.iter().filter_map(|p| Some((place(p.value), p.lower?))).collect();
        shapes.push(through(series, Weight::Normal, vec![line], curve.system));
        for p in &curve.points {
            let Some(lower) = p.lower else { continue };
            let says = format!("{}, {} = {}: holds {}", curve.system, curve.setting(), p.value, p.words());
            shapes.push(Shape::Mark { series, at: (place(p.value), lower), hollow: is_open(p), says });
        }
    }
    let more = if rest.is_empty() { String::new() } else { format!(" ({rest})") };
    let title = format!("Highest rate that keeps the limits, by {}{more}", first.setting());
    let chart = Chart::new(
        &format!("demand-{}-{rest}", first.path),
        title,
        caption(record, curves),
        Plot::single(x, y, 300.0, shapes),
    );
    Some(chart.with_series(curves.iter().map(|c| (c.series, c.system.to_owned()))))
}

fn caption(record: &Record, curves: &[&DemandCurve<'_>]) -> String {
    let Some(search) = &record.plan.search else { return String::new() };
    let mut out = format!(
        "A search at each value of `{}`; limits: {}. The mark is the highest rate that keeps them, the band reaches to the lowest that breaks one.",
        curves.first().map_or("", |c| c.path),
        capacity::limits(search)
    );
    if curves.iter().flat_map(|c| &c.points).any(|p| is_open(p) && p.lower.is_some()) {
        out.push_str(
            " A hollow mark is no capacity: more was not tried, or the generator is the limit there, or the search did \
             not end.",
        );
    }
    for words in search.need.iter().flat_map(|need| demand::needs(record, *need)) {
        out.push_str(&format!(" {words}."));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::charts::chart::Body;
    use crate::report::charts::{Foot, figures, png};
    use crate::report::words::demand::tests::swept;

    #[test]
    fn capacity_is_drawn_over_the_setting_with_its_interval_and_what_is_needed() {
        let record = swept(&[("0.5", 50e3), ("1", 101e3), ("2", 200e3)], Some(90e3));
        let [chart] = &charts(&record)[..] else { panic!("one chart") };
        assert!(chart.caption.contains("reference needs cpus = 1 for 90k/s"), "{}", chart.caption);
        let Body::Plot(plot) = &chart.body else { panic!("a plot") };
        let shapes = &plot.panels[0].shapes;
        assert!(shapes.iter().any(|s| matches!(s, Shape::Limit { at, .. } if *at == 90e3)));
        let Some(Shape::Band { points, .. }) = shapes.iter().find(|s| matches!(s, Shape::Band { .. })) else {
            panic!("a band")
        };
        assert_eq!(points.iter().map(|p| p.0).collect::<Vec<_>>(), [0.5, 1.0, 2.0]);
        assert!(points.iter().all(|p| p.1 < p.2 && p.2 <= 1.06 * p.1), "{points:?}");
        assert!(figures([chart]).into_string().contains("needed 90k/s"));
        assert!(png(chart, &Foot::default()).unwrap().len() > 10_000);
        // Far apart, or no numbers: one after the other.
        for values in [["1", "200"], ["none", "all"]] {
            let record = swept(&[(values[0], 50e3), (values[1], 60e3)], None);
            let Body::Plot(plot) = &charts(&record)[0].body else { panic!("a plot") };
            assert_eq!(plot.x.ticks, [(1.0, values[0].to_owned()), (2.0, values[1].to_owned())]);
        }
    }
}
