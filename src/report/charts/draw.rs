//! The drawing function: every chart, on any [`Canvas`]. Places are computed here and nowhere else.
//!
//! Text is measured before it is placed. Names of lines stand beside the axes, not over them, one
//! below the other, each with a thin line to the end of what it names.

use plotters_backend::text_anchor::HPos;

use super::canvas::{Canvas, DASHES, Ink, Pen, SERIES, Stroke, TEXT, width_of};
use super::chart::{Body, Panel, Plot, Shape, Weight};
use super::frame::{Frame, LINE, foot};
use super::rows;

/// A drawing below this width is for a telephone.
pub(super) const NARROW: f64 = 500.0;
/// Between two panels.
const BETWEEN: f64 = 34.0;

/// Height of a drawing that is so wide.
pub fn height(body: &Body, width: f64) -> f64 {
    match body {
        Body::Rows(all) => rows::height(all, width),
        Body::Plot(plot) => {
            let panels: f64 = plot.panels.iter().map(|p| tall(p, width)).sum();
            head(plot) + panels + BETWEEN * (plot.panels.len().max(1) - 1) as f64 + foot(&plot.x)
        }
    }
}

/// Draws with the upper left corner at `origin`.
pub fn draw<B: Canvas>(pen: &mut Pen<'_, B>, body: &Body, origin: (f64, f64), width: f64) {
    match body {
        Body::Rows(all) => rows::draw(pen, all, origin, width),
        Body::Plot(plot) => panels(pen, plot, origin, width),
    }
    pen.series(None);
}

fn tall(panel: &Panel, width: f64) -> f64 {
    if width < NARROW { 0.8 * panel.height } else { panel.height }
}

fn head(plot: &Plot) -> f64 {
    let event = |p: &Panel| p.shapes.iter().any(|s| matches!(s, Shape::Event { .. } | Shape::Interval { .. }));
    if plot.panels.iter().any(event) { 48.0 } else { 30.0 }
}

/// A name beside the axes.
struct EndLabel<'a> {
    series: Option<usize>,
    text: &'a str,
    at: (f64, f64),
    /// Height of its middle, so that none touches another.
    y: f64,
}

/// Names of lines and limits of a panel, with the value where each ends.
fn names(panel: &Panel) -> Vec<(Option<usize>, &str, (f64, f64))> {
    let of = |s: &'_ Shape| match s {
        Shape::Line { series, runs, .. } => Some((Some(*series), *runs.iter().flatten().last()?)),
        Shape::Limit { at, .. } => Some((None, (f64::INFINITY, *at))),
        _ => None,
    };
    fn text(s: &Shape) -> Option<&String> {
        match s {
            Shape::Line { label: Some(label), .. } | Shape::Limit { label, .. } => Some(label),
            _ => None,
        }
    }
    panel.shapes.iter().filter_map(|s| Some((of(s)?.0, text(s)?.as_str(), of(s)?.1))).collect()
}

/// The room that names of lines take on the right; `None` where they stand in the legend only.
pub(super) fn beside(plot: &Plot, width: f64) -> Option<f64> {
    let all: Vec<_> = plot.panels.iter().map(names).collect();
    let widest = all.iter().flatten().map(|n| width_of(n.1, TEXT)).fold(0.0, f64::max);
    let fit = plot.panels.iter().zip(&all).all(|(p, n)| n.len() as f64 * LINE <= tall(p, width));
    (width >= NARROW && widest > 0.0 && widest <= 0.26 * width && fit).then_some(widest + 26.0)
}

/// Moves the middles apart, in order of height, within the panel.
fn apart(labels: &mut [EndLabel<'_>], (top, bottom): (f64, f64)) {
    // Equal ones in the order of the series.
    labels.sort_by(|a, b| a.y.round().total_cmp(&b.y.round()).then(a.series.cmp(&b.series)));
    let mut free = top;
    for l in labels.iter_mut() {
        l.y = l.y.max(free);
        free = l.y + LINE;
    }
    let mut free = bottom;
    for l in labels.iter_mut().rev() {
        l.y = l.y.min(free);
        free = l.y - LINE;
    }
}

fn panels<B: Canvas>(pen: &mut Pen<'_, B>, plot: &Plot, origin: (f64, f64), width: f64) {
    let ticks = plot.panels.iter().flat_map(|p| &p.y.ticks).map(|t| width_of(&t.1, TEXT));
    let left = origin.0 + ticks.fold(24.0, f64::max) + 14.0;
    let room = beside(plot, width);
    let across = (left, origin.0 + width - room.unwrap_or(14.0));
    let mut top = origin.1 + head(plot);
    for (i, panel) in plot.panels.iter().enumerate() {
        let frame = Frame { x: &plot.x, y: &panel.y, across, down: (top, top + tall(panel, width)) };
        frame.axes(pen, i + 1 == plot.panels.len(), (origin.0, origin.0 + width));
        for shape in &panel.shapes {
            pen.series(shape.series());
            draw_shape(pen, &frame, shape);
        }
        pen.series(None);
        events(pen, &frame, panel);
        if room.is_some() {
            end_labels(pen, &frame, panel);
        }
        top = frame.down.1 + BETWEEN;
    }
}

fn end_labels<B: Canvas>(pen: &mut Pen<'_, B>, frame: &Frame<'_>, panel: &Panel) {
    let place = |(series, text, at)| {
        let at = frame.at(at);
        EndLabel { series, text, at, y: at.1 }
    };
    let mut all: Vec<EndLabel<'_>> = names(panel).into_iter().map(place).collect();
    apart(&mut all, frame.down);
    let edge = frame.across.1;
    for l in all {
        pen.series(l.series);
        let ink = l.series.map_or(Ink::Quiet, Ink::Series);
        let thin = Stroke { alpha: 0.6, ..Stroke::new(ink, 1.0).dashed(&[1.0, 3.0]) };
        let start = (l.at.0 + 7.0).min(edge);
        pen.line(&[(start, l.at.1), (edge.max(start), l.at.1), (edge + 14.0, l.y)], thin);
        pen.text((edge + 18.0, l.y + 4.0), HPos::Left, ink, TEXT, l.text);
    }
    pen.series(None);
}

fn draw_shape<B: Canvas>(pen: &mut Pen<'_, B>, frame: &Frame<'_>, shape: &Shape) {
    match shape {
        Shape::Line { series, weight, runs, label, marked } => {
            let (width, alpha) = match weight {
                Weight::Thin => (1.0, 0.5),
                Weight::Bold => (2.6, 1.0),
                Weight::Normal | Weight::Outlined => (2.0, 1.0),
            };
            let dash = if *weight == Weight::Thin { &[] } else { DASHES[series % SERIES] };
            for run in runs {
                let points: Vec<(f64, f64)> = run.iter().map(|p| frame.at(*p)).collect();
                if *weight == Weight::Outlined {
                    pen.line(&points, Stroke { alpha: 0.7, ..Stroke::new(Ink::Paper, 4.5) });
                }
                pen.line(&points, Stroke { ink: Ink::Series(*series), width, alpha, dash });
            }
            if let (Some(label), Some(end), true) = (label, runs.iter().flatten().last(), marked) {
                pen.mark(*series, frame.at(*end), 4.5, false, Some(&format!("{label}: {}", frame.y.show(end.1))));
            }
        }
        Shape::Band { series, points } => {
            let upper = points.iter().map(|p| frame.at((p.0, p.2)));
            let lower = points.iter().rev().map(|p| frame.at((p.0, p.1)));
            pen.area(&upper.chain(lower).collect::<Vec<_>>(), Ink::Series(*series), 0.16);
        }
        Shape::Mark { series, at, hollow, says } => pen.mark(*series, frame.at(*at), 4.0, *hollow, Some(says)),
        Shape::Hover { at, says, .. } => pen.hover(frame.at(*at), says),
        Shape::Column { from, to, says } => {
            if pen.says(says) {
                pen.rect((frame.at_x(*from), frame.down.0), (frame.at_x(*to), frame.down.1), Ink::Text, 0.0);
            }
        }
        Shape::Limit { at, .. } => {
            let y = frame.at_y(*at);
            pen.line(&[(frame.across.0, y), (frame.across.1, y)], Stroke::new(Ink::Quiet, 1.5).dashed(&[4.0, 3.0]));
        }
        Shape::Cells { level, cells } => {
            for (left, right, low, high) in cells {
                pen.rect(frame.at((*left, *high)), frame.at((*right, *low)), Ink::Heat(*level), 1.0);
            }
        }
        Shape::Interval { from, to, known, label } => {
            let ink = if *known { Ink::Good } else { Ink::Quiet };
            let (left, right) = (frame.at_x(*from), frame.at_x(*to));
            let (top, bottom) = frame.down;
            pen.rect((left, top), (right, bottom), ink, 0.18);
            for x in [left, right] {
                pen.line(&[(x, top), (x, bottom)], Stroke::new(ink, 1.0));
            }
            let half = width_of(label, TEXT) / 2.0;
            let middle = f64::midpoint(left, right).min(frame.across.1 - half).max(frame.across.0 + half);
            pen.text((middle, top - 26.0), HPos::Center, ink, TEXT, label);
            pen.line(&[(middle, top - 21.0), (f64::midpoint(left, right), top)], Stroke::new(ink, 1.0));
        }
        Shape::Event { .. } => {}
    }
}

/// A line for each event with its number; numbers that would touch are one label.
fn events<B: Canvas>(pen: &mut Pen<'_, B>, frame: &Frame<'_>, panel: &Panel) {
    let mut labels: Vec<(f64, &str, &str)> = Vec::new();
    for shape in &panel.shapes {
        let Shape::Event { at, label } = shape else { continue };
        let x = frame.at_x(*at);
        // Not through the name of the axis.
        let free = x > frame.across.0 - 24.0 + width_of(&frame.y.title, TEXT);
        let top = frame.down.0 - if free { 26.0 } else { 0.0 };
        let halo = Stroke { alpha: 0.7, ..Stroke::new(Ink::Paper, 3.2) };
        pen.line(&[(x, frame.down.0), (x, frame.down.1)], halo);
        pen.line(&[(x, top), (x, frame.down.1)], Stroke::new(Ink::Text, 1.2).dashed(&[2.0, 2.0]));
        match labels.last_mut() {
            Some(last) if x - last.0 < width_of("10-12", TEXT) + 8.0 => last.2 = label,
            _ => labels.push((x, label, label)),
        }
    }
    for (x, from, to) in labels {
        let text = if from == to { from.to_string() } else { format!("{from}-{to}") };
        let half = width_of(&text, TEXT) / 2.0;
        let x = x.clamp(frame.across.0 + half, frame.across.1 - half);
        pen.text((x, frame.down.0 - 30.0), HPos::Center, Ink::Text, TEXT, &text);
    }
}
