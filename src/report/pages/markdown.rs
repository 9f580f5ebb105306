//! The report as a Markdown page: the tables of the terminal and all that stands behind them.

use super::details;
use crate::record::Record;
use crate::report::words::notes::notes;
use crate::report::words::view;
use crate::report::words::view::TextTable;
use crate::report::words::{method, tables, threats, verdict};

/// The page. `charts` are (title, path relative to the page).
pub fn page(record: &Record, charts: &[(String, String)]) -> String {
    let mut out = format!("# {}\n\n{}\n\n", text(&record.plan.name), text(&record.plan.question));
    if let Some(said) = verdict::of(record) {
        out.push_str(&format!("**{}** {}\n\n", said.word, text(&said.sentences.join(" "))));
        for (word, sentence) in &said.limits {
            out.push_str(&format!("- **{word}** {}\n", text(sentence)));
        }
        out.push_str(if said.limits.is_empty() { "" } else { "\n" });
    }
    let summary = view::summary_table(record);
    out.push_str(&format!("**{}**\n\n{}\n", summary.caption, table(&summary)));
    for note in notes(record, &summary) {
        out.push_str(&format!("- **{}** {}\n", note.word, text(&note.text)));
    }
    if !charts.is_empty() {
        out.push_str("\n## Charts\n\n");
        for (title, path) in charts {
            out.push_str(&format!("![{}]({path})\n\n", text(title)));
        }
    }
    let tables = [
        ("Intervals", tables::intervals_table(record)),
        ("Trials", details::trials_table(record)),
        ("Validity", details::validity_table(record)),
        ("Other latencies", tables::other_latencies_table(record)),
        ("Replay", tables::replay_table(record)),
        ("Groups", tables::groups_table(record)),
        ("Promises", tables::promises_table(record)),
        ("Ledger", details::ledger_table(record)),
        ("Guarantees", tables::guarantees_table(record)),
        ("Resources", details::resources_table(record)),
    ];
    for (heading, t) in tables.into_iter().filter(|(_, t)| !t.rows.is_empty()) {
        out.push_str(&format!("\n## {heading}\n\n{}.\n\n{}", text(&t.caption), table(&t)));
    }
    for (heading, list) in [
        ("Method", method::method(record)),
        ("Host", method::host(record)),
        ("Threats to validity", threats::of(&[record])),
    ] {
        out.push_str(&format!("\n## {heading}\n\n"));
        for (term, value) in list {
            out.push_str(&format!("- {term}: {}\n", text(&value)));
        }
    }
    out
}

/// Text that Markdown must not interpret.
fn text(raw: &str) -> String {
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

fn table(t: &TextTable) -> String {
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

    #[test]
    fn the_page() {
        insta::assert_snapshot!(page(&sample::record(), &[("A chart".into(), "charts/a.svg".into())]));
    }
}
