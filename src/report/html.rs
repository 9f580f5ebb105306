//! The report as one HTML page that needs nothing else: no script, no font, no picture from elsewhere.
//!
//! It reads on a telephone and on a wide screen, in the dark, on paper and aloud: tables have captions and scopes,
//! charts have titles and descriptions and repeat no information that a table does not hold.

use super::ReportError;
use super::details;
use super::notes::notes;
use super::plot::Plot;
use super::view::{self, Table};
use crate::record::Record;

const STYLE: &str = include_str!("report.css");

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

/// The page; `files` are (what it is, path relative to the page) of the raw data.
///
/// # Errors
/// When a chart cannot be drawn.
pub fn page(record: &Record, plots: &[Plot], files: &[(String, String)]) -> Result<String, ReportError> {
    let summary = view::summary_table(record);
    let name = escape(&record.plan.name);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>{name} - msgbench</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<header>\n<h1>{name}</h1>\n<p class=\"question\">{}</p>\n</header>\n",
        escape(&record.plan.question)
    );
    let mut workloads: Vec<String> = record.plan.cases.iter().flat_map(|c| &c.workloads).map(view::describe).collect();
    workloads.dedup();
    let lead: String = workloads.iter().take(3).map(|w| format!("<p>{}</p>\n", escape(w))).collect();
    let list: String = notes(record, &summary)
        .iter()
        .map(|n| format!("<li class=\"{}\"><b>{}</b> {}</li>\n", n.word, n.word, escape(&n.text)))
        .collect();
    section(&mut out, "Summary", &format!("{lead}{}<ul class=\"notes\">\n{list}</ul>\n", table(&summary)));
    let mut figures = String::new();
    for plot in plots {
        figures.push_str(&format!(
            "<figure>\n<div class=\"scroll\">{}</div>\n<figcaption>{}</figcaption>\n</figure>\n",
            plot.inline_svg()?,
            escape(&plot.description)
        ));
    }
    if !figures.is_empty() {
        section(&mut out, "Charts", &figures);
    }
    section(&mut out, "Trials", &(table(&details::trials_table(record)) + &events(record)));
    section(&mut out, "Validity", &table(&details::validity_table(record)));
    for (heading, t) in [
        ("Other latencies", view::other_latencies_table(record)),
        ("Replay", view::replay_table(record)),
        ("Groups", view::groups_table(record)),
        ("Promises", view::promises_table(record)),
    ] {
        if !t.rows.is_empty() {
            section(&mut out, heading, &table(&t));
        }
    }
    section(&mut out, "Ledger", &table(&details::ledger_table(record)));
    section(&mut out, "Guarantees", &table(&details::guarantees_table(record)));
    section(&mut out, "Resources", &table(&details::resources_table(record)));
    let scenario = format!(
        "<details>\n<summary>Scenario as typed</summary>\n<pre>{}</pre>\n</details>\n",
        escape(&record.scenario.text)
    );
    section(&mut out, "Method", &(definitions(&view::method(record)) + &scenario));
    section(&mut out, "Host", &definitions(&view::host(record)));
    let links: String = files
        .iter()
        .map(|(what, path)| format!("<li><a href=\"{0}\">{0}</a>: {1}</li>\n", escape(path), escape(what)))
        .collect();
    section(&mut out, "Raw data", &format!("<ul>\n{links}</ul>\n"));
    out.push_str("</main>\n</body>\n</html>\n");
    Ok(out)
}

fn section(out: &mut String, heading: &str, body: &str) {
    let id = heading.to_lowercase().replace(' ', "-");
    out.push_str(&format!("<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{heading}</h2>\n{body}</section>\n"));
}

fn events(record: &Record) -> String {
    let items: String = record
        .trials
        .iter()
        .flat_map(|t| t.events.iter().map(move |e| (t, e)))
        .map(|(t, e)| {
            format!("<li>{}, round {}, at {:.3} s: {}</li>\n", escape(&t.case), t.round, e.at_s, escape(&e.text))
        })
        .collect();
    if items.is_empty() { items } else { format!("<h3>Events</h3>\n<ul>\n{items}</ul>\n") }
}

fn definitions(list: &[(String, String)]) -> String {
    let items: String = list.iter().map(|(t, d)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(t), escape(d))).collect();
    format!("<dl>\n{items}</dl>\n")
}

fn table(t: &Table) -> String {
    let class = |column: usize| if t.right[column] { " class=\"n\"" } else { "" };
    let head: String =
        t.head.iter().enumerate().map(|(i, h)| format!("<th scope=\"col\"{}>{}</th>", class(i), escape(h))).collect();
    let mut body = String::new();
    for row in &t.rows {
        body.push_str("<tr>");
        for (i, cell) in row.iter().enumerate() {
            let word = cell.split(' ').next().unwrap_or_default();
            let class = match word {
                "OK" | "WARN" | "INVALID" | "FAILED" => format!(" class=\"{word}\""),
                "failed" => " class=\"FAILED\"".into(),
                _ => class(i).to_string(),
            };
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
