//! The chart of a heat map: cells, percentiles over them, pauses of the host, and events.

use super::axis::Axis;
use super::chart::{Chart, Plot, Shape, Weight, named};
use super::heat::{HeatColumn, HeatMap, HeatScale};
use crate::plan::metric::Unit;
use crate::units::{Nanos, count, latency};

/// Events that are written out below a map, of all that are numbered.
const LISTED: usize = 8;
/// How a map is read; said once for all maps of a page.
pub const READING: &str = "In a heat map each cell counts the messages that were due then and took so long, of the median run; darker (in the dark: brighter) is more, on a logarithmic scale of counts. All maps of a page have the same scales. Its lines are percentiles of each column, and the longest pause of the host in it: what a pause delays is not the system's doing.";
type ColumnValue = fn(&HeatColumn) -> Option<Nanos>;
/// Lines over the cells: series (colour, dash, shape), name in the legend and at the line, value.
const LINES: [(usize, &str, &str, ColumnValue); 3] = [
    (2, "p50", "p50", |c| c.p50),
    (1, "p99", "p99", |c| c.p99),
    (3, "longest pause of the host", "host pause", |c| c.pause),
];

/// Something that happened, on the time axis.
#[derive(Debug, Clone, PartialEq)]
pub struct EventMark {
    /// Seconds since the measured phase began.
    pub at_s: f64,
    pub text: String,
}

/// Rectangles of all cells with at least `least` messages: (from column, to column, from row, to
/// row). A column is unimodal as a rule, so that it has one piece; pieces that go on in the next
/// column are one.
fn pieces(rows: &[Vec<u64>], least: u64) -> Vec<(usize, usize, usize, usize)> {
    let mut out = Vec::new();
    // (from row, to row, since column) of the pieces that the last column had.
    let mut open: Vec<(usize, usize, usize)> = Vec::new();
    for x in 0..=rows.len() {
        let column: &[u64] = rows.get(x).map_or(&[], Vec::as_slice);
        let mut here = Vec::new();
        let mut y = 0;
        while y < column.len() {
            let from = y;
            while y < column.len() && column[y] >= least {
                y += 1;
            }
            if y > from {
                here.push((from, y));
            }
            y += 1;
        }
        out.extend(open.iter().filter(|(f, t, _)| !here.contains(&(*f, *t))).map(|(f, t, since)| (*since, x, *f, *t)));
        open = here
            .into_iter()
            .map(|(f, t)| (f, t, open.iter().find(|o| (o.0, o.1) == (f, t)).map_or(x, |o| o.2)))
            .collect();
    }
    out
}

/// What the colours stand for.
fn ramp(scale: &HeatScale) -> Vec<String> {
    let short = |n: u64| if n < 10_000 { n.to_string() } else { count(n as f64) };
    let name = |k: usize| match scale.steps.get(k + 1) {
        Some(next) if *next == scale.steps[k] + 1 => scale.steps[k].to_string(),
        Some(next) => format!("{} to {}", short(scale.steps[k]), short(next - 1)),
        None => format!("{} or more", short(scale.steps[k])),
    };
    (0..scale.steps.len()).map(name).collect()
}

/// Events in the order of their numbers.
fn listed(marks: &[EventMark]) -> Vec<String> {
    marks.iter().take(LISTED).map(|m| format!("at {:.3} s: {}", m.at_s, m.text)).collect()
}

/// What the map shows, for those who cannot see it.
fn words(heat: &HeatMap) -> String {
    let total: u64 = heat.columns.iter().map(HeatColumn::count).sum();
    let p99: Vec<(usize, Nanos)> = heat.columns.iter().enumerate().filter_map(|(i, c)| Some((i, c.p99?))).collect();
    let at = |i: usize| format!("{:.1} s", i as f64 * heat.seconds);
    let range = match (p99.iter().min_by_key(|p| p.1), p99.iter().max_by_key(|p| p.1)) {
        (Some(low), Some(high)) => {
            format!(" p99 of a column goes from {} to {} (at {})", latency(low.1), latency(high.1), at(high.0))
        }
        _ => String::new(),
    };
    let pause = heat.columns.iter().enumerate().filter_map(|(i, c)| Some((i, c.pause?))).max_by_key(|p| p.1);
    let pause = pause
        .map_or_else(String::new, |(i, p)| format!("; the longest pause of the host is {} (at {})", latency(p), at(i)));
    format!(
        "{} messages in {} columns of {:.3} s.{range}{pause}.",
        count(total as f64),
        heat.columns.len(),
        heat.seconds
    )
}

/// The chart. `title` names the case; `lost` messages are in no cell.
pub fn chart(name: &str, title: String, heat: &HeatMap, scale: &HeatScale, marks: &[EventMark], lost: u64) -> Chart {
    let (low, high) = scale.ends();
    let values = [low, high].map(|v| 10f64.powf(v));
    let y = Axis::log_of("latency, logarithmic", Unit::Nanos, values.into_iter());
    let y = Axis { min: values[0], max: values[1], ..y };
    let end = heat.seconds * heat.columns.len() as f64;
    let at = |column: usize| column as f64 * heat.seconds;
    let edge = |row: usize| 10f64.powf(low + (high - low) * row as f64 / scale.rows as f64);
    let rows: Vec<Vec<u64>> = heat.columns.iter().map(|c| scale.counts(c)).collect();
    let mut shapes: Vec<Shape> = Vec::new();
    for (level, least) in scale.steps.iter().enumerate() {
        let cells = pieces(&rows, *least).into_iter().map(|(l, r, f, t)| (at(l), at(r), edge(f), edge(t)));
        shapes.push(Shape::Cells { level, cells: cells.collect() });
    }
    let mut series = Vec::new();
    for (n, long, short, value) in LINES {
        if heat.columns.iter().all(|c| value(c).is_none()) {
            continue;
        }
        series.push((n, long.to_string()));
        // A value below the cells is no part of the picture; the line has a gap there.
        let inside = |c| value(c).map(|v| v as f64).filter(|v| (values[0]..=values[1]).contains(v));
        let points: Vec<Option<(f64, f64)>> =
            heat.columns.iter().enumerate().map(|(i, c)| Some((at(i) + heat.seconds / 2.0, inside(c)?))).collect();
        let runs = points.split(Option::is_none).filter(|r| !r.is_empty());
        let runs = runs.map(|r| r.iter().flatten().copied().collect()).collect();
        shapes.push(named(n, Weight::Outlined, runs, short));
    }
    shapes.extend(heat.columns.iter().enumerate().map(|(i, c)| {
        let show = |v: Option<Nanos>| v.map_or_else(|| "-".to_string(), latency);
        let says = format!(
            "{:.1} to {:.1} s: {} messages, p50 {}, p99 {}, max {}; host pause {}",
            at(i),
            at(i + 1),
            c.count(),
            show(c.p50),
            show(c.p99),
            show(c.max),
            show(c.pause)
        );
        Shape::Column { from: at(i), to: at(i + 1), says }
    }));
    shapes.extend(marks.iter().enumerate().map(|(i, m)| Shape::Event { at: m.at_s, label: (i + 1).to_string() }));
    let mut caption: Vec<String> = Vec::new();
    if lost > 0 {
        caption.push(format!("{lost} messages that never arrived are in no cell."));
    }
    match marks.len() {
        0 => {}
        1..=LISTED => caption.push("Numbered lines are events, listed below.".into()),
        n => caption.push(format!("Numbered lines are events; the first {LISTED} of {n} are listed below.")),
    }
    let caption = caption.join(" ");
    let summary = format!("{} {caption}", words(heat));
    let chart = Chart::new(name, title, caption, Plot::single(Axis::seconds(0.0, end), y, 300.0, shapes));
    Chart { summary, series, ramp: ramp(scale), events: listed(marks), ..chart }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Interval;
    use crate::record::sample;
    use crate::report::charts::figures;

    #[test]
    fn cells_of_a_level_are_few_pieces() {
        let rows = vec![vec![0, 1, 5, 1], vec![0, 1, 5, 1], vec![2, 0, 0, 9]];
        assert_eq!(pieces(&rows, 1), [(0, 2, 1, 4), (2, 3, 0, 1), (2, 3, 3, 4)]);
        assert_eq!(pieces(&rows, 5), [(0, 2, 2, 3), (2, 3, 3, 4)]);
        assert_eq!(pieces(&rows, 10), []);
    }

    #[test]
    fn the_map_is_small_and_says_what_it_shows() {
        let intervals = sample::intervals();
        let mine: Vec<&Interval> = intervals.iter().filter(|i| i.case == "nats" && i.start_s >= 0.0).take(20).collect();
        let mut heat = HeatMap::read(&crate::report::charts::heat::tests::log(), "e2e", &mine).unwrap();
        heat.columns[9].pause = Some(1_500_000);
        let scale = HeatScale::of([&heat].into_iter());
        let mark = |at_s: f64, text: &str| EventMark { at_s, text: text.into() };
        let marks = [mark(3.5, "stall <begins>"), mark(3.6, "stall ends"), mark(19.0, "disconnected")];
        let chart = chart("heat-nats", "nats: latency over time".into(), &heat, &scale, &marks, 25);
        let html = figures([&chart]).into_string();
        for said in [
            "p99 of a column goes from 159us to 2.10ms (at 9.0 s); the longest pause of the host is 1.50ms (at 9.0 s).",
            "25 messages that never arrived",
            "<li>at 3.500 s: stall &lt;begins&gt;</li>",
            ">1-2</text>",
            ">3</text>",
            "9.0 to 10.0 s: 1000 messages, p50 2.05ms",
        ] {
            assert!(html.contains(said), "{said} is missing in {html}");
        }
        assert!(html.len() < 40_000, "{}", html.len());
    }
}
