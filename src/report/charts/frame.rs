//! A rectangle with two axes: grid, ticks and names.

use plotters_backend::text_anchor::HPos;

use super::axis::Axis;
use super::canvas::{Canvas, Ink, Pen, Stroke, TEXT, width_of};

/// Distance of base lines of text.
pub(super) const LINE: f64 = 15.0;
/// Below the rectangle: tick labels and the name of the axis.
const FOOT: f64 = 48.0;

/// Height of the labels of a horizontal axis.
pub(super) fn foot(x: &Axis) -> f64 {
    let lines = x.ticks.iter().map(|t| t.1.lines().count()).max().unwrap_or(1).max(1);
    FOOT + LINE * (lines - 1) as f64 - if x.title.is_empty() { 19.0 } else { 0.0 }
}
/// A rectangle with two axes.
pub(super) struct Frame<'a> {
    pub x: &'a Axis,
    pub y: &'a Axis,
    /// Left and right edge.
    pub across: (f64, f64),
    /// Upper and lower edge.
    pub down: (f64, f64),
}

impl Frame<'_> {
    pub fn at_x(&self, v: f64) -> f64 {
        self.across.0 + self.x.share(v) * (self.across.1 - self.across.0)
    }

    pub fn at_y(&self, v: f64) -> f64 {
        self.down.1 - self.y.share(v) * (self.down.1 - self.down.0)
    }

    pub fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.at_x(x), self.at_y(y))
    }

    /// Grid, ticks and names of the axes. Of labels that would touch, the one of the later tick is
    /// left out; its grid line stays. `under` says whether the horizontal axis has its labels
    /// here; `limits` are the edges of the drawing.
    pub fn axes<B: Canvas>(&self, pen: &mut Pen<'_, B>, under: bool, limits: (f64, f64)) {
        let ((left, right), (top, bottom)) = (self.across, self.down);
        let grid = Stroke::new(Ink::Grid, 0.8);
        let within = |a: &Axis, v: f64| v >= a.min - 1e-9 && v <= a.max + 1e-9;
        let mut free = f64::INFINITY;
        for (v, label) in self.y.ticks.iter().filter(|t| within(self.y, t.0)) {
            let y = self.at_y(*v);
            pen.line(&[(left, y), (right, y)], grid);
            if free - y >= LINE && !label.is_empty() {
                pen.text((left - 6.0, y + 4.0), HPos::Right, Ink::Text, TEXT, label);
                free = y;
            }
        }
        let mut taken: Vec<(f64, f64)> = Vec::new();
        for (v, label) in self.x.ticks.iter().filter(|t| within(self.x, t.0)) {
            let x = self.at_x(*v);
            pen.line(&[(x, top), (x, bottom)], grid);
            let half = label.lines().map(|l| width_of(l, TEXT)).fold(0.0, f64::max) / 2.0;
            let middle = x.min(limits.1 - half).max(limits.0 + half);
            let ends = (middle - half - 4.0, middle + half + 4.0);
            if under && half > 0.0 && taken.iter().all(|t| ends.1 <= t.0 || ends.0 >= t.1) {
                for (i, line) in label.lines().enumerate() {
                    pen.text((middle, bottom + 17.0 + LINE * i as f64), HPos::Center, Ink::Text, TEXT, line);
                }
                taken.push(ends);
            }
        }
        let axis = Stroke::new(Ink::Quiet, 1.0);
        pen.line(&[(left, top), (left, bottom), (right, bottom)], axis);
        if under && !self.x.title.is_empty() {
            let y = bottom + foot(self.x) - 12.0;
            pen.text(((left + right) / 2.0, y), HPos::Center, Ink::Quiet, TEXT, &self.x.title);
        }
        pen.text((limits.0 + 2.0, top - 10.0), HPos::Left, Ink::Quiet, TEXT, &self.y.title);
    }
}
