//! The summary on the terminal: one table and what must be known to read it.

use crate::record::Record;
use crate::report::words::method::describe;
use crate::report::words::notes::notes;
use crate::report::words::view::{CellGrade, TextTable, summary_table};
use crate::report::words::{tables, verdict};

/// The summary of a run. `color` adds ANSI colours; no information depends on them.
pub fn summary(record: &Record, color: bool) -> String {
    let plan = &record.plan;
    let mut out = format!("{}: {}\n", paint(&plan.name, "1", color), plan.question);
    let mut workloads: Vec<String> = plan.cases.iter().flat_map(|c| &c.workloads).map(describe).collect();
    workloads.dedup();
    for w in workloads.iter().take(3) {
        out.push_str(&format!("  {w}\n"));
    }
    if workloads.len() > 3 {
        out.push_str(&format!("  and {} more load points\n", workloads.len() - 3));
    }
    if let Some(said) = verdict::of(record) {
        out.push_str(&format!("\n{} {}\n", paint(said.word, code(said.word), color), said.sentences.join("\n")));
    }
    let table = summary_table(record);
    out.push_str(&format!("\n{}\n\n{}", table.caption, render(&table, color)));
    for extra in [tables::intervals_table(record), tables::other_latencies_table(record), tables::replay_table(record)]
    {
        if !extra.rows.is_empty() {
            out.push_str(&format!("\n{}\n\n{}", extra.caption, render(&extra, color)));
        }
    }
    let notes = notes(record, &table);
    if !notes.is_empty() {
        out.push('\n');
    }
    for note in notes {
        out.push_str(&format!("{} {}\n", paint(&format!("{:<8}", note.word), code(note.word), color), note.text));
    }
    out
}

fn code(word: &str) -> &'static str {
    match word {
        "OK" => "32",
        "WARN" | "SKIPPED" | "NOT JUDGED" => "33",
        "INVALID" | "FAILED" | "BROKEN" | "UNMET" => "1;31",
        _ => "2",
    }
}

fn paint(text: &str, code: &str, color: bool) -> String {
    if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
}

/// Columns as wide as their widest cell, two blanks apart.
pub(super) fn render(table: &TextTable, color: bool) -> String {
    let width = |column: usize| {
        let cells = table.rows.iter().map(|r| r[column].chars().count());
        cells.chain([table.head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells
            .iter()
            .zip(&widths)
            .zip(&table.right)
            .map(|((cell, &w), &right)| if right { format!("{cell:>w$}") } else { format!("{cell:<w$}") });
        padded.collect::<Vec<_>>()
    };
    let mut out = paint(line(&table.head).join("  ").trim_end(), "1", color) + "\n";
    for (k, row) in table.rows.iter().enumerate() {
        let mut cells = line(row);
        if let (Some(last), Some(text)) = (cells.last_mut(), row.last()) {
            let grade = table.graded(k, row.len() - 1);
            *last = paint(text, code(grade.map_or("", CellGrade::word)), color);
        }
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    #[test]
    fn a_person_can_read_it() {
        insta::assert_snapshot!(summary(&sample::record(), false));
    }

    #[test]
    fn colours_add_nothing() {
        let plain = summary(&sample::record(), false);
        let mut stripped = summary(&sample::record(), true);
        assert!(stripped.contains("\x1b[1;31m"));
        for code in ["1", "2", "32", "33", "1;31", "0"] {
            stripped = stripped.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(stripped, plain);
    }
}
