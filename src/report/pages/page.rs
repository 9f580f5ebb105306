//! What the pages have in common: head, style, script, sections, tables, figures.
//!
//! A page needs nothing else: no address, no font, no picture from elsewhere. It reads on a
//! telephone and on a wide screen, in the dark, on paper and aloud, and is complete without its
//! script, which only adds.

use crate::report::escape;
use crate::report::words::glossary;
use crate::report::words::view::TextTable;

const STYLE: &str = include_str!("report.css");
/// The colours of drawings, in the dark and on paper too.
const CHARTS: &str = crate::report::charts::figure::STYLE;
const SCRIPT: &str = include_str!("report.js");
/// A page from its title and the inside of its `main`.
pub fn shell(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>{} - msgbench</title>\n<style>\n{CHARTS}{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
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
pub fn table(t: &TextTable) -> String {
    let class = |column: usize| if t.right[column] { " class=\"n\"" } else { "" };
    let head: String = t
        .head
        .iter()
        .enumerate()
        .map(|(i, h)| format!("<th scope=\"col\"{}>{}</th>", class(i), explained(h)))
        .collect();
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

/// A word that links to its meaning, where the glossary has one.
fn explained(word: &str) -> String {
    match glossary::of(word) {
        Some(term) => format!("<a class=\"word\" href=\"#{}\">{}</a>", glossary::anchor(term.word), escape(word)),
        None => escape(word),
    }
}

/// The meanings of all words that `body` links to.
pub fn words(body: &str) -> String {
    let used = |t: &&glossary::Term| body.contains(&format!("href=\"#{}\"", glossary::anchor(t.word)));
    let items: String = glossary::TERMS
        .iter()
        .filter(used)
        .map(|t| {
            format!("<dt id=\"{}\">{}</dt><dd>{}</dd>\n", glossary::anchor(t.word), escape(t.word), escape(t.meaning))
        })
        .collect();
    if items.is_empty() { items } else { details("What the words mean", &format!("<dl>\n{items}</dl>\n")) }
}

/// Figures beside each other where there is room.
pub fn figures(html: &str) -> String {
    if html.is_empty() { String::new() } else { format!("<div class=\"figures\">\n{html}</div>\n") }
}
