//! Whether a trial of a search keeps the limits: pass, fail, undecided, or no vote at all.
//!
//! A trial that the host or the generator spoiled says nothing of the system. So a limit of latency
//! counts as broken only where the system broke it: its time from the send breaks it as well, or
//! sends met back-pressure, or its backlog grew. A percentile is held to its limit by the messages
//! beyond it (`stats::limit`), with the over-dispersion of the trial.

use super::Evidence;
use super::checks::CheckInput;
use crate::plan::Case;
use crate::plan::gate::{Comparator, Expectation};
use crate::plan::metric::{Quantity, Statistic};
use crate::plan::search::Vote;
use crate::record::value::value;
use crate::record::{Outcome, Status, TaggedInterval, Trial};
use crate::stats::limit::{proves, refutes};

/// What a trial of a search is held to.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    pub limits: &'a [Expectation],
    /// At which a percentile proves that it keeps its limit, or breaks it.
    pub confidence: f64,
}

/// How a trial of a search ended.
#[derive(Debug, Clone, PartialEq)]
pub struct VoteCast {
    pub vote: Vote,
    /// The limits that were broken.
    pub broken: Vec<usize>,
    /// Why it is no pass, in words; empty for a pass.
    pub why: String,
}

impl VoteCast {
    fn of(vote: Vote, why: impl Into<String>) -> Self {
        Self { vote, broken: Vec::new(), why: why.into() }
    }
}

/// Below this share of what was due the offered rate was not reached (V1).
const OFFERED: f64 = 0.99;
/// Above this share of the time a thread of the generator has nothing to spare (V6).
const BUSY: f64 = 0.95;

/// Casts the vote of a judged trial.
pub fn vote(trial: &Trial, case: &Case, evidence: &Evidence<'_>, held: Held<'_>) -> VoteCast {
    if let Outcome::Failed { error, .. } = &trial.outcome {
        return VoteCast::of(Vote::Fail, format!("the system failed: {error}"));
    }
    let invalid = |id: &str| trial.validity.iter().find(|c| c.id == id && c.status == Status::Invalid);
    // The clock, the books, the host: nothing that was measured is to be believed.
    if let Some(check) = ["V5", "V12", "V13", "V15"].into_iter().find_map(invalid) {
        return VoteCast::of(Vote::Spoiled, format!("{} ({}): {}", check.name, check.id, check.observed));
    }
    let observed = evidence.observed;
    if let Some(o) = observed.iter().find(|o| o.corrupted > 0 || (o.lost > 0 && o.dropped > 0)) {
        let dropped = o.client_dropped.max(o.dropped);
        return VoteCast::of(
            Vote::Spoiled,
            format!("the client library dropped {dropped} messages: raise its buffer (`subscription-capacity`)"),
        );
    }
    let pressed = observed.iter().any(|o| o.backpressure > 0);
    let short = |o: &CheckInput| o.scheduled.is_some_and(|n| n > 0 && (o.sent as f64) < OFFERED * n as f64);
    if let Some(o) = observed.iter().find(|o| short(o)) {
        let share = 100.0 * o.sent as f64 / o.scheduled.unwrap_or(1) as f64;
        return match pressed {
            true => VoteCast::of(Vote::Fail, format!("the system took only {share:.1} % of what was offered")),
            false => VoteCast::of(Vote::Spoiled, format!("the generator sent only {share:.1} % of what was due")),
        };
    }
    if let Some(check) = invalid("V3") {
        // Where most of the backlog was not even sent, it is the generator's.
        let unsent = observed.iter().any(|o| o.flow.as_ref().is_some_and(|f| f.unsent > 0));
        return match unsent && !pressed {
            true => VoteCast::of(Vote::Spoiled, "a backlog grew that had not been sent"),
            false => VoteCast::of(Vote::Fail, format!("the backlog grew: {}", check.observed)),
        };
    }
    held_to(trial, case, evidence, held, pressed)
}

/// The limits of a trial that kept up.
fn held_to(trial: &Trial, case: &Case, evidence: &Evidence<'_>, held: Held<'_>, pressed: bool) -> VoteCast {
    let mut broken = Vec::new();
    let (mut open, mut words) = (Vec::new(), Vec::new());
    let mut own = true;
    for (i, limit) in held.limits.iter().enumerate() {
        let of = case.workloads.iter().enumerate();
        let asked = of.filter(|(_, w)| limit.metric.workload.as_ref().is_none_or(|name| *name == w.name));
        for (index, _) in asked {
            match state(trial, case, index, evidence.log, limit, held.confidence) {
                State::Kept => {}
                State::Open => open.push(limit.that.clone()),
                State::Broken(found) => {
                    words.push(format!("`{}` is broken: {found}", limit.that));
                    broken.push(i);
                    own &= !pressed && of_generator(trial, case, index, evidence.log, limit, held.confidence);
                }
            }
        }
    }
    broken.dedup();
    let busy = evidence.observed.iter().any(|o| o.busiest > BUSY && !o.spinning);
    match () {
        () if broken.is_empty() && open.is_empty() => VoteCast::of(Vote::Pass, ""),
        () if broken.is_empty() => {
            VoteCast::of(Vote::Undecided, format!("neither kept nor broken for sure: {}", open.join(", ")))
        }
        () if own => VoteCast::of(
            Vote::Spoiled,
            format!("{}; from the send on it is kept, so the generator was late", words.join(", ")),
        ),
        () if busy => VoteCast::of(
            Vote::Spoiled,
            format!("{}; but a thread of the generator was busy all the time", words.join(", ")),
        ),
        () => VoteCast { vote: Vote::Fail, broken, why: words.join(", ") },
    }
}

enum State {
    Kept,
    Broken(String),
    Open,
}

/// How a trial stands to a limit.
fn state(
    trial: &Trial,
    case: &Case,
    workload: usize,
    log: &[TaggedInterval],
    limit: &Expectation,
    confidence: f64,
) -> State {
    let Some(found) = value(trial, workload, &limit.metric.quantity) else { return State::Open };
    let shown = limit.metric.quantity.unit().show(found.value);
    let plain = match limit.comparator.holds(found.value, limit.limit) {
        true => State::Kept,
        false => State::Broken(shown.clone()),
    };
    let at_most = matches!(limit.comparator, Comparator::Less | Comparator::AtMost);
    let Quantity::Latency(kind, Statistic::Quantile(q)) = &limit.metric.quantity else { return plain };
    if !at_most {
        return plain;
    }
    let Some((total, over)) = beyond(trial, case, workload, log, kind, limit.limit) else { return plain };
    let phi = trial.workloads.get(workload).and_then(|w| w.latency.get(kind)?.at(*q)?.phi).unwrap_or(1.0);
    match () {
        () if proves(total, over, *q, confidence, phi) => State::Kept,
        () if refutes(total, over, *q, confidence, phi) => State::Broken(shown),
        () => State::Open,
    }
}

/// Messages of a latency in the measured phase, and those beyond a limit; the lost are beyond it.
fn beyond(
    trial: &Trial,
    case: &Case,
    workload: usize,
    log: &[TaggedInterval],
    kind: &str,
    limit: f64,
) -> Option<(u64, u64)> {
    let name = &case.workloads.get(workload)?.name;
    let tag = if case.workloads.len() > 1 { format!("{name}/{kind}") } else { kind.to_owned() };
    let summary = trial.workloads.get(workload)?.latency.get(kind)?;
    let (mut total, mut over) = (summary.lost, summary.lost);
    for block in log.iter().filter(|i| i.tag == tag && i.start_s > -1e-9) {
        let h = block.histogram.open();
        total += h.len();
        over += h.len() - h.count_between(0, limit.max(0.0) as u64);
    }
    (total > 0).then_some((total, over))
}

/// Whether a limit of the response is kept from the send on, so that what breaks it is the
/// generator's lateness.
fn of_generator(
    trial: &Trial,
    case: &Case,
    workload: usize,
    log: &[TaggedInterval],
    limit: &Expectation,
    confidence: f64,
) -> bool {
    let Quantity::Latency(kind, statistic) = &limit.metric.quantity else { return false };
    if kind.contains('.') {
        return false;
    }
    let mut twin = limit.clone();
    twin.metric.quantity = Quantity::Latency(format!("{kind}.service"), *statistic);
    matches!(state(trial, case, workload, log, &twin, confidence), State::Kept)
}
