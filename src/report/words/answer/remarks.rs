//! What must be known before the answer is quoted: found by rule, the gravest first.

use std::collections::BTreeSet;

use super::AnswerContext;
use super::confidence::{MACHINE, busy};
use super::facts::delivery_words;
use super::side::AnswerSide;
use crate::plan::facts::Durability;
use crate::plan::{BringUp, Load};
use crate::record::{ClockDoubt, Completion, Outcome, SAME_AGENT, Status, Trial};
use crate::report::words::view::{clocks_words, widest_clocks};
use crate::report::words::{capacity, checks};
use crate::units::{Span, plural, three_digits, time_words};

/// One thing to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// What it is about, in a few words; a sentence without its end.
    pub title: String,
    /// What follows.
    pub text: String,
}

/// Runs shorter than this see nothing that comes once a minute.
const LONG: Span = Span::secs(60);
/// Machines with fewer processors have the generator in every figure.
const FEW_CPUS: u32 = 4;
/// Fewer runs hardly tell how much they differ.
const FEW_RUNS: usize = 4;

pub(super) fn remarks(context: &AnswerContext<'_>) -> Vec<Remark> {
    let mut list: Vec<Remark> = Vec::new();
    let mut add = |title: &str, text: String| list.push(Remark { title: title.into(), text });
    let record = context.record;
    match record.completion {
        Completion::Complete => {}
        Completion::Running => add("The run is not finished:", "this is what there was when it was written.".into()),
        Completion::Interrupted => add("The run was interrupted:", "not all planned trials were made.".into()),
    }
    if record.tool.profile == "debug" {
        add("This is a debug build:", "its own cost is in every figure. Measure with a release build.".into());
    }
    for words in record.plan.search.iter().flat_map(|s| capacity::remarks(record, s)) {
        add("The search:", words);
    }
    faults(context, &mut add);
    // Advice on a load that never was would send the reader the wrong way.
    if context.sides.iter().all(|s| s.used.is_empty()) {
        return list;
    }
    left_out(context, &mut add);
    clocks(context, &mut add);
    unlike(context, &mut add);
    batching(context, &mut add);
    loads(context, &mut add);
    machine(context, &mut add);
    tails(context, &mut add);
    few(context, &mut add);
    calibration(context, &mut add);
    other_checks(context, &mut add);
    list
}

/// A broker with injected faults, or events of the scenario.
fn faults(context: &AnswerContext<'_>, add: &mut impl FnMut(&str, String)) {
    let told: BTreeSet<&String> =
        context.record.trials.iter().filter_map(|t| t.system.guarantees.get("faults")).collect();
    for faults in told {
        add("The broker ran with injected faults", format!("({faults}): no healthy one does this."));
    }
    if !context.record.plan.events.is_empty() {
        let n = context.record.plan.events.len() as u64;
        add("The scenario disturbs the systems itself", format!("({}): see below when.", plural(n, "event")));
    }
}

/// Trials that do not count.
fn left_out(context: &AnswerContext<'_>, add: &mut impl FnMut(&str, String)) {
    // A search shows the trials that decided its load: the others of that load are no loss.
    let all: Vec<_> = context.sides.iter().flat_map(|s| &s.all).copied().collect();
    let failed = all.iter().filter(|t| matches!(t.outcome, Outcome::Failed { .. })).count();
    let interrupted = all.iter().filter(|t| t.outcome == Outcome::Partial).count();
    let counts = |t: &&&Trial| t.outcome == Outcome::Complete && t.validity_status() != Status::Invalid;
    let out = all.len() - all.iter().filter(counts).count();
    if out == 0 || context.sides.iter().all(|s| s.used.is_empty()) {
        return;
    }
    let mut why = super::invalid_because(all.iter().copied());
    for (n, word) in [(interrupted, "interrupted"), (failed, "failed")] {
        if n > 0 {
            why.insert(0, format!("{n} {word}"));
        }
    }
    add(&format!("{out} of {} are left out:", plural(all.len() as u64, "run")), format!("{}.", why.join(", ")));
}

/// Times from one agent to another, which have the error of two clocks.
fn clocks(context: &AnswerContext<'_>, add: &mut impl FnMut(&str, String)) {
    // What heads the answer, and what would if clocks were known.
    let mut replaced: Vec<(&str, &str, Option<ClockDoubt>, Option<u64>)> = Vec::new();
    let mut shown: Vec<Option<ClockDoubt>> = Vec::new();
    for side in context.sides {
        let all = || side.used.iter().filter_map(|t| t.workloads.get(side.workload)?.latency.get("e2e"));
        let doubt = widest_clocks(all());
        let median = all().filter_map(|l| l.at(0.5)?.value_ns).min();
        match side.typical.as_ref().is_some_and(|f| f.clocks.is_some()) {
            true => shown.push(doubt),
            false if doubt.is_some() && !side.kind.starts_with("rtt") => {
                replaced.push((side.name(), side.kind, doubt, median));
            }
            false => {}
        }
    }
    if let Some((name, kind, doubt, median)) = replaced.first().copied() {
        let takes = median.map_or_else(String::new, |ns| format!(" of the {} that half of them take", time_words(ns)));
        let share =
            doubt.and_then(|d| d.bound_ns).zip(median).map(|(bound, ns)| 100.0 * bound as f64 / ns.max(1) as f64);
        let share = share.map_or_else(String::new, |share| format!(", {share:.0} %{takes}"));
        let instead = match kind {
            SAME_AGENT => "messages whose sender and receiver are one agent",
            kind if kind.starts_with("ack") => "acknowledgements, which come back to the agent that sent",
            _ => "what needs no second clock",
        };
        add(
            "Messages from one agent to another are not what is shown:",
            match doubt.and_then(|d| d.bound_ns) {
                Some(_) => format!(
                    "the clocks of the two are known to {}{share} ({name}). Shown instead are {instead}. Those stand under Other latencies.",
                    clocks_words(doubt)
                ),
                None => format!(
                    "one of the clocks is not known ({name}). Shown instead are {instead}. Those stand under Other latencies."
                ),
            },
        );
    }
    if let Some(doubt) = shown.into_iter().flatten().max_by_key(|d| d.bound_ns.unwrap_or(u64::MAX)) {
        add(
            &format!("Delivery times may be wrong by {}:", clocks_words(Some(doubt)).trim_start_matches("+/- ")),
            "sender and receiver have different clocks, which the agents' exchanges tell apart no better. More messages or runs do not make it less, and no smaller difference is decided.".into(),
        );
    }
}

/// Guarantees that differ; a running server beside a launched one.
fn unlike(context: &AnswerContext<'_>, add: &mut impl FnMut(&str, String)) {
    let sides: Vec<&AnswerSide<'_>> = context.sides.iter().filter(|s| !s.used.is_empty()).collect();
    if sides.len() < 2 {
        return;
    }
    let mut parts = Vec::new();
    let differ = |of: &dyn Fn(&AnswerSide<'_>) -> String| {
        let words: Vec<String> = sides.iter().map(|s| of(s)).collect();
        words.iter().any(|w| *w != words[0]).then(|| grouped(&sides, &words))
    };
    if let Some(each) = differ(&|s| s.facts().map(delivery_words).unwrap_or_default()) {
        parts.push(each);
    }
    if let Some(each) = differ(&|s| s.facts().map_or_else(String::new, |f| stored(f.promised.durability).into())) {
        parts.push(each);
    }
    if !parts.is_empty() {
        add("Not like for like:", format!("{}.", parts.join("; ")));
    }
    let launched = |s: &&&AnswerSide<'_>| s.launched();
    let (fresh, running) = (sides.iter().filter(launched).count(), sides.iter().filter(|s| !s.launched()).count());
    if fresh > 0 && running > 0 {
        let each: Vec<String> = sides
            .iter()
            .map(|s| match &s.spec.bring_up {
                BringUp::Launch => format!("{} was started fresh for each trial", s.name()),
                BringUp::External { url } => format!("{} was a running server ({url})", s.name()),
            })
            .collect();
        add("Not like for like:", format!("{}.", each.join("; ")));
    }
    let url = |s: &AnswerSide<'_>| {
        s.facts().is_some_and(|f| f.guarantees.contains_key("tls") && f.guarantees["tls"] != "off")
    };
    if sides.iter().any(|s| url(s)) && sides.iter().any(|s| !url(s)) {
        let with: Vec<&str> = sides.iter().filter(|s| url(s)).map(|s| s.name()).collect();
        add("Not like for like:", format!("only {} ran over TLS.", listed(&with)));
    }
}

/// Where a message is that is stored, in a few words; empty where that is not known.
fn stored(level: Durability) -> &'static str {
    match level {
        Durability::Unstated => "",
        Durability::None => "keeps no message",
        Durability::Memory => "keeps messages in memory",
        Durability::File => "keeps messages in a file, synced later",
        Durability::Synced => "syncs its file now and then",
        Durability::SyncedFirst => "syncs before it acknowledges",
    }
}

/// `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => names.concat(),
    }
}

/// `nats and reference: at most once; kafka: at least once`.
fn grouped(sides: &[&AnswerSide<'_>], words: &[String]) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (side, words) in sides.iter().zip(words) {
        match groups.iter_mut().find(|(known, _)| known == words) {
            Some((_, names)) => names.push(side.name()),
            None => groups.push((words, vec![side.name()])),
        }
    }
    let told = |words: &str| if words.is_empty() { "not known".to_owned() } else { words.to_owned() };
    groups.iter().map(|(words, names)| format!("{}: {}", listed(names), told(words))).collect::<Vec<_>>().join(", ")
}

/// A client that waits to fill a batch, which is then in every delivery time.
fn batching(context: &AnswerContext<'_>, add: &mut impl FnMut(&str, String)) {
    for side in context.sides.iter().filter(|s| !s.used.is_empty()) {
        let Some(facts) = side.facts() else { continue };
        for (key, value) in facts.guarantees.iter().filter(|(k, _)| k.contains("linger")) {
            let Ok(ms) = value.trim_end_matches("ms").trim().parse::<f64>() else { continue };
            if ms > 0.0 {
                let title = format!(
                    "{} waits up to {} ms to fill a batch",
                    side.name(),
                    three_digits(ms).trim_end_matches('0').trim_end_matches('.')
                );
                add(&title, format!("({key}, a setting of its client). Set it to 0 to see the system without."));
            }
        }
    }
}

/// Loads that mean something else than a schedule.
fn loads(context: &AnswerContext<'_>, add: &mut impl FnMut(&str, String)) {
    let loads: Vec<&Load> = context.sides.iter().map(|s| &s.plan().load).collect();
    if loads.iter().any(|l| matches!(l, Load::Closed { .. })) {
        add("The load is a closed loop:", "what a stall delays is not sent, so these times leave it out.".into());
    }
    if loads.iter().any(|l| matches!(l, Load::Unthrottled { .. })) {
        add("The load has no schedule:", "only the rate says much; times are those of a full queue.".into());
    }
}

/// The machine: shared, small, busy.
fn machine(context: &AnswerContext<'_>, add: &mut impl FnMut(&str, String)) {
    let sides: Vec<&AnswerSide<'_>> = context.sides.iter().filter(|s| !s.used.is_empty()).collect();
    let host = &context.record.host;
    let shared = sides.iter().any(|s| s.launched()) && (1..FEW_CPUS).contains(&host.cpus);
    let busy = busy(&sides);
    let mut names: Vec<&str> = Vec::new();
    for check in sides.iter().flat_map(|s| &s.used).flat_map(|t| &t.validity) {
        let words = checks::plain(check);
        if check.status == Status::Warn && MACHINE.contains(&check.id.as_str()) && !names.contains(&words) {
            names.push(words);
        }
    }
    let cpus = format!("{} processors, shared with the load generator", host.cpus);
    match (busy > 0.0, shared) {
        (true, _) => {
            let shared = if shared { format!("{cpus}; ") } else { String::new() };
            let share = format!("in {:.0} % of the runs", (busy * 100.0).ceil());
            names.truncate(2);
            let text = format!("({shared}{} {share}): slow messages may be its doing.", names.join(", "));
            add("The test machine was busy", text);
        }
        (false, true) => add("The test machine is small", format!("({cpus}): more processors may change the order.")),
        (false, false) => {}
    }
    if host.virtualised && busy == 0.0 {
        add(
            "The test machine is virtual:",
            "its host may take processors away, which lengthens the slowest messages.".into(),
        );
    }
}

/// Tails that hang on a few slow spells.
fn tails(context: &AnswerContext<'_>, add: &mut impl FnMut(&str, String)) {
    let hit: Vec<&str> =
        context.sides.iter().filter(|s| s.tail.as_ref().is_some_and(|f| f.doubtful)).map(AnswerSide::name).collect();
    if !hit.is_empty() {
        let text = format!(
            "({}, marked ?): they say little of the next run. The systems are ranked by the median.",
            hit.join(", ")
        );
        add("A few slow spells decide the slowest messages", text);
    }
}

/// Too few or too short runs.
fn few(context: &AnswerContext<'_>, add: &mut impl FnMut(&str, String)) {
    let used = context.sides.iter().filter(|s| !s.used.is_empty());
    let n = used.map(|s| s.used.len()).min().unwrap_or(0);
    if (1..FEW_RUNS).contains(&n) {
        let each = if context.sides.len() > 1 { " of each system" } else { "" };
        let title = format!("Only {}{each}:", plural(n as u64, "run"));
        add(&title, "how much runs differ is hardly known.".into());
    }
    let shortest = context.sides.iter().map(|s| s.case.phases.measure).min();
    if let Some(short) = shortest.filter(|s| *s < LONG && s.0 > 0) {
        add(
            &format!("A run measures {short}:"),
            "what comes once a minute (compaction, write-back) is not in it.".into(),
        );
    }
}

/// What the certificate of this machine says.
fn calibration(context: &AnswerContext<'_>, add: &mut impl FnMut(&str, String)) {
    if let Some(c) = context.record.calibration.as_ref().filter(|c| c.verdict == "FAIL") {
        add("The calibration of this machine failed:", format!("{}.", c.sentence().trim_end_matches('.')));
    }
}

/// Checks that warn and are not about the machine.
fn other_checks(context: &AnswerContext<'_>, add: &mut impl FnMut(&str, String)) {
    let mut hits: Vec<(u32, &str, BTreeSet<&str>, usize)> = Vec::new();
    for side in context.sides {
        for check in side.used.iter().flat_map(|t| &t.validity) {
            if check.status != Status::Warn || MACHINE.contains(&check.id.as_str()) {
                continue;
            }
            let words = checks::plain(check);
            match hits.iter_mut().find(|(_, known, _, _)| *known == words) {
                Some((_, _, names, n)) => {
                    names.insert(side.name());
                    *n += 1;
                }
                None => hits.push((checks::gravity(check), words, BTreeSet::from([side.name()]), 1)),
            }
        }
    }
    hits.sort_by_key(|(gravity, ..)| *gravity);
    for (_, words, names, n) in hits {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        let title = words[..1].to_uppercase() + &words[1..];
        add(&title, format!("({names}; {}).", plural(n as u64, "run")));
    }
}
