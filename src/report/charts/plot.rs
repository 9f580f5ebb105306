//! One way to draw a file: a [`Plot`] is plain data, and the same drawing code turns it into SVG or
//! PNG. On a page [`super::svg`] draws it.
//!
//! The font is embedded, so that neither the build nor the run needs fonts of the system, and two
//! machines draw the same picture. Colours are those of Okabe and Ito; every line has a dash
//! pattern and an end marker as a second cue.

use super::axis::Axis;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// Why a chart could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// The drawing library refused.
    #[error("cannot draw the chart `{title}`: {problem}")]
    Draw {
        /// Which chart.
        title: String,
        /// Its words.
        problem: String,
    },
    /// The picture could not be encoded.
    #[error("cannot encode a chart as PNG: {0}")]
    Png(#[from] png::EncodingError),
    /// The embedded font is damaged: the build is.
    #[error("the embedded font cannot be read: build msgbench again")]
    Font,
}

/// Colours that colour-blind readers tell apart (Okabe and Ito, 2008), dark enough for lines on
/// white.
pub const COLOURS: [(u8, u8, u8); 6] =
    [(0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233)];

/// How a line is drawn besides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineStyle {
    /// Without a gap.
    Solid,
    /// Dashes and gaps of so many pixels.
    Dashed(u32, u32),
}

/// The stroke of the n-th system.
pub fn stroke(index: usize) -> LineStyle {
    [LineStyle::Solid, LineStyle::Dashed(9, 4), LineStyle::Dashed(3, 3), LineStyle::Dashed(14, 5)][index % 4]
}

#[derive(Debug, Clone, PartialEq)]
pub struct ChartLine {
    /// Name in the legend; without one it has no entry and no marker.
    pub label: Option<String>,
    /// Index into [`COLOURS`], and of the marker.
    pub colour: usize,
    /// How it is drawn.
    pub stroke: LineStyle,
    /// Width in pixels.
    pub width: u32,
    /// (x, y) in the units of the axes. A gap divides it: points are given in runs.
    pub runs: Vec<Vec<(f64, f64)>>,
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (low, high): (i32, i32)) -> i32 {
        let share = (value - self.min) / (self.max - self.min).max(f64::MIN_POSITIVE);
        low + (share * f64::from(high - low)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.iter().map(|t| t.0).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.min..self.max
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        value.to_string()
    }

    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|t| t.0 == *value);
        tick.map_or_else(|| Self::format(value), |t| t.1.clone())
    }
}

/// A chart as data.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// Fit for a file name.
    pub name: String,
    /// Heading.
    pub title: String,
    /// What it shows, for those who cannot see it.
    pub description: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Back to front.
    pub lines: Vec<ChartLine>,
}

const SIZE: (u32, u32) = (900, 430);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const FONT: &str = "sans-serif";

impl Plot {
    fn error(&self, e: impl std::fmt::Display) -> ChartError {
        ChartError::Draw { title: self.title.clone(), problem: e.to_string() }
    }

    /// A file of its own, on white.
    ///
    /// # Errors
    /// When the drawing library refuses.
    pub fn svg(&self) -> Result<String, ChartError> {
        let mut out = String::new();
        self.draw(SVGBackend::with_string(&mut out, SIZE).into_drawing_area(), 1)?;
        let head = out.find("<svg").and_then(|start| Some(start + out[start..].find('>')? + 1));
        let head = head.ok_or_else(|| self.error("no svg element was drawn"))?;
        let escape = crate::report::escape;
        out.insert_str(
            head,
            &format!("\n<title>{}</title><desc>{}</desc>", escape(&self.title), escape(&self.description)),
        );
        Ok(out.replacen("<svg ", "<svg role=\"img\" ", 1))
    }

    /// A picture in twice the resolution.
    ///
    /// # Errors
    /// When it cannot be drawn or encoded.
    pub fn png(&self) -> Result<Vec<u8>, ChartError> {
        let (width, height) = (SIZE.0 * 2, SIZE.1 * 2);
        let mut pixels = vec![255; (width * height * 3) as usize];
        self.draw(BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area(), 2)?;
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&pixels)?;
        writer.finish()?;
        Ok(bytes)
    }

    fn draw<DB: DrawingBackend>(&self, area: DrawingArea<DB, Shift>, scale: u32) -> Result<(), ChartError> {
        register_font(FONT, FontStyle::Normal, include_bytes!("font/DejaVuSans-subset.ttf"))
            .map_err(|_| ChartError::Font)?;
        let fail = |e: DrawingAreaErrorKind<DB::ErrorType>| self.error(e);
        area.fill(&WHITE).map_err(fail)?;
        let px = |n: u32| n * scale;
        let font = |size: u32| (FONT, px(size)).into_font().color(&INK);
        let mut chart = ChartBuilder::on(&area)
            .margin(px(10))
            .caption(&self.title, font(17))
            .x_label_area_size(px(44))
            .y_label_area_size(px(66))
            .build_cartesian_2d(self.x.clone(), self.y.clone())
            .map_err(fail)?;
        chart
            .configure_mesh()
            .x_labels(self.x.ticks.len().max(1))
            .y_labels(self.y.ticks.len().max(1))
            .max_light_lines(0)
            .bold_line_style(INK.mix(0.14))
            .axis_style(INK.mix(0.7))
            .label_style(font(13))
            .axis_desc_style(font(13))
            .x_desc(&self.x.title)
            .y_desc(&self.y.title)
            .draw()
            .map_err(fail)?;
        for line in &self.lines {
            let (r, g, b) = COLOURS[line.colour % COLOURS.len()];
            let colour = RGBColor(r, g, b).mix(if line.label.is_some() { 1.0 } else { 0.5 });
            let style = colour.stroke_width(px(line.width));
            for run in &line.runs {
                let points = run.iter().copied();
                match line.stroke {
                    LineStyle::Solid => {
                        chart.draw_series(LineSeries::new(points, style)).map_err(fail)?;
                    }
                    LineStyle::Dashed(dash, gap) => {
                        chart.draw_series(DashedLineSeries::new(points, px(dash), px(gap), style)).map_err(fail)?;
                    }
                }
            }
            let (Some(label), Some(&end)) = (&line.label, line.runs.iter().flatten().last()) else { continue };
            let size = px(5) as i32;
            let shape = line.colour % 3;
            // The marker where the line ends, and again in the legend.
            let at_end = || std::iter::once(end);
            let series = match shape {
                0 => chart.draw_series(at_end().map(|p| Circle::new(p, size, colour.filled()))),
                1 => chart.draw_series(at_end().map(|p| TriangleMarker::new(p, size + 1, colour.filled()))),
                _ => chart.draw_series(at_end().map(|p| Cross::new(p, size, style))),
            };
            let (length, stroke) = (px(28) as i32, line.stroke);
            series.map_err(fail)?.label(label.as_str()).legend(move |(x, y)| {
                let points = (0..=length).step_by(2).map(|d| (x + d, y)).collect::<Vec<_>>();
                match stroke {
                    LineStyle::Solid => PathElement::new(points, style).into_dyn(),
                    LineStyle::Dashed(dash, gap) => DashedPathElement::new(points, px(dash), px(gap), style).into_dyn(),
                }
            });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .margin(px(10))
            .legend_area_size(px(34))
            .label_font(font(13))
            .draw()
            .map_err(fail)?;
        area.present().map_err(fail)
    }
}
