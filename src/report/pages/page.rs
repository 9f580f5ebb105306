//! What the pages have in common: head, style, script, sections, tables, figures.
//!
//! A page needs nothing else: no address, no font, no picture from elsewhere. It reads on a telephone and on a wide screen,
//! in the dark, on paper and aloud, and is complete without its script, which only adds.

use crate::report::charts::svg;
use crate::report::words::view::Table;

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");
/// Widths that charts are drawn for: a wide screen, and a telephone, where the same drawing would be too small to read.
pub const WIDTHS: [(&str, f64); 2] = [("wide", 660.0), ("narrow", 360.0)];

/// Text as it must stand in HTML and XML, in elements and in attributes. Control characters that XML forbids are dropped.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// A page from its title and the inside of its `main`.
pub fn shell(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>{} - msgbench</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        escape(title)
    )
}

/// A section with a heading; the body is HTML.
pub fn section(out: &mut String, heading: &str, body: &str) {
    let id = heading.to_lowercase().replace(' ', "-");
    out.push_str(&format!("<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{heading}</h2>\n{body}</section>\n"));
}

/// Terms and what is said of them.
pub fn definitions(list: &[(String, String)]) -> String {
    let items: String = list.iter().map(|(t, d)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(t), escape(d))).collect();
    format!("<dl>\n{items}</dl>\n")
}

/// Sentences with a word in front that says how grave they are.
pub fn notes<'a>(list: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let items: String =
        list.map(|(word, text)| format!("<li class=\"{word}\"><b>{word}</b> {}</li>\n", escape(text))).collect();
    if items.is_empty() { items } else { format!("<ul class=\"notes\">\n{items}</ul>\n") }
}

/// Something that is there when asked for; on paper it is open.
pub fn details(summary: &str, body: &str) -> String {
    format!("<details>\n<summary>{}</summary>\n{body}</details>\n", escape(summary))
}

/// A table that scrolls by itself where it is wider than the screen.
pub fn table(t: &Table) -> String {
    let class = |column: usize| if t.right[column] { " class=\"n\"" } else { "" };
    let head: String =
        t.head.iter().enumerate().map(|(i, h)| format!("<th scope=\"col\"{}>{}</th>", class(i), escape(h))).collect();
    let mut body = String::new();
    for (k, row) in t.rows.iter().enumerate() {
        body.push_str("<tr>");
        for (i, cell) in row.iter().enumerate() {
            let grade = t.graded(k, i);
            let class = grade.map_or_else(|| class(i).to_string(), |g| format!(" class=\"{}\"", g.word()));
            let text = escape(cell);
            if i == 0 {
                body.push_str(&format!("<th scope=\"row\">{text}</th>"));
            } else {
                body.push_str(&format!("<td{class}>{text}</td>"));
            }
        }
        body.push_str("</tr>\n");
    }
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{0}\" tabindex=\"0\"><table>\n<caption>{0}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n",
        escape(&t.caption)
    )
}

/// Figures beside each other where there is room.
pub fn figures(html: &str) -> String {
    if html.is_empty() { String::new() } else { format!("<div class=\"figures\">\n{html}</div>\n") }
}

/// One way to draw a figure: (identifier, width) to an `svg` element.
pub type Draw<'a> = &'a dyn Fn(&str, f64) -> String;

/// A figure: a title, what it shows, a legend, and its drawing, for each width; with a second scale where there is one.
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
    pub draw: Draw<'a>,
    /// The same on a linear scale, which the script offers.
    pub linear: Option<Draw<'a>>,
    /// What stands below the drawing, as HTML.
    pub below: &'a str,
}

impl Figure<'_> {
    /// The element.
    pub fn html(&self) -> String {
        let scale = |name: &str, hidden: &str, draw: Draw<'_>| {
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
