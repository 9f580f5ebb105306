//! SVG for pages: elements with class names, so that the style sheet gives them the colours of the
//! page, on paper, in the dark and on screen, and the page's script can find them.
//!
//! Background: [`super::plot`] draws with plotters, whose SVG has fixed colours and nameless
//! elements; it stays for the files under `charts/`. Here a mark carries its value as `<title>`,
//! which a browser shows without any script and a screen reader reads, and its series as
//! `data-series`. Shapes and dashes are the second cue beside colour.

use std::fmt::Write;

use super::axis::Axis;
use super::plot::Plot;
use crate::report::escape;

/// Series beyond this many repeat colour, shape and dash.
pub const SERIES: usize = 6;
/// Dash patterns by series; empty is solid.
const DASHES: [&str; SERIES] = ["", "9 4", "3 3", "14 5", "9 3 2 3", "2 5"];

/// A drawing under way, in CSS pixels.
#[derive(Debug, Clone)]
pub struct Svg {
    width: f64,
    height: f64,
    title: String,
    description: String,
    body: String,
}

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// It is centred there.
    Middle,
    /// It ends there.
    End,
}

/// `12` for 12.0, `12.3` for 12.34: a tenth of a pixel is enough.
fn px(v: f64) -> String {
    let text = format!("{v:.1}");
    text.strip_suffix(".0").map_or(text.clone(), String::from)
}

impl Svg {
    /// An empty drawing; title and description are for those who cannot see it.
    pub fn new(title: &str, description: &str, width: f64, height: f64) -> Self {
        Self { width, height, title: title.into(), description: description.into(), body: String::new() }
    }

    /// A text; `class` may be empty.
    pub fn text(&mut self, at: (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        let _ = write!(
            self.body,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\"{class}>{}</text>",
            px(at.0),
            px(at.1),
            escape(text)
        );
    }

    /// A straight line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let _ = write!(
            self.body,
            "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" class=\"{class}\"/>",
            px(from.0),
            px(from.1),
            px(to.0),
            px(to.1)
        );
    }

    /// A rectangle; with a value it can be asked for it.
    pub fn rect(&mut self, at: (f64, f64), size: (f64, f64), class: &str, value: Option<&str>) {
        let _ = write!(
            self.body,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"{class}\"",
            px(at.0),
            px(at.1),
            px(size.0.max(0.0)),
            px(size.1.max(0.0))
        );
        match value {
            Some(v) => {
                let _ = write!(self.body, "><title>{}</title></rect>", escape(v));
            }
            None => self.body.push_str("/>"),
        }
    }

    /// A line through points.
    pub fn polyline(&mut self, points: impl Iterator<Item = (f64, f64)>, class: &str, dash: &str) {
        let points: Vec<String> = points.map(|(x, y)| format!("{},{}", px(x), px(y))).collect();
        let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
        let _ = write!(self.body, "<polyline points=\"{}\" class=\"{class}\"{dash}/>", points.join(" "));
    }

    /// A filled area between an upper and a lower line.
    pub fn area(&mut self, points: impl Iterator<Item = (f64, f64)>, class: &str) {
        let points: Vec<String> = points.map(|(x, y)| format!("{},{}", px(x), px(y))).collect();
        let _ = write!(self.body, "<polygon points=\"{}\" class=\"{class}\"/>", points.join(" "));
    }

    /// An outline in units of cells, from a corner, where a cell is so wide and so high (negative:
    /// upwards).
    pub fn cells(&mut self, corner: (f64, f64), cell: (f64, f64), class: &str, outline: &str) {
        let _ = write!(
            self.body,
            "<path transform=\"translate({} {}) scale({:.4} {:.4})\" d=\"{outline}\" class=\"{class}\"/>",
            px(corner.0),
            px(corner.1),
            cell.0,
            cell.1
        );
    }

    /// Everything drawn until [`Svg::close`] belongs to a series: its colour, and hidden with it.
    pub fn open(&mut self, series: usize) {
        let _ = write!(self.body, "<g class=\"s{}\" data-series=\"{series}\">", series % SERIES);
    }

    /// Ends what [`Svg::open`] began.
    pub fn close(&mut self) {
        self.body.push_str("</g>");
    }

    /// A mark in the shape of a series, with its value.
    pub fn mark(&mut self, series: usize, at: (f64, f64), r: f64, value: &str) {
        let _ = write!(self.body, "<g class=\"m\">{}<title>{}</title></g>", shape(series, at, r), escape(value));
    }

    /// The same shape without filling: a value that does not count.
    pub fn hollow(&mut self, series: usize, at: (f64, f64), r: f64, value: &str) {
        let shape = shape(series, at, r);
        let _ = write!(self.body, "<g class=\"m hollow\">{shape}<title>{}</title></g>", escape(value));
    }

    /// A place without ink that can be asked for a value.
    pub fn target(&mut self, at: (f64, f64), value: &str) {
        let _ = write!(
            self.body,
            "<circle cx=\"{}\" cy=\"{}\" r=\"7\" class=\"m t\"><title>{}</title></circle>",
            px(at.0),
            px(at.1),
            escape(value)
        );
    }

    /// The element. Identifiers are made of `id`, which must be unique within the page.
    pub fn finish(self, id: &str) -> String {
        format!(
            "<svg role=\"img\" aria-labelledby=\"{id}-t {id}-d\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\"><title id=\"{id}-t\">{2}</title><desc id=\"{id}-d\">{3}</desc>{4}</svg>\n",
            px(self.width),
            px(self.height),
            escape(&self.title),
            escape(&self.description),
            self.body
        )
    }
}

/// The dash pattern of a series.
pub fn dash(series: usize) -> &'static str {
    DASHES[series % SERIES]
}

/// The shape of a series: circle, triangle, square, diamond, cross, plus.
fn shape(series: usize, (x, y): (f64, f64), r: f64) -> String {
    let at = |points: &[(f64, f64)]| {
        points.iter().map(|(dx, dy)| format!("{},{}", px(x + dx * r), px(y + dy * r))).collect::<Vec<_>>().join(" ")
    };
    match series % SERIES {
        0 => format!("<circle cx=\"{}\" cy=\"{}\" r=\"{}\"/>", px(x), px(y), px(r)),
        1 => format!("<polygon points=\"{}\"/>", at(&[(0.0, -1.2), (1.15, 0.9), (-1.15, 0.9)])),
        2 => format!("<polygon points=\"{}\"/>", at(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)])),
        3 => format!("<polygon points=\"{}\"/>", at(&[(0.0, -1.3), (1.1, 0.0), (0.0, 1.3), (-1.1, 0.0)])),
        n => {
            let d = if n == 4 { 0.9 } else { 0.0 };
            let e = if n == 4 { 0.9 } else { 1.2 };
            let (a, b) = if n == 4 { ((d, e), (e, -d)) } else { ((e, 0.0), (0.0, e)) };
            let arm = |(dx, dy): (f64, f64)| {
                format!(
                    "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" class=\"arm\"/>",
                    px(x - dx * r),
                    px(y - dy * r),
                    px(x + dx * r),
                    px(y + dy * r)
                )
            };
            arm(a) + &arm(b)
        }
    }
}

/// The key of a series for a legend: its dash and its shape.
pub fn key(series: usize) -> String {
    format!(
        "<svg class=\"key s{}\" viewBox=\"0 0 34 14\" width=\"34\" height=\"14\" aria-hidden=\"true\"><line x1=\"1\" y1=\"7\" x2=\"33\" y2=\"7\" class=\"curve\"{}/>{}</svg>",
        series % SERIES,
        if dash(series).is_empty() { String::new() } else { format!(" stroke-dasharray=\"{}\"", dash(series)) },
        shape(series, (17.0, 7.0), 4.5)
    )
}

/// A rectangle with two axes, within a drawing.
#[derive(Debug, Clone)]
pub struct PlotFrame<'a> {
    /// Horizontal axis.
    pub x: &'a Axis,
    /// Vertical axis.
    pub y: &'a Axis,
    /// Left and right edge.
    pub across: (f64, f64),
    /// Upper and lower edge.
    pub down: (f64, f64),
}

impl PlotFrame<'_> {
    /// The horizontal place of a value; what lies outside is put on the edge.
    pub fn at_x(&self, v: f64) -> f64 {
        let share = (v - self.x.min) / (self.x.max - self.x.min).max(f64::MIN_POSITIVE);
        self.across.0 + share.clamp(0.0, 1.0) * (self.across.1 - self.across.0)
    }

    /// The vertical place of a value.
    pub fn at_y(&self, v: f64) -> f64 {
        let share = (v - self.y.min) / (self.y.max - self.y.min).max(f64::MIN_POSITIVE);
        self.down.1 - share.clamp(0.0, 1.0) * (self.down.1 - self.down.0)
    }

    /// Both.
    pub fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.at_x(x), self.at_y(y))
    }

    /// Grid, ticks and names of both axes. Labels that would touch are left out; the grid line
    /// stays.
    pub fn axes(&self, svg: &mut Svg) {
        let (left, right) = self.across;
        let (top, bottom) = self.down;
        let mut free = f64::INFINITY;
        for (v, label) in &self.y.ticks {
            if *v < self.y.min - 1e-9 || *v > self.y.max + 1e-9 {
                continue;
            }
            let y = self.at_y(*v);
            svg.line((left, y), (right, y), "grid");
            if free - y >= 15.0 && !label.is_empty() {
                svg.text((left - 6.0, y + 4.0), Anchor::End, "", label);
                free = y;
            }
        }
        let mut free = f64::NEG_INFINITY;
        for (v, label) in &self.x.ticks {
            if *v < self.x.min - 1e-9 || *v > self.x.max + 1e-9 {
                continue;
            }
            let x = self.at_x(*v);
            let half = width_of(label) / 2.0;
            svg.line((x, top), (x, bottom), "grid");
            if x - half >= free + 8.0 && !label.is_empty() {
                svg.text((x, bottom + 17.0), Anchor::Middle, "", label);
                free = x + half;
            }
        }
        svg.line((left, bottom), (right, bottom), "axis");
        svg.line((left, top), (left, bottom), "axis");
        if !self.x.title.is_empty() {
            svg.text(((left + right) / 2.0, bottom + 36.0), Anchor::Middle, "quiet", &self.x.title);
        }
        svg.text((4.0, top - 10.0), Anchor::Start, "quiet", &self.y.title);
    }
}

/// About how wide a text is at 12 px: enough to keep labels apart.
pub fn width_of(text: &str) -> f64 {
    7.0 * text.chars().count() as f64
}

/// The widest label of an axis.
pub fn widest(axis: &Axis) -> f64 {
    axis.ticks.iter().map(|t| width_of(&t.1)).fold(24.0, f64::max)
}

/// Points of a line that can be asked for their value: at most so many.
const TARGETS: usize = 48;

/// A chart of a run, as wide as asked.
pub fn plot(p: &Plot, id: &str, width: f64) -> String {
    let height = if width < 500.0 { 300.0 } else { 400.0 };
    let mut svg = Svg::new(&p.title, &p.description, width, height);
    let frame =
        PlotFrame { x: &p.x, y: &p.y, across: (widest(&p.y) + 14.0, width - 14.0), down: (30.0, height - 48.0) };
    frame.axes(&mut svg);
    for line in &p.lines {
        svg.open(line.colour);
        // As the legend has it.
        let dash = if line.label.is_some() { dash(line.colour) } else { "" };
        let class = match (line.label.is_some(), line.width) {
            (false, _) => "curve thin",
            (true, 4..) => "curve bold",
            (true, _) => "curve",
        };
        for run in &line.runs {
            svg.polyline(run.iter().map(|p| frame.at(*p)), class, dash);
        }
        let points: Vec<(f64, f64)> = line.runs.iter().flatten().copied().collect();
        if let Some(label) = &line.label {
            let step = points.len().div_ceil(TARGETS).max(1);
            for p in points.iter().step_by(step) {
                let value = format!("{label}: {} at {}", frame.y.show(p.1), frame.x.show(p.0));
                svg.target(frame.at(*p), &value);
            }
            if let Some(end) = points.last() {
                svg.mark(line.colour, frame.at(*end), 5.0, &format!("{label}: {}", frame.y.show(end.1)));
            }
        }
        svg.close();
    }
    svg.finish(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_would_touch_are_left_out() {
        let ticks = |n: i32, step: f64| (0..n).map(|k| (f64::from(k) * step, format!("{k}00us"))).collect();
        let axis = |ticks| Axis { max: 10.0, ticks, ..Axis::linear("x", 10.0) };
        let (x, y) = (axis(ticks(40, 0.25)), axis(ticks(3, 5.0)));
        let mut svg = Svg::new("t", "d", 300.0, 200.0);
        PlotFrame { x: &x, y: &y, across: (50.0, 280.0), down: (20.0, 150.0) }.axes(&mut svg);
        let out = svg.finish("a");
        assert_eq!(out.matches("class=\"grid\"").count(), 43);
        let labels = out.matches("text-anchor=\"middle\"").count() - 1;
        assert!((4..8).contains(&labels), "{labels}");
        assert_eq!(out.matches("text-anchor=\"end\"").count(), 3);
    }

    #[test]
    fn every_series_has_its_own_shape_and_dash() {
        let keys: std::collections::BTreeSet<String> =
            (0..SERIES).map(|s| key(s).replace(&format!(" s{s}\""), "\"")).collect();
        assert_eq!(keys.len(), SERIES);
        assert_eq!(dash(SERIES + 1), dash(1));
    }
}
