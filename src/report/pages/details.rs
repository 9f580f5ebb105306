//! The tables behind the summary: every trial with its books, checks and resources, valid or not.

use std::collections::BTreeMap;

use crate::record::{Check, Headlines, Outcome, Record, Status, Trial, WorkloadResult};
use crate::report::words::checks::plain;
use crate::report::words::view::{
    CellGrade, ShownLatency, TextTable, check_number, clocks_words, or_dash, sign, status_word, validity,
};
use crate::units::{count, three_digits};

/// One row for each trial and workload, whatever became of it.
pub fn trials_table(record: &Record) -> TextTable {
    let mut table = TextTable::new(
        "Every trial, in order of execution",
        &[
            "case",
            ">round",
            "outcome",
            "validity",
            "of",
            ">samples",
            ">p50",
            ">p99",
            ">max",
            ">lag p99",
            ">offered/s",
            ">delivered/s",
            "pacing",
        ],
    );
    let heads = Headlines::of([record]);
    each(record, |name, trial, index, result| {
        let (kind, l) = heads.latency(index, result).map_or(("-", None), |(k, l)| (k, Some(l)));
        let clocks = clocks_words(l.and_then(|l| l.clocks));
        let at =
            |q| format!("{}{} {clocks}", ShownLatency::of(l.and_then(|l| l.at(q))), sign(l, q)).trim_end().to_owned();
        let (words, grade) = validity(&[trial]);
        table.rows.push(vec![
            name,
            trial.round.to_string(),
            outcome(trial),
            words,
            kind.into(),
            l.map_or_else(|| "-".into(), |l| l.count.to_string()),
            at(0.5),
            at(0.99),
            l.map_or(ShownLatency::Absent, |l| l.max_ns.map_or(ShownLatency::Infinite, ShownLatency::Finite))
                .to_string(),
            ShownLatency::of(result.latency.get("lag").and_then(|l| l.at(0.99))).to_string(),
            or_dash(result.throughput.offered, count),
            count(result.throughput.delivered),
            trial.pacing.clone(),
        ]);
        grade_outcome(&mut table, trial, grade);
    });
    for t in record.trials.iter().filter(|t| t.workloads.is_empty()) {
        let (words, grade) = validity(&[t]);
        let mut row = vec![t.case.clone(), t.round.to_string(), outcome(t), words];
        row.resize(table.head.len(), "-".into());
        table.rows.push(row);
        grade_outcome(&mut table, t, grade);
    }
    table
}

/// How outcome and validity of the last row stand.
fn grade_outcome(table: &mut TextTable, trial: &Trial, validity: Option<CellGrade>) {
    table.grade(2, matches!(trial.outcome, Outcome::Failed { .. }).then_some(CellGrade::Failed));
    table.grade(3, validity);
}

fn outcome(trial: &Trial) -> String {
    match &trial.outcome {
        Outcome::Complete => "complete".into(),
        Outcome::Partial => "partial".into(),
        Outcome::Failed { phase, .. } => format!("failed in {phase}"),
    }
}

/// Calls `row` for each trial and workload with the name of the row, and the workload's index.
fn each(record: &Record, mut row: impl FnMut(String, &Trial, usize, &WorkloadResult)) {
    for trial in &record.trials {
        for (index, result) in trial.workloads.iter().enumerate() {
            let name = if trial.workloads.len() > 1 {
                format!("{} / {}", trial.case, result.name)
            } else {
                trial.case.clone()
            };
            row(name, trial, index, result);
        }
    }
}

/// The books of every trial.
pub fn ledger_table(record: &Record) -> TextTable {
    let mut table = TextTable::new(
        "Ledger: messages whose intended time lies in the measured phase",
        &[
            "case",
            ">round",
            ">scheduled",
            ">sent",
            ">refused",
            ">acked",
            ">expected",
            ">delivered",
            ">lost",
            ">of these, surely dropped by the client",
            ">duplicated",
            ">reordered",
            ">corrupted",
            ">foreign",
        ],
    );
    each(record, |name, trial, _, result| {
        let l = &result.ledger;
        let figures = [
            l.scheduled,
            l.sent,
            l.refused,
            l.acked,
            l.expected,
            l.delivered,
            l.lost,
            l.client_dropped,
            l.duplicated,
            l.reordered,
            l.corrupted,
            l.foreign,
        ];
        let mut cells = vec![name, trial.round.to_string()];
        cells.extend(figures.map(|n| n.to_string()));
        table.rows.push(cells);
    });
    table
}

const MIB: f64 = 1_048_576.0;

/// CPU, memory and host pauses of every trial.
pub fn resources_table(record: &Record) -> TextTable {
    let mut heads = vec![
        "case",
        ">round",
        ">broker CPU s",
        ">broker us/msg",
        ">broker RSS MiB (mean/peak)",
        ">broker disk MiB",
        ">broker threads",
        ">broker switches (vol/invol)",
        ">generator CPU s",
        ">generator us/msg",
        ">generator switches (vol/invol)",
        ">host pause p99.9",
        ">host pause max",
    ];
    let beside = record.trials.iter().any(|t| t.application.is_some());
    if beside {
        heads.extend([">application CPU s", ">application us/msg", ">application peak RSS MiB"]);
    }
    let mut table = TextTable::new("Resources over the measured phase", &heads);
    for t in &record.trials {
        let broker =
            |f: &dyn Fn(&crate::record::Resources) -> Option<f64>| or_dash(t.broker.as_ref().and_then(f), three_digits);
        let mut cells = vec![
            t.case.clone(),
            t.round.to_string(),
            broker(&|r| Some(r.cpu_seconds)),
            broker(&|r| r.cpu_us_per_msg),
            t.broker.as_ref().map_or_else(
                || "-".into(),
                |r| {
                    format!(
                        "{}/{}",
                        or_dash(r.rss_mean_bytes.map(|b| b as f64 / MIB), three_digits),
                        three_digits(r.rss_peak_bytes as f64 / MIB)
                    )
                },
            ),
            broker(&|r| Some(r.disk_written_bytes as f64 / MIB)),
            t.broker.as_ref().map_or_else(|| "-".into(), |r| r.threads.to_string()),
            t.broker
                .as_ref()
                .map_or_else(|| "-".into(), |r| format!("{}/{}", r.voluntary_switches, r.involuntary_switches)),
            three_digits(t.generator.cpu_seconds),
            or_dash(t.generator.cpu_us_per_msg, three_digits),
            format!("{}/{}", t.generator.voluntary_switches, t.generator.involuntary_switches),
            ShownLatency::of(t.hiccup.at(0.999)).to_string(),
            t.hiccup.max_ns.map_or(ShownLatency::Absent, ShownLatency::Finite).to_string(),
        ];
        if beside {
            let of = t.application.as_ref();
            cells.push(or_dash(of.map(|r| r.cpu_seconds), three_digits));
            cells.push(or_dash(of.and_then(|r| r.cpu_us_per_msg), three_digits));
            cells.push(or_dash(of.map(|r| r.rss_peak_bytes as f64 / MIB), three_digits));
        }
        table.rows.push(cells);
    }
    table
}

/// Checks that did not hold, one row for each kind and system; and the names of those that held in
/// every trial.
pub fn checks(record: &Record) -> (TextTable, String) {
    let heads = ["check", "status", "case", ">rounds", "observed, the worst first", "accepted", "what it means"];
    let mut table = TextTable::new("Checks that did not hold, the gravest first", &heads);
    let mut groups: BTreeMap<_, Vec<(&Trial, &Check)>> = BTreeMap::new();
    let mut held: BTreeMap<(u32, &str), bool> = BTreeMap::new();
    for (t, c) in record.trials.iter().flat_map(|t| t.validity.iter().map(move |c| (t, c))) {
        let place = check_number(&c.id);
        *held.entry((place, &c.name)).or_insert(true) &= c.status == Status::Ok;
        if c.status != Status::Ok {
            groups.entry((std::cmp::Reverse(c.status), place, &t.case)).or_default().push((t, c));
        }
    }
    for ((status, ..), hits) in groups {
        let Some((trial, first)) = hits.first() else { continue };
        let rounds: Vec<String> = hits.iter().map(|(t, _)| t.round.to_string()).collect();
        table.rows.push(vec![
            format!("{} ({})", plain(first), first.id),
            status_word(status.0).into(),
            trial.case.clone(),
            rounds.join(", "),
            first.observed.clone(),
            first.threshold.clone(),
            first.message.clone(),
        ]);
        table.grade(1, CellGrade::from(status.0));
    }
    let held: Vec<&str> = held.iter().filter(|(_, ok)| **ok).map(|((_, name), _)| *name).collect();
    (table, held.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    #[test]
    fn a_trial_that_failed_before_it_measured_is_listed() {
        let mut record = sample::record();
        record.trials[0].workloads.clear();
        record.trials[0].outcome = Outcome::Failed { phase: "connect".into(), error: "refused".into() };
        let table = trials_table(&record);
        assert_eq!(table.rows.len(), 4);
        assert!(table.rows.iter().any(|r| r[2] == "failed in connect" && r[3] == "FAILED"), "{table:?}");
        assert!(table.rows.iter().all(|r| r.len() == table.head.len()));
    }
}
