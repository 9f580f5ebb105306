//! A comparison for a pull request or a GitHub step summary, which aborts the whole upload above
//! 1024 KiB.

use super::{differences, is_notable, notes, tables};
use crate::compare::{Comparison, ComparisonRow, Question, Verdict};
use crate::report::words::view::TextTable;

/// The largest page, in bytes: a quarter of the limit, because a job has several.
pub const BUDGET: usize = 256 * 1024;

/// The page. Where it would be too large, rows that decide nothing are left out, then rows where
/// nothing happened; what is left out is said.
pub fn page(c: &Comparison) -> String {
    let all: fn(&ComparisonRow) -> bool = is_notable;
    let primary: fn(&ComparisonRow) -> bool = |r| r.primary;
    let notable: fn(&ComparisonRow) -> bool =
        |r| r.primary && !matches!(r.verdict, Verdict::Equivalent | Verdict::Changed | Verdict::Same);
    for (keep, left_out) in [
        (all, None),
        (primary, Some("the metrics that decide nothing")),
        (notable, Some("all rows but those that call for attention")),
    ] {
        let page = build(c, keep, left_out);
        if page.len() <= BUDGET {
            return page;
        }
    }
    let mut page = build(c, notable, Some("what did not fit"));
    let end = (0..=BUDGET - 100).rev().find(|i| page.is_char_boundary(*i)).unwrap_or(0);
    page.truncate(page[..end].rfind('\n').unwrap_or(0));
    page.push_str("\n\nThe rest is left out: see the JSON or CSV.\n");
    page
}

fn build(c: &Comparison, keep: fn(&ComparisonRow) -> bool, left_out: Option<&str>) -> String {
    let word = match c.question {
        Question::Change => format!("{} {}", c.overall.verdict.sign(), c.overall.verdict.word()),
        Question::Systems => "Systems side by side".into(),
    };
    let mut out = format!("## {word}\n");
    c.sentences().iter().for_each(|s| out.push_str(&format!("\n{}\n", escape(s))));
    if c.overall.exit_code != 0 {
        out.push_str(&format!("\n**Exit code {}**\n\n", c.overall.exit_code));
        c.overall.reasons.iter().take(20).for_each(|r| out.push_str(&format!("- {}\n", escape(r))));
        if c.overall.reasons.len() > 20 {
            out.push_str(&format!("- and {} more\n", c.overall.reasons.len() - 20));
        }
    }
    tables(c, keep).iter().for_each(|t| out.push_str(&table(t)));
    if let [Some(t), _] = differences(c) {
        out.push_str(&table(&t));
    }
    out.push('\n');
    notes(c).iter().take(100).for_each(|(word, text)| out.push_str(&format!("- {word}: {}\n", escape(text))));
    if let Some(what) = left_out {
        out.push_str(&format!(
            "- note: the page would be too large, so {what} are left out here; JSON and CSV have all.\n"
        ));
    }
    out
}

/// Characters that Markdown or HTML would take for markup. A `*` between blanks is none.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, ch| {
        match ch {
            '|' => out.push_str("\\|"),
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '`' => out.push_str("\\`"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
        out
    })
}

fn table(t: &TextTable) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|c| escape(c).replace(" *", " \\*")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule: Vec<&str> = t.right.iter().map(|r| if *r { "---:" } else { ":---" }).collect();
    let mut out = format!("\n### {}\n\n{}| {} |\n", escape(&t.caption), line(&t.head), rule.join(" | "));
    t.rows.iter().for_each(|r| out.push_str(&line(r)));
    out
}
