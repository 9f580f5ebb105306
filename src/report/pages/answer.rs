//! The first screen of a page: the answer, what became of the messages, two pictures, a table, and
//! what must be known before it is quoted.

use super::page::{details, table};
use crate::report::escape;
use crate::report::words::answer::{Answer, AnswerSide, Measured, Remark, RunFigure, one_in};

/// Remarks that stand open.
pub const OPEN: usize = 3;
/// Limits that stand open.
const LIMITS: usize = 3;

/// From the headline to the table.
pub fn first(answer: &Answer<'_>) -> String {
    let word = if answer.word == "OK" { String::new() } else { format!("<b class=\"word\">{}</b> ", answer.word) };
    let c = &answer.confidence;
    let mut out = format!(
        "<section aria-label=\"Answer\" class=\"answer {}\">\n<h1>{word}{}</h1>\n<p class=\"sub\">{} <span class=\"conf {}\">{}</span></p>\n",
        answer.word,
        escape(&answer.headline),
        escape(&answer.losses),
        c.level.word(),
        escape(&c.words())
    );
    if let Some(point) = &answer.point {
        out.push_str(&format!("<p class=\"quiet\">This is at {}.</p>\n", escape(point)));
    }
    let failures: String = answer.failures.iter().map(|f| format!("<li>{}</li>\n", escape(&f.sentence))).collect();
    if !failures.is_empty() {
        out.push_str(&format!("<ul class=\"failures\">\n{failures}</ul>\n"));
    }
    out.push_str(&limits(&answer.limits));
    out.push_str(&pictures(answer));
    if !answer.facts.rows.is_empty() {
        out.push_str(&table(&answer.facts).replacen("<div class=\"scroll\"", "<div class=\"scroll facts\"", 1));
    }
    out + "</section>\n"
}

fn limits(all: &[(&'static str, String)]) -> String {
    let item = |(word, text): &(&str, String)| format!("<li class=\"{word}\"><b>{word}</b> {}</li>\n", escape(text));
    let (open, rest) = all.split_at(all.len().min(LIMITS));
    let list = |of: &[(&'static str, String)]| {
        let items: String = of.iter().map(item).collect();
        if items.is_empty() { items } else { format!("<ul class=\"notes\">\n{items}</ul>\n") }
    };
    let folded = match rest.len() {
        0 => String::new(),
        n => details(&format!("{n} further limits"), &list(rest)),
    };
    list(open) + &folded
}

/// Two pictures: typical, and 1 in 100; of a load without a schedule one, the rate.
fn pictures(answer: &Answer<'_>) -> String {
    let kind = answer.sides.iter().find(|s| s.typical.is_some()).map_or("e2e", |s| s.kind);
    let rate = answer.sides.iter().any(|s| s.typical.as_ref().is_some_and(|f| f.measured == Measured::Rate));
    let (typical, tail) = match kind {
        _ if rate => ("Messages delivered a second", String::new()),
        k if k.starts_with("rtt") => {
            ("A typical request is answered in", format!("{} requests takes longer than", one_in(answer.tail)))
        }
        k if k.starts_with("ack") => {
            ("A typical message is confirmed in", format!("{} messages takes longer than", one_in(answer.tail)))
        }
        _ => ("A typical message takes", format!("{} messages takes longer than", one_in(answer.tail))),
    };
    let cards = card(typical, &answer.sides, |s| s.typical.as_ref()) + &card(&tail, &answer.sides, |s| s.tail.as_ref());
    if cards.is_empty() { cards } else { format!("<div class=\"cards\">\n{cards}</div>\n") }
}

fn card(
    title: &str,
    sides: &[AnswerSide<'_>],
    of: impl for<'s> Fn(&'s AnswerSide<'_>) -> Option<&'s RunFigure>,
) -> String {
    let top = |f: &RunFigure| f.range.map_or(f.value, |(_, high)| high.max(f.value));
    let finite = |v: f64| if v.is_finite() { v } else { 0.0 };
    let largest = sides.iter().filter_map(|s| Some(finite(top(of(s)?)))).fold(0.0, f64::max);
    let share = |v: f64| if largest > 0.0 && v.is_finite() { (v / largest * 100.0).clamp(0.0, 100.0) } else { 100.0 };
    let mut rows = String::new();
    let mut ranges = None;
    for (index, side) in sides.iter().enumerate() {
        let Some(figure) = of(side) else { continue };
        let whisker = figure.range.filter(|(low, high)| high > low && high.is_finite()).map_or_else(
            String::new,
            |(low, high)| {
                ranges = Some(figure.interval);
                format!(
                    "<i class=\"whisker\" style=\"left:{:.1}%;width:{:.1}%\" title=\"{} to {}\"></i>",
                    share(low),
                    share(high) - share(low),
                    figure.show(low),
                    figure.show(high)
                )
            },
        );
        let never = if figure.value.is_infinite() { " never" } else { "" };
        rows.push_str(&format!(
            "<div class=\"row\"><b>{}</b><div class=\"track\"><div class=\"fill s{}{never}\" style=\"width:{:.1}%\"></div>{whisker}</div><span>{}</span></div>\n",
            escape(side.name()),
            index % 6,
            share(figure.value).max(0.6),
            escape(&figure.words())
        ));
    }
    if rows.is_empty() {
        return rows;
    }
    let key = match ranges {
        Some(true) => "; thin line: where the value lies with 95 % certainty",
        Some(false) => "; thin line: from the smallest to the largest run",
        None => "",
    };
    let scale = sides.iter().find_map(&of).map_or_else(String::new, |f| f.show(largest));
    let key = format!("<p class=\"quiet\">Bars from 0 to {scale}{key}</p>\n");
    format!("<div class=\"card\">\n<h2>{}</h2>\n{rows}{key}</div>\n", escape(title))
}

/// What must be known before the answer is quoted; `more` are further notes, as HTML items.
pub fn before_you_quote(remarks: &[Remark], more: &[String]) -> String {
    let item = |r: &Remark| format!("<li><b>{}</b> {}</li>\n", escape(&r.title), escape(&r.text));
    let (open, rest) = remarks.split_at(remarks.len().min(OPEN));
    let n = rest.len() + more.len();
    if open.is_empty() && n == 0 {
        return String::new();
    }
    let folded = match n {
        0 => String::new(),
        n => {
            let items: String = rest.iter().map(item).chain(more.iter().cloned()).collect();
            let heading = if n == 1 { "1 more remark".to_string() } else { format!("{n} more remarks") };
            details(&heading, &format!("<ul class=\"remarks\">\n{items}</ul>\n"))
        }
    };
    let open: String = open.iter().map(item).collect();
    format!(
        "<section aria-labelledby=\"quote\">\n<h2 id=\"quote\">Before you quote this</h2>\n<ul class=\"remarks\">\n{open}</ul>\n{folded}</section>\n"
    )
}
