//! What the drawing code draws on: any `DrawingBackend` of plotters that knows a few things more,
//! which a bitmap ignores and a page needs.
//!
//! Background: plotters hands a backend colours only. Each [`Ink`] has a colour of its own, so that
//! the backend for pages finds the class name again, and the style sheet of the page decides what
//! is seen on screen, in the dark and on paper. A bitmap shows the colours of a light page.

use std::sync::LazyLock;

use plotters::backend::BitMapBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBAColor, RGBColor, ShapeStyle, TextStyle, register_font};
use plotters_backend::{DrawingBackend, DrawingErrorKind};

/// Series beyond this many repeat colour, shape and dash.
pub const SERIES: usize = 6;
/// Dash patterns by series, in pixels; empty is solid.
pub const DASHES: [&[f64]; SERIES] = [&[], &[9.0, 4.0], &[3.0, 3.0], &[14.0, 5.0], &[9.0, 3.0, 2.0, 3.0], &[2.0, 5.0]];

/// What something is drawn with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    Paper,
    Text,
    Quiet,
    Grid,
    Good,
    Bad,
    Warn,
    /// Colours that colour-blind readers tell apart (Okabe and Ito, 2008), darker where text has
    /// them.
    Series(usize),
    /// Few to many.
    Heat(usize),
}

/// All inks: class name in the style sheet, and colour on white paper.
const INKS: [(Ink, &str, u32); 19] = [
    (Ink::Paper, "paper", 0xffffff),
    (Ink::Text, "ink", 0x1b1f24),
    (Ink::Quiet, "quiet", 0x57606a),
    (Ink::Grid, "grid", 0xd0d7de),
    (Ink::Good, "good", 0x116329),
    (Ink::Bad, "bad", 0xa40e26),
    (Ink::Warn, "warn", 0x7a4a00),
    (Ink::Series(0), "s0", 0x0072b2),
    (Ink::Series(1), "s1", 0xc44f00),
    (Ink::Series(2), "s2", 0x00805c),
    (Ink::Series(3), "s3", 0xb0578d),
    (Ink::Series(4), "s4", 0x8a6100),
    (Ink::Series(5), "s5", 0x4b5661),
    (Ink::Heat(0), "h0", 0xb3cde6),
    (Ink::Heat(1), "h1", 0x86b0d8),
    (Ink::Heat(2), "h2", 0x5790c4),
    (Ink::Heat(3), "h3", 0x306fa8),
    (Ink::Heat(4), "h4", 0x174e82),
    (Ink::Heat(5), "h5", 0x062a4f),
];

impl Ink {
    fn rgb(self) -> RGBColor {
        let ink = match self {
            Self::Series(n) => Self::Series(n % SERIES),
            Self::Heat(n) => Self::Heat(n.min(5)),
            other => other,
        };
        let [_, r, g, b] = INKS.iter().find(|i| i.0 == ink).map_or(0, |i| i.2).to_be_bytes();
        RGBColor(r, g, b)
    }

    /// The ink of a colour, and its class.
    pub(super) fn of((r, g, b): (u8, u8, u8)) -> (Self, &'static str) {
        let rgb = u32::from_be_bytes([0, r, g, b]);
        INKS.iter().find(|i| i.2 == rgb).map_or((Self::Text, "ink"), |i| (i.0, i.1))
    }
}

/// What a backend says of a shape.
pub type Drawn<B> = Result<(), DrawingErrorKind<<B as DrawingBackend>::ErrorType>>;

/// What a drawing needs beyond plotters' own backend.
pub trait Canvas: DrawingBackend {
    /// What is drawn from here on belongs to a series, or to none.
    fn series(&mut self, _series: Option<usize>) {}

    /// The next shape says this under the pointer. `false` where nothing can: what has no ink need
    /// not be drawn then.
    fn says(&mut self, _text: &str) -> bool {
        false
    }

    /// A line in dashes; solid where `dash` is empty. All lengths are in units of the backend.
    ///
    /// # Errors
    /// Those of the backend.
    fn stroke(&mut self, points: &[(i32, i32)], style: ShapeStyle, dash: &[f64]) -> Drawn<Self>;
}

impl Canvas for BitMapBackend<'_> {
    /// With round joints: the mitres of plotters are spikes where a noisy line turns.
    fn stroke(&mut self, points: &[(i32, i32)], style: ShapeStyle, dash: &[f64]) -> Drawn<Self> {
        let half = f64::from(style.stroke_width) / 2.0;
        // Pieces overlap at a joint: what is faint is mixed with the paper beforehand.
        let RGBAColor(r, g, b, alpha) = style.color;
        let faint = |c: u8| (255.0 - (255.0 - f64::from(c)) * alpha).round() as u8;
        let color = RGBColor(faint(r), faint(g), faint(b));
        let whole = |v: (f64, f64)| (v.0.round() as i32, v.1.round() as i32);
        for ((from, to), joint) in dashes(points, dash) {
            let (dx, dy) = (to.0 - from.0, to.1 - from.1);
            let length = dx.hypot(dy).max(f64::MIN_POSITIVE);
            let (nx, ny) = (-dy / length * half, dx / length * half);
            let corners = [
                (from.0 + nx, from.1 + ny),
                (to.0 + nx, to.1 + ny),
                (to.0 - nx, to.1 - ny),
                (from.0 - nx, from.1 - ny),
            ];
            self.fill_polygon(corners.map(whole), &color)?;
            if joint && half > 1.0 {
                self.draw_circle(whole(from), half.round() as u32, &color, true)?;
            }
        }
        Ok(())
    }
}

type Piece = ((f64, f64), (f64, f64));

/// A line as straight pieces in the pattern of its dashes, and whether a piece goes on from the one
/// before.
fn dashes(points: &[(i32, i32)], dash: &[f64]) -> Vec<(Piece, bool)> {
    let mut out = Vec::new();
    let (mut part, mut left, mut joint) = (0, dash.first().copied().unwrap_or(f64::INFINITY), false);
    for pair in points.windows(2) {
        let at = |p: (i32, i32)| (f64::from(p.0), f64::from(p.1));
        let (from, to) = (at(pair[0]), at(pair[1]));
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let on = |d: f64| (from.0 + (to.0 - from.0) * d / length, from.1 + (to.1 - from.1) * d / length);
        let mut done = 0.0;
        while done < length {
            let step = left.min(length - done);
            if part % 2 == 0 {
                out.push(((on(done), on(done + step)), joint));
                joint = true;
            }
            (done, left) = (done + step, left - step);
            if left <= 0.0 {
                part += 1;
                left = dash[part % dash.len()].max(1.0);
                joint = false;
            }
        }
    }
    out
}

/// The font is embedded, so that neither the build nor the run needs fonts of the system, and two
/// machines draw the same picture.
const FONT: &str = "sans-serif";
static REGISTERED: LazyLock<bool> =
    LazyLock::new(|| register_font(FONT, FontStyle::Normal, include_bytes!("font/DejaVuSans-subset.ttf")).is_ok());
/// Size of text in the drawings, in pixels; the style sheet has the same.
pub const TEXT: f64 = 12.0;
/// plotters scales a font by its height from descent to ascent, and pages by its em.
pub(super) const EM: f64 = 1.164;

/// Width of a text in pixels. Fonts of other machines are narrower as a rule.
pub fn width_of(text: &str, size: f64) -> f64 {
    // Measured large, as plotters rounds to whole pixels.
    let font = (FONT, 100.0 * EM).into_font();
    let known = if *REGISTERED { font.box_size(text).ok() } else { None };
    known.map_or(text.chars().count() as f64 * 0.6 * size, |(w, _)| f64::from(w) * size / 100.0)
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Stroke {
    pub ink: Ink,
    /// Pixels.
    pub width: f64,
    /// 1 is opaque.
    pub alpha: f64,
    /// Pixels.
    pub dash: &'static [f64],
}

impl Stroke {
    /// Solid.
    pub const fn new(ink: Ink, width: f64) -> Self {
        Self { ink, width, alpha: 1.0, dash: &[] }
    }

    pub const fn dashed(self, dash: &'static [f64]) -> Self {
        Self { dash, ..self }
    }
}

/// Draws in pixels with fractions on a backend that has `scale` units to a pixel. The first error
/// is kept for the end.
pub struct Pen<'a, B: Canvas> {
    out: &'a mut B,
    scale: f64,
    error: Option<DrawingErrorKind<B::ErrorType>>,
}

impl<'a, B: Canvas> Pen<'a, B> {
    pub fn new(out: &'a mut B, scale: f64) -> Self {
        Self { out, scale, error: None }
    }

    /// The first error.
    pub fn end(self) -> Drawn<B> {
        self.error.map_or(Ok(()), Err)
    }

    fn keep(&mut self, drawn: Drawn<B>) {
        if let (Err(e), None) = (drawn, &self.error) {
            self.error = Some(e);
        }
    }

    /// A pixel in units of the backend.
    pub fn units(&self, (x, y): (f64, f64)) -> (i32, i32) {
        ((x * self.scale).round() as i32, (y * self.scale).round() as i32)
    }

    pub fn series(&mut self, series: Option<usize>) {
        self.out.series(series);
    }

    pub fn says(&mut self, text: &str) -> bool {
        self.out.says(text)
    }

    /// A line through points.
    pub fn line(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        let mut points: Vec<(i32, i32)> = points.iter().map(|p| self.units(*p)).collect();
        points.dedup();
        let (color, width) = (stroke.ink.rgb().mix(stroke.alpha), (stroke.width * self.scale).round().max(1.0));
        let style = ShapeStyle { color, filled: false, stroke_width: width as u32 };
        let dash: Vec<f64> = stroke.dash.iter().map(|d| d * self.scale).collect();
        let drawn = self.out.stroke(&points, style, &dash);
        self.keep(drawn);
    }

    /// A filled area.
    pub fn area(&mut self, points: &[(f64, f64)], ink: Ink, alpha: f64) {
        let points: Vec<(i32, i32)> = points.iter().map(|p| self.units(*p)).collect();
        let drawn = self.out.fill_polygon(points, &style(ink, alpha));
        self.keep(drawn);
    }

    /// A filled rectangle.
    pub fn rect(&mut self, from: (f64, f64), to: (f64, f64), ink: Ink, alpha: f64) {
        let (from, to) = (self.units(from), self.units(to));
        let ordered = ((from.0.min(to.0), from.1.min(to.1)), (from.0.max(to.0), from.1.max(to.1)));
        let drawn = self.out.draw_rect(ordered.0, ordered.1, &style(ink, alpha), true);
        self.keep(drawn);
    }

    /// A place without ink that says something.
    pub fn hover(&mut self, at: (f64, f64), says: &str) {
        if self.says(says) {
            let (at, radius) = (self.units(at), (7.0 * self.scale) as u32);
            let drawn = self.out.draw_circle(at, radius, &style(Ink::Text, 0.0), true);
            self.keep(drawn);
        }
    }

    /// The mark of a series: circle, triangle, square, diamond, cross or plus.
    pub fn mark(&mut self, series: usize, at: (f64, f64), r: f64, hollow: bool, says: Option<&str>) {
        let place = |(dx, dy): &(f64, f64)| (at.0 + dx * r, at.1 + dy * r);
        let shape: Vec<(f64, f64)> = shape(series).iter().map(place).collect();
        let ink = Ink::Series(series);
        if hollow {
            self.area(&shape, Ink::Paper, 1.0);
            says.map(|s| self.says(s));
            self.line(&[&shape[..], &shape[..1]].concat(), Stroke::new(ink, 1.6));
            return;
        }
        says.map(|s| self.says(s));
        if series.is_multiple_of(SERIES) {
            let (at, radius) = (self.units(at), (r * self.scale).round() as u32);
            let drawn = self.out.draw_circle(at, radius, &style(ink, 1.0), true);
            self.keep(drawn);
        } else {
            self.area(&shape, ink, 1.0);
        }
    }

    /// A text on its base line.
    pub fn text(&mut self, at: (f64, f64), anchor: HPos, ink: Ink, size: f64, text: &str) {
        let em = size * EM * self.scale;
        let (x, y) = self.units(at);
        let (font, ink, place) = ((FONT, em).into_font(), ink.rgb(), Pos::new(anchor, VPos::Top));
        let style = TextStyle::from(font).color(&ink).pos(place);
        let drawn = self.out.draw_text(text, &style, (x, y - (em / 2.0).round() as i32));
        self.keep(drawn);
    }
}

fn style(ink: Ink, alpha: f64) -> ShapeStyle {
    let color: RGBAColor = ink.rgb().mix(alpha);
    ShapeStyle { color, filled: true, stroke_width: 1 }
}

/// The outline of a mark around zero, with a radius of 1.
fn shape(series: usize) -> Vec<(f64, f64)> {
    let turned = |arm: &[(f64, f64)]| -> Vec<(f64, f64)> {
        let quarter = |k: usize| arm.iter().map(move |(x, y)| [(*x, *y), (-y, *x), (-x, -y), (*y, -x)][k]);
        (0..4).flat_map(quarter).collect()
    };
    match series % SERIES {
        0 => (0..16).map(|k| f64::from(k) * std::f64::consts::PI / 8.0).map(|a| (a.cos(), a.sin())).collect(),
        1 => vec![(0.0, -1.2), (1.15, 0.9), (-1.15, 0.9)],
        2 => turned(&[(0.9, 0.9)]),
        3 => turned(&[(1.2, 0.0)]),
        4 => turned(&[(0.35, 0.0), (1.1, 0.75), (0.75, 1.1)]),
        _ => turned(&[(0.28, 0.28), (0.28, 1.2), (-0.28, 1.2)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ink_is_found_by_its_colour_and_every_series_has_its_shape_and_dash() {
        for (ink, class, _) in INKS {
            let RGBColor(r, g, b) = ink.rgb();
            assert_eq!(Ink::of((r, g, b)), (ink, class));
        }
        let text = |s: usize| format!("{:?} {:?}", shape(s), DASHES[s]);
        let all: std::collections::BTreeSet<String> = (0..SERIES).map(text).collect();
        assert_eq!(all.len(), SERIES);
        assert_eq!(shape(SERIES + 1), shape(1));
    }

    #[test]
    fn dashes_go_around_corners_and_cover_their_share() {
        let all = dashes(&[(0, 0), (9, 0), (9, 11)], &[4.0, 2.0]);
        let long: f64 = all.iter().map(|((a, b), _)| (b.0 - a.0).hypot(b.1 - a.1)).sum();
        // 4 of 6, and the last two are drawn.
        assert!((long - 14.0).abs() < 1e-9, "{all:?}");
        assert!(all.iter().any(|(_, joint)| *joint), "one goes around the corner");
        assert_eq!(dashes(&[(0, 0), (5, 0), (9, 0)], &[]).len(), 2);
    }

    #[test]
    fn text_is_measured() {
        assert!(*REGISTERED);
        let (short, long) = (width_of("i", TEXT), width_of("a-system-with-a-long-name", TEXT));
        assert!(short > 2.0 && short < 5.0 && long > 130.0 && long < 190.0, "{short} {long}");
    }
}
