//! Draws named values below each other: bars from zero, and ratios on a common axis.

use plotters_backend::text_anchor::HPos;

use super::axis::Axis;
use super::canvas::{Canvas, Ink, Pen, Stroke, TEXT, width_of};
use super::chart::{Block, Row, RowGrade, RowKind, Rows};
use super::frame::{Frame, LINE};

/// Height of a bar.
const BAR: f64 = 20.0;
/// Between two bars.
const GAP: f64 = 8.0;
/// Height of a heading.
const HEAD: f64 = 24.0;
/// What a ratio is drawn on.
const STRIP: f64 = 22.0;
/// Below the rows of ratios: tick labels and the name of the axis.
const FOOT: f64 = 46.0;

impl RowGrade {
    fn ink(grade: Option<Self>) -> Ink {
        match grade {
            Some(Self::Good) => Ink::Good,
            Some(Self::Bad) => Ink::Bad,
            Some(Self::Open) => Ink::Warn,
            None => Ink::Text,
        }
    }
}

/// The first lines of a text that is broken where it has spaces, so that none is wider.
pub(super) fn wrap(text: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().map(std::mem::take).unwrap_or_default();
        let longer = if last.is_empty() { word.to_string() } else { format!("{last} {word}") };
        let fits = last.is_empty() || width_of(&longer, size) <= width;
        lines.pop();
        lines.extend(if fits { vec![longer] } else { vec![last, word.to_string()] });
    }
    lines.retain(|l| !l.is_empty());
    lines
}

/// A text of one line, with an ellipsis where it is wider; the whole of it is under the pointer.
fn clipped(text: &str, width: f64) -> String {
    if width_of(text, TEXT) <= width {
        return text.into();
    }
    let mut short: String = text.into();
    while !short.is_empty() && width_of(&short, TEXT) + 12.0 > width {
        short.pop();
    }
    short + "…"
}

fn widest<'a>(rows: &'a Rows, of: impl Fn(&'a Row) -> &'a str) -> f64 {
    rows.blocks.iter().flat_map(|b| &b.rows).map(|r| width_of(of(r), TEXT)).fold(0.0, f64::max)
}

/// Whether labels stand above their bars: beside them they would take too much of the width.
fn stacked(rows: &Rows, width: f64) -> bool {
    widest(rows, |r| &r.label) > 0.3 * width
}

/// Whether the words of a ratio have a line of their own.
fn two_lines(rows: &Rows, width: f64) -> bool {
    widest(rows, |r| &r.label) + widest(rows, |r| &r.text) + 30.0 > width
}

/// Height of one row.
fn step(rows: &Rows, width: f64) -> f64 {
    match rows.kind {
        RowKind::Bars => BAR + GAP + if stacked(rows, width) { LINE + 2.0 } else { 0.0 },
        RowKind::Ratios => 18.0 + STRIP + if two_lines(rows, width) { LINE } else { 0.0 },
    }
}

fn block_height(rows: &Rows, block: &Block, width: f64) -> f64 {
    let head = if block.heading.is_empty() { 0.0 } else { HEAD };
    let foot = if rows.kind == RowKind::Ratios { FOOT } else { 4.0 };
    head + block.rows.len() as f64 * step(rows, width) + foot
}

pub(super) fn height(rows: &Rows, width: f64) -> f64 {
    4.0 + rows.blocks.iter().map(|b| block_height(rows, b, width)).sum::<f64>()
}

pub(super) fn draw<B: Canvas>(pen: &mut Pen<'_, B>, rows: &Rows, origin: (f64, f64), width: f64) {
    let mut top = origin.1 + 4.0;
    for block in &rows.blocks {
        let mut y = top;
        if !block.heading.is_empty() {
            pen.text((origin.0, y + 12.0), HPos::Left, Ink::Quiet, TEXT, &block.heading);
            y += HEAD;
        }
        match rows.kind {
            RowKind::Bars => bars(pen, rows, block, (origin.0, y), width),
            RowKind::Ratios => ratios(pen, rows, block, (origin.0, y), width),
        }
        top += block_height(rows, block, width);
    }
}

/// An interval through a mark, with a border that keeps it apart from the bar.
fn whisker<B: Canvas>(pen: &mut Pen<'_, B>, (from, to): (f64, f64), y: f64, ink: Ink) {
    let shape = [[(from, y), (to, y)], [(from, y - 4.0), (from, y + 4.0)], [(to, y - 4.0), (to, y + 4.0)]];
    for stroke in [Stroke { alpha: 0.7, ..Stroke::new(Ink::Paper, 4.5) }, Stroke::new(ink, 2.0)] {
        shape.iter().for_each(|line| pen.line(line, stroke));
    }
}

fn bars<B: Canvas>(pen: &mut Pen<'_, B>, rows: &Rows, block: &Block, origin: (f64, f64), width: f64) {
    let above = stacked(rows, width);
    let names = if above { 0.0 } else { widest(rows, |r| &r.label) + 10.0 };
    let left = origin.0 + names;
    let right = origin.0 + width - widest(rows, |r| &r.text) - 12.0;
    let at = |v: f64| left + block.axis.share(v) * (right - left).max(1.0);
    for (i, row) in block.rows.iter().enumerate() {
        let mut y = origin.1 + i as f64 * step(rows, width);
        if above {
            pen.text((origin.0, y + 12.0), HPos::Left, Ink::Text, TEXT, &clipped(&row.label, width));
            y += LINE + 2.0;
        } else {
            pen.text((origin.0, y + 14.5), HPos::Left, Ink::Text, TEXT, &row.label);
        }
        let end = at(row.value).max(left + 2.0);
        pen.series(Some(row.series));
        pen.says(&row.says);
        pen.rect((left, y), (end, y + BAR), Ink::Series(row.series), if row.value.is_finite() { 1.0 } else { 0.35 });
        pen.series(None);
        let mut free = end;
        if let Some((low, high)) = row.interval.filter(|_| row.value.is_finite()) {
            whisker(pen, (at(low), at(high)), y + BAR / 2.0, Ink::Text);
            free = free.max(at(high));
        }
        pen.text((free + 8.0, y + 14.5), HPos::Left, RowGrade::ink(row.grade), TEXT, &row.text);
    }
}

fn ratios<B: Canvas>(pen: &mut Pen<'_, B>, rows: &Rows, block: &Block, origin: (f64, f64), width: f64) {
    let (edges, step) = ((origin.0, origin.0 + width), step(rows, width));
    let two = two_lines(rows, width);
    let none = Axis { title: String::new(), ticks: Vec::new(), ..Axis::linear("", 1.0) };
    let across = (edges.0 + 10.0, edges.1 - 10.0);
    for (i, row) in block.rows.iter().enumerate() {
        let top = origin.1 + i as f64 * step;
        let (ink, last) = (RowGrade::ink(row.grade), i + 1 == block.rows.len());
        let down = (top + step - STRIP, top + step - 2.0);
        let frame = Frame { x: &block.axis, y: &none, across, down };
        let at = |v: f64| frame.at_x(v);
        if let Some((low, high)) = row.zone {
            pen.rect((at(low), down.0), (at(high), down.1), Ink::Quiet, 0.16);
        }
        if last {
            frame.axes(pen, true, edges);
        } else {
            let grid = Stroke::new(Ink::Grid, 0.8);
            let ticks = block.axis.ticks.iter().map(|t| at(t.0));
            ticks.for_each(|x| pen.line(&[(x, down.0), (x, down.1)], grid));
            pen.line(&[(across.0, top + step - 0.5), (across.1, top + step - 0.5)], grid);
        }
        pen.line(&[(at(1.0), down.0), (at(1.0), down.1)], Stroke::new(Ink::Quiet, 1.5).dashed(&[4.0, 3.0]));
        let room = if two { width } else { width - width_of(&row.text, TEXT) - 16.0 };
        pen.text((edges.0 + 2.0, top + 12.0), HPos::Left, Ink::Text, TEXT, &clipped(&row.label, room));
        let (place, anchor) = if two {
            ((edges.0 + 2.0, top + 12.0 + LINE), HPos::Left)
        } else {
            ((edges.1 - 2.0, top + 12.0), HPos::Right)
        };
        pen.text(place, anchor, ink, TEXT, &row.text);
        let y = (down.0 + down.1) / 2.0;
        if let Some((low, high)) = row.interval {
            whisker(pen, (at(low), at(high)), y, ink);
        }
        pen.says(&row.says);
        pen.rect((at(row.value) - 5.0, y - 5.0), (at(row.value) + 5.0, y + 5.0), ink, 1.0);
    }
}
