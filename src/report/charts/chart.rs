//! A chart as data: what is said, on which axes. [`super::draw`] draws all of them alike, for a
//! page, for a file of its own and as a picture.

use super::axis::Axis;

/// A chart. Everything in it is typed or plain text; nothing says where it lies on the paper.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Unique among the charts of a result; fit for a file name and for an identifier.
    pub name: String,
    pub title: String,
    /// What it shows, for the reader.
    pub caption: String,
    /// What it shows, for those who cannot see it; the caption where this is empty.
    pub summary: String,
    /// Index and name of each series that the legend has. The index is colour, dash and shape.
    pub series: Vec<(usize, String)>,
    pub body: Body,
    /// The same on a linear scale, which a page offers.
    pub linear: Option<Body>,
    /// What the colours of the cells stand for, from few to many.
    pub ramp: Vec<String>,
    /// The events that are numbered in the drawing, from 1.
    pub events: Vec<String>,
    /// Whether the series are marks alone, so that the legend has no lines.
    pub marks_only: bool,
}

/// The two kinds of drawings.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Values on two axes.
    Plot(Plot),
    /// Named values, one below the other.
    Rows(Rows),
}

/// Panels with the same horizontal axis, one below the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    pub x: Axis,
    pub panels: Vec<Panel>,
}

/// One vertical axis and what is drawn on it, back to front.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    pub y: Axis,
    /// Height of the drawing in pixels on a wide screen.
    pub height: f64,
    pub shapes: Vec<Shape>,
}

/// How heavy a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// One of many that together show how far values scatter.
    Thin,
    Normal,
    /// A summary of thin ones.
    Bold,
    /// Over cells: with a border in the colour of the paper.
    Outlined,
}

/// What is drawn on two axes, in their values. An infinite value lies on the upper edge.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A line; a gap divides it into runs. `label` stands at its end where there is room; `marked`
    /// lines have a mark there.
    Line { series: usize, weight: Weight, runs: Vec<Vec<(f64, f64)>>, label: Option<String>, marked: bool },
    /// The area between two lines: (x, low, high).
    Band { series: usize, points: Vec<(f64, f64, f64)> },
    /// A value in the shape of its series; `hollow` where it does not count.
    Mark { series: usize, at: (f64, f64), hollow: bool, says: String },
    /// A place that says its value under the pointer.
    Hover { series: usize, at: (f64, f64), says: String },
    /// A span of the horizontal axis that says what it holds.
    Column { from: f64, to: f64, says: String },
    /// A limit: a horizontal line.
    Limit { at: f64, label: String },
    /// A part of the horizontal axis with its name above: the answer, where it is `known`, or where
    /// nothing is known.
    Interval { from: f64, to: f64, known: bool, label: String },
    /// Something that happened: an upright line with its number or name.
    Event { at: f64, label: String },
    /// Cells of one colour of the ramp: (left, right, low, high).
    Cells { level: usize, cells: Vec<(f64, f64, f64, f64)> },
}

/// What a row looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// A bar from zero, with its value as text at its end.
    Bars,
    /// A mark on an axis that all rows share, with a zone of what does not matter.
    Ratios,
}

/// Rows below each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    pub kind: RowKind,
    pub blocks: Vec<Block>,
}

/// Rows on one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// What they show, with the unit; may be empty.
    pub heading: String,
    pub axis: Axis,
    pub rows: Vec<Row>,
}

/// One named value.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub series: usize,
    pub label: String,
    /// In the values of the axis; an infinite bar goes to the end.
    pub value: f64,
    /// Of the value, as a whisker.
    pub interval: Option<(f64, f64)>,
    /// The value in words, beside the mark.
    pub text: String,
    /// A verdict, which colours the row.
    pub grade: Option<RowGrade>,
    /// Changes that do not matter.
    pub zone: Option<(f64, f64)>,
    /// What the mark says under the pointer.
    pub says: String,
}

/// How a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowGrade {
    Good,
    Bad,
    Open,
}

impl Shape {
    /// The series that it is hidden with.
    pub fn series(&self) -> Option<usize> {
        match self {
            Self::Line { series, .. }
            | Self::Band { series, .. }
            | Self::Mark { series, .. }
            | Self::Hover { series, .. } => Some(*series),
            _ => None,
        }
    }
}

impl Chart {
    /// A chart with a title, a caption and a body.
    pub fn new(name: &str, title: String, caption: String, body: Body) -> Self {
        let (summary, series) = (String::new(), Vec::new());
        Self {
            name: file_name(name),
            title,
            caption,
            summary,
            series,
            body,
            linear: None,
            ramp: Vec::new(),
            events: Vec::new(),
            marks_only: false,
        }
    }

    pub fn with_series(self, series: impl IntoIterator<Item = (usize, String)>) -> Self {
        Self { series: series.into_iter().collect(), ..self }
    }

    /// For those who cannot see it.
    pub fn description(&self) -> &str {
        if self.summary.is_empty() { &self.caption } else { &self.summary }
    }
}

impl Plot {
    /// One panel.
    pub fn single(x: Axis, y: Axis, height: f64, shapes: Vec<Shape>) -> Body {
        Body::Plot(Self { x, panels: vec![Panel { y, height, shapes }] })
    }
}

/// A line without gaps that has no name.
pub fn line(series: usize, weight: Weight, points: Vec<(f64, f64)>) -> Shape {
    Shape::Line { series, weight, runs: vec![points], label: None, marked: false }
}

/// A line with its name, and a mark where it ends.
pub fn named(series: usize, weight: Weight, runs: Vec<Vec<(f64, f64)>>, label: &str) -> Shape {
    Shape::Line { series, weight, runs, label: Some(label.into()), marked: true }
}

/// A line through or among marks: with its name and no mark of its own.
pub fn through(series: usize, weight: Weight, runs: Vec<Vec<(f64, f64)>>, label: &str) -> Shape {
    Shape::Line { series, weight, runs, label: Some(label.into()), marked: false }
}

/// Points of a line that say their value: at most about so many.
const HOVERS: usize = 48;

/// Places along a line that say their value.
pub fn hovers<P>(
    series: usize,
    points: &[P],
    of: impl Fn(&P) -> Option<((f64, f64), String)>,
) -> impl Iterator<Item = Shape> {
    let some = points.iter().step_by(points.len().div_ceil(HOVERS).max(1));
    some.filter_map(move |p| of(p).map(|(at, says)| Shape::Hover { series, at, says }))
}

/// A name as it stands in a file name or an identifier.
pub fn file_name(name: &str) -> String {
    name.replace(" / ", "-").chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect()
}
