//! The report as a Markdown page: the tables of the terminal and all that stands behind them.

use super::details;
use crate::record::Record;
use crate::report::words::answer::{self, Answer, outages};
use crate::report::words::notes::{NoteTopic, notes};
use crate::report::words::view::{self, TextTable};
use crate::report::words::{agents, capacity, method, tables, threats};

/// Remarks that stand before the others.
const OPEN: usize = 3;

/// The page. `charts` are (title, path relative to the page).
pub fn page(record: &Record, charts: &[(String, String)]) -> String {
    let mut out = format!("# {}\n\n{}\n\n", text(&record.plan.name), text(&record.plan.question));
    let answer = answer::of(record);
    if let Some(answer) = &answer {
        out.push_str(&first(answer));
    }
    if !charts.is_empty() {
        out.push_str("\n## Charts\n\n");
        for (title, path) in charts {
            out.push_str(&format!("![{}]({path})\n\n", text(title)));
        }
    }
    let summary = view::summary_table(record);
    out.push_str(&format!("\n## Every percentile\n\n{}.\n\n{}\n", summary.caption, table(&summary)));
    let notes = notes(record, &summary);
    for note in notes.iter().filter(|n| matches!(n.topic, NoteTopic::Sign | NoteTopic::Other)) {
        out.push_str(&format!("- **{}** {}\n", note.word, text(&note.text)));
    }
    let rest = answer.as_ref().map_or(&[][..], |a| &a.remarks[a.remarks.len().min(OPEN)..]);
    for remark in rest {
        out.push_str(&format!("- **{}** {}\n", text(&remark.title), text(&remark.text)));
    }
    let (checks, held) = details::checks(record);
    let votes = record.plan.search.as_ref().map(|s| ("Every load that was tried", capacity::table(record, s)));
    let tables = [
        ("Intervals", tables::intervals_table(record)),
        ("Trials", details::trials_table(record)),
        ("Checks", checks),
        ("Other latencies", tables::other_latencies_table(record)),
        ("Replay", tables::replay_table(record)),
        ("Groups", tables::groups_table(record)),
        ("Agents", agents::table(record)),
        ("Faults", outages::table(record)),
        ("Promises", tables::promises_table(record)),
        ("Ledger", details::ledger_table(record)),
        ("Intruders", tables::intruders_table(record)),
        ("Guarantees", tables::guarantees_table(record)),
        ("Resources", details::resources_table(record)),
    ];
    for (heading, t) in votes.into_iter().chain(tables).filter(|(_, t)| !t.rows.is_empty()) {
        out.push_str(&format!("\n## {heading}\n\n{}.\n\n{}", text(&t.caption), table(&t)));
    }
    if !held.is_empty() {
        out.push_str(&format!("\nChecks that held in every trial: {}.\n", text(&held)));
    }
    for (heading, list) in [
        ("Method", method::method(record)),
        ("Host", method::host(record)),
        ("What these figures do not say", threats::of(&[record])),
    ] {
        out.push_str(&format!("\n## {heading}\n\n"));
        for (term, value) in list {
            out.push_str(&format!("- {term}: {}\n", text(&value)));
        }
    }
    out
}

/// The answer, the two figures of each system with the table, and what must be known first.
fn first(answer: &Answer<'_>) -> String {
    let word = if answer.word == "OK" { String::new() } else { format!("{}: ", answer.word) };
    let mut out = format!(
        "**{word}{}**\n\n{} {}.\n\n",
        text(&answer.headline),
        text(&answer.losses),
        text(&answer.confidence.words())
    );
    if let Some(point) = &answer.point {
        out.push_str(&format!("This is at {}.\n\n", text(point)));
    }
    for failure in &answer.failures {
        out.push_str(&format!("- {}\n", text(&failure.sentence)));
    }
    for (word, sentence) in &answer.limits {
        out.push_str(&format!("- **{word}** {}\n", text(sentence)));
    }
    out.push_str(&format!("\n{}", table(&answer.table())));
    if !answer.remarks.is_empty() {
        out.push_str("\n## Before you quote this\n\n");
    }
    for remark in answer.remarks.iter().take(OPEN) {
        out.push_str(&format!("- **{}** {}\n", text(&remark.title), text(&remark.text)));
    }
    out
}

/// Text that Markdown must not interpret.
pub(super) fn text(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for c in raw.chars() {
        match c {
            '\n' | '\r' => out.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' => out.extend(['\\', c]),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            _ => out.push(c),
        }
    }
    out
}

/// Code as it is, between more backticks than it has in a row.
pub(super) fn code(raw: &str) -> String {
    let longest = raw.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let blank = if raw.starts_with('`') || raw.ends_with('`') { " " } else { "" };
    format!("{fence}{blank}{}{blank}{fence}", raw.replace(['\n', '\r'], " "))
}

pub(super) fn table(t: &TextTable) -> String {
    let line = |cells: &mut dyn Iterator<Item = String>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
    let mut out = line(&mut t.head.iter().map(|h| text(h)));
    out.push_str(&line(&mut t.right.iter().map(|r| if *r { "---:".into() } else { "---".into() })));
    for row in &t.rows {
        out.push_str(&line(&mut row.iter().map(|c| text(c))));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    /// As CommonMark reads it: the fence is no part of the code, nor are the blanks beside it.
    #[test]
    fn code_ends_where_it_ends() {
        assert_eq!(code("msgbench run a"), "`msgbench run a`");
        assert_eq!(code("a `b` ``c`` d"), "```a `b` ``c`` d```");
        assert_eq!(code("`b`"), "`` `b` ``");
        assert_eq!(code("a\nb"), "`a b`");
    }

    #[test]
    fn the_page() {
        insta::assert_snapshot!(page(&sample::record(), &[("A chart".into(), "charts/a.svg".into())]));
    }
}
