//! The first screen of a page: the answer, what became of the messages, two pictures, a table, and
//! what must be known before it is quoted.

use super::page::{details, table};
use crate::report::escape;
use crate::report::words::answer::{Answer, AnswerBar, AnswerPicture, Remark};

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

fn pictures(answer: &Answer<'_>) -> String {
    let cards: String = answer.pictures().iter().map(card).collect();
    if cards.is_empty() { cards } else { format!("<div class=\"cards\">\n{cards}</div>\n") }
}

/// A picture in text and boxes: it flows on a telephone, and its words can be selected.
fn card(picture: &AnswerPicture<'_>) -> String {
    let share = |v: f64| match picture.largest > 0.0 && v.is_finite() {
        true => (v / picture.largest * 100.0).clamp(0.0, 100.0),
        false => 100.0,
    };
    let row = |b: &AnswerBar<'_>| {
        let whisker = b.figure.line().map_or_else(String::new, |(low, high)| {
            format!(
                "<i class=\"whisker\" style=\"left:{:.1}%;width:{:.1}%\" title=\"{} to {}\"></i>",
                share(low),
                share(high) - share(low),
                b.figure.show(low),
                b.figure.show(high)
            )
        });
        let never = if b.figure.value.is_infinite() { " never" } else { "" };
        format!(
            "<div class=\"row\"><b>{}</b><div class=\"track\"><div class=\"fill s{}{never}\" style=\"width:{:.1}%\"></div>{whisker}</div><span>{}</span></div>\n",
            escape(b.system),
            b.series % 6,
            share(b.figure.value).max(0.6),
            escape(&b.figure.words())
        )
    };
    let rows: String = picture.bars.iter().map(row).collect();
    format!(
        "<div class=\"card\">\n<h2>{}</h2>\n{rows}<p class=\"quiet\">{}</p>\n</div>\n",
        escape(&picture.title),
        escape(&picture.key)
    )
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
