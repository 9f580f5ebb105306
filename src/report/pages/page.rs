//! What the pages have in common: head, style, script, sections, tables, figures.
//!
//! A page needs nothing else: no address, no font, no picture from elsewhere. It reads on a
//! telephone and on a wide screen, in the dark, on paper and aloud, and is complete without its
//! script, which only adds.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::report::printable;
use crate::report::words::glossary;
use crate::report::words::view::{CellGrade, TextTable};

const STYLE: PreEscaped<&str> = PreEscaped(include_str!("report.css"));
/// The colours of drawings, in the dark and on paper too.
const CHARTS: PreEscaped<&str> = PreEscaped(crate::report::charts::figure::STYLE);
const SCRIPT: PreEscaped<&str> = PreEscaped(include_str!("report.js"));

/// A page from its title and the inside of its `main`; the meanings of words that it links to are
/// its end.
pub fn shell(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " - msgbench" }
                style { (CHARTS) (STYLE) }
            }
            body {
                main { (body) (words(body)) }
                script { (SCRIPT) }
            }
        }
    };
    printable(page.into_string())
}

/// A section with a heading.
pub fn section(heading: &str, body: &Markup) -> Markup {
    section_of(&heading.to_lowercase().replace(' ', "-"), heading, body)
}

/// The same with an identifier of its own, which must be unique within the page.
pub fn section_of(id: &str, heading: &str, body: &Markup) -> Markup {
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (heading) }
            (body)
        }
    }
}

/// Terms and what is said of them.
pub fn definitions(list: &[(String, String)]) -> Markup {
    html! {
        dl {
            @for (term, said) in list { dt { (term) } dd { (said) } }
        }
    }
}

/// Sentences with a word in front that says how grave they are.
pub fn notes<'a>(list: impl IntoIterator<Item = (&'a str, &'a str)>) -> Markup {
    let mut list = list.into_iter().peekable();
    html! {
        @if list.peek().is_some() {
            ul.notes { @for (word, text) in list { (note(word, text)) } }
        }
    }
}

/// An item of notes.
pub fn note(word: &str, text: &str) -> Markup {
    html! { li class=(word) { b { (word) } " " (text) } }
}

/// Something that is there when asked for; on paper it is open.
pub fn details(summary: &str, body: &Markup) -> Markup {
    html! {
        details { summary { (summary) } (body) }
    }
}

/// A table that scrolls by itself where it is wider than the screen.
pub fn table(t: &TextTable) -> Markup {
    drawn(t, false, |_| None)
}

/// The table of the first screen: on a telephone each cell is a line that says whose it is.
pub fn facts(t: &TextTable) -> Markup {
    drawn(t, true, |_| None)
}

/// A table whose ungraded cells have the class that `by_text` gives their text.
pub fn table_by(t: &TextTable, by_text: impl Fn(&str) -> Option<&'static str>) -> Markup {
    drawn(t, false, by_text)
}

fn drawn(t: &TextTable, facts: bool, by_text: impl Fn(&str) -> Option<&'static str>) -> Markup {
    let figure = |column: usize| t.right[column].then_some("n");
    html! {
        div.scroll.facts[facts] role="region" aria-label=(t.caption) tabindex="0" {
            table {
                caption { (t.caption) }
                thead {
                    tr {
                        @for (i, head) in t.head.iter().enumerate() {
                            th scope="col" class=[figure(i)] { (explained(head)) }
                        }
                    }
                }
                tbody {
                    @for (k, row) in t.rows.iter().enumerate() {
                        tr {
                            @for (i, cell) in row.iter().enumerate() {
                                @if i == 0 {
                                    th scope="row" { (cell) }
                                } @else {
                                    @let graded = t.graded(k, i).map(CellGrade::word);
                                    @let of = facts.then(|| t.head[i].as_str());
                                    td class=[graded.or(by_text(cell)).or(figure(i))] data-of=[of] { (cell) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A word that links to its meaning, where the glossary has one.
fn explained(word: &str) -> Markup {
    html! {
        @match glossary::of(word) {
            Some(term) => a.word href={ "#" (glossary::anchor(term.word)) } { (word) },
            None => (word),
        }
    }
}

/// The meanings of all words that `body` links to.
fn words(body: &Markup) -> Markup {
    let used = |t: &&glossary::Term| body.0.contains(&format!("href=\"#{}\"", glossary::anchor(t.word)));
    let used: Vec<&glossary::Term> = glossary::TERMS.iter().filter(used).collect();
    let list = html! {
        dl {
            @for t in &used { dt id=(glossary::anchor(t.word)) { (t.word) } dd { (t.meaning) } }
        }
    };
    if used.is_empty() { Markup::default() } else { details("What the words mean", &list) }
}

/// Figures beside each other where there is room.
pub fn figures(drawn: &Markup) -> Markup {
    html! {
        @if !drawn.0.is_empty() { div.figures { (drawn) } }
    }
}
