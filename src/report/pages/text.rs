//! The summary on the terminal: a table, and, last, where the eye is when the run ends, the answer
//! and what must be known before it is quoted.

use crate::record::{Record, WorkloadResult};
use crate::report::words::answer::{self, Answer, AnswerSide, Measured, Remark, RunFigure};
use crate::report::words::method::{describe, described_without_load as reach_of};
use crate::report::words::notes::{NoteTopic, notes};
use crate::report::words::view::{CellGrade, TextTable, label, summary_table, validity};
use crate::report::words::{capacity, tables, view};
use crate::units::count;

/// How a text is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextStyle {
    /// Whether to add ANSI colours; no information depends on them.
    pub color: bool,
    /// Columns of the terminal.
    pub width: usize,
    /// Everything that is known against the answer, and every percentile.
    pub why: bool,
}

impl Default for TextStyle {
    fn default() -> Self {
        Self { color: false, width: 80, why: false }
    }
}

/// Remarks below the answer; the others come with `why`.
const OPEN: usize = 3;

/// The summary of a run.
pub fn summary(record: &Record, style: TextStyle) -> String {
    let plan = &record.plan;
    let mut out = wrapped(&format!("{}: {}", plan.name, plan.question), "", style.width);
    out = out.replacen(&plan.name, &paint(&plan.name, "1", style.color), 1);
    let mut workloads: Vec<String> = plan.cases.iter().flat_map(|c| &c.workloads).map(describe).collect();
    workloads.dedup();
    if plan.search.is_some() {
        workloads = plan.cases.first().iter().flat_map(|c| &c.workloads).map(reach_of).collect();
    }
    for w in workloads.iter().take(3) {
        out.push_str(&wrapped(&format!("  {w}"), "  ", style.width));
    }
    if workloads.len() > 3 {
        out.push_str(&format!("  and {} more load points\n", workloads.len() - 3));
    }
    if style.why {
        out.push_str(&why(record, style));
    }
    let Some(answer) = answer::of(record) else {
        out.push_str("\nNothing was measured.\n");
        for s in &record.skipped {
            out.push_str(&wrapped(
                &format!("{} was not measured: {}. To have it measured: {}.", s.system, s.reason, s.remedy),
                "  ",
                style.width,
            ));
        }
        return out;
    };
    let table = short_table(record, &answer);
    let wide = render(&table, style.color);
    let fits = render(&table, false).lines().all(|l| l.chars().count() <= style.width);
    out.push_str(&format!("\n{}\n", if fits { wide } else { stacked(&table, style) }));
    out.push_str(&faults(record, style));
    out.push_str(&last(&answer, style));
    out
}

/// What the faults of the scenario did; nothing where there were none.
fn faults(record: &Record, style: TextStyle) -> String {
    let table = answer::outages::table(record);
    if table.rows.is_empty() {
        return String::new();
    }
    let fits = render(&table, false).lines().all(|l| l.chars().count() <= style.width);
    let shown = if fits { render(&table, style.color) } else { stacked(&table, style) };
    format!("{}{shown}\n", wrapped(&format!("{}.", table.caption), "", style.width))
}

/// What stands last: the answer, what became of the messages, the confidence, three remarks.
fn last(answer: &Answer<'_>, style: TextStyle) -> String {
    let width = style.width;
    let mut out = String::new();
    let word = if answer.word == "OK" { String::new() } else { format!("{}: ", answer.word) };
    let headline = wrapped(&format!("{word}{}", answer.headline), "", width);
    let code = if answer.word == "OK" { "1" } else { "1;31" };
    for line in headline.lines() {
        out.push_str(&paint(line, code, style.color));
        out.push('\n');
    }
    if let Some(point) = &answer.point {
        out.push_str(&wrapped(&format!("This is at {point}."), "", width));
    }
    out.push_str(&wrapped(&answer.losses, "", width));
    for failure in &answer.failures {
        out.push_str(&wrapped(&failure.sentence, "  ", width));
    }
    for (word, sentence) in &answer.limits {
        let line = wrapped(&format!("{word} {sentence}"), "  ", width);
        out.push_str(&line.replacen(word, &paint(word, word_code(word), style.color), 1));
    }
    out.push_str(&wrapped(&format!("{}.", answer.confidence.words()), "  ", width));
    let shown = if style.why { answer.remarks.len() } else { OPEN };
    if !answer.remarks.is_empty() {
        out.push_str("\nBefore you quote this:\n");
    }
    for Remark { title, text } in answer.remarks.iter().take(shown) {
        let line = wrapped(&format!("- {title} {text}"), "  ", width);
        out.push_str(&line.replacen(title, &paint(title, "33", style.color), 1));
    }
    match answer.remarks.len().saturating_sub(shown) {
        0 => {}
        n => out.push_str(&format!("{n} more: --why\n")),
    }
    out
}

/// Every percentile and every note.
fn why(record: &Record, style: TextStyle) -> String {
    let mut out = String::new();
    let table = summary_table(record);
    let votes = record.plan.search.as_ref().map(|s| capacity::table(record, s));
    for t in votes.iter().chain([
        &table,
        &tables::intervals_table(record),
        &tables::other_latencies_table(record),
        &tables::replay_table(record),
    ]) {
        if !t.rows.is_empty() {
            out.push_str(&format!("\n{}\n\n{}", t.caption, render(t, style.color)));
        }
    }
    out.push('\n');
    for note in notes(record, &table).into_iter().filter(|n| n.topic != NoteTopic::Answered) {
        let line = wrapped(&format!("{:<8} {}", note.word, note.text), "         ", style.width);
        out.push_str(&line.replacen(note.word, &paint(note.word, word_code(note.word), style.color), 1));
    }
    out
}

/// What is read first of every case: how long, what was lost, how many trials count.
fn short_table(record: &Record, answer: &Answer<'_>) -> TextTable {
    if record.plan.search.is_some() {
        return search_table(answer);
    }
    let several = record.plan.cases.iter().any(|c| c.workloads.len() > 1);
    let rate = answer.sides.iter().any(|s| s.typical.as_ref().is_some_and(|f| f.measured == Measured::Rate));
    let tail = format!(">{}", capacity::share(answer.tail));
    let mut heads = vec![""];
    if !rate {
        heads.extend([">typical", &tail]);
    }
    // Beside what is only sent, what others confirm was taken, too.
    let taken = answer.sides.iter().any(AnswerSide::only_sends);
    heads.extend([if taken { ">taken/s" } else { ">delivered/s" }, ">lost", ">twice", ">trials", ""]);
    let mut table = TextTable::new("", &heads);
    for case in &record.plan.cases {
        for (index, workload) in case.workloads.iter().enumerate() {
            let Some(side) = AnswerSide::of(record, case, index, answer.tail).filter(|s| !s.all.is_empty()) else {
                continue;
            };
            let figure = |f: &Option<RunFigure>| f.as_ref().map_or_else(|| "-".into(), RunFigure::words);
            let name = if several { label(case, workload) } else { case.id.clone() };
            let mut row = vec![name];
            if !rate {
                row.extend([figure(&side.typical), figure(&side.tail)]);
            }
            let rates = side.used.iter().filter_map(|t| Some(t.workloads.get(index)?.rate())).collect();
            row.push(view::or_dash(view::median_f64(rates), count));
            let sum = |of: fn(&WorkloadResult) -> u64| match side.only_sends() {
                true => "-".into(),
                false => side.complete().map(of).sum::<u64>().to_string(),
            };
            row.extend([sum(WorkloadResult::lost), sum(|w| w.ledger.duplicated)]);
            row.push(format!("{}/{}", side.used.len(), record.plan.trials));
            let (_, grade) = validity(&side.all);
            let grade = grade.filter(|g| matches!(g, CellGrade::Failed | CellGrade::Invalid) && side.used.is_empty());
            row.push(grade.map_or(String::new(), |g| g.word().into()));
            let last = row.len() - 1;
            table.rows.push(row);
            table.grade(last, grade);
        }
    }
    table
}

/// Of a search: where the limit of each system is, and what it does there.
fn search_table(answer: &Answer<'_>) -> TextTable {
    let tail = format!(">{} there", capacity::share(answer.tail));
    let mut table = TextTable::new("", &["", ">keeps", ">breaks at", ">typical there", &tail, ">trials"]);
    for side in &answer.sides {
        let figure = |f: &Option<RunFigure>| f.as_ref().map_or_else(|| "-".into(), RunFigure::words);
        let (keeps, breaks) = side.loads.clone();
        table.rows.push(vec![
            side.name().to_owned(),
            keeps.unwrap_or_else(|| "-".into()),
            breaks.unwrap_or_else(|| "-".into()),
            figure(&side.typical),
            figure(&side.tail),
            side.used.len().to_string(),
        ]);
    }
    table
}

/// A table as blocks of lines, for a narrow terminal.
pub(super) fn stacked(table: &TextTable, style: TextStyle) -> String {
    let mut out = String::new();
    let width = table.head.iter().map(|h| h.chars().count()).max().unwrap_or(0).max(12);
    for row in &table.rows {
        out.push_str(&format!("{}\n", paint(&row[0], "1", style.color)));
        for (head, cell) in table.head.iter().zip(row).skip(1).filter(|(_, c)| !c.is_empty()) {
            out.push_str(format!("  {head:<width$} {cell}").trim_end());
            out.push('\n');
        }
    }
    out
}

pub(super) fn word_code(word: &str) -> &'static str {
    match word {
        "OK" | "MET" | "IMPROVED" => "32",
        "WARN" | "SKIPPED" | "NOT JUDGED" | "INCONCLUSIVE" | "SUSPECT" => "33",
        "INVALID" | "FAILED" | "BROKEN" | "UNMET" | "REGRESSED" => "1;31",
        _ => "2",
    }
}

pub(super) fn paint(text: &str, code: &str, color: bool) -> String {
    if color && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
}

/// Text in lines no wider than the terminal, but for words that are; lines after the first begin
/// with `indent`.
pub fn wrapped(paragraph: &str, indent: &str, width: usize) -> String {
    let words = paragraph.trim_start();
    filled(&paragraph[..paragraph.len() - words.len()], words, indent, width)
}

/// The same behind `first`, which may be a name in a column of its own.
pub fn filled(first: &str, paragraph: &str, indent: &str, width: usize) -> String {
    // The crate indents no empty line.
    if paragraph.is_empty() {
        return format!("{}\n", first.trim_end());
    }
    let options = textwrap::Options::new(width)
        .initial_indent(first)
        .subsequent_indent(indent)
        .break_words(false)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::fill(paragraph, options) + "\n"
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
            *last = paint(text, word_code(grade.map_or("", CellGrade::word)), color && grade.is_some());
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
        insta::assert_snapshot!(summary(&sample::record(), TextStyle::default()));
    }

    #[test]
    fn all_of_it_when_asked() {
        insta::assert_snapshot!(summary(
            &sample::record(),
            TextStyle { why: true, width: 100, ..TextStyle::default() }
        ));
    }

    #[test]
    fn nothing_is_wider_than_the_terminal_but_words() {
        for width in [40, 60, 80] {
            let text = summary(&sample::record(), TextStyle { width, ..TextStyle::default() });
            for line in text.lines() {
                assert!(line.chars().count() <= width || !line.trim().contains(' '), "{width}: {line}");
            }
        }
        insta::assert_snapshot!(summary(&sample::record(), TextStyle { width: 40, ..TextStyle::default() }));
    }

    #[test]
    fn clocks_of_agents_stand_with_the_times() {
        let record = crate::compare::sample::by_agents(Some(12), true);
        let text = summary(&record, TextStyle { why: true, width: 200, ..TextStyle::default() });
        for said in ["0.40 ms +/- 12 µs of clocks", "Delivery times may be wrong by 12 µs", "e2e.same-agent"] {
            assert!(text.contains(said), "{said}: {text}");
        }
        let page = crate::report::pages::markdown::page(&record, &[]);
        assert!(page.contains("| clocks |") && page.contains("| +/- 12 µs |"), "{page}");
        // What does not head the report stands with it all the same.
        let blurred = crate::report::pages::markdown::page(&crate::compare::sample::by_agents(Some(90), true), &[]);
        assert!(blurred.contains("| +/- 90 µs |"), "{blurred}");
    }

    #[test]
    fn colours_add_nothing() {
        let plain = summary(&sample::record(), TextStyle::default());
        let mut stripped = summary(&sample::record(), TextStyle { color: true, ..TextStyle::default() });
        assert!(stripped.contains("\x1b[33m"));
        for code in ["1", "2", "32", "33", "1;31", "0"] {
            stripped = stripped.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(stripped, plain);
    }
}
