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
pub struct LimitsHeld<'a> {
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
pub fn vote(trial: &Trial, case: &Case, evidence: &Evidence<'_>, held: LimitsHeld<'_>) -> VoteCast {
    if let Outcome::Failed { error, .. } = &trial.outcome {
        return VoteCast::of(Vote::Fail, format!("the system failed: {error}"));
    }
    let invalid = |id: &str| trial.validity.iter().find(|c| c.id == id && c.status == Status::Invalid);
    // The clock, the books, the host: nothing that was measured is to be believed.
    if let Some(check) = ["V5", "V12", "V13", "V15"].into_iter().find_map(invalid) {
        return VoteCast::of(Vote::Spoiled, format!("{} ({}): {}", check.name, check.id, check.observed));
    }
    let seen = evidence.observed;
    if let Some(o) = seen.iter().find(|o| o.corrupted > 0 || (o.lost > 0 && o.dropped > 0)) {
        let dropped = o.client_dropped.max(o.dropped);
        return VoteCast::of(
            Vote::Spoiled,
            format!("the client library dropped {dropped} messages: raise its buffer (`subscription-capacity`)"),
        );
    }
    let pressed = seen.iter().any(|o| o.backpressure > 0);
    let short = |o: &CheckInput| o.scheduled.is_some_and(|n| n > 0 && (o.sent as f64) < OFFERED * n as f64);
    if let Some(o) = seen.iter().find(|o| short(o)) {
        let share = 100.0 * o.sent as f64 / o.scheduled.unwrap_or(1) as f64;
        return match pressed {
            true => VoteCast::of(Vote::Fail, format!("the system took only {share:.1} % of what was offered")),
            false => VoteCast::of(Vote::Spoiled, format!("the generator sent only {share:.1} % of what was due")),
        };
    }
    if let Some(check) = invalid("V3") {
        // Where most of the backlog was not even sent, it is the generator's.
        let unsent = seen.iter().any(|o| o.flow.as_ref().is_some_and(|f| f.unsent > 0));
        return match unsent && !pressed {
            true => VoteCast::of(Vote::Spoiled, "a backlog grew that had not been sent"),
            false => VoteCast::of(Vote::Fail, format!("the backlog grew: {}", check.observed)),
        };
    }
    held_to(trial, case, evidence, held, pressed)
}

/// The limits of a trial that kept up.
fn held_to(trial: &Trial, case: &Case, evidence: &Evidence<'_>, held: LimitsHeld<'_>, pressed: bool) -> VoteCast {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::summary::summarise;
    use crate::plan::gate::Policy;
    use crate::record::{Check, Packed, sample};
    use hdrhistogram::Histogram;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::OnceLock;

    /// A trial of 20 blocks of 500 messages, exponential with this mean in microseconds; from the
    /// send on it is `service` of that.
    fn trial(mean: f64, service: f64, lost: u64) -> (Trial, Vec<TaggedInterval>) {
        let record = sample::record();
        let mut trial = record.trials[1].clone();
        trial.validity.clear();
        trial.hiccup = summarise(&Histogram::new(3).unwrap(), 0, 0, 0, &[0.99]);
        let mut log = Vec::new();
        let mut latency = BTreeMap::new();
        let mut seed = 1u64;
        for (tag, scale) in [("e2e", mean), ("e2e.service", mean * service)] {
            let mut all = Histogram::<u64>::new(3).unwrap();
            for b in 0..20u64 {
                let mut h = Histogram::<u64>::new(3).unwrap();
                for _ in 0..500 {
                    seed = seed * 48271 % 2_147_483_647;
                    h.record((-scale * 1e3 * (seed as f64 / 2_147_483_647.0).ln()) as u64 + 1).unwrap();
                }
                all.add(&h).unwrap();
                log.push(TaggedInterval {
                    tag: tag.into(),
                    start_s: b as f64,
                    length_s: 1.0,
                    histogram: Packed::of(&h),
                });
            }
            latency.insert(tag.to_owned(), summarise(&all, lost, 0, 0, &[0.5, 0.99]));
        }
        trial.workloads[0].latency = latency;
        trial.workloads[0].ledger.lost = lost;
        (trial, log)
    }

    fn p99_below(micros: f64) -> Vec<Expectation> {
        let limit = Expectation {
            that: format!("e2e.p99 < {micros}us"),
            metric: "e2e.p99".parse().unwrap(),
            comparator: Comparator::Less,
            limit: micros * 1e3,
            system: None,
            on_inconclusive: Policy::Fail,
        };
        vec![limit]
    }

    fn cast(trial: &Trial, log: &[TaggedInterval], observed: CheckInput, limits: &[Expectation]) -> VoteCast {
        static CASE: OnceLock<Case> = OnceLock::new();
        let case = CASE.get_or_init(|| sample::record().plan.cases[0].clone());
        let evidence = Evidence { observed: &[observed], intervals: &[], log, calibration: None };
        vote(trial, case, &evidence, LimitsHeld { limits, confidence: 0.95 })
    }

    fn good() -> CheckInput {
        CheckInput { scheduled: Some(10_000), sent: 10_000, seconds: 20.0, expected: 10_000, ..CheckInput::default() }
    }

    fn check(id: &str) -> Check {
        let mut check = sample::record().trials[1].validity[0].clone();
        (check.id, check.status) = (id.into(), Status::Invalid);
        check
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// 10,000 exponential messages prove a limit 20 % above their p99, and refute one 20 %
        /// below; nearer they may prove neither, and never the contrary.
        #[test]
        fn a_percentile_is_held_to_its_limit(ratio in 0.5f64..2.0) {
            static TRIAL: OnceLock<(Trial, Vec<TaggedInterval>)> = OnceLock::new();
            let (trial, log) = TRIAL.get_or_init(|| trial(1_000.0, 1.0, 0));
            let found = cast(trial, log, good(), &p99_below(1_000.0 * 100f64.ln() * ratio)).vote;
            match ratio {
                r if r > 1.2 => prop_assert_eq!(found, Vote::Pass),
                r if r < 0.8 => prop_assert_eq!(found, Vote::Fail),
                r if r > 1.05 => prop_assert_ne!(found, Vote::Fail),
                r if r < 0.95 => prop_assert_ne!(found, Vote::Pass),
                _ => {}
            }
        }
    }

    #[test]
    fn what_is_lost_is_late() {
        let (of_all, log) = trial(100.0, 1.0, 0);
        assert_eq!(cast(&of_all, &log, good(), &p99_below(10_000.0)).vote, Vote::Pass);
        let (holed, log) = trial(100.0, 1.0, 300);
        let found = cast(&holed, &log, good(), &p99_below(10_000.0));
        assert_eq!((found.vote, found.broken), (Vote::Fail, vec![0]), "{}", found.why);
    }

    #[test]
    fn what_the_generator_or_the_host_did_is_no_vote() {
        let (late, log) = trial(1_000.0, 0.1, 0);
        let limits = p99_below(1_000.0);
        let found = cast(&late, &log, good(), &limits);
        assert_eq!(found.vote, Vote::Spoiled, "{}", found.why);
        let pressed = CheckInput { backpressure: 9, ..good() };
        assert_eq!(cast(&late, &log, pressed, &limits).vote, Vote::Fail, "the system held the sends up");
        let unsent = CheckInput { sent: 9_000, ..good() };
        assert_eq!(cast(&late, &log, unsent.clone(), &limits).vote, Vote::Spoiled);
        assert_eq!(cast(&late, &log, CheckInput { backpressure: 1, ..unsent }, &limits).vote, Vote::Fail);
        let (slow, log) = trial(1_000.0, 1.0, 0);
        assert_eq!(cast(&slow, &log, good(), &limits).vote, Vote::Fail);
        assert_eq!(cast(&slow, &log, CheckInput { busiest: 0.99, ..good() }, &limits).vote, Vote::Spoiled);
        let dropped = CheckInput { lost: 5, dropped: 5, client_dropped: 5, ..good() };
        assert_eq!(cast(&slow, &log, dropped, &limits).vote, Vote::Spoiled);
        for id in ["V5", "V12", "V13", "V15"] {
            let mut trial = slow.clone();
            trial.validity.push(check(id));
            assert_eq!(cast(&trial, &log, good(), &limits).vote, Vote::Spoiled, "{id}");
        }
    }

    #[test]
    fn a_growing_backlog_fails_whatever_the_limit() {
        let (mut trial, log) = trial(10.0, 1.0, 0);
        trial.validity.push(check("V3"));
        let limits = p99_below(1e6);
        assert_eq!(cast(&trial, &log, good(), &limits).vote, Vote::Fail);
        let flow = super::super::BlockFlow { unsent: 10, ..Default::default() };
        let unsent = CheckInput { flow: Some(flow), ..good() };
        assert_eq!(cast(&trial, &log, unsent, &limits).vote, Vote::Spoiled);
        trial.outcome = Outcome::Failed { phase: "measure".into(), error: "it ended".into() };
        let found = cast(&trial, &log, good(), &limits);
        assert!(found.vote == Vote::Fail && found.why.contains("it ended"), "{}", found.why);
    }
}
