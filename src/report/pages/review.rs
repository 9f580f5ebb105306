//! Several scenarios on one page: a matrix of workloads and systems with the answer of each cell,
//! for an architecture review; as HTML, Markdown and text.

use maud::{Markup, html};

use super::answer::{OPEN, items};
use super::markdown;
use super::page::{section_of, shell};
use super::text::{TextStyle, render, stacked, wrapped};
use crate::record::Record;
use crate::report::words::answer::{self, Answer, AnswerSide, RunFigure, Standing, one_in};
use crate::report::words::method;
use crate::report::words::view::TextTable;
use crate::units::{digits, plural};

/// One result of a review.
#[derive(Debug, Clone)]
pub struct Reviewed<'a> {
    pub record: &'a Record,
    /// Its report, relative to the page; `None` where there is none.
    pub link: Option<String>,
}

/// What stands in a cell of the matrix.
#[derive(Debug, PartialEq, Eq)]
enum ReviewCell {
    /// The scenario does not have the system.
    Absent,
    /// It has no answer, for this reason.
    Failed(String),
    Answered {
        typical: String,
        tail: Option<String>,
        lost: String,
        standing: Standing,
    },
}

/// A row of the matrix.
struct ReviewRow<'a> {
    reviewed: &'a Reviewed<'a>,
    answer: Option<Answer<'a>>,
    /// What is driven.
    load: String,
    cells: Vec<ReviewCell>,
}

/// The names of all systems, in the order in which they first occur.
fn systems<'a>(all: &'a [Reviewed<'a>]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for name in all.iter().flat_map(|r| &r.record.plan.systems).map(|s| s.name.as_str()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn rows<'a>(all: &'a [Reviewed<'a>], systems: &[&str]) -> Vec<ReviewRow<'a>> {
    let row = |reviewed: &'a Reviewed<'a>| {
        let record = reviewed.record;
        let answer = answer::of(record);
        let workloads = record.plan.cases.first().map_or(&[][..], |c| &c.workloads);
        let first = answer.as_ref().and_then(|a| a.sides.first()).map(AnswerSide::plan).or(workloads.first());
        let mut load = first.map_or_else(String::new, method::describe);
        if workloads.len() > 1 {
            load.push_str(&format!(" (the first of {} workloads)", workloads.len()));
        }
        if let Some(point) = answer.as_ref().and_then(|a| a.point.as_ref()) {
            load.push_str(&format!("; {point}"));
        }
        let cells = systems.iter().map(|name| cell(record, answer.as_ref(), name)).collect();
        ReviewRow { reviewed, answer, load, cells }
    };
    all.iter().map(row).collect()
}

fn cell(record: &Record, answer: Option<&Answer<'_>>, name: &str) -> ReviewCell {
    let own: Vec<&str> = record.plan.systems.iter().map(|s| s.name.as_str()).collect();
    if !own.contains(&name) {
        return ReviewCell::Absent;
    }
    let sides = || answer.into_iter().flat_map(|a| a.sides.iter().zip(&a.standings));
    if let Some((side, standing)) = sides().find(|(s, _)| s.name() == name && !s.used.is_empty()) {
        let words = |f: &Option<RunFigure>| f.as_ref().map(RunFigure::words);
        return ReviewCell::Answered {
            typical: words(&side.typical).unwrap_or_else(|| "not measured".into()),
            tail: words(&side.tail),
            lost: Answer::lost(side).map_or_else(|| "not known".into(), digits),
            standing: *standing,
        };
    }
    let skipped =
        || record.skipped.iter().find(|s| s.system == name).map(|s| format!("was not measured: {}", s.reason));
    let sentence = answer.and_then(|a| a.failure_of(name)).map(|s| s[name.len()..].trim().to_owned());
    let reason = sentence.or_else(skipped).unwrap_or_else(|| "was not measured".into());
    ReviewCell::Failed(reason.trim_end_matches('.').to_owned())
}

impl ReviewRow<'_> {
    fn name(&self) -> &str {
        &self.reviewed.record.plan.name
    }

    fn day(&self) -> String {
        self.reviewed.record.started_at.chars().take(10).collect()
    }

    /// `99 of 100` of this row.
    fn tail(&self) -> String {
        one_in(self.answer.as_ref().map_or(0.99, |a| a.tail))
    }

    fn confidence(&self) -> &'static str {
        self.answer.as_ref().map_or("none", |a| a.confidence.level.word())
    }

    /// The answer in a sentence, with the word that says what is wrong with it.
    fn headline(&self) -> String {
        match &self.answer {
            Some(a) if a.word == "OK" => a.headline.clone(),
            Some(a) => format!("{}: {}", a.word, a.headline),
            None => "Nothing was measured.".into(),
        }
    }
}

/// `3 workloads, 4 systems`.
fn title(all: &[Reviewed<'_>], systems: &[&str]) -> String {
    format!("Review: {}, {}", plural(all.len() as u64, "workload"), plural(systems.len() as u64, "system"))
}

/// How the page is read.
const READING: &str = "Typical: half of the messages took less. 1 in 100: 99 of 100 took less. Best: decided by the interval of the ratio of medians; ahead: better in every run, of which there are too few to decide.";

/// The page.
pub fn page(all: &[Reviewed<'_>]) -> String {
    let systems = systems(all);
    let rows = rows(all, &systems);
    let body = html! {
        section aria-label="Answer" class="answer review" {
            h1 { (title(all, &systems)) }
            (matrix(&rows, &systems))
            p.quiet { (READING) }
        }
        @for (number, row) in rows.iter().enumerate() { (scenario(number, row)) }
    };
    shell("Review", &body)
}

fn matrix(rows: &[ReviewRow<'_>], systems: &[&str]) -> Markup {
    html! {
        div class="scroll matrix" role="region" aria-label="Workloads and systems" tabindex="0" {
            table {
                caption { "Workloads and systems" }
                thead {
                    tr {
                        th scope="col" { "workload" }
                        @for s in systems { th scope="col" { (s) } }
                        th scope="col" { "confidence" }
                    }
                }
                tbody {
                    @for (number, row) in rows.iter().enumerate() {
                        tr {
                            th scope="row" { a href={ "#scenario-" (number) } { (row.name()) } small { (row.load) } }
                            @for c in &row.cells { (html_cell(c, &row.tail())) }
                            td { span class={ "conf " (row.confidence()) } { (row.confidence()) } }
                        }
                    }
                }
            }
        }
    }
}

fn html_cell(cell: &ReviewCell, tail: &str) -> Markup {
    let class = |standing: &Standing| match standing {
        Standing::Best => Some("best"),
        Standing::Ahead => Some("ahead"),
        _ => None,
    };
    html! {
        @match cell {
            ReviewCell::Absent => td.quiet { "–" },
            ReviewCell::Failed(why) => td.WARN { (why) },
            ReviewCell::Answered { typical, tail: slow, lost, standing } => td class=[class(standing)] {
                b { (typical) }
                @if !standing.word().is_empty() { span.mark { (standing.word()) } }
                @if let Some(slow) = slow { small { (tail) ": " (slow) } }
                small { "lost: " (lost) }
            },
        }
    }
}

/// One result in sentences.
fn scenario(number: usize, row: &ReviewRow<'_>) -> Markup {
    let body = html! {
        p.question { (row.reviewed.record.plan.question) " · " (row.day()) }
        p.sub { b { (row.headline()) } }
        @if let Some(answer) = &row.answer {
            @let c = &answer.confidence;
            p { (answer.losses) " " span class={ "conf " (c.level.word()) } { (c.words()) } }
            @if !answer.remarks.is_empty() {
                ul.remarks { (items(&answer.remarks[..answer.remarks.len().min(OPEN)])) }
            }
        }
        @match &row.reviewed.link {
            Some(link) => p { a href=(link) { "Report of " (row.name()) } },
            None => p.quiet { "Its report is not there; msgbench report RESULT renders it." },
        }
    };
    // A name may occur twice, and holds anything.
    section_of(&format!("scenario-{number}"), row.name(), &body)
}

/// A cell in one line.
fn words(cell: &ReviewCell, tail: &str) -> String {
    match cell {
        ReviewCell::Absent => "–".into(),
        ReviewCell::Failed(why) => why.clone(),
        ReviewCell::Answered { typical, tail: slow, lost, standing } => {
            let mut parts = vec![typical.clone()];
            parts.extend(slow.as_ref().map(|s| format!("{tail}: {s}")));
            parts.push(format!("lost {lost}"));
            parts.extend(Some(standing.word().to_owned()).filter(|w| !w.is_empty()));
            parts.join("; ")
        }
    }
}

/// The same as a Markdown file.
pub fn markdown(all: &[Reviewed<'_>]) -> String {
    let systems = systems(all);
    let rows = rows(all, &systems);
    let heads: Vec<&str> = ["workload"].into_iter().chain(systems.iter().copied()).chain(["confidence"]).collect();
    let mut table = TextTable::new("", &heads);
    table.head = heads.iter().map(|h| (*h).to_owned()).collect();
    table.right = vec![false; heads.len()];
    for row in &rows {
        let mut cells = vec![format!("{}: {}", row.name(), row.load)];
        cells.extend(row.cells.iter().map(|c| words(c, &row.tail())));
        cells.push(row.confidence().into());
        table.rows.push(cells);
    }
    let mut out = format!("# {}\n\n{}\n{READING}\n", title(all, &systems), markdown::table(&table));
    let text = markdown::text;
    for row in &rows {
        let record = row.reviewed.record;
        out.push_str(&format!("\n## {}\n\n{} ({})\n\n", text(row.name()), text(&record.plan.question), row.day()));
        out.push_str(&format!("**{}**\n", text(&row.headline())));
        if let Some(answer) = &row.answer {
            out.push_str(&format!("\n{} {}.\n\n", text(&answer.losses), text(&answer.confidence.words())));
            for r in answer.remarks.iter().take(OPEN) {
                out.push_str(&format!("- **{}** {}\n", text(&r.title), text(&r.text)));
            }
        }
        if let Some(link) = &row.reviewed.link {
            out.push_str(&format!("\n[Report]({})\n", link.replace(' ', "%20").replace(')', "%29")));
        }
    }
    out
}

/// The same for a terminal: a table of each workload, and its answer below.
pub fn text(all: &[Reviewed<'_>], style: TextStyle) -> String {
    let systems = systems(all);
    let mut out = format!("{}\n", title(all, &systems));
    for row in &rows(all, &systems) {
        out.push('\n');
        out.push_str(&wrapped(&format!("{}: {}", row.name(), row.load), "  ", style.width));
        let slow = format!(">{}", row.tail());
        let mut table = TextTable::new("", &["", ">typical", &slow, ">lost", ""]);
        let mut failed = String::new();
        for (name, cell) in systems.iter().zip(&row.cells) {
            match cell {
                ReviewCell::Absent => {}
                ReviewCell::Failed(why) => failed.push_str(&wrapped(&format!("  {name} {why}."), "    ", style.width)),
                ReviewCell::Answered { typical, tail, lost, standing } => table.rows.push(vec![
                    (*name).to_owned(),
                    typical.clone(),
                    tail.clone().unwrap_or_else(|| "-".into()),
                    lost.clone(),
                    standing.word().into(),
                ]),
            }
        }
        if !table.rows.is_empty() {
            let fits = render(&table, false).lines().all(|l| l.chars().count() <= style.width);
            out.push_str(&if fits { render(&table, style.color) } else { stacked(&table, style) });
        }
        out.push_str(&failed);
        out.push_str(&wrapped(&row.headline(), "", style.width));
        if let Some(answer) = &row.answer {
            out.push_str(&wrapped(&format!("{}.", answer.confidence.words()), "  ", style.width));
            let shown = if style.why { answer.remarks.len() } else { 1 };
            for r in answer.remarks.iter().take(shown) {
                out.push_str(&wrapped(&format!("- {} {}", r.title, r.text), "  ", style.width));
            }
        }
    }
    out.chars().map(|c| if c.is_control() && c != '\n' && c != '\x1b' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample::{A, B, record};
    use crate::record::{Skipped, sample};

    /// A decided one, one of two runs, one with everything wrong and a system that was skipped.
    fn records() -> Vec<Record> {
        let times = |values: &[f64], by: f64| values.iter().map(|v| v * by).collect::<Vec<_>>();
        let decided = record(&A, &times(&B, 18.0));
        let mut few = record(&A[..2], &times(&B[..2], 18.0));
        few.plan.name = "two runs".into();
        let open = record(&A, &A);
        let mut wrong = sample::record();
        let mut missing = wrong.plan.systems[0].clone();
        missing.name = "nats cluster".into();
        wrong.plan.systems.push(missing);
        wrong.skipped.push(Skipped {
            system: "nats cluster".into(),
            reason: "there is no <server>".into(),
            remedy: "install it".into(),
        });
        vec![decided, few, open, wrong]
    }

    fn reviewed(records: &[Record]) -> Vec<Reviewed<'_>> {
        let link = |i: usize| (i == 0).then(|| "a b/report.html".to_owned());
        records.iter().enumerate().map(|(i, record)| Reviewed { record, link: link(i) }).collect()
    }

    #[test]
    fn a_person_can_read_it() {
        let records = records();
        insta::assert_snapshot!("review_text", text(&reviewed(&records), TextStyle::default()));
        insta::assert_snapshot!("review_markdown", markdown(&reviewed(&records)));
    }

    #[test]
    fn nothing_is_wider_than_the_terminal_but_words() {
        let records = records();
        for width in [40, 60, 80] {
            let text = text(&reviewed(&records), TextStyle { width, ..TextStyle::default() });
            for line in text.lines() {
                assert!(line.chars().count() <= width || !line.trim().contains(' '), "{width}: {line}");
            }
        }
    }

    /// The page says of each cell what the Markdown file says, and escapes everything.
    #[test]
    fn the_page_has_every_cell_and_every_scenario() {
        let records = records();
        let all = reviewed(&records);
        let page = page(&all);
        assert!(page.contains("there is no &lt;server&gt;") && !page.contains("<server>"), "{page}");
        let names = systems(&all);
        for row in rows(&all, &names) {
            assert_eq!(row.cells.len(), names.len());
            assert!(page.contains(&html! { (row.headline()) }.0), "{}", row.headline());
            for cell in &row.cells {
                if let ReviewCell::Answered { typical, .. } = cell {
                    assert!(page.contains(&html! { b { (typical) } }.0), "{typical}");
                }
            }
        }
        assert_eq!(page.matches("<section").count(), 1 + records.len());
        assert!(page.contains("href=\"a b/report.html\""));
    }

    /// One is marked as the best only where a comparison says so.
    #[test]
    fn the_best_is_marked_where_it_is_decided() {
        let records = records();
        let all = reviewed(&records);
        let standings: Vec<Vec<Standing>> =
            rows(&all, &systems(&all)).iter().map(|r| r.answer.as_ref().unwrap().standings.clone()).collect();
        assert!(standings[0].contains(&Standing::Best) && standings[0].contains(&Standing::Behind), "{standings:?}");
        assert!(standings[1].contains(&Standing::Ahead) && !standings[1].contains(&Standing::Best), "{standings:?}");
        assert!(!standings[2].contains(&Standing::Behind) && !standings[2].contains(&Standing::Ahead), "{standings:?}");
    }
}
