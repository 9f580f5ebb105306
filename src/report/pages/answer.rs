//! The first screen of a page: the answer, what became of the messages, two pictures, a table, and
//! what must be known before it is quoted.

use maud::{Markup, html};

use super::page::{details, facts, notes};
use crate::report::words::answer::{Answer, AnswerBar, AnswerPicture, Remark};

/// Remarks that stand open.
pub const OPEN: usize = 3;
/// Limits that stand open.
const LIMITS: usize = 3;

/// From the headline to the table.
pub fn first(answer: &Answer<'_>) -> Markup {
    let c = &answer.confidence;
    let pictures = answer.pictures();
    html! {
        section aria-label="Answer" class={ "answer " (answer.word) } {
            h1 {
                @if answer.word != "OK" { b.word { (answer.word) } " " }
                (answer.headline)
            }
            p.sub { (answer.losses) " " span class={ "conf " (c.level.word()) } { (c.words()) } }
            @if let Some(point) = &answer.point { p.quiet { "This is at " (point) "." } }
            @if !answer.failures.is_empty() {
                ul.failures { @for f in &answer.failures { li { (f.sentence) } } }
            }
            (limits(&answer.limits))
            @if !pictures.is_empty() {
                div.cards { @for picture in &pictures { (card(picture)) } }
            }
            @if !answer.facts.rows.is_empty() { (facts(&answer.facts)) }
        }
    }
}

fn limits(all: &[(&'static str, String)]) -> Markup {
    let (open, rest) = all.split_at(all.len().min(LIMITS));
    let list = |of: &[(&'static str, String)]| notes(of.iter().map(|(word, text)| (*word, text.as_str())));
    html! {
        (list(open))
        @if !rest.is_empty() { (details(&format!("{} further limits", rest.len()), &list(rest))) }
    }
}

/// A picture in text and boxes: it flows on a telephone, and its words can be selected.
fn card(picture: &AnswerPicture<'_>) -> Markup {
    html! {
        div.card {
            h2 { (picture.title) }
            @for bar in &picture.bars { (row(bar, picture.largest)) }
            p.quiet { (picture.key) }
        }
    }
}

/// A bar, and the line of its interval.
fn row(bar: &AnswerBar<'_>, largest: f64) -> Markup {
    let share = |v: f64| match largest > 0.0 && v.is_finite() {
        true => (v / largest * 100.0).clamp(0.0, 100.0),
        false => 100.0,
    };
    let figure = &bar.figure;
    let never = if figure.value.is_infinite() { " never" } else { "" };
    let width = share(figure.value).max(0.6);
    html! {
        div.row {
            b { (bar.system) }
            div.track {
                div class={ "fill s" (bar.series % 6) (never) } style=(format_args!("width:{width:.1}%")) {}
                @if let Some((low, high)) = figure.line() {
                    i.whisker
                        style=(format_args!("left:{:.1}%;width:{:.1}%", share(low), share(high) - share(low)))
                        title={ (figure.show(low)) " to " (figure.show(high)) } {}
                }
            }
            span { (figure.words()) }
        }
    }
}

/// Items of a list of remarks.
pub fn items(remarks: &[Remark]) -> Markup {
    html! {
        @for r in remarks { li { b { (r.title) } " " (r.text) } }
    }
}

/// What must be known before the answer is quoted; `more` are further notes, as items.
pub fn before_you_quote(remarks: &[Remark], more: &[Markup]) -> Markup {
    let (open, rest) = remarks.split_at(remarks.len().min(OPEN));
    let n = rest.len() + more.len();
    let folded = html! {
        ul.remarks { (items(rest)) @for item in more { (item) } }
    };
    html! {
        @if !open.is_empty() || n > 0 {
            section aria-labelledby="quote" {
                h2 id="quote" { "Before you quote this" }
                ul.remarks { (items(open)) }
                @if n > 0 { (details(&format!("{n} more remark{}", if n == 1 { "" } else { "s" }), &folded)) }
            }
        }
    }
}
