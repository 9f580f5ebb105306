//! What a report says, before it is text, Markdown or HTML: tables of strings, and notes in words.
//!
//! All formats print the same figures because they print these. Percentiles of several trials are
//! never averaged: a table shows the median trial and the range. Trials that are INVALID, partial
//! or failed are listed, never summarised.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use crate::compare::Verdict;
use crate::plan::{Case, Workload};
use crate::record::{
    ClockDoubt, Headlines, LatencySummary, Outcome, Percentile, Record, Status, Trial, WorkloadResult,
};
use crate::units::{Nanos, count, latency, three_digits, time_words};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShownLatency {
    /// Nanoseconds.
    Finite(Nanos),
    /// The message at this quantile never arrived.
    Infinite,
    /// Too few samples stand behind it.
    Thin,
    /// Not measured.
    Absent,
}

impl fmt::Display for ShownLatency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finite(ns) => f.write_str(&latency(*ns)),
            Self::Infinite => f.write_str("inf"),
            Self::Thin | Self::Absent => f.write_str("-"),
        }
    }
}

impl ShownLatency {
    pub(in crate::report) fn of(percentile: Option<&Percentile>) -> Self {
        match percentile {
            None => Self::Absent,
            Some(p) if !p.printable => Self::Thin,
            Some(p) => p.value_ns.map_or(Self::Infinite, Self::Finite),
        }
    }

    /// The median; where it lies between two trials, their mean, and infinity when either is
    /// infinite.
    pub(in crate::report) fn median(mut values: Vec<Self>) -> Self {
        values.sort();
        match (values.last(), values.len()) {
            (None, _) => Self::Absent,
            (Some(Self::Thin | Self::Absent), _) => values[values.len() - 1],
            (_, n) if n % 2 == 1 => values[n / 2],
            (_, n) => match (values[n / 2 - 1], values[n / 2]) {
                (Self::Finite(a), Self::Finite(b)) => Self::Finite(a.midpoint(b)),
                _ => Self::Infinite,
            },
        }
    }
}

/// The widest doubt of clocks of some latencies.
pub(in crate::report) fn widest_clocks<'a>(all: impl IntoIterator<Item = &'a LatencySummary>) -> Option<ClockDoubt> {
    let wider =
        |a: ClockDoubt, b: ClockDoubt| ClockDoubt { bound_ns: a.bound_ns.zip(b.bound_ns).map(|(a, b)| a.max(b)) };
    all.into_iter().filter_map(|l| l.clocks).reduce(wider)
}

/// `+/- 0.40 ms`, of a time whose ends have different clocks; empty where they have one.
pub(in crate::report) fn clocks_words(doubt: Option<ClockDoubt>) -> String {
    match doubt.map(|d| d.bound_ns) {
        None => String::new(),
        Some(Some(bound)) => format!("+/- {}", time_words(bound)),
        Some(None) => "+/- unknown".into(),
    }
}

/// Adds a column that says how wrong the times of each row may be by the clocks of their two ends,
/// where those of a row may be; `doubts` are one for each row.
pub(in crate::report) fn with_clocks(table: &mut TextTable, at: usize, doubts: &[Option<ClockDoubt>]) {
    if doubts.iter().all(Option::is_none) {
        return;
    }
    table.head.insert(at, "clocks".into());
    table.right.insert(at, true);
    for (row, doubt) in table.rows.iter_mut().zip(doubts) {
        row.insert(at, if doubt.is_some() { clocks_words(*doubt) } else { "one".into() });
    }
    let moved = |column: usize| if column >= at { column + 1 } else { column };
    let grades = std::mem::take(&mut table.grades);
    table.grades = grades.into_iter().map(|((row, column), grade)| ((row, moved(column)), grade)).collect();
}

/// How what a cell says stands: pages colour it by that, a terminal emphasises it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellGrade {
    /// As it should be.
    Ok,
    /// Not known, because it could not be judged.
    NotJudged,
    /// Worth knowing.
    Warn,
    /// Not to be believed.
    Invalid,
    /// The system failed.
    Failed,
    /// A promise was not kept.
    Broken,
    /// What a comparison says.
    Compared(Verdict),
}

impl CellGrade {
    /// Its word, which is its class in a page.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::NotJudged => "NOT JUDGED",
            Self::Warn => "WARN",
            Self::Invalid => "INVALID",
            Self::Failed => "FAILED",
            Self::Broken => "BROKEN",
            Self::Compared(verdict) => verdict.word(),
        }
    }
}

impl From<Status> for CellGrade {
    fn from(status: Status) -> Self {
        match status {
            Status::Ok => Self::Ok,
            Status::NotJudged => Self::NotJudged,
            Status::Warn => Self::Warn,
            Status::Invalid => Self::Invalid,
        }
    }
}

/// A table of text: one caption, one head, cells; `right` says which columns are figures.
#[derive(Debug, Clone, PartialEq)]
pub struct TextTable {
    /// What it shows.
    pub caption: String,
    /// Column heads.
    pub head: Vec<String>,
    /// Whether the column is aligned to the right.
    pub right: Vec<bool>,
    /// Cells, row by row. The first cell names the row.
    pub rows: Vec<Vec<String>>,
    /// How cells stand, by row and column; the others are plain.
    pub grades: BTreeMap<(usize, usize), CellGrade>,
}

impl TextTable {
    /// `heads` beginning with `>` are right-aligned.
    pub(in crate::report) fn new(caption: &str, heads: &[&str]) -> Self {
        Self {
            caption: caption.into(),
            head: heads.iter().map(|h| h.trim_start_matches('>').to_string()).collect(),
            right: heads.iter().map(|h| h.starts_with('>')).collect(),
            rows: Vec::new(),
            grades: BTreeMap::new(),
        }
    }

    /// Says how a cell of the last row stands.
    pub(in crate::report) fn grade(&mut self, column: usize, grade: impl Into<Option<CellGrade>>) {
        if let (Some(grade), Some(row)) = (grade.into(), self.rows.len().checked_sub(1)) {
            self.grades.insert((row, column), grade);
        }
    }

    /// How a cell stands.
    pub(in crate::report) fn graded(&self, row: usize, column: usize) -> Option<CellGrade> {
        self.grades.get(&(row, column)).copied()
    }
}

/// Whether the figures of a trial may stand in a summary.
pub fn usable(trial: &Trial) -> bool {
    trial.outcome == Outcome::Complete && trial.validity_status() != Status::Invalid
}

/// `?` after a percentile that one of these trials has in doubt: slow messages came together, and
/// it hangs on them.
pub(in crate::report) fn sign<'a>(all: impl IntoIterator<Item = &'a LatencySummary>, quantile: f64) -> &'static str {
    let doubted = |l: &LatencySummary| l.at(quantile).is_some_and(|p| p.printable && p.doubt.is_some());
    if all.into_iter().any(doubted) { "?" } else { "" }
}

/// The name of a status.
pub fn status_word(status: Status) -> &'static str {
    CellGrade::from(status).word()
}

/// `p99.9` for 0.999.
pub fn quantile_name(quantile: f64) -> String {
    let text = format!("{:.6}", quantile * 100.0);
    format!("p{}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The quantiles of the summary: those of the plan, and of many only the usual ones.
pub(in crate::report) fn quantiles(record: &Record) -> Vec<f64> {
    let all = &record.plan.percentiles;
    if all.len() <= 5 {
        return all.clone();
    }
    let usual = [0.5, 0.9, 0.99, 0.999, 0.9999];
    all.iter().copied().filter(|q| usual.iter().any(|u| (u - q).abs() < 1e-9)).collect()
}

/// The trials of a case, in order of execution.
pub fn trials<'a>(record: &'a Record, case: &'a str) -> impl Iterator<Item = &'a Trial> {
    record.trials.iter().filter(move |t| t.case == case)
}

/// Of the usable trials of a case and workload the one in the middle by p99, the lower of two.
pub fn median_trial<'a>(record: &'a Record, case: &'a str, workload: usize) -> Option<&'a Trial> {
    let heads = Headlines::of([record]);
    let key = |t: &&Trial| {
        let found = heads.latency(workload, t.workloads.get(workload)?);
        found.map(|(_, l)| ShownLatency::of(l.at(0.99)))
    };
    let mut all: Vec<_> = trials(record, case).filter(|t| usable(t)).collect();
    all.sort_by_key(key);
    all.get(all.len().saturating_sub(1) / 2).copied()
}

/// The name of a row: the case, and the workload where the case has several.
pub fn label(case: &Case, workload: &Workload) -> String {
    if case.workloads.len() > 1 { format!("{} / {}", case.id, workload.name) } else { case.id.clone() }
}

/// What the checks say of trials together, and how that stands; nothing stands where none was made.
pub(in crate::report) fn validity(all: &[&Trial]) -> (String, Option<CellGrade>) {
    let failed = all.iter().any(|t| matches!(t.outcome, Outcome::Failed { .. }));
    let worst = all.iter().map(|t| t.validity_status()).max().map(CellGrade::from);
    (validity_words(all), if failed { Some(CellGrade::Failed) } else { worst })
}

fn validity_words(all: &[&Trial]) -> String {
    let Some(worst) = all.iter().map(|t| t.validity_status()).max() else { return "not run".into() };
    // A failed trial may have no checks at all: that must not read as OK.
    let failed = all.iter().filter(|t| matches!(t.outcome, Outcome::Failed { .. })).count();
    if failed > 0 {
        return if all.len() > 1 { format!("FAILED ({failed} of {})", all.len()) } else { "FAILED".into() };
    }
    if worst == Status::Ok {
        return "OK".into();
    }
    let mut ids: Vec<&str> =
        all.iter().flat_map(|t| &t.validity).filter(|c| c.status == worst).map(|c| c.id.as_str()).collect();
    ids.sort_by_key(|id| (check_number(id), *id));
    ids.dedup();
    let hit = all.iter().filter(|t| t.validity_status() == worst).count();
    let share = if all.len() > 1 { format!(" ({hit} of {})", all.len()) } else { String::new() };
    format!("{} {}{share}", status_word(worst), ids.join(","))
}

/// The place of a check among others: V10 after V2.
pub fn check_number(id: &str) -> u32 {
    id.trim_start_matches('V').parse().unwrap_or(u32::MAX)
}

pub(in crate::report) fn median_f64(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    let n = values.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(values[n / 2]),
        _ => Some(values[n / 2 - 1].midpoint(values[n / 2])),
    }
}

pub(in crate::report) fn or_dash(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "-".into(), show)
}

/// One row for each case and workload: the median over its usable trials.
pub fn summary_table(record: &Record) -> TextTable {
    let quantiles = quantiles(record);
    let names: Vec<String> = quantiles.iter().map(|q| format!(">{}", quantile_name(*q))).collect();
    let several = record.plan.trials > 1;
    let mut columns = vec!["case", "of"];
    columns.extend(names.iter().map(String::as_str).chain([">max"]));
    if several {
        columns.push(">p99 range");
    }
    columns.extend([">service p99", ">delivered/s", ">lost", ">dup", ">reord", ">CPU us/msg", ">trials", "validity"]);
    let caption = if several { "Response latency, median over the valid trials" } else { "Response latency" };
    let mut table = TextTable::new(caption, &columns);
    let (heads, mut blurs) = (Headlines::of([record]), Vec::new());
    for case in &record.plan.cases {
        let all: Vec<_> = trials(record, &case.id).collect();
        let skipped =
            record.plan.systems.get(case.system).is_some_and(|s| record.skipped.iter().any(|k| k.system == s.name));
        if all.is_empty() && skipped {
            continue;
        }
        let mut used: Vec<_> = all.iter().copied().filter(|t| usable(t)).collect();
        // What an interrupted run has is shown, and said to be a part.
        let partial = used.is_empty() && all.iter().any(|t| t.outcome == Outcome::Partial);
        if partial {
            used = all.iter().copied().filter(|t| t.outcome == Outcome::Partial).collect();
        }
        for (index, workload) in case.workloads.iter().enumerate() {
            let results: Vec<_> = used.iter().filter_map(|t| t.workloads.get(index)).collect();
            let latencies: Vec<_> = results.iter().filter_map(|r| heads.latency(index, r)).collect();
            let kind = latencies.first().map_or("-", |(kind, _)| kind);
            let at = |q: f64| ShownLatency::median(latencies.iter().map(|(_, l)| ShownLatency::of(l.at(q))).collect());
            let mark = |q: f64| sign(latencies.iter().map(|(_, l)| *l), q);
            let mut row = vec![label(case, workload), kind.to_string()];
            if partial {
                row[0].push_str(" (partial)");
            }
            row.extend(quantiles.iter().map(|q| format!("{}{}", at(*q), mark(*q))));
            let max =
                latencies.iter().map(|(_, l)| l.max_ns.map_or(ShownLatency::Infinite, ShownLatency::Finite)).collect();
            row.push(ShownLatency::median(max).to_string());
            if several {
                let mut range: Vec<_> = latencies.iter().map(|(_, l)| ShownLatency::of(l.at(0.99))).collect();
                range.retain(|v| matches!(v, ShownLatency::Finite(_) | ShownLatency::Infinite));
                range.sort();
                row.push(match (range.first(), range.last()) {
                    (Some(low), Some(high)) if range.len() > 1 => format!("[{low}..{high}]"),
                    _ => "-".into(),
                });
            }
            let service = ShownLatency::median(
                results
                    .iter()
                    .filter_map(|r| r.latency.get(&format!("{kind}.service")))
                    .map(|l| ShownLatency::of(l.at(0.99)))
                    .collect(),
            );
            row.push(match (service, at(0.99)) {
                (ShownLatency::Finite(s), ShownLatency::Finite(r)) if s.abs_diff(r) as f64 <= 0.1 * r as f64 => {
                    "same".into()
                }
                _ => service.to_string(),
            });
            row.push(or_dash(median_f64(results.iter().map(|r| r.throughput.delivered).collect()), count));
            let sum = |f: fn(&WorkloadResult) -> u64| {
                if results.is_empty() { "-".into() } else { results.iter().map(|r| f(r)).sum::<u64>().to_string() }
            };
            row.extend([sum(WorkloadResult::lost), sum(|r| r.ledger.duplicated), sum(|r| r.ledger.reordered)]);
            let cpu = used.iter().filter_map(|t| t.broker.as_ref()?.cpu_us_per_msg).collect();
            row.push(or_dash(median_f64(cpu), three_digits));
            row.push(format!("{}/{}", if partial { 0 } else { used.len() }, record.plan.trials));
            let (words, grade) = validity(&all);
            row.push(words);
            table.rows.push(row);
            blurs.push(widest_clocks(latencies.iter().map(|(_, l)| *l)));
            table.grade(table.head.len() - 1, grade);
        }
    }
    with_clocks(&mut table, 2 + quantiles.len(), &blurs);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    #[test]
    fn a_failed_trial_never_reads_as_ok() {
        let mut record = sample::record();
        for trial in &mut record.trials {
            trial.validity.clear();
            trial.outcome = Outcome::Failed { phase: "measure".into(), error: "connection reset".into() };
        }
        let table = summary_table(&record);
        assert!(table.rows.iter().all(|r| r.last().unwrap() == "FAILED (2 of 2)" && r[2] == "-"), "{table:?}");
    }

    #[test]
    fn the_median_of_two_is_infinite_when_one_is() {
        use ShownLatency::{Absent, Finite, Infinite, Thin};
        assert_eq!(ShownLatency::median(vec![Finite(3), Finite(1), Finite(2)]), Finite(2));
        assert_eq!(ShownLatency::median(vec![Finite(4), Finite(2)]), Finite(3));
        assert_eq!(ShownLatency::median(vec![Infinite, Finite(2)]), Infinite);
        assert_eq!(ShownLatency::median(vec![Infinite, Finite(2), Finite(1)]), Finite(2));
        assert_eq!(ShownLatency::median(vec![Thin, Finite(2)]), Thin);
        assert_eq!(ShownLatency::median(vec![]), Absent);
        assert_eq!(quantile_name(0.9999), "p99.99");
    }
}
