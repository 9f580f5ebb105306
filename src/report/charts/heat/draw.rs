//! Draws a heat map: cells, percentiles over them, pauses of the host, and events.

use super::{HeatMap, HeatScale};
use crate::plan::metric::Unit;
use crate::report::charts::axis::{Axis, AxisScale};
use crate::report::charts::figure::Figure;
use crate::report::charts::svg::{Anchor, PlotFrame, Svg, dash, widest, width_of};
use crate::report::escape;
use crate::units::{Nanos, count, latency};

/// Events that are written out below a map; the rest is counted.
const LISTED: usize = 8;
/// How a map is read; said once for all maps of a page.
pub const READING: &str = "In a heat map each cell counts the messages that were due then and took so long, of the median run; darker (in the dark: brighter) is more, on a logarithmic scale of counts. All maps of a page have the same scales. Its lines are percentiles of each column, and the longest pause of the host in it: what a pause delays is not the system's doing.";
/// Lines over the cells: series (colour, dash, shape) and name.
const LINES: [(usize, &str); 3] = [(2, "p50"), (1, "p99"), (3, "longest pause of the host")];

/// Something that happened, on the time axis.
#[derive(Debug, Clone, PartialEq)]
pub struct EventMark {
    /// Seconds since the measured phase began.
    pub at_s: f64,
    pub text: String,
}

/// The outline of all cells with at least `least` messages, in units of cells, from the lower left
/// corner. A column is unimodal as a rule, so that it has one piece; pieces that go on in the next
/// column are one.
fn outline(rows: &[Vec<u64>], least: u64) -> String {
    let mut out = String::new();
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
        for (from, to, since) in open.iter().filter(|(f, t, _)| !here.contains(&(*f, *t))) {
            out.push_str(&format!("M{since} {from}h{}v{}h-{}z", x - since, to - from, x - since));
        }
        open = here
            .into_iter()
            .map(|(f, t)| (f, t, open.iter().find(|o| (o.0, o.1) == (f, t)).map_or(x, |o| o.2)))
            .collect();
    }
    out
}

/// The colours with what they stand for.
fn ramp(scale: &HeatScale) -> String {
    let name = |k: usize| match scale.steps.get(k + 1) {
        Some(next) if *next == scale.steps[k] + 1 => scale.steps[k].to_string(),
        Some(next) => format!("{} to {}", short(scale.steps[k]), short(next - 1)),
        None => format!("{} or more", short(scale.steps[k])),
    };
    let items: String = (0..scale.steps.len())
        .map(|k| {
            format!(
                "<li><svg class=\"key\" viewBox=\"0 0 18 12\" width=\"18\" height=\"12\" aria-hidden=\"true\"><rect width=\"18\" height=\"12\" class=\"h{k}\"/></svg>{}</li>\n",
                name(k)
            )
        })
        .collect();
    format!("<ul class=\"ramp\"><li>messages in a cell:</li>\n{items}</ul>\n")
}

fn short(n: u64) -> String {
    if n < 10_000 { n.to_string() } else { count(n as f64) }
}

/// Events with the numbers they have in the drawing, as HTML.
fn listed(marks: &[EventMark]) -> String {
    if marks.is_empty() {
        return String::new();
    }
    let items: String =
        marks.iter().take(LISTED).map(|m| format!("<li>at {:.3} s: {}</li>\n", m.at_s, escape(&m.text))).collect();
    let more = marks.len().saturating_sub(LISTED);
    let more = if more > 0 { format!("<p>and {more} more events of this trial.</p>\n") } else { String::new() };
    format!("<ol class=\"events\">\n{items}</ol>\n{more}")
}

/// What the map shows, for those who cannot see it.
fn words(heat: &HeatMap) -> String {
    let total: u64 = heat.columns.iter().map(super::HeatColumn::count).sum();
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

/// A figure. `title` names the case; `lost` messages are in no cell.
pub fn figure(id: &str, title: &str, heat: &HeatMap, scale: &HeatScale, marks: &[EventMark], lost: u64) -> String {
    let has_pause = heat.columns.iter().any(|c| c.pause.is_some());
    let mut caption: Vec<String> = Vec::new();
    if lost > 0 {
        caption.push(format!("{lost} messages that never arrived are in no cell."));
    }
    if !marks.is_empty() {
        caption.push("Numbered lines are events, listed below.".into());
    }
    let caption = caption.join(" ");
    let summary = format!("{} {caption}", words(heat));
    let title = format!("{title}.");
    let draw = |id: &str, width: f64| draw(heat, scale, marks, (&title, &summary), id, width);
    let legend = LINES.iter().filter(|(s, _)| *s != 3 || has_pause).map(|(s, n)| (*s, (*n).to_string())).collect();
    let below = ramp(scale) + &listed(marks);
    Figure { id, title: &title, caption: &caption, legend, draw: &draw, linear: None, below: &below }.html()
}

fn draw(heat: &HeatMap, scale: &HeatScale, marks: &[EventMark], words: (&str, &str), id: &str, width: f64) -> String {
    let height = if width < 500.0 { 320.0 } else { 400.0 };
    let mut svg = Svg::new(words.0, words.1, width, height);
    let (low, high) = scale.ends();
    let values = [10f64.powf(low), 10f64.powf(high)];
    let y = Axis { min: low, max: high, ..Axis::log_of("latency, logarithmic", Unit::Nanos, values.into_iter()) };
    let end = heat.seconds * heat.columns.len() as f64;
    let x =
        Axis { max: end, reading: AxisScale::Seconds, ..Axis::linear("seconds since the measured phase began", end) };
    let top = if marks.is_empty() { 30.0 } else { 48.0 };
    let frame = PlotFrame { x: &x, y: &y, across: (widest(&y) + 14.0, width - 14.0), down: (top, height - 48.0) };
    frame.axes(&mut svg);
    let rows: Vec<Vec<u64>> = heat.columns.iter().map(|c| scale.counts(c)).collect();
    let cell =
        ((frame.across.1 - frame.across.0) / rows.len() as f64, -(frame.down.1 - frame.down.0) / scale.rows as f64);
    for (k, least) in scale.steps.iter().enumerate() {
        let outline = outline(&rows, *least);
        if !outline.is_empty() {
            svg.cells((frame.across.0, frame.down.1), cell, &format!("h{k}"), &outline);
        }
    }
    let middle = |i: usize| (i as f64 + 0.5) * heat.seconds;
    let values: [fn(&super::HeatColumn) -> Option<Nanos>; 3] = [|c| c.p50, |c| c.p99, |c| c.pause];
    for ((series, name), value) in LINES.into_iter().zip(values) {
        // A value below the cells is no part of the picture; the line has a gap there.
        let inside = |c| value(c).filter(|v| *v > 0).map(|v| (v as f64).log10()).filter(|v| (low..=high).contains(v));
        let points: Vec<Option<(f64, f64)>> =
            heat.columns.iter().enumerate().map(|(i, c)| Some(frame.at((middle(i), inside(c)?)))).collect();
        svg.open(series);
        let runs = || points.split(Option::is_none).filter(|r| !r.is_empty());
        for (class, dash) in [("halo", ""), ("curve", dash(series))] {
            runs().for_each(|run| svg.polyline(run.iter().flatten().copied(), class, dash));
        }
        if let Some((i, at)) = points.iter().enumerate().rev().find_map(|(i, p)| Some((i, (*p)?))) {
            let shown = value(&heat.columns[i]).map_or_else(String::new, latency);
            svg.mark(series, at, 4.0, &format!("{name}: {shown}"));
        }
        svg.close();
    }
    for (i, c) in heat.columns.iter().enumerate() {
        let show = |v: Option<Nanos>| v.map_or_else(|| "-".to_string(), latency);
        let said = format!(
            "{:.1} to {:.1} s: {} messages, p50 {}, p99 {}, max {}; host pause {}",
            i as f64 * heat.seconds,
            (i + 1) as f64 * heat.seconds,
            c.count(),
            show(c.p50),
            show(c.p99),
            show(c.max),
            show(c.pause)
        );
        let left = frame.across.0 + i as f64 * cell.0;
        svg.rect((left, frame.down.0), (cell.0, frame.down.1 - frame.down.0), "t", Some(&said));
    }
    events(&mut svg, &frame, marks, end);
    svg.finish(id)
}

/// A line for each event with its number; numbers that would touch are one label.
fn events(svg: &mut Svg, frame: &PlotFrame<'_>, marks: &[EventMark], end: f64) {
    let mut labels: Vec<(f64, usize, usize)> = Vec::new();
    for (i, m) in marks.iter().enumerate() {
        let x = frame.at_x(m.at_s.clamp(0.0, end));
        // Not through the name of the axis.
        let free = x > 10.0 + width_of(&frame.y.title);
        svg.line((x, frame.down.0 - if free { 26.0 } else { 0.0 }), (x, frame.down.1), "event");
        match labels.last_mut() {
            Some(last) if x - last.0 < width_of("10-12") + 8.0 => last.2 = i + 1,
            _ => labels.push((x, i + 1, i + 1)),
        }
    }
    for (x, from, to) in labels {
        let text = if from == to { from.to_string() } else { format!("{from}-{to}") };
        let half = width_of(&text) / 2.0;
        let x = x.clamp(frame.across.0 + half, frame.across.1 - half);
        svg.text((x, frame.down.0 - 30.0), Anchor::Middle, "", &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Interval;
    use crate::record::sample;

    #[test]
    fn cells_of_a_level_are_one_path_of_few_pieces() {
        let rows = vec![vec![0, 1, 5, 1], vec![0, 1, 5, 1], vec![2, 0, 0, 9]];
        assert_eq!(outline(&rows, 1), "M0 1h2v3h-2zM2 0h1v1h-1zM2 3h1v1h-1z");
        assert_eq!(outline(&rows, 5), "M0 2h2v1h-2zM2 3h1v1h-1z");
        assert_eq!(outline(&rows, 10), "");
    }

    #[test]
    fn the_map_is_small_and_says_what_it_shows() {
        let intervals = sample::intervals();
        let mine: Vec<&Interval> = intervals.iter().filter(|i| i.case == "nats" && i.start_s >= 0.0).take(20).collect();
        let mut heat = HeatMap::read(&super::super::tests::log(), "e2e", &mine).unwrap();
        heat.columns[9].pause = Some(1_500_000);
        let scale = HeatScale::of([&heat].into_iter());
        let mark = |at_s: f64, text: &str| EventMark { at_s, text: text.into() };
        let marks = [mark(3.5, "stall <begins>"), mark(3.6, "stall ends"), mark(19.0, "disconnected")];
        let html = figure("heat-nats", "nats: latency over time", &heat, &scale, &marks, 25);
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
