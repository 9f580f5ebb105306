//! A chart as it is handed out: as a figure of a page, as SVG that needs no page, and as a picture.

use maud::{Markup, PreEscaped, html};
use plotters::backend::BitMapBackend;
use plotters_backend::text_anchor::HPos;

use super::canvas::{Canvas, DASHES, Drawn, Ink, Pen, SERIES, Stroke, TEXT, width_of};
use super::chart::{Body, Chart};
use super::draw::{beside, draw, height};
use super::frame::LINE;
use super::rows::wrap;
use super::svg::{SvgBackend, UNITS};
use crate::record::Record;
use crate::report::printable;
use crate::report::words::view::trials;

/// The style sheet of drawings: which colours the inks have, in the light, in the dark, on paper.
pub const STYLE: &str = include_str!("chart.css");
/// Widths that charts of a page are drawn for: a wide screen, and a telephone, where the same
/// drawing would be too small to read.
const WIDTHS: [(&str, f64); 2] = [("wide", 660.0), ("narrow", 360.0)];
/// Width of a file of its own; a picture has twice as many pixels.
const SHEET: f64 = 800.0;
const PIXELS: u32 = 2;
/// Each pixel of a picture is the mean of two by two, so that edges are smooth.
const FINER: u32 = 2;
const MARGIN: f64 = 16.0;
const TITLE: f64 = 16.0;

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
}

/// What stands below a chart that leaves its page: enough to know what it is of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foot {
    pub workload: String,
    /// Systems with their versions.
    pub systems: String,
    /// When it was measured, UTC.
    pub date: String,
    /// The file that it was drawn from.
    pub source: String,
}

impl Foot {
    /// The foot of a result's charts. `source` is the path of its `run.json`: of that, the last
    /// folders.
    pub fn of(record: &Record, source: &str) -> Self {
        let version = |(index, name): (usize, &str)| {
            let mine = |c: &&crate::plan::Case| c.system == index;
            let mut trials = record.plan.cases.iter().filter(mine).flat_map(|c| trials(record, &c.id));
            trials.next().map_or_else(|| name.to_string(), |t| format!("{name} {}", t.system.version))
        };
        let names = record.plan.systems.iter().map(|s| s.name.as_str()).enumerate();
        let folders: Vec<&str> = source.split('/').collect();
        Self {
            workload: record.plan.name.clone(),
            systems: names.map(version).collect::<Vec<_>>().join(", "),
            date: record.started_at.clone(),
            source: folders[folders.len().saturating_sub(3)..].join("/"),
        }
    }

    fn text(&self) -> String {
        let parts = [&self.workload, &self.systems, &self.date, &self.source];
        let some: Vec<&str> = parts.into_iter().map(String::as_str).filter(|p| !p.is_empty()).collect();
        some.join(" · ")
    }
}

fn drawing(chart: &Chart, body: &Body, id: &str, width: f64) -> Markup {
    let mut svg = SvgBackend::new(width, height(body, width));
    let mut pen = Pen::new(&mut svg, UNITS);
    draw(&mut pen, body, (0.0, 0.0), width);
    // It cannot fail: it writes text.
    let Ok(()) = pen.end() else { return Markup::default() };
    PreEscaped(svg.finish(id, &chart.title, chart.description()))
}

/// What stands for a series in a legend: its dash, unless it has `marks_only`, and its shape.
fn key(series: usize, marks_only: bool) -> Markup {
    let mut svg = SvgBackend::new(34.0, 14.0);
    swatch(&mut Pen::new(&mut svg, UNITS), (series, marks_only), (0.0, 7.0));
    PreEscaped(svg.key())
}

fn swatch<B: Canvas>(pen: &mut Pen<'_, B>, (series, marks_only): (usize, bool), (x, y): (f64, f64)) {
    pen.series(Some(series));
    let stroke = Stroke::new(Ink::Series(series), 2.0).dashed(DASHES[series % SERIES]);
    if !marks_only {
        pen.line(&[(x + 1.0, y), (x + 33.0, y)], stroke);
    }
    pen.mark(series, (x + 17.0, y), 4.5, false, None);
    pen.series(None);
}

/// The chart as an element of a page, with a drawing for each width.
fn figure(chart: &Chart) -> Markup {
    html! {
        figure id=(chart.name) {
            figcaption { b { (chart.title) } " " (chart.caption) }
            @if chart.series.len() > 1 || chart.marks_only {
                ul.legend {
                    @for (series, name) in &chart.series { li data-series=(series) { (key(*series, chart.marks_only)) (name) } }
                }
            }
            (scale(chart, "shown", &chart.body))
            @if let Some(linear) = &chart.linear { (scale(chart, "linear", linear)) }
            @if !chart.ramp.is_empty() {
                ul.ramp {
                    li { "messages in a cell:" }
                    @for (level, name) in chart.ramp.iter().enumerate() {
                        li {
                            svg.key viewBox="0 0 18 12" width="18" height="12" aria-hidden="true" {
                                rect width="18" height="12" class={ "f h" (level) } {}
                            }
                            (name)
                        }
                    }
                }
            }
            @if !chart.events.is_empty() {
                ol.events { @for event in &chart.events { li { (event) } } }
            }
        }
    }
}

/// The drawings by one scale; those by the one that is not `shown` wait for the script.
fn scale(chart: &Chart, name: &str, body: &Body) -> Markup {
    html! {
        div data-scale=(name) hidden[name != "shown"] {
            @for (class, width) in WIDTHS {
                div class=(class) { (drawing(chart, body, &format!("{}-{}-{class}", chart.name, &name[..3]), width)) }
            }
        }
    }
}

/// All of them, in order.
pub fn figures<'a>(charts: impl IntoIterator<Item = &'a Chart>) -> Markup {
    html! {
        @for chart in charts { (figure(chart)) }
    }
}

/// A chart with everything that a page says around it, and the foot.
struct Sheet<'a> {
    chart: &'a Chart,
    title: Vec<String>,
    caption: Vec<String>,
    /// Series, name and place of each entry of the legend.
    legend: Vec<(usize, &'a str, (f64, f64))>,
    ramp: Vec<(&'a str, (f64, f64))>,
    events: Vec<String>,
    foot: Vec<String>,
}

/// Places of things that are so wide, one after the other, as many to a line as there is room for.
fn flow(widths: impl Iterator<Item = f64>) -> Vec<(f64, f64)> {
    let (mut x, mut y) = (0.0, 0.0);
    let place = |width: f64| {
        if x > 0.0 && x + width > SHEET - 2.0 * MARGIN {
            (x, y) = (0.0, y + LINE + 3.0);
        }
        let at = (x, y);
        x += width;
        at
    };
    widths.map(place).collect()
}

impl<'a> Sheet<'a> {
    fn new(chart: &'a Chart, foot: &Foot) -> Self {
        let room = SHEET - 2.0 * MARGIN;
        // Named at the ends of their lines, or beside their bars, they need no legend.
        let named = match &chart.body {
            Body::Plot(plot) => chart.series.len() < 2 || !chart.marks_only && beside(plot, room).is_some(),
            Body::Rows(_) => true,
        };
        let series: &[(usize, String)] = if named { &[] } else { &chart.series };
        let places = flow(series.iter().map(|s| 40.0 + width_of(&s.1, TEXT) + 18.0));
        let levels = flow(chart.ramp.iter().map(|r| 24.0 + width_of(r, TEXT) + 14.0));
        let number = |(i, e): (usize, &String)| wrap(&format!("{}. {e}", i + 1), TEXT, room);
        Self {
            chart,
            title: wrap(&chart.title, TITLE, room),
            caption: wrap(&chart.caption, TEXT, room),
            legend: series.iter().zip(places).map(|(s, at)| (s.0, s.1.as_str(), at)).collect(),
            ramp: chart.ramp.iter().zip(levels).map(|(r, at)| (r.as_str(), at)).collect(),
            events: chart.events.iter().enumerate().flat_map(number).collect(),
            foot: wrap(&foot.text(), TEXT - 1.0, room),
        }
    }

    /// Draws it if there is a pen; returns its height.
    fn draw<B: Canvas>(&self, mut pen: Option<&mut Pen<'_, B>>) -> f64 {
        let mut y = MARGIN;
        let lines = |pen: &mut Option<&mut Pen<'_, B>>, y: &mut f64, all: &[String], ink: Ink, size: f64| {
            for line in all {
                *y += size + 4.0;
                if let Some(pen) = pen {
                    pen.text((MARGIN, *y - 3.0), HPos::Left, ink, size, line);
                }
            }
        };
        lines(&mut pen, &mut y, &self.title, Ink::Text, TITLE);
        y += 4.0;
        lines(&mut pen, &mut y, &self.caption, Ink::Quiet, TEXT);
        y += 8.0;
        if let Some((_, _, last)) = self.legend.last() {
            for (series, name, at) in &self.legend {
                let Some(pen) = &mut pen else { break };
                let (x, y) = (MARGIN + at.0, y + at.1 + 10.0);
                swatch(pen, (*series, self.chart.marks_only), (x, y));
                pen.text((x + 40.0, y + 4.0), HPos::Left, Ink::Text, TEXT, name);
            }
            y += last.1 + LINE + 6.0;
        }
        let room = SHEET - 2.0 * MARGIN;
        if let Some(pen) = &mut pen {
            draw(pen, &self.chart.body, (MARGIN, y), room);
        }
        y += height(&self.chart.body, room) + 6.0;
        if let Some((_, last)) = self.ramp.last() {
            lines(&mut pen, &mut y, &["Messages in a cell:".into()], Ink::Quiet, TEXT);
            for (k, (name, at)) in self.ramp.iter().enumerate() {
                let Some(pen) = &mut pen else { break };
                let (x, y) = (MARGIN + at.0, y + at.1 + 4.0);
                pen.rect((x, y), (x + 18.0, y + 12.0), Ink::Heat(k), 1.0);
                pen.text((x + 24.0, y + 10.0), HPos::Left, Ink::Text, TEXT, name);
            }
            y += last.1 + LINE + 6.0;
        }
        lines(&mut pen, &mut y, &self.events, Ink::Text, TEXT);
        y += 10.0;
        if let Some(pen) = &mut pen {
            pen.line(&[(MARGIN, y), (SHEET - MARGIN, y)], Stroke::new(Ink::Grid, 1.0));
        }
        y += 4.0;
        lines(&mut pen, &mut y, &self.foot, Ink::Quiet, TEXT - 1.0);
        y + MARGIN - 4.0
    }

    fn height(&self) -> f64 {
        self.draw::<SvgBackend>(None).ceil()
    }

    fn on<B: Canvas>(&self, canvas: &mut B, scale: f64) -> Drawn<B> {
        let mut pen = Pen::new(canvas, scale);
        self.draw(Some(&mut pen));
        pen.end()
    }
}

/// A file of its own, with its style sheet.
pub fn svg(chart: &Chart, foot: &Foot) -> String {
    let sheet = Sheet::new(chart, foot);
    let mut out = SvgBackend::new(SHEET, sheet.height());
    Pen::new(&mut out, UNITS).rect((0.0, 0.0), (SHEET, sheet.height()), Ink::Paper, 1.0);
    let Ok(()) = sheet.on(&mut out, UNITS) else { return String::new() };
    let text = out.finish(&chart.name, &chart.title, chart.description());
    let text = text.replacen("<svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"", 1);
    printable(text.replacen("<title", &format!("<style>{STYLE}</style><title"), 1))
}

/// A picture, 1600 pixels wide.
///
/// # Errors
/// When it cannot be drawn or encoded.
pub fn png(chart: &Chart, foot: &Foot) -> Result<Vec<u8>, ChartError> {
    let fail = |e: &dyn std::fmt::Display| ChartError::Draw { title: chart.title.clone(), problem: e.to_string() };
    let sheet = Sheet::new(chart, foot);
    let (width, height) = (SHEET as u32 * PIXELS, sheet.height() as u32 * PIXELS);
    let (fine_width, fine_height) = (width * FINER, height * FINER);
    let mut fine = vec![255; fine_width as usize * fine_height as usize * 3];
    let mut canvas =
        BitMapBackend::with_buffer_and_format(&mut fine, (fine_width, fine_height)).map_err(|e| fail(&e))?;
    sheet.on::<BitMapBackend<'_>>(&mut canvas, f64::from(PIXELS * FINER)).map_err(|e| fail(&e))?;
    drop(canvas);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // A third of the size that the library's own choice has: most of a chart is flat.
    encoder.set_compression(png::Compression::Default);
    encoder.set_filter(png::FilterType::NoFilter);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&smaller(&fine, width as usize))?;
    writer.finish()?;
    Ok(bytes)
}

/// The means of squares of two by two pixels, in rows of `width` in the result.
fn smaller(fine: &[u8], width: usize) -> Vec<u8> {
    let row = width * 3 * FINER as usize;
    let mut out = Vec::with_capacity(fine.len() / 4);
    for rows in fine.chunks_exact(2 * row) {
        let (upper, lower) = rows.split_at(row);
        for (a, b) in upper.chunks_exact(6).zip(lower.chunks_exact(6)) {
            for c in 0..3 {
                let sum = u16::from(a[c]) + u16::from(a[c + 3]) + u16::from(b[c]) + u16::from(b[c + 3]);
                out.push((sum / 4) as u8);
            }
        }
    }
    out
}
