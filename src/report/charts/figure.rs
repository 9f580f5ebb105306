//! A chart as it stands on a page: heading, drawing for each width, legend, caption.

use super::plot::Plot;
use super::svg;
use crate::report::escape;

/// Widths that charts are drawn for: a wide screen, and a telephone, where the same drawing would
/// be too small to read.
pub const WIDTHS: [(&str, f64); 2] = [("wide", 660.0), ("narrow", 360.0)];

/// One way to draw a figure: (identifier, width) to an `svg` element.
pub type DrawFigure<'a> = &'a dyn Fn(&str, f64) -> String;

/// A figure: a title, what it shows, a legend, and its drawing, for each width; with a second scale
/// where there is one.
pub struct Figure<'a> {
    /// Unique within the page.
    pub id: &'a str,
    /// Its heading.
    pub title: &'a str,
    /// What it shows, and which table holds the same.
    pub caption: &'a str,
    /// (series, name); a legend of one is left out.
    pub legend: Vec<(usize, String)>,
    /// The drawing that is shown.
    pub draw: DrawFigure<'a>,
    /// The same on a linear scale, which the script offers.
    pub linear: Option<DrawFigure<'a>>,
    /// What stands below the drawing, as HTML.
    pub below: &'a str,
}

impl Figure<'_> {
    /// The element.
    pub fn html(&self) -> String {
        let scale = |name: &str, hidden: &str, draw: DrawFigure<'_>| {
            let drawings: String = WIDTHS
                .iter()
                .map(|(class, width)| {
                    let id = format!("{}-{}-{class}", self.id, &name[..3]);
                    format!("<div class=\"{class}\">{}</div>\n", draw(&id, *width))
                })
                .collect();
            format!("<div data-scale=\"{name}\"{hidden}>\n{drawings}</div>\n")
        };
        let entry = |(series, name): &(usize, String)| {
            format!("<li data-series=\"{series}\">{}{}</li>\n", svg::key(*series), escape(name))
        };
        let legend: String = self.legend.iter().map(entry).collect();
        let legend =
            if self.legend.len() > 1 { format!("<ul class=\"legend\">\n{legend}</ul>\n") } else { String::new() };
        format!(
            "<figure id=\"{}\">\n<figcaption><b>{}</b> {}</figcaption>\n{legend}{}{}{}</figure>\n",
            self.id,
            escape(self.title),
            escape(self.caption),
            scale("shown", "", self.draw),
            self.linear.map_or_else(String::new, |draw| scale("linear", " hidden", draw)),
            self.below
        )
    }
}

/// A chart of the run, with a legend of its named lines.
pub fn figure(plot: &Plot) -> String {
    let mut legend: Vec<(usize, String)> = Vec::new();
    for line in &plot.lines {
        if let Some(label) = &line.label {
            legend.push((line.colour, label.clone()));
        }
    }
    Figure {
        id: &plot.name,
        title: &format!("{}.", plot.title),
        caption: &plot.description,
        legend,
        draw: &|id, width| svg::plot(plot, id, width),
        linear: None,
        below: "",
    }
    .html()
}
