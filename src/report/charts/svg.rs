//! The backend of plotters that draws for pages: SVG whose elements have class names and no
//! colours, so that the style sheet gives them those of the page, on paper, in the dark and on
//! screen.
//!
//! A shape carries its value as `<title>`, which a browser shows without any script and a screen
//! reader reads, and its series as `data-series`. Places are relative and in tenths of a pixel:
//! that is the shortest text. Rectangles of one colour that follow each other are one path.

use std::convert::Infallible;
use std::fmt::Write;

use maud::Render;
use plotters::style::ShapeStyle;
use plotters_backend::text_anchor::HPos;
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend};

use super::canvas::{Canvas, Drawn, EM, Ink, SERIES, TEXT};

/// Units of a coordinate to a pixel.
pub const UNITS: f64 = 10.0;

/// A drawing under way.
pub struct SvgBackend {
    size: (u32, u32),
    body: String,
    series: Option<usize>,
    says: Option<String>,
    /// Class and outline of the rectangles that were drawn last.
    cells: Option<(String, String)>,
}

/// Tenths of a pixel as pixels: `12` for 120, `-.5` for -5.
fn px(v: i32) -> String {
    let sign = if v < 0 { "-" } else { "" };
    match (v.unsigned_abs() / 10, v.unsigned_abs() % 10) {
        (whole, 0) => format!("{sign}{whole}"),
        (0, tenth) => format!("{sign}.{tenth}"),
        (whole, tenth) => format!("{sign}{whole}.{tenth}"),
    }
}

/// Numbers one after the other; a sign divides them as well as a space does.
fn joined(values: &[i32]) -> String {
    let mut out = String::new();
    for v in values {
        let text = px(*v);
        if !(out.is_empty() || text.starts_with('-')) {
            out.push(' ');
        }
        out.push_str(&text);
    }
    out
}

/// A path through points, from the first one on relative.
fn path(points: &[BackendCoord]) -> String {
    let Some(first) = points.first() else { return String::new() };
    let steps: Vec<i32> = points.windows(2).flat_map(|w| [w[1].0 - w[0].0, w[1].1 - w[0].1]).collect();
    let go = if steps.is_empty() { String::new() } else { format!("l{}", joined(&steps)) };
    format!("M{}{go}", joined(&[first.0, first.1]))
}

impl SvgBackend {
    /// An empty drawing of so many pixels.
    pub fn new(width: f64, height: f64) -> Self {
        let units = |v: f64| (v * UNITS).ceil() as u32;
        Self { size: (units(width), units(height)), body: String::new(), series: None, says: None, cells: None }
    }

    /// The class of an element: what it is, and its ink unless the series says it.
    fn class(&self, what: &str, color: BackendColor) -> String {
        let (ink, class) = Ink::of(color.rgb);
        match (color.alpha == 0.0, ink) {
            (true, _) => format!("{what} t"),
            (_, Ink::Series(n)) if self.series.is_some_and(|s| s % SERIES == n) => what.into(),
            _ => format!("{what} {class}"),
        }
    }

    fn flush(&mut self) {
        if let Some((class, outline)) = self.cells.take() {
            let _ = write!(self.body, "<path class=\"{class}\" d=\"{outline}\"/>");
        }
    }

    /// An element with the title that was said for it.
    fn element(&mut self, name: &str, class: &str, attributes: &str, alpha: f64) {
        self.flush();
        let faint = if alpha > 0.0 && alpha < 1.0 { format!(" opacity=\"{alpha}\"") } else { String::new() };
        let _ = match self.says.take() {
            Some(says) => {
                let says = says.render().0;
                write!(self.body, "<{name} class=\"m {class}\"{attributes}{faint}><title>{says}</title></{name}>")
            }
            None => write!(self.body, "<{name} class=\"{class}\"{attributes}{faint}/>"),
        };
    }

    /// The element for a legend: it says nothing that the text beside it does not.
    pub fn key(mut self) -> String {
        self.series(None);
        let (width, height) = (px(self.size.0 as i32), px(self.size.1 as i32));
        let size = format!("viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\"");
        format!("<svg class=\"key\" {size} aria-hidden=\"true\">{}</svg>", self.body)
    }

    /// The element. Identifiers are made of `id`, which must be unique within the page.
    pub fn finish(mut self, id: &str, title: &str, description: &str) -> String {
        self.series(None);
        let (width, height) = (px(self.size.0 as i32), px(self.size.1 as i32));
        format!(
            "<svg role=\"img\" aria-labelledby=\"{id}-t {id}-d\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\"><title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>{}</svg>\n",
            title.render().0,
            description.render().0,
            self.body
        )
    }
}

impl DrawingBackend for SvgBackend {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn<Self> {
        Ok(())
    }

    fn present(&mut self) -> Drawn<Self> {
        Ok(())
    }

    fn draw_pixel(&mut self, at: BackendCoord, color: BackendColor) -> Drawn<Self> {
        self.draw_rect(at, (at.0 + 1, at.1 + 1), &color, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn<Self> {
        self.draw_path([from, to], style)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        points: I,
        style: &S,
    ) -> Drawn<Self> {
        let color = style.color();
        let color = plotters::style::RGBColor(color.rgb.0, color.rgb.1, color.rgb.2).into();
        let style = ShapeStyle { color, filled: false, stroke_width: style.stroke_width() };
        self.stroke(&points.into_iter().collect::<Vec<_>>(), style, &[])
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn<Self> {
        if !fill {
            return self.draw_path([from, (to.0, from.1), to, (from.0, to.1), from], style);
        }
        let color = style.color();
        let class = self.class("f", color);
        let (width, height) = (to.0 - from.0, to.1 - from.1);
        if self.says.is_some() || color.alpha < 1.0 {
            let [x, y, w, h] = [from.0, from.1, width, height].map(px);
            let place = format!(" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"");
            self.element("rect", &class, &place, color.alpha);
            return Ok(());
        }
        let outline = format!("M{}h{}v{}h{}z", joined(&[from.0, from.1]), px(width), px(height), px(-width));
        match &mut self.cells {
            Some((same, all)) if *same == class => all.push_str(&outline),
            _ => {
                self.flush();
                self.cells = Some((class, outline));
            }
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(&mut self, at: BackendCoord, radius: u32, style: &S, fill: bool) -> Drawn<Self> {
        let class = self.class(if fill { "f" } else { "l" }, style.color());
        let [x, y, r] = [at.0, at.1, radius as i32].map(px);
        self.element("circle", &class, &format!(" cx=\"{x}\" cy=\"{y}\" r=\"{r}\""), style.color().alpha);
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        points: I,
        style: &S,
    ) -> Drawn<Self> {
        let class = self.class("f", style.color());
        let outline = format!(" d=\"{}z\"", path(&points.into_iter().collect::<Vec<_>>()));
        self.element("path", &class, &outline, style.color().alpha);
        Ok(())
    }

    fn draw_text<T: BackendTextStyle>(&mut self, text: &str, style: &T, at: BackendCoord) -> Drawn<Self> {
        self.flush();
        let anchor = match style.anchor().h_pos {
            HPos::Left => "",
            HPos::Center => " text-anchor=\"middle\"",
            HPos::Right => " text-anchor=\"end\"",
        };
        // plotters puts the base line half of the size below the upper edge.
        let (x, y) = (px(at.0), px(at.1 + (style.size() / 2.0).round() as i32));
        let em = style.size() / EM / UNITS;
        let size = if (em - TEXT).abs() < 0.01 { String::new() } else { format!(" font-size=\"{em:.0}\"") };
        let class = match Ink::of(style.color().rgb) {
            (Ink::Text, _) => String::new(),
            _ => format!(" class=\"{}\"", self.class("c", style.color())),
        };
        let _ = write!(self.body, "<text x=\"{x}\" y=\"{y}\"{anchor}{size}{class}>{}</text>", text.render().0);
        Ok(())
    }
}

impl Canvas for SvgBackend {
    fn series(&mut self, series: Option<usize>) {
        if self.series == series {
            return;
        }
        self.flush();
        if self.series.is_some() {
            self.body.push_str("</g>");
        }
        self.series = series;
        if let Some(n) = series {
            let _ = write!(self.body, "<g class=\"s{}\" data-series=\"{n}\">", n % SERIES);
        }
    }

    fn says(&mut self, text: &str) -> bool {
        self.says = Some(text.into());
        true
    }

    fn stroke(&mut self, points: &[BackendCoord], style: ShapeStyle, dash: &[f64]) -> Drawn<Self> {
        let mut more = format!(" d=\"{}\"", path(points));
        if style.stroke_width != (2.0 * UNITS) as u32 {
            let _ = write!(more, " stroke-width=\"{}\"", px(style.stroke_width as i32));
        }
        if !dash.is_empty() {
            let _ =
                write!(more, " stroke-dasharray=\"{}\"", joined(&dash.iter().map(|d| *d as i32).collect::<Vec<_>>()));
        }
        let rgb = BackendStyle::color(&style).rgb;
        let class = self.class("l", BackendColor { alpha: 1.0, rgb });
        self.element("path", &class, &more, style.color.3);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::charts::canvas::{Pen, Stroke};

    #[test]
    fn elements_have_classes_and_titles_and_no_colours() {
        let mut svg = SvgBackend::new(100.0, 50.0);
        let mut pen = Pen::new(&mut svg, UNITS);
        pen.line(&[(1.0, 2.0), (3.0, 1.5), (4.25, 1.5)], Stroke::new(Ink::Grid, 1.0));
        pen.series(Some(7));
        pen.line(&[(0.0, 0.0), (5.0, 5.0)], Stroke::new(Ink::Series(7), 2.0).dashed(&[9.0, 4.0]));
        pen.mark(7, (5.0, 5.0), 4.0, false, Some("a < b"));
        pen.series(None);
        pen.rect((0.0, 0.0), (2.0, 1.0), Ink::Heat(0), 1.0);
        pen.rect((2.0, 0.0), (3.0, 1.0), Ink::Heat(0), 1.0);
        pen.text((1.0, 12.0), HPos::Center, Ink::Quiet, TEXT, "one & two");
        pen.end().unwrap();
        let out = svg.finish("x", "t", "d");
        for said in [
            "<path class=\"l grid\" d=\"M1 2l2-.5 1.3 0\" stroke-width=\"1\"/>",
            "<g class=\"s1\" data-series=\"7\"><path class=\"l\" d=\"M0 0l5 5\" stroke-dasharray=\"9 4\"/>",
            "<title>a &lt; b</title></path></g>",
            "<path class=\"f h0\" d=\"M0 0h2v1h-2zM2 0h1v1h-1z\"/>",
            "<text x=\"1\" y=\"12\" text-anchor=\"middle\" class=\"c quiet\">one &amp; two</text>",
        ] {
            assert!(out.contains(said), "{said} is missing in {out}");
        }
        assert!(!out.contains('#') && !out.contains("rgb"), "{out}");
    }
}
