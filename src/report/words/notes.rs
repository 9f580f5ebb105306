//! What a reader must know before believing a table, in sentences: checks that did not hold,
//! systems that were skipped, trials that failed, promises that differ, and what the signs of the
//! table mean.

use std::collections::BTreeMap;

use super::tables::guarantees_table;
use super::view::{TextTable, status_word};
use crate::plan::Load;
use crate::record::{Check, Completion, Outcome, Record, Status};
use crate::units::count;

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteTopic {
    /// The answer says it in its own words.
    Answered,
    /// A check that did not hold.
    Check,
    /// What a sign in the table means.
    Sign,
    /// Anything else.
    Other,
}

/// A sentence for the reader and its weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderNote {
    pub topic: NoteTopic,
    /// `INVALID`, `WARN`, `FAILED`, `SKIPPED`, or `note`.
    pub word: &'static str,
    /// The sentence.
    pub text: String,
}

/// All notes of a record, the gravest first. `summary` is the table they stand below.
pub fn notes(record: &Record, summary: &TextTable) -> Vec<ReaderNote> {
    let mut list = Vec::new();
    let mut of = |topic: NoteTopic, say: &dyn Fn(&mut Adder<'_>)| {
        say(&mut |word: &'static str, text: String| list.push(ReaderNote { topic, word, text }));
    };
    of(NoteTopic::Answered, &|add| about_the_run(record, add));
    of(NoteTopic::Other, &|add| clock(record, add));
    of(NoteTopic::Other, &|add| failures(record, add));
    of(NoteTopic::Other, &|add| {
        for t in record.trials.iter().filter(|t| t.outcome == Outcome::Partial) {
            add("WARN", format!("{}, round {}: interrupted; it counts for no comparison.", t.case, t.round));
        }
    });
    of(NoteTopic::Other, &|add| calibration(record, add));
    of(NoteTopic::Answered, &|add| faults(record, add));
    of(NoteTopic::Other, &|add| super::membership::changes(record).into_iter().for_each(|words| add("note", words)));
    of(NoteTopic::Other, &|add| promises(record, add));
    of(NoteTopic::Other, &|add| duplicates(record, add));
    of(NoteTopic::Other, &|add| disturbances(record, add));
    of(NoteTopic::Check, &|add| checks(record, add));
    of(NoteTopic::Answered, &|add| skipped(record, add));
    of(NoteTopic::Answered, &|add| unlike_promises(record, add));
    of(NoteTopic::Answered, &|add| loops(record, add));
    of(NoteTopic::Sign, &|add| signs(summary, add));
    list
}

/// Takes the word and the sentence of a note.
type Adder<'a> = dyn FnMut(&'static str, String) + 'a;

/// The build, and whether the run came to its end.
fn about_the_run(record: &Record, add: &mut Adder<'_>) {
    if record.tool.profile != "release" {
        add(
            "WARN",
            format!(
                "This is a {} build: its figures are not to be compared. Build with `cargo build --release`.",
                record.tool.profile
            ),
        );
    }
    match record.completion {
        Completion::Complete => {}
        Completion::Running => add("WARN", "The run is not finished, or it crashed: this is what there was.".into()),
        Completion::Interrupted => add("WARN", "The run was interrupted: not all planned trials were executed.".into()),
    }
}

fn clock(record: &Record, add: &mut Adder<'_>) {
    if let Some(step) = record.clock_step_s {
        let way = if step > 0.0 { "forward" } else { "back" };
        let by = crate::units::three_digits(step.abs());
        add(
            "WARN",
            format!(
                "The wall clock was set {way} by {by} s while the run went on, or the machine slept: times in this record are those of the clock as it was at the start."
            ),
        );
    }
}

/// Whether two errors say the same: they may differ in ports, process numbers and counts.
pub fn alike(a: &str, b: &str) -> bool {
    let words = |text: &str| {
        text.split(|c: char| c.is_ascii_digit()).filter(|p| !p.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    words(a) == words(b)
}

fn skipped(record: &Record, add: &mut Adder<'_>) {
    for s in &record.skipped {
        add(
            "SKIPPED",
            format!(
                "{}: {}{} To have it measured: {}{}",
                s.system,
                s.reason,
                stop(&s.reason),
                s.remedy,
                stop(&s.remedy)
            ),
        );
    }
}

/// Guarantees in which the systems differ.
fn unlike_promises(record: &Record, add: &mut Adder<'_>) {
    let promises = guarantees_table(record);
    // Only what bears on whether a message arrives, in order, and survives; the table has the other
    // settings.
    const PROMISES: [&str; 5] = ["acknowledgement", "delivery", "durability", "order", "tls"];
    for row in promises.rows.iter().skip(3).filter(|row| PROMISES.contains(&row[0].as_str())) {
        if row[1..].windows(2).any(|w| w[0] != w[1]) {
            let each: Vec<_> =
                promises.head[1..].iter().zip(&row[1..]).map(|(system, value)| format!("{value} ({system})")).collect();
            add("note", format!("The systems do not promise the same: {} is {}.", row[0], each.join(", ")));
        }
    }
}

/// What a load without a schedule means for the latencies.
fn loops(record: &Record, add: &mut Adder<'_>) {
    let loads: Vec<_> = record.plan.cases.iter().flat_map(|c| &c.workloads).map(|w| &w.load).collect();
    if loads.iter().any(|l| matches!(l, Load::Closed { .. })) {
        add("note", "Closed loop: what a stall delays is not sent, so these latencies omit it by construction.".into());
    }
    if loads.iter().any(|l| matches!(l, Load::Unthrottled { .. })) {
        add("note", "Unthrottled: messages have no intended time, so these are service latencies.".into());
    }
}

/// The signs of the summary that stand for a missing or doubtful value.
fn signs(summary: &TextTable, add: &mut Adder<'_>) {
    let cells = || summary.rows.iter().flatten();
    if cells().any(|c| c == "inf" || c.ends_with("..inf]")) {
        add("note", "inf: lost messages count as infinitely late, and this percentile falls among them.".into());
    }
    if cells().any(|c| c.ends_with('?')) {
        let words = "?: fewer than 10 effective samples above it, because slow messages came together: the value is that of these runs, and says little of the next one (V10).";
        add("note", words.into());
    }
    if cells().any(|c| c == "-") {
        add("note", "-: not measured, or fewer than 10 samples above it.".into());
    }
    if cells().any(|c| c == "same") {
        add(
            "note",
            "service p99 leaves out how late the message was sent; `same` where it is within 10 % of p99.".into(),
        );
    }
}

/// Trials that failed; the same failure in the same phase is said once, with the trials that it
/// ended.
fn failures(record: &Record, add: &mut Adder<'_>) {
    let mut groups: Vec<(&str, &str, Vec<&crate::record::Trial>)> = Vec::new();
    for t in &record.trials {
        let Outcome::Failed { phase, error } = &t.outcome else { continue };
        match groups.iter_mut().find(|(p, e, _)| p == phase && alike(e, error)) {
            Some((_, _, trials)) => trials.push(t),
            None => groups.push((phase, error, vec![t])),
        }
    }
    for (phase, error, trials) in groups {
        let mut rounds: Vec<(&str, Vec<String>)> = Vec::new();
        for t in &trials {
            match rounds.iter_mut().find(|(case, _)| *case == t.case) {
                Some((_, all)) => all.push(t.round.to_string()),
                None => rounds.push((&t.case, vec![t.round.to_string()])),
            }
        }
        let each = rounds
            .into_iter()
            .map(|(case, all)| format!("{case}, round{} {}", if all.len() > 1 { "s" } else { "" }, all.join(", ")));
        let each = each.collect::<Vec<_>>().join("; ");
        let logs: Vec<&str> = trials.iter().filter_map(|t| t.server_log.as_deref()).collect();
        let log = match logs[..] {
            [] => String::new(),
            [log] => format!(" Server log: {log}."),
            _ => format!(" Server logs: {}.", logs.join(", ")),
        };
        add("FAILED", format!("{each}, in {phase}: {error}{}{log}", stop(error)));
    }
}

/// A broker with injected faults, so that its figures are not taken for those of a healthy one.
fn faults(record: &Record, add: &mut Adder<'_>) {
    let told = record.trials.iter().filter_map(|t| t.system.guarantees.get("faults"));
    for told in told.collect::<std::collections::BTreeSet<_>>() {
        add("WARN", format!("The broker ran with injected faults ({told}): this is no measurement of a healthy one."));
    }
    for e in &record.plan.events {
        let action = e.action.name();
        let whom = e.whom();
        let how = e.qdisc.as_ref().map(|q| format!(" ({q})")).unwrap_or_default();
        let once = e.repeat.is_none() && e.within.is_none() && e.lasts.is_none();
        let when = if once { format!(" {} into", e.at) } else { format!(", {} of", e.when()) };
        add("note", format!("The scenario itself does this to {whom}: {action}{how}{when} the measured phase."));
    }
}

/// What the newest calibration of the host says, and which percentiles it makes doubtful.
fn calibration(record: &Record, add: &mut Adder<'_>) {
    let Some(c) = &record.calibration else { return };
    let doubt = match (c.verdict.as_str(), c.version == record.tool.version) {
        ("FAIL", _) => " Experiments failed: see the certificate before believing these figures.",
        (_, false) => " That was another version: calibrate this one.",
        ("DISTURBED", _) => " The host paused during some experiments: repeat it when the host is quiet.",
        _ => "",
    };
    add(if doubt.is_empty() { "note" } else { "WARN" }, format!("{}{doubt}", c.sentence()));
    let mut near: BTreeMap<&str, std::collections::BTreeSet<String>> = BTreeMap::new();
    for t in &record.trials {
        for (kind, p) in
            t.workloads.iter().flat_map(|w| &w.latency).flat_map(|(k, l)| l.percentiles.iter().map(move |p| (k, p)))
        {
            if p.near_floor_ns.is_some() && p.printable {
                near.entry(&t.case).or_default().insert(format!("{kind} {}", super::view::quantile_name(p.quantile)));
            }
        }
    }
    if !near.is_empty() {
        let each = near
            .iter()
            .map(|(case, names)| format!("{case}: {}", names.iter().cloned().collect::<Vec<_>>().join(", ")));
        let words = "Near the floor: below three times what the harness shows here with no broker at all, so as much its own as the system's";
        add("WARN", format!("{words} ({}).", each.collect::<Vec<_>>().join("; ")));
    }
}

/// What came more than once is no throughput.
fn duplicates(record: &Record, add: &mut Adder<'_>) {
    let mut said: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for t in &record.trials {
        for w in &t.workloads {
            let first = w.throughput.delivered;
            let words = match w.throughput.received {
                Some(all) if all > first => {
                    format!("round {}: {}/s were received, {}/s for the first time", t.round, count(all), count(first))
                }
                None if w.ledger.duplicated > 0 && w.ledger.delivered > 0 => {
                    format!("round {}: this record is of a version that counted them", t.round)
                }
                _ => continue,
            };
            said.entry(&t.case).or_default().push(words);
        }
    }
    for (case, rounds) in said {
        let counted = rounds.iter().any(|r| r.ends_with("counted them"));
        let what = if counted { "duplicates are in delivered/s" } else { "duplicates are not in delivered/s" };
        let more = rounds.len().saturating_sub(2);
        let more = if more > 0 { format!(" and {more} more rounds") } else { String::new() };
        let word = if counted { "WARN" } else { "note" };
        add(word, format!("{case}: {what} ({}{more}).", rounds[..rounds.len().min(2)].join("; ")));
    }
}

/// What disturbed the host while trials ran; named, so that it is not blamed on a broker.
fn disturbances(record: &Record, add: &mut Adder<'_>) {
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for t in &record.trials {
        for f in t.disturbance.iter().filter(|f| f.grade > crate::record::Grade::Unknown) {
            found.entry(&f.item).or_default().push(format!("{}, round {}: {}", t.case, t.round, f.observed));
        }
    }
    for (item, where_) in found {
        let more = where_.len().saturating_sub(2);
        let more = if more > 0 { format!(" and {more} more trials") } else { String::new() };
        add("WARN", format!("The host was disturbed ({item}): {}{more}.", where_[..where_.len().min(2)].join("; ")));
    }
}

/// Promises that were not kept; the same one of the same case is said once, with its rounds.
fn promises(record: &Record, add: &mut Adder<'_>) {
    let mut broken: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for t in &record.trials {
        for (w, p) in t.workloads.iter().flat_map(|w| w.promises.iter().filter(|p| !p.kept).map(move |p| (w, p))) {
            let observed = format!("round {}: {}", t.round, p.observed);
            broken.entry((&t.case, &w.name, &p.promised)).or_default().push(observed);
        }
    }
    for ((case, workload, promised), observed) in broken {
        add("BROKEN", format!("{case}, {workload}: {promised} was promised and not kept. {}.", observed.join("; ")));
    }
}

/// A full stop where a text has none.
fn stop(text: &str) -> &'static str {
    if text.ends_with(['.', '!', '?']) { "" } else { "." }
}

/// A sentence begins with a capital.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Checks that did not hold; the same check is said once, with the cases and rounds that it
/// concerns.
fn checks(record: &Record, add: &mut Adder<'_>) {
    let mut groups: BTreeMap<_, BTreeMap<&str, Vec<_>>> = BTreeMap::new();
    // What ended a trial is said; advice on its load would send the reader the wrong way.
    for t in record.trials.iter().filter(|t| !matches!(t.outcome, Outcome::Failed { .. })) {
        // What needs a longer trial is named in the verdict and stands in the table of checks.
        let told = |c: &Check| c.status == Status::Ok || (c.status == Status::NotJudged && c.id != "V3");
        for c in t.validity.iter().filter(|c| !told(c)) {
            let place = super::view::check_number(&c.id);
            let group = groups.entry((std::cmp::Reverse(c.status), place, &c.id, &c.name)).or_default();
            group.entry(&t.case).or_default().push((t.round, c));
        }
    }
    for ((status, _, id, name), cases) in groups {
        let Some((_, check)) = cases.values().flatten().next() else { continue };
        let each: Vec<String> = cases
            .iter()
            .map(|(case, hits)| {
                let rounds: Vec<_> = hits.iter().map(|(round, _)| round.to_string()).collect();
                let (plural, first) = if rounds.len() > 1 { ("s", "the first: ") } else { ("", "") };
                format!("{case} (round{plural} {}; {first}{})", rounds.join(", "), hits[0].1.observed)
            })
            .collect();
        add(
            status_word(status.0),
            format!(
                "{id} {name}: {}. Accepted: {}. {}{}",
                each.join(", "),
                check.threshold,
                capital(&check.message),
                if check.message.is_empty() { "" } else { stop(&check.message) }
            ),
        );
    }
}
